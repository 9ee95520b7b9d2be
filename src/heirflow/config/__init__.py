"""Settings: the one table of options, and where each value comes from."""
