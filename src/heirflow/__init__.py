"""A line of succession for programs of which exactly one copy may run."""

__version__ = "0.1.0"
