"""The command line."""

from __future__ import annotations


def main() -> int:
    """Answer one command and return its exit code."""
    raise NotImplementedError
