"""What stands between a member and its store: every exchange goes through it, and all else is the store's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from heirflow.election.record import Exchange, Reading
from heirflow.stores.base import Register

Through = Callable[[Register, str, Exchange], Reading]
"""Carries out an exchange at the store, or makes another one of it."""


def between(inner: Register, through: Through) -> Register:
    """The store as a member sees it behind `through`."""
    return cast("Register", _Between(inner, through))


class _Between:
    def __init__(self, inner: Register, through: Through) -> None:
        self._inner, self._through = inner, through

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def exchange(self, election: str, request: Exchange) -> Reading:
        return self._through(self._inner, election, request)
