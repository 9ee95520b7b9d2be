"""What runs as guard and backstop: how one command lives and surely dies."""
