"""What a coordinator must offer to hold a line: keys whose every write has a number, and a write under conditions.

A key is a path without a leading slash, of letters that every coordinator takes (`quoted`). All that is asked of a server is
*read this folder* and *write all this, if these keys still have these numbers*: the rest is `KeyedStore`, the same for all.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from heirflow.stores.base import Finding

ABSENT = 0
"""The number of a key that is not there."""


def quoted(name: str) -> str:
    """Any name as one part of a key."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that is there."""

    value: bytes
    number: int
    """Of its last write: another one with every write. It is compared, and never counted on."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A folder as a server showed it after everything that was confirmed before it was asked."""

    entries: Mapping[str, Entry]
    """By key."""

    def number(self, key: str) -> int:
        """Of its last write; `ABSENT` where there is no such key."""
        entry = self.entries.get(key)
        return ABSENT if entry is None else entry.number


@dataclass(slots=True)
class Write:
    """What is written at once, or not at all."""

    guards: dict[str, int] = field(default_factory=dict)
    """Key -> the number that it must have."""
    puts: dict[str, bytes] = field(default_factory=dict)
    deletes: list[str] = field(default_factory=list)
    """Keys that were seen."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not self.puts and not self.deletes


class Bell:
    """Word of a key that changed, from a thread that watches to the one that waits: a descriptor to wait on."""

    def __init__(self) -> None:
        self._heard, self._rung = socket.socketpair()
        self._heard.setblocking(False)
        self._rung.setblocking(False)
        self._number: int | None = None

    def ring(self, number: int | None) -> None:
        """By the thread that watches. `number`: of the key's last write; None: perhaps something has changed."""
        self._number = number
        with suppress(OSError):  # full: it rings already; closed: nobody waits
            self._rung.send(b".")

    def fileno(self) -> int:
        """Readable when it has rung."""
        return self._heard.fileno()

    def heard(self, known: int) -> bool:
        """Whether it has rung since the last call, for something newer than this number."""
        rung = False
        with suppress(OSError):
            while self._heard.recv(4096):
                rung = True
        number = self._number
        return rung and (number is None or number > known)

    def close(self) -> None:
        """Nobody waits any more."""
        for end in (self._heard, self._rung):
            with suppress(OSError):
                end.close()


class Keys(Protocol):
    """One session with a coordinator, used by one thread at a time, except `sever`.

    Every call but `close` and `sever` raises `StoreUnavailable` when there was no answer in time, or one that does not say what
    happened, `StoreRefuses`, or `StoreMisfit`. It then connects again at the next call. A write is never sent twice.
    """

    title: str
    """As people know it."""
    where: str
    """Which one this is, for people: never the password."""

    @property
    def history(self) -> str | None:
        """What it calls its own history (`Reading.history`), known after the first call; None: it has no such name."""

    def connect(self) -> None:
        """See that it answers, and that we may use it."""

    def now(self) -> float:
        """Its clock, seconds since 1970, as well as it is known without asking."""

    def read(self, folder: str) -> Seen:
        """All keys right below a folder, with everything in them that was ever confirmed to anybody before this call."""

    def commit(self, folder: str, write: Write) -> tuple[bool, Seen]:
        """Write all or nothing; whether the guards held, and what stands in the folder after that."""

    def names(self, folder: str) -> list[str]:
        """The keys anywhere below a folder, without its name, in order."""

    def tree(self, folder: str) -> Seen | None:
        """All keys anywhere below a folder, in one request. None: this coordinator shows one folder at a time."""

    def values(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of these keys, of any number of them; those that are gone are left out."""

    def clear(self, folder: str) -> None:
        """Delete a folder with all that is below it."""

    def watch(self, key: str, number: int, bell: Bell) -> None:
        """From now on, ring when this key has another number than this, and whenever that changes again. Ends with `close`.

        Nobody relies on it: where it cannot be, or breaks, it is tried again without a word.
        """

    def examine(self) -> list[Finding]:
        """What `heirflow doctor` tells: version, quorum, clock, how long an answer takes, rights, what can forget a write."""

    def sever(self) -> None:
        """End a call that hangs in another thread. Never raises."""

    def close(self) -> None:
        """Give everything back. Never raises."""
