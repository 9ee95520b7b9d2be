"""What HeirFlow knows of the program that it runs."""
