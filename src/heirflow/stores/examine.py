"""What `heirflow doctor` asks a database."""
