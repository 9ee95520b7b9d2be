"""For tests of HeirFlow and of what is built on it."""
