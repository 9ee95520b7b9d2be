"""The will of a member that leads, written anew when the URL of the database has changed: it holds the password.

The URL is read again by the thread that talks to the store, after each call; here it is only compared.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from heirflow.stores.base import Address, Register


class Wills:
    """Of one member."""

    def __init__(self, store: Register, election: str, member: str, address: Address | None) -> None:
        """`store` is never connected: it only says what is to be done."""
        self._store, self._election, self._member, self._address = store, election, member, address
        self._term: int | None = None
        self._seat = 1
        self._known: str | None = None

    def write(self, term: int | None, seat: int) -> dict[str, Any] | None:
        """What a helper must do to release this term of this seat, with the URL as it is now; None: nothing."""
        self._term, self._seat, self._known = term, seat, self._now()
        if term is None:
            return None
        because = f"{self._member} was killed, and {{prover}} proved that the command is gone"
        will = self._store.will(self._election, self._member, term, because, seat=seat)
        return None if will is None else asdict(will)

    def stale(self) -> bool:
        """Whether there is a will, and it stands under an older URL."""
        return self._term is not None and self._known != self._now()

    def again(self) -> dict[str, Any] | None:
        """The same will, with the URL as it is now."""
        return self.write(self._term, self._seat)

    def _now(self) -> str | None:
        return None if self._address is None else self._address.known
