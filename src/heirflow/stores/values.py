"""Values as they come out of the tables, where others may write too: each is what it should be, or nothing and a sentence.

An instant that cannot be is 0, which means "not known" everywhere. A ttl that no member writes becomes the longest that one
may have: whoever leads trusts itself no longer than that. A term or a version after which none can come leaves the record
unreadable for members (`Values.stuck`), while people still see it.
"""

from __future__ import annotations

from typing import Any

from heirflow.election.record import LARGEST, LONGEST_TTL_S, MOST_SEATS, SHORTEST_TTL_S, Exchange, record_name
from heirflow.errors import ConfigError

NAME_LENGTH = 200
"""Longest name of an election or a member, in characters."""
LATEST = 253_402_300_800.0
"""The first second of the year 10000. Instants and durations from there on are none."""

TEXT_LIMIT = 10_000
"""Longest free text (a reason, a note) that is kept, in characters."""


def checked_name(name: str, what: str) -> str:
    """A name as it may stand in the tables. Raises `ConfigError`."""
    if not 0 < len(name) <= NAME_LENGTH:
        raise ConfigError(f"the name of {what} must have 1 to {NAME_LENGTH} characters, not {len(name)}")
    if "\0" in name:
        raise ConfigError(f"the name of {what} must not contain a NUL character")
    # MySQL takes `web` and `web ` for the same; so such names are refused everywhere.
    if name != name.strip():
        raise ConfigError(f"the name of {what} must not begin or end with white space: {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"the name of {what} is not valid text: {name!r}") from None
    return name


def check(election: str, request: Exchange) -> None:
    """See that an exchange can be carried out. Raises `ConfigError` for a name that cannot be."""
    checked_name(election, "the election")
    if request.check_in is not None:
        checked_name(request.check_in.id, "the member")
    elif request.join or request.leave:
        raise ValueError("who joins or leaves must say who it is: give a check_in")


def check_seats(seats: int) -> None:
    """See that an election can have so many. Raises `ConfigError`."""
    if not 1 <= seats <= MOST_SEATS:
        raise ConfigError(f"an election has 1 to {MOST_SEATS} seats, not {seats}")


def check_room(election: str, seats: int) -> None:
    """See that the names of so many records are not too long. Raises `ConfigError`."""
    if len(record_name(election, seats)) > NAME_LENGTH:
        raise ConfigError(
            f"the name of an election with {seats} seats may have {NAME_LENGTH - len(f'#{seats}')} characters"
        )


def cleaned(text: str) -> str:
    """Free text as every database takes it: a reason must never be why an exchange fails."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:TEXT_LIMIT]


class Values:
    """Reads the values of one answer and remembers what was odd about them."""

    def __init__(self, where: str = "heirflow_election") -> None:
        """`where`: a person corrects a record."""
        self.where = where
        self.odd: list[str] = []
        """Sentences for people."""
        self.stuck: str | None = None
        """Why no member can write the record; None: it can."""

    def seconds(self, value: Any, whose: str, what: str, otherwise: float | None = 0.0) -> Any:
        """An instant since 1970 or a duration; `otherwise` where it is none."""
        number = _float(value)
        if 0 <= number < LATEST:  # which NaN is not
            return number
        self.odd.append(f"{whose} says {what} ({shown(value)}) in a way that cannot be; it is taken as not known")
        return otherwise

    def ttl(self, value: Any) -> float:
        """How long an heir waits."""
        number = _float(value)
        if SHORTEST_TTL_S <= number <= LONGEST_TTL_S:
            return number
        self.odd.append(
            f"the record says a ttl of {shown(value)} s, which no member writes: an heir that has not seen another one waits "
            f"{LONGEST_TTL_S:g} s; correct ttl_s in {self.where}"
        )
        return LONGEST_TTL_S

    def counter(self, value: Any, what: str) -> int:
        """The term or the version of the record."""
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            self._stuck(f"the record says {what} {shown(value)}, which is no number", what)
            return 0
        if number >= LARGEST:
            self._stuck(f"the record says {what} {number}, the largest there is: none can follow it", what)
        return number

    def whole(self, value: Any, whose: str, what: str) -> int:
        """A number that decides nothing."""
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError):
            self.odd.append(f"{whose} says {what} {shown(value)}, which is no number")
            return 0

    def _stuck(self, because: str, what: str) -> None:
        self.stuck = f"{because}; end all members and correct {what} in {self.where}"
        self.odd.append(self.stuck)


def text(value: Any) -> str:
    """SQLite keeps anything in any column."""
    if isinstance(value, str):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def text_or_none(value: Any) -> str | None:
    """The same for a column that may be empty."""
    return None if value is None else text(value)


def shown(value: Any) -> str:
    """A value as a sentence shows it."""
    return f"{value:g}" if isinstance(value, float) else repr(value)[:40]


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
