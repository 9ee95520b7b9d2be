"""The URL of the database as it is now: whoever changes a password changes it where the URL came from, and members go on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from heirflow.errors import HeirflowError

FIRST_REST_S = 2.0
LONGEST_REST_S = 60.0
"""Between two questions to a program, while connections are refused: it doubles from the first to this."""


class Address:
    """Shared by all stores of one process, and used by several threads."""

    def __init__(
        self, url: str, *, read: Callable[[], str] | None = None, ask: Callable[[], str] | None = None
    ) -> None:
        """`read` is cheap and done before each new connection; `ask` starts a program, only after a refusal. Both may raise
        `HeirflowError`: then the URL stays as it was.
        """
        self._url = url
        self._read, self._ask = read, ask
        self._asking = threading.Lock()
        self._rest_s, self._next_at = FIRST_REST_S, 0.0

    @property
    def known(self) -> str:
        """The URL that was learnt last."""
        return self._url

    def now(self) -> str:
        """The URL for a new connection."""
        if self._read is not None:
            self._learn(self._read)
        return self._url

    def refused(self, url: str) -> bool:
        """A connection with this URL was refused; whether another one is known now. It may take a while."""
        if self._ask is not None and self._url == url and self._asking.acquire(blocking=False):
            try:
                if time.monotonic() >= self._next_at:
                    self._learn(self._ask)
                    self._next_at = time.monotonic() + self._rest_s
                    self._rest_s = min(LONGEST_REST_S, 2 * self._rest_s)
            finally:
                self._asking.release()
        return self.now() != url

    def accepted(self) -> None:
        """A connection was made: the next refusal is asked about at once."""
        self._rest_s, self._next_at = FIRST_REST_S, 0.0

    def _learn(self, source: Callable[[], str]) -> None:
        with contextlib.suppress(HeirflowError):  # half written, or away just now: the next connection looks again
            self._url = source()
