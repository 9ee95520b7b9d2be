"""How one command lives and surely dies."""
