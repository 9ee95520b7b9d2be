"""What people and pages do with elections: find them, read them again and again, and give orders."""
