"""Ending, on PostgreSQL, the sessions of members that led before: a command killed too late can do harm only through these.

A command's sessions are named ``heirflow/<member id>/<number of the start>`` (its environment has PGAPPNAME); older members
leave the number out. Only such a session is ever ended, and only when the history says that this very member led an *earlier*
term of this very election, or when it stands in this line and the session has the number of a start: that is a command's, and
who holds the record is somebody else. The history alone would not do, as a fail-over of the database can forget that somebody
took charge. The names that are looked for are bound values and compared as a whole. Only in this very database: a copy of it on
the same server has the same history, and what was deposed there may lead here.

Where an election has several seats, each with terms of its own, whoever led any of them and holds none now has led an earlier
term of that one. So every leader ends its sessions. Who holds another seat is spared, and looked at again: it may lose that.

The leader's own member may have led an earlier term too. What that left behind is ended at taking charge, when no command of
it runs: a statement of a dead command can lie in its host's kernel as long as the network is cut, and arrive when the same
member leads again. At renewals its own sessions are left alone: they are its command's.

A leader looks with every swap that it wins, on servers with many sessions with every so many; a renewal's look is part of its
one statement. At taking charge it also waits a little until they are gone, as their locks would stall its command. Between
looks the login trigger (`fence_login`) keeps them out, where it is installed.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import sqlalchemy as sa

from heirflow.election.record import Swap, Told, What, record_names
from heirflow.errors import HeirflowError, first_line
from heirflow.stores.base import Finding, KeptOut
from heirflow.stores.sql.schema import Tables

PREFIX = "heirflow/"
NAME_LIMIT = 63
"""Bytes of a session's name that the server keeps."""
_NUMBERED = re.compile(r"(.*)/(\d{1,9})", re.DOTALL)
"""An id ends with six hexadecimal digits after a hyphen, so that no id looks like this."""
REST_S = 60.0
"""After a look that failed, renewals do without for so long."""
TELL_AGAIN_S = 60.0
"""A member whose sessions come back again and again is told of no more often than this."""
POOLED = "lease only: the connection goes through a pooler, where sessions cannot be told apart"

SEEN = """(SELECT ARRAY[CAST(count(*) AS text)] || array_agg(a.application_name) FILTER
 (WHERE a.application_name LIKE 'heirflow/%' AND a.datid =
 (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
 FROM pg_catalog.pg_stat_get_activity(NULL) a)"""
"""How many sessions the server has, and the names of all that are such ones here, as an expression. Its price grows with their
number: half of what a renewal costs more than a check-in where there are few, and 1.5 ms at 1,000.
"""
SESSIONS_A_RENEWAL = 200
"""A server with so many sessions is looked at with every second renewal, one with twice as many with every third, and so on."""
_SEEN = sa.text(f"SELECT {SEEN}")
# Whoever may not end a session must not ask for it: the error would take back the swap. So the server's own rule is asked first.
_END = sa.text(
    "SELECT a.pid, a.application_name, a.usename, CASE WHEN (NOT r.rolsuper OR me.rolsuper) "
    "AND (pg_catalog.pg_has_role(a.usesysid, 'USAGE') OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')) "
    "THEN pg_catalog.pg_terminate_backend(a.pid) END AS ended "
    "FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid "
    "JOIN pg_catalog.pg_roles me ON me.rolname = current_user "
    "WHERE a.application_name IN :names AND a.pid <> pg_catalog.pg_backend_pid() "
    "AND a.datname = pg_catalog.current_database()"
).bindparams(sa.bindparam("names", expanding=True))
_LEFT = sa.text(
    "SELECT count(*) FROM pg_catalog.pg_stat_get_activity(NULL) a "
    "JOIN pg_catalog.pg_database d ON d.oid = a.datid AND d.datname = pg_catalog.current_database() "
    "WHERE a.pid IN :pids AND a.application_name LIKE 'heirflow/%'"
).bindparams(sa.bindparam("pids", expanding=True))
_PAST = {False: "which led before", True: "of an earlier start of its command"}
_LOOK_ANEW = sa.text("SELECT pg_catalog.pg_stat_clear_snapshot()")


def session_name(member: str, start: int | None) -> str:
    """What the server shows for the sessions of this member's command."""
    return (PREFIX + member + ("" if start is None else f"/{start}"))[:NAME_LIMIT]


def whose(name: str) -> tuple[str, int | None]:
    """The member that a session is named after, and which start of its command; None: of no start that is known."""
    found = _NUMBERED.fullmatch(name.removeprefix(PREFIX))
    return (name.removeprefix(PREFIX), None) if found is None else (found[1], int(found[2]))


Led = Callable[[Mapping[str, Any]], Mapping[str, bool]]
"""Who of ``p_ids`` led an earlier term, or is in ``p_numbered`` and stands in the line; and whether its sessions are over."""


class SessionFence:
    """What one leader knows about other members' sessions. Used for one store's connection."""

    def __init__(self, here: Tables, led: Led | None = None) -> None:
        """`led`: who tells who led, where the history is not in these tables."""
        self._told_by = led
        e, v, m = here.election.c, here.event.c, here.member.c
        by_history = sa.select(v.member).where(
            v.election == sa.bindparam("p_election"),
            v.what == What.TOOK_CHARGE.value,
            # Whoever else holds no seat has led an earlier term, of whichever seat; and terms of two seats are not compared.
            sa.or_(v.term < sa.bindparam("p_term"), v.member != sa.bindparam("p_leader")),
            v.member.in_(sa.bindparam("p_ids", expanding=True)),
        )
        by_place = sa.select(m.id.label("member")).where(
            m.election == sa.bindparam("p_election"), m.id.in_(sa.bindparam("p_numbered", expanding=True))
        )
        past = sa.union(by_history, by_place).subquery("past")
        # Who leads another seat has a right to its sessions; they end when that seat is lost.
        leads = sa.select(e.leader).where(e.name.in_(sa.bindparam("p_names", expanding=True)), e.leader.is_not(None))
        over = sa.or_(past.c.member == sa.bindparam("p_leader"), past.c.member.not_in(leads))
        self._led = sa.select(past.c.member, over.label("over"))
        self._reign: tuple[str, str, int] | None = None
        self._strangers: set[str] = set()
        """Names of sessions that are not ours to end: their members led no term, nor do they stand in this line."""
        self._told_at: dict[str, float] = {}
        self._silently = 0
        """How many sessions were ended without a word, since another was told of the same member."""
        self._sessions = self._spared = 0
        """How many the server had at the last look, and how many renewals have done without one since."""
        self._rests_until = 0.0
        """A look that failed may fail again: a renewal must not be lost to it twice in a row."""
        self._untold: tuple[Told, ...] = ()

    def looks(self, election: str, swap: Swap) -> bool:
        """Whether this leader's swap is to ask for `SEEN`."""
        self._begin((election, str(swap.record.leader), swap.record.term))
        taking = swap.takes_over is not None
        if time.monotonic() < self._rests_until or (not taking and self._spared < self._sessions // SESSIONS_A_RENEWAL):
            self._spared += 1
            return False
        self._spared = 0
        return True

    def calls(self, swap: Swap, answer: Sequence[str] | None, leads: AbstractSet[str | None]) -> bool:
        """Whether `end` has something to do, or to tell, after a swap. `answer`: to `SEEN`, where it was asked.

        `leads`: who leads a seat, by the same answer. They have a right to their sessions as long as they do.
        """
        seen, leader = () if answer is None else self._read(answer), str(swap.record.leader)
        over, others = self._sorted(seen, leader, swap.start, taking=swap.takes_over is not None)
        return bool(self._untold or over or any(each == leader or each not in leads for each in others.values()))

    def failed(self, error: BaseException) -> None:
        """A look failed: the next swaps do without."""
        self._untold = self._rest(error)

    def _begin(self, reign: tuple[str, str, int]) -> None:
        if self._reign != reign:
            self._reign, self._strangers, self._rests_until = reign, set(), 0.0

    def end(
        self,
        conn: sa.engine.Connection,
        election: str,
        leader: str,
        term: int,
        wait_s: float | None,
        start: int | None = None,
    ) -> tuple[Told, ...]:
        """End them within the transaction of a swap that won; returns what is worth telling.

        `wait_s`: when taking charge, how long to wait until they are gone; nothing that fails then spoils the taking. None: at
        a renewal, which asks one small question when there is nobody to end.
        """
        self._begin((election, leader, term))
        untold, self._untold = self._untold, ()
        if time.monotonic() < self._rests_until:
            return untold
        if wait_s is None:
            try:
                return untold + self._end(conn, election, leader, term, None, start)
            except sa.exc.DBAPIError as error:
                # The transaction is lost, and with it this renewal; the next one comes in time, and does without. A connection
                # that broke says nothing about the look.
                if not _broken(conn, error):
                    self._untold = self._rest(error)
                raise
        savepoint = conn.begin_nested()
        try:
            told = self._end(conn, election, leader, term, wait_s, start)
        except sa.exc.DBAPIError as error:
            if _broken(conn, error):
                raise
            savepoint.rollback()
            return self._rest(error)
        except HeirflowError as error:  # of who tells who led, which is elsewhere
            savepoint.rollback()
            return (Told(f"the sessions of earlier leaders stay: {error}", failed=True),)
        savepoint.commit()
        return told

    def _rest(self, error: BaseException) -> tuple[Told, ...]:
        self._rests_until = time.monotonic() + REST_S
        sentence = (
            f"lease only for {REST_S:g} s: the sessions of earlier leaders could not be seen: {first_line(error)}"
        )
        return (Told(sentence, failed=True),)

    def _end(
        self,
        conn: sa.engine.Connection,
        election: str,
        leader: str,
        term: int,
        wait_s: float | None,
        start: int | None,
    ) -> tuple[Told, ...]:
        seen = self._read(conn.execute(_SEEN).scalar_one())
        over, others = self._sorted(seen, leader, start, taking=wait_s is not None)
        if others:
            numbered = sorted({each for name, each in others.items() if each != leader and whose(name)[1] is not None})
            asked = {
                "p_election": election,
                "p_term": term,
                "p_ids": sorted({*others.values()}),
                "p_numbered": numbered,
                "p_leader": leader,
                "p_names": record_names(election),
            }
            led = (
                self._told_by(asked)
                if self._told_by
                else {row.member: row.over for row in conn.execute(self._led, asked).all()}
            )
            self._strangers.update(name for name, member in others.items() if member not in led and member != leader)
            over.update(name for name, member in others.items() if led.get(member, False))
        if not over:
            return ()
        with conn.begin_nested():
            conn.execute(_LOOK_ANEW)
            rows = conn.execute(_END, {"names": sorted(over)}).all()
        left = self._wait(conn, [row.pid for row in rows if row.ended], wait_s) if wait_s else 0
        return self._sentences(rows, left, wait_s, leader)

    def _read(self, answer: Sequence[str]) -> Sequence[str]:
        """The names in an answer to `SEEN`. Leaders that took charge together do not look together ever after."""
        before, self._sessions = self._sessions, int(answer[0])
        if not before:
            self._spared = random.randrange(1 + self._sessions // SESSIONS_A_RENEWAL)  # noqa: S311
        return answer[1:]

    def _sorted(
        self, seen: Sequence[str], leader: str, start: int | None, *, taking: bool
    ) -> tuple[set[str], dict[str, str]]:
        """The sessions that are over in any case, and those to ask the history about, with their members."""
        over, others = set[str](), dict[str, str]()
        own = "" if taking else session_name(leader, start)
        for name in seen:
            if name == own or name in self._strangers:
                continue
            member, number = whose(name)
            if member != leader:
                others[name] = member
            elif number is not None and start is not None and number < start:
                over.add(name)  # its command is gone: the next one starts only after that is proved
            elif taking:
                others[name] = member
        return over, others

    def _wait(self, conn: sa.engine.Connection, pids: Sequence[int], wait_s: float) -> int:
        """How many are still there when all are gone or the time is up. The server's own wait looks ten times a second only."""
        limit, left = time.monotonic() + wait_s, len(pids)
        while left and time.monotonic() < limit:
            time.sleep(0.002)
            conn.execute(_LOOK_ANEW)
            left = int(conn.execute(_LEFT, {"pids": list(pids)}).scalar_one())
        return left

    def _sentences(self, rows: Sequence[Any], left: int, wait_s: float | None, leader: str) -> tuple[Told, ...]:
        told: list[Told] = []
        now = time.monotonic()
        for member in sorted({whose(row.application_name)[0] for row in rows}):
            ended = sum(1 for row in rows if row.ended and whose(row.application_name)[0] == member)
            if wait_s is None and now - self._told_at.get(member, -TELL_AGAIN_S) < TELL_AGAIN_S:
                self._silently += ended
                continue
            self._told_at[member] = now
            own = member == leader and wait_s is None
            its = [row for row in rows if whose(row.application_name)[0] == member]
            if ended:
                counted, self._silently = ended + self._silently, 0
                told.append(Told(f"ended {_sessions(ended)} of {member}, {_PAST[own]}", sessions=counted))
            if others := sorted({str(row.usename) for row in its if row.ended is None}):
                count = sum(1 for row in its if row.ended is None)
                why = f"this role may not end those of role {', '.join(others)}"
                told.append(Told(f"could not end {_sessions(count)} of {member}: {why}", failed=True))
        if left:
            told.append(Told(f"{_sessions(left)} did not end within {wait_s:g} s", failed=True))
        return tuple(told)


def _broken(conn: sa.engine.Connection, error: sa.exc.DBAPIError) -> bool:
    return bool(conn.closed or conn.invalidated or error.connection_invalidated)


def _sessions(count: int) -> str:
    return f"{count} session{'' if count == 1 else 's'}"


def fence_of(conn: sa.engine.Connection, here: Tables, *, direct: bool) -> Finding:
    """What `heirflow doctor` and `status` say about this database. Leaves its transaction to the caller.

    It is what *this* connection and role see: the members may have another role, or come through a pooler.
    """
    from heirflow.stores.sql.fence_login import condition

    if not direct:
        return Finding("fence", "warning", f"{POOLED}; connect directly", {"state": KeptOut.LEASE_ONLY})
    role, others = conn.execute(
        sa.text("SELECT current_user, pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')")
    ).one()
    whose = "every ordinary role" if others else "its own role only"
    trigger = condition(conn, here)
    facts = {"trigger": trigger.state, "ends_sessions_of": "every ordinary role" if others else role}
    if trigger.state == "installed":
        sentence = (
            f"fenced, seen as role {role}: the login trigger refuses members that led before, and a leader "
            f"ends their sessions in this database, of {whose}"
        )
        return Finding("fence", "ok", sentence, {"state": KeptOut.FENCED, **facts})
    sentence = (
        f"sessions ended, seen as role {role}: a leader ends earlier leaders' in this database, of {whose}; "
        f"{trigger.sentence}"
    )
    return Finding("fence", "note", sentence, {"state": KeptOut.SESSIONS_ENDED, **facts})
