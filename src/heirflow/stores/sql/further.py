"""The records of further seats: the election's name with ``#2``, ``#3`` and so on. An election of one seat has none of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from heirflow.election.record import Swap, record_name, record_names
from heirflow.stores.base import StoreMisfit
from heirflow.stores.rows import NOBODY_YET
from heirflow.stores.sql.statements import Statements
from heirflow.stores.values import check_room, check_seats

ONE_ONLY = "the tables know one seat only; run `heirflow init` once, as a role that may add a column"


def names(election: str) -> list[str]:
    """All names that records of further seats can have."""
    return record_names(election)[1:]


def is_further(name: str, others: frozenset[str]) -> bool:
    """Whether a record of this name belongs to a further seat of one of these elections."""
    election, hash_, number = name.rpartition("#")
    return hash_ == "#" and number.isdecimal() and election in others


def make(conn: sa.engine.Connection, sql: Statements, election: str, seats: int, like: dict[str, Any]) -> None:
    """Give each further seat a record where there is none. `like`: what `bound.wanted_by` has for the first seat's."""
    check_room(election, seats)
    vacant = {
        "p_version": 1,
        "p_term": 0,
        "p_leader": None,
        "p_because": NOBODY_YET,
        "p_note": "",
        "p_switchover_to": None,
    }
    for seat in range(2, seats + 1):
        conn.execute(sql.first, {**like, **vacant, "p_name": record_name(election, seat), "p_seats": None})


def first(swap: Swap, sql: Statements) -> dict[str, Any]:
    """What the first record says of the number of seats. Raises `StoreMisfit` where these tables cannot say it."""
    if swap.seats > 1 and "seats" not in sql.later:
        raise StoreMisfit(ONE_ONLY)
    return {"p_seats": swap.seats if swap.seats > 1 else None}


def set_seats(conn: sa.engine.Connection, sql: Statements, election: str, seats: int) -> bool:
    """Change how many there are; False where there is no such election.

    Records of seats that are no more stay: their terms go on where they stopped.
    Raises `ConfigError`, and `StoreMisfit` like `first`.
    """
    check_seats(seats)
    row = conn.execute(sql.read, {"p_election": election}).first()
    if row is None or row.e_version is None:
        return False
    if "seats" not in sql.later:
        raise StoreMisfit(ONE_ONLY)
    make(conn, sql, election, seats, {"p_ttl_s": row.e_ttl_s, "p_paused": row.e_paused, "p_history": row.e_history})
    conn.execute(sql.seats, {"p_name": election, "p_seats": seats})
    return True
