"""What an exchange answers, made of the rows that it read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from heirflow.election.record import Reading, Told
from heirflow.stores.sql.further import count, places
from heirflow.stores.sql.statements import member_of, record_of
from heirflow.stores.sql.values import Values, text_or_none


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows, and what the exchange did."""

    rows: Sequence[Any]
    """Of `Statements.read`."""
    swapped: bool | None
    told: tuple[Told, ...] = ()
    """What else is worth telling."""
    hidden: tuple[str, ...] = ()
    """Why rows may be hidden."""
    further: Sequence[Any] = ()
    """Of `Statements.further`."""

    def reading(self, election: str, told: tuple[Told, ...], seats: int) -> tuple[Reading, str | None]:
        """For members and people; and why no member can write the record, if none can. `seats`: how many there were before."""
        values, first = Values(), self.rows[0]
        seats = count(first, values, seats)
        reading = Reading(
            record_of(first, values),
            tuple(member_of(row, values) for row in self.rows if row.m_id is not None),
            self.swapped,
            written_at=values.seconds(first.e_written_at or 0, "the record", "when it was written"),
            since=values.seconds(first.e_since or 0, "the record", "when its leader changed"),
            db_now=float(first.db_now),
            told=self.told + told,
            history=text_or_none(first.history) or None,
            seats=seats,
            others=places(self.further, election, seats, values),
        )
        return replace(reading, odd=(*self.hidden, *values.odd)), values.stuck
