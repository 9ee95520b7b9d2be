"""The environment of everything that a member starts: its command, the command's standby, hooks and health checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heirflow.election.record import Exchange

PRIVATE = frozenset({"NOTIFY_SOCKET", "HEIRFLOW_DB_URL"})
"""Ours alone: a command that answers the service manager in our place breaks the unit; the address holds a secret."""
PRIVATE_PREFIXES = ("WATCHDOG_",)


def command_environment(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of the command: `base` without what is private to the member, then `extra`."""
    kept = {
        name: value for name, value in base.items() if name not in PRIVATE and not name.startswith(PRIVATE_PREFIXES)
    }
    return {**kept, **extra}


def names_of(election: str, member: str, term: int | None, start: int | None, seat: int | None) -> dict[str, str]:
    """By what a command knows whose it is, and its database who it is. A standby has no term, no start and no seat yet."""
    return {
        "HEIRFLOW_ELECTION": election,
        "HEIRFLOW_MEMBER": member,
        **({} if term is None else {"HEIRFLOW_TERM": str(term), "HEIRFLOW_SEAT": str(seat)}),
        "PGAPPNAME": session_name(member, start),
    }


def session_name(member: str, start: int | None) -> str:
    """What drivers built on libpq name a command's sessions after (PGAPPNAME), so that a leader can tell and end them.

    What a standby (no start) asks before its gate opens, such as whether the schema is there, is nobody's to end or to refuse.
    """
    return f"heirflow-standby/{member}" if start is None else f"heirflow/{member}/{start}"


def numbered(exchange: Exchange, start: int) -> Exchange:
    """With the number of the start that runs or comes next. It may arrive late, and then still speaks of those before it only."""
    return exchange if exchange.swap is None else replace(exchange, swap=replace(exchange.swap, start=start))
