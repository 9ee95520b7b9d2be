"""Fencing on PostgreSQL: whose sessions are ended, whose never, and who is refused at the door.

The promises that could break here: never two (a session that should have ended writes on), always one, soon (a renewal or a
taking fails because of it), and that nobody else is touched.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from heirflow.election.record import Exchange, Reading, Told, What
from heirflow.stores import Store, StoreUnavailable, open_store
from heirflow.stores.sql import fence
from heirflow.stores.sql.one_statement import Kind, Text
from heirflow.testing.store_tools import new_election, take, who
from lab.servers.servers import Server
from tests.contract.drivers import MYSQL, POSTGRES

NewDatabase = Callable[[str], str]
LIMIT_S = 1.5


@pytest.fixture
def url(new_database: NewDatabase) -> str:
    return new_database(POSTGRES[0])


@pytest.fixture
def theirs(url: str) -> Iterator[Sessions]:
    with ExitStack() as undo:
        yield Sessions(url, undo)


class Sessions:
    """Sessions as commands open them."""

    def __init__(self, url: str, undo: ExitStack) -> None:
        self._url, self._undo = url, undo

    def open(self, name: str, url: str | None = None) -> sa.engine.Connection:
        engine = sa.create_engine(
            url or self._url, poolclass=sa.pool.NullPool, future=True, connect_args={"application_name": name}
        )
        conn = engine.connect()
        self._undo.callback(conn.invalidate)
        conn.execute(sa.text("SELECT 1"))
        return conn


def alive(conn: sa.engine.Connection) -> bool:
    try:
        conn.execute(sa.text("SELECT 1"))
    except sa.exc.DBAPIError:
        return False
    return True


@contextmanager
def leading(url: str, election: str, *reigns: str) -> Iterator[tuple[Store, Callable[..., Reading]]]:
    """A store, and a word that lets somebody take charge or renew; the reigns that were before are in the history."""
    store = open_store(url, call_limit_s=LIMIT_S, application_name="member/test")
    version = term = 0

    def lead(leader: str, *, renew: bool = False) -> Reading:
        nonlocal version, term
        term += 0 if renew else 1
        swap = take(leader, term, version + 1, expected=version or None, takes_over=None if renew else "")
        swap = dataclasses.replace(swap, event=None, news=False) if renew else swap
        reading = store.exchange(election, Exchange(who(leader), swap=swap))
        assert reading.swapped
        version += 1
        return reading

    try:
        store.open()
        for reign in reigns:
            lead(reign)
        yield store, lead
    finally:
        store.close()


@pytest.mark.parametrize("driver", POSTGRES)
def test_whoever_takes_charge_ends_the_sessions_of_earlier_leaders_and_nobody_elses(
    driver: str, new_database: NewDatabase
) -> None:
    url, election = new_database(driver), new_election()
    with ExitStack() as undo, leading(url, election, "a-1", "b-2", "c-3") as (store, lead):
        theirs = Sessions(url, undo)
        ended = [theirs.open("heirflow/a-1"), theirs.open("heirflow/a-1"), theirs.open("heirflow/b-2")]
        spared = [
            theirs.open(name)
            for name in (
                "heirflow/d-4",  # our own command's
                "heirflow/e-5",  # of a member that never led
                "heirflow/a-1x", "heirflow/a-", "heirflow/A-1", "heirflow/a_1", "heirflow/a-%", "xheirflow/a-1", "a-1",
                "heirflow-standby/a-1", "heirflow-member/a-1", "psql", "",
            )
        ]  # fmt: skip
        holding = theirs.open("heirflow/c-3")  # somebody's transaction that would stall the new command
        holding.execute(sa.text("UPDATE heirflow_member SET label = label"))
        start = time.monotonic()
        reading = lead("d-4")
        took_s = time.monotonic() - start
        assert not any(alive(conn) for conn in (*ended, holding))
        assert all(alive(conn) for conn in spared)
        assert took_s < LIMIT_S
        told = [f"ended {count} of {name}, which led before" for name, count in
                (("a-1", "2 sessions"), ("b-2", "1 session"), ("c-3", "1 session"))]  # fmt: skip
        assert reading.told == tuple(map(Told, told))
        assert store.events(election, 1)[0].because == "; ".join(("d-4 took charge", *told))


def test_they_are_gone_before_the_swap_is_told_as_won(url: str, theirs: Sessions, postgres: Server) -> None:
    election = new_election()
    with leading(url, election, "a-1") as (_, lead):
        for _ in range(8):
            theirs.open("heirflow/a-1")
        lead("b-2")
        assert postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'heirflow/a-1'") == "0"


def test_a_session_that_does_not_end_is_waited_for_and_told(url: str, theirs: Sessions) -> None:
    """Its server process stands still, as one that waits for a disk; it may hold locks that the new command needs."""
    with leading(url, new_election(), "a-1") as (_, lead):
        pid = theirs.open("heirflow/a-1").execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        os.kill(pid, signal.SIGSTOP)
        try:
            told = lead("b-2").told
        finally:
            os.kill(pid, signal.SIGCONT)
        assert told == (
            Told("ended 1 session of a-1, which led before"),
            Told("1 session did not end within 0.3 s", failed=True),
        )


def test_a_renewal_ends_those_that_came_back_and_says_so_once(
    url: str, theirs: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    election = new_election()
    with leading(url, election, "a-1", "b-2") as (store, lead):
        assert lead("b-2", renew=True).told == ()
        told = []
        for _ in range(3):
            back = theirs.open("heirflow/a-1")
            stranger = theirs.open("heirflow/z-9")
            told.append(lead("b-2", renew=True).told)
            time.sleep(0.05)
            assert not alive(back) and alive(stranger)
        assert told == [(Told("ended 1 session of a-1, which led before"),), (), ()]
        assert [event.what for event in store.events(election, 9)] == [What.TOOK_CHARGE, What.TOOK_CHARGE, What.FENCED]
        # Those that it does not tell of are counted with the next word.
        monkeypatch.setattr(fence, "TELL_AGAIN_S", 0.0)
        theirs.open("heirflow/a-1")
        assert [each.sessions for each in (*told[0], *lead("b-2", renew=True).told)] == [1, 3]


def test_a_member_that_leads_again_ends_what_its_earlier_term_left_and_then_keeps_its_sessions(
    url: str, theirs: Sessions
) -> None:
    """A statement of the dead command can still be under way to its session: the network was cut, and heals."""
    election = new_election()
    with leading(url, election, "a-1", "b-2") as (_, lead):
        before, other = theirs.open("heirflow/a-1"), theirs.open("heirflow/b-2")
        told = lead("a-1").told
        assert told == (
            Told("ended 1 session of a-1, which led before"),
            Told("ended 1 session of b-2, which led before"),
        )
        assert not alive(before) and not alive(other)
        own = theirs.open("heirflow/a-1")
        assert lead("a-1", renew=True).told == ()
        assert alive(own)


def test_the_leader_of_another_election_is_spared(url: str, theirs: Sessions) -> None:
    with leading(url, new_election(), "a-1", "b-2") as (_, lead), leading(url, new_election(), "x-7", "y-8"):
        others = [theirs.open("heirflow/x-7"), theirs.open("heirflow/y-8")]
        assert lead("c-3").told == () and lead("c-3", renew=True).told == ()
        assert all(alive(conn) for conn in others)


def test_another_database_of_the_server_is_spared_though_its_history_is_the_same(
    url: str, theirs: Sessions, new_database: NewDatabase
) -> None:
    """A copy of the database, made to try something: its members must not end the sessions of the original's leader."""
    election, original = new_election(), new_database(POSTGRES[0])
    with leading(original, election, "b-2", "a-1"), leading(url, election, "a-1", "b-2") as (_, lead):
        leader, own = theirs.open("heirflow/a-1", original), theirs.open("heirflow/a-1")
        assert lead("c-3").told == (Told("ended 1 session of a-1, which led before"),)
        assert alive(leader) and not alive(own)
        own = theirs.open("heirflow/a-1")
        lead("c-3", renew=True)
        time.sleep(0.05)
        assert alive(leader) and not alive(own)


def test_only_the_winner_ends_sessions(url: str, theirs: Sessions) -> None:
    election = new_election()
    with leading(url, election, "a-1", "b-2") as (store, _):
        session = theirs.open("heirflow/a-1")
        lost = take("c-3", 3, 3, expected=7, takes_over="")
        assert store.exchange(election, Exchange(who("c-3"), swap=lost)).swapped is False
        order = take("b-2", 2, 3, expected=2, paused=True)
        assert store.exchange(election, Exchange(swap=order)).swapped  # a person's order, no renewal
        assert alive(session)


def test_another_roles_session_is_told_and_spoils_nothing(url: str, postgres: Server) -> None:
    election = new_election()
    postgres.sql("CREATE ROLE other_role LOGIN PASSWORD 'other'; CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'boss'")
    try:
        with ExitStack() as undo, leading(url, election, "a-1") as (store, lead):
            theirs = Sessions(url, undo)
            roles = [("other_role", "other"), ("boss", "boss")]
            spared = [
                theirs.open(
                    "heirflow/a-1", sa.engine.make_url(url).set(username=name, password=word)  # type: ignore[arg-type]
                )
                for name, word in roles
            ]  # fmt: skip
            own = theirs.open("heirflow/a-1")
            told = lead("b-2").told
            assert told == (
                Told("ended 1 session of a-1, which led before"),
                Told(
                    "could not end 2 sessions of a-1: this role may not end those of role boss, other_role", failed=True
                ),
            )
            assert not alive(own) and all(alive(conn) for conn in spared)
            assert lead("b-2", renew=True).told == ()
            assert sum(event.what is What.FENCED for event in store.events(election, 9)) == 0
            postgres.sql("GRANT pg_signal_backend TO heirflow")
            lead("c-3")
            assert not alive(spared[0]) and alive(spared[1]), "a superuser's session may only be ended by one"
    finally:
        postgres.sql("REVOKE pg_signal_backend FROM heirflow")
        postgres.sql("DROP ROLE other_role; DROP ROLE boss")


def test_an_empty_history_ends_nobody(url: str, theirs: Sessions, postgres: Server) -> None:
    election = new_election()
    with leading(url, election, "a-1") as (_, lead):
        session = theirs.open("heirflow/a-1")
        postgres.sql("TRUNCATE heirflow_event", database=url.rpartition("/")[2])
        assert lead("b-2").told == ()
        assert alive(session)


def test_a_view_of_sessions_that_cannot_be_read_costs_no_leadership(url: str, postgres: Server) -> None:
    election, database = new_election(), url.rpartition("/")[2]
    shut = "REVOKE EXECUTE ON FUNCTION pg_stat_get_activity(integer) FROM PUBLIC"
    with leading(url, election, "a-1") as (store, lead):
        postgres.sql(shut, database=database)
        told = lead("b-2").told
        assert len(told) == 1 and told[0].failed
        assert told[0].sentence.startswith("lease only for 60 s: the sessions of earlier leaders could not be seen: ")
        for _ in range(3):
            assert lead("b-2", renew=True).told == ()
        assert store.events(election, 1)[0] == dataclasses.replace(
            store.events(election, 1)[0], what=What.TOOK_CHARGE, because=f"b-2 took charge; {told[0].sentence}"
        )


def test_a_renewal_looks_within_its_one_statement(url: str, theirs: Sessions, postgres: Server) -> None:
    election = new_election()
    theirs.open("heirflow/x-7")  # of another election
    postgres.sql(f"ALTER DATABASE \"{url.rpartition('/')[2]}\" SET log_statement = 'all'")
    with leading(url, election, "a-1", "b-2") as (_, lead):
        lead("b-2", renew=True)
        for _ in range(8):  # each prepares one more
            lead("b-2", renew=True)
        place = postgres.log.stat().st_size
        lead("b-2", renew=True)
        log = postgres.log.read_bytes()[place:].decode()
        asked = [line for line in log.split(" LOG:  ") if line.startswith(("statement: ", "execute "))]
        assert len(asked) == 1, asked
        assert asked[0].count("pg_stat_get_activity") == 1


def test_a_server_with_many_sessions_is_looked_at_less_often(
    url: str, postgres: Server, theirs: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look's price grows with their number, and so does the number of leaders that look."""
    election = new_election()
    for _ in range(4):
        theirs.open("somebody")
    monkeypatch.setattr(fence, "SESSIONS_A_RENEWAL", 4)
    postgres.sql(f"ALTER DATABASE \"{url.rpartition('/')[2]}\" SET log_statement = 'all'")
    with leading(url, election, "a-1") as (_, lead):
        place = postgres.log.stat().st_size
        for _ in range(12):
            lead("a-1", renew=True)
        looks = postgres.log.read_bytes()[place:].decode().count("pg_stat_get_activity")
        assert 2 <= looks <= 6, "about every third"


def test_a_look_that_fails_costs_no_renewal(url: str, postgres: Server) -> None:
    election, database = new_election(), url.rpartition("/")[2]
    shut = "REVOKE EXECUTE ON FUNCTION pg_stat_get_activity(integer) FROM PUBLIC"
    with leading(url, election, "a-1") as (store, lead):
        lead("a-1", renew=True)
        postgres.sql(shut, database=database)
        swap = dataclasses.replace(take("a-1", 1, 3, expected=2, news=False), event=None)
        reading = store.exchange(election, Exchange(who("a-1"), swap=swap))
        assert reading.swapped and len(reading.told) == 1 and "could not be seen" in reading.told[0].sentence
        assert store.events(election, 1)[0].what is What.FENCED


def test_a_connection_that_breaks_during_the_look_is_no_reason_to_do_without(
    url: str, theirs: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that crashed in that moment left it without a look for a minute, in which old sessions could come back."""
    election = new_election()
    with leading(url, election, "a-1", "b-2") as (store, lead):
        lead("b-2", renew=True)
        swap = dataclasses.replace(take("b-2", 2, 4, expected=3, news=False), event=None)
        with monkeypatch.context() as patched:
            breaks = "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())"
            patched.setitem(store._flavour._carrier._one._texts, Kind.TAKING, Text.of("breaks", breaks, {}))
            with pytest.raises(StoreUnavailable):
                store.exchange(election, Exchange(who("b-2"), swap=swap))
        back = theirs.open("heirflow/a-1")
        reading = store.exchange(election, Exchange(who("b-2"), swap=swap))
        assert reading.swapped and reading.told == (Told("ended 1 session of a-1, which led before"),)
        time.sleep(0.05)
        assert not alive(back)


@pytest.mark.parametrize("driver", MYSQL[:1])
def test_other_databases_say_lease_only(driver: str, new_database: NewDatabase) -> None:
    for url in (new_database(driver), new_database("sqlite")):
        store = open_store(url, call_limit_s=LIMIT_S)
        store.open()
        finding = store.fence()
        assert finding.facts["state"] == "lease only" and finding.sentence.startswith("lease only: ")
        assert finding in store.examine()
        store.close()


# The login trigger


@pytest.fixture
def fenced(url: str, postgres: Server) -> Iterator[Callable[[Callable[..., Any]], Any]]:
    """A word that does something as a superuser in this database."""
    from heirflow.stores.sql import fence_login
    from heirflow.stores.sql.schema import tables

    address = sa.engine.make_url(url).set(username="postgres", password=postgres.password)
    engine = sa.create_engine(address, poolclass=sa.pool.NullPool, future=True)

    def by_superuser(act: Callable[..., Any]) -> Any:
        with engine.begin() as conn:
            return act(conn) if act is fence_login.remove else act(conn, tables(None))

    yield by_superuser
    by_superuser(fence_login.remove)


def refused(theirs: Sessions, name: str) -> str:
    """What the server says at the door; empty when it lets in."""
    try:
        theirs.open(name)
    except sa.exc.OperationalError as error:
        return str(error.orig)
    return ""


def test_a_deposed_member_is_refused_at_the_door_and_nobody_else(url: str, theirs: Sessions, fenced: Any) -> None:
    from heirflow.stores.sql import fence_login

    election = new_election()
    with leading(url, election, "a-1") as (store, lead), leading(url, new_election(), "x-7"):
        assert store.fence().facts["state"] == "sessions ended"
        fenced(fence_login.install)
        fenced(fence_login.install)  # again is fine
        assert store.fence().facts["state"] == "fenced"
        assert refused(theirs, "heirflow/a-1") == ""  # it leads
        lead("b-2")
        said = refused(theirs, "heirflow/a-1/12")
        assert said == refused(theirs, "heirflow/a-1") != ""  # as members of an older version name them
        assert f"heirflow: a-1 led term 1 of election {election}, which is in term 2 now, led by b-2" in said
        for name in ("heirflow/b-2", "heirflow/x-7", "heirflow/never", "heirflow-standby/a-1", "heirflow-member/a-1",
                     "heirflow/", "heirflow/a-1'; DROP TABLE heirflow_event; --", "psql"):  # fmt: skip
            assert refused(theirs, name) == "", name
        lead("a-1")  # leads again: the record names it
        assert refused(theirs, "heirflow/a-1") == ""
        assert "led term 2" in refused(theirs, "heirflow/b-2")
        assert fenced(fence_login.remove) and not fenced(fence_login.remove)
        assert refused(theirs, "heirflow/b-2") == ""
        assert store.fence().facts["state"] == "sessions ended"


def test_a_vacant_record_refuses_who_released_it(url: str, theirs: Sessions, fenced: Any) -> None:
    from heirflow.stores.sql import fence_login

    election = new_election()
    with leading(url, election, "a-1") as (store, _):
        fenced(fence_login.install)
        assert store.exchange(election, Exchange(swap=take(None, 1, 2, expected=1))).swapped
        assert "which is in term 1 now: its sessions are refused" in refused(theirs, "heirflow/a-1")


PLANT_DOUBT = """
    ALTER TABLE heirflow_election RENAME TO gone;
    CREATE FUNCTION doubt() RETURNS text LANGUAGE plpgsql AS $$ BEGIN ASSERT false; END $$;
    CREATE VIEW heirflow_election AS SELECT name, term, doubt() AS leader FROM gone;
    GRANT SELECT ON heirflow_election TO heirflow_fence
"""


def test_an_administrator_is_never_locked_out(url: str, theirs: Sessions, fenced: Any, postgres: Server) -> None:
    from heirflow.stores.sql import fence_login

    database = url.rpartition("/")[2]
    boss = sa.engine.make_url(url).set(username="postgres", password=postgres.password)
    with leading(url, new_election(), "a-1", "b-2") as (store, _):
        fenced(fence_login.install)
        assert refused(theirs, "heirflow/a-1")
        theirs.open("heirflow/a-1", boss)  # type: ignore[arg-type]
        # Whatever happens to what the trigger reads, the door opens for everybody.
        for harm, undo in (
            ("REVOKE SELECT ON heirflow_event FROM heirflow_fence", "GRANT SELECT ON heirflow_event TO heirflow_fence"),
            ("ALTER TABLE heirflow_election RENAME TO gone", "ALTER TABLE gone RENAME TO heirflow_election"),
            (
                "ALTER TABLE heirflow_event RENAME COLUMN term TO t",
                "ALTER TABLE heirflow_event RENAME COLUMN t TO term",
            ),
            (
                PLANT_DOUBT,
                "DROP VIEW heirflow_election; DROP FUNCTION doubt; ALTER TABLE gone RENAME TO heirflow_election",
            ),
        ):
            postgres.sql(harm, database=database)
            assert refused(theirs, "heirflow/a-1") == "", harm
            postgres.sql(undo, database=database)
            assert refused(theirs, "heirflow/a-1"), undo
        holder = theirs.open("psql")
        holder.execute(sa.text("LOCK TABLE heirflow_event IN ACCESS EXCLUSIVE MODE"))
        assert refused(theirs, "heirflow/a-1") == "", "a locked table keeps nobody out"
        holder.rollback()
        postgres.sql("REVOKE SELECT ON heirflow_event FROM heirflow_fence", database=database)
        assert "may not read" in store.fence().sentence and store.fence().facts["state"] == "sessions ended"


def plant_spy(owner: sa.engine.Connection, database: str) -> None:
    """A view in place of the owner's table; its function tells the server's log whom it runs as, be it while planning."""
    tells = f"RAISE WARNING 'spied in {database} by %', current_user; PERFORM set_config('search_path', 'evil', false)"
    for statement in (
        f"CREATE FUNCTION spy() RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN {tells}; RETURN 'nobody'; END $$",
        "ALTER TABLE heirflow_election RENAME TO real_election",
        "CREATE VIEW heirflow_election AS SELECT name, version, term, spy() AS leader FROM real_election",
        "GRANT SELECT ON heirflow_election TO PUBLIC",
        "GRANT SELECT ON real_election TO PUBLIC",
    ):
        owner.execute(sa.text(statement))
    owner.commit()


def spied(server: Server, database: str) -> set[str]:
    """Whom the spy ran as until now."""
    return set(re.findall(rf"spied in {database} by (\w+)", server.log.read_text()))


def test_the_trigger_gives_no_rights_away(url: str, theirs: Sessions, fenced: Any, postgres: Server) -> None:
    """The owner of the tables puts a view with a function of its own in their place, and waits for somebody mighty."""
    from heirflow.stores.sql import fence_login

    database = url.rpartition("/")[2]
    with leading(url, new_election(), "a-1", "b-2"):
        fenced(fence_login.install)
    owner = theirs.open("psql")
    plant_spy(owner, database)
    boss = sa.engine.make_url(url).set(username="postgres", password=postgres.password)
    theirs.open("heirflow/a-1", boss)  # type: ignore[arg-type]
    assert spied(postgres, database) == set(), "it ran in a superuser's session"
    let_in = theirs.open("heirflow/never")
    assert spied(postgres, database) == {"heirflow_fence"}, "it ran with somebody else's rights"
    assert let_in.execute(sa.text("SHOW search_path")).scalar() == '"$user", public', "it left something behind"
    for statement in (
        "ALTER FUNCTION heirflow_fence.login() SECURITY INVOKER",
        "CREATE OR REPLACE FUNCTION heirflow_fence.login() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
        "CREATE FUNCTION heirflow_fence.more() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "SET ROLE heirflow_fence",
        "DROP EVENT TRIGGER heirflow_fence",
        "ALTER EVENT TRIGGER heirflow_fence DISABLE",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match=r"denied|must be owner|must be superuser"):
            owner.execute(sa.text(statement))
        owner.rollback()
    postgres.sql("REASSIGN OWNED BY heirflow_fence TO postgres", database=database)
    theirs.open("heirflow/a-1")
    assert spied(postgres, database) == {"heirflow_fence"}, "it ran as the superuser that it had been given to"
    postgres.sql(
        "DROP VIEW heirflow_election; ALTER TABLE real_election RENAME TO heirflow_election", database=database
    )


REWRITE = "DO $$ BEGIN EXECUTE replace(pg_get_functiondef('{}'::regprocedure), '{}', '{}'); END $$"


@pytest.mark.parametrize(
    "change",
    [
        REWRITE.format("heirflow_fence.refusal(text)", "RETURN NULL", "RETURN pg_catalog.concat(NULL)"),
        REWRITE.format("heirflow_fence.login()", "WHEN query_canceled OR", "WHEN"),
        "ALTER FUNCTION heirflow_fence.refusal(text) OWNER TO postgres",
        "ALTER FUNCTION heirflow_fence.login() SECURITY INVOKER",
    ],
)
def test_a_trigger_that_is_not_as_it_would_be_made_now_is_told(
    change: str, url: str, fenced: Any, postgres: Server
) -> None:
    from heirflow.stores.sql import fence_login

    with leading(url, new_election(), "a-1") as (store, _):
        fenced(fence_login.install)
        assert store.fence().facts["trigger"] == "installed"
        postgres.sql(change, database=url.rpartition("/")[2])
        said = store.fence()
        assert (said.facts["state"], said.facts["trigger"]) == ("sessions ended", "broken")
        assert said.sentence.endswith("; the login trigger is outdated or changed; run `heirflow fence install` again")
        fenced(fence_login.install)
        assert store.fence().facts["trigger"] == "installed"


@pytest.mark.parametrize(
    ("made", "undone", "said"),
    [
        ("CREATE ROLE heirflow_fence; GRANT heirflow_fence TO heirflow", "DROP ROLE heirflow_fence", "did not make"),
        ("CREATE ROLE heirflow_fence LOGIN", "DROP ROLE heirflow_fence", "did not make"),
        (
            "CREATE SCHEMA heirflow_fence AUTHORIZATION heirflow",
            "DROP SCHEMA heirflow_fence CASCADE",
            "of role heirflow, .*: DROP SCHEMA heirflow_fence CASCADE$",
        ),
    ],
)
def test_what_somebody_made_beforehand_is_not_used(
    made: str, undone: str, said: str, url: str, fenced: Any, postgres: Server
) -> None:
    from heirflow.stores.sql import fence_login

    database = url.rpartition("/")[2]
    with leading(url, new_election(), "a-1"):
        pass
    postgres.sql(made, database=database)
    try:
        with pytest.raises(fence_login.FenceTrouble, match=said):
            fenced(fence_login.install)
    finally:
        postgres.sql(undone, database=database)


def test_the_owner_of_the_database_cannot_have_a_superuser_call_their_functions(
    url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a name means is the owner's to say, for every session there but those that say it themselves."""
    from heirflow.cli import main

    database = url.rpartition("/")[2]
    with leading(url, new_election(), "a-1"):
        pass
    evil = "CREATE SCHEMA evil; " + "; ".join(
        f"CREATE FUNCTION evil.{name}({takes}) RETURNS {returns} LANGUAGE plpgsql AS "
        "$$ BEGIN ALTER ROLE heirflow SUPERUSER; RETURN NULL; END $$"
        for name, takes, returns in (
            ("current_schema", "", "name"), ("pg_backend_pid", "", "int"), ("current_setting", "text", "text"),
            ("pg_is_in_recovery", "", "bool"),
        )
    )  # fmt: skip
    postgres.sql(evil, database=database)
    postgres.sql(f'ALTER DATABASE "{database}" SET search_path = evil, pg_catalog, public', database="postgres")
    monkeypatch.setenv("HEIRFLOW_DB_URL", postgres.url("", user="postgres", database=database))
    try:
        for act in ("install", "remove"):
            assert main(["fence", act]) == 0
            assert postgres.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'heirflow'", database="postgres") == "f"
    finally:
        postgres.sql("ALTER ROLE heirflow NOSUPERUSER", database="postgres")
        postgres.sql(f'ALTER DATABASE "{database}" RESET search_path', database="postgres")


def test_a_schema_whose_name_would_end_a_quoted_function_is_refused(url: str, fenced: Any, postgres: Server) -> None:
    from heirflow.stores.sql import fence_login

    postgres.sql('CREATE SCHEMA "a$heirflow$" AUTHORIZATION heirflow', database=url.rpartition("/")[2])
    with leading(f"{url}?options=-csearch_path%3D%22a%24heirflow%24%22", new_election(), "a-1"):
        pass
    with pytest.raises(fence_login.FenceTrouble, match="has a dollar sign"):
        fenced(fence_login.install)


def renewal(leader: str, term: int, version: int, start: int | None) -> Exchange:
    swap = take(leader, term, version, expected=version - 1)
    return Exchange(who(leader), swap=dataclasses.replace(swap, event=None, news=False, start=start))


def test_earlier_starts_of_the_same_command_are_ended_and_only_these(url: str, theirs: Sessions) -> None:
    with leading(url, election := new_election(), "a-1", "b-2") as (store, _):
        first, second = theirs.open("heirflow/b-2/1"), theirs.open("heirflow/b-2/2")
        spared = [
            theirs.open(name) for name in ("heirflow/b-2", "heirflow/c-3/1", "heirflow/b-2/x", "heirflow/b-2/1/1")
        ]
        assert store.exchange(election, renewal("b-2", 2, 3, 1)).told == ()
        assert alive(first) and alive(second), "a late renewal speaks of those before its own start only"
        told = store.exchange(election, renewal("b-2", 2, 4, 2)).told
        assert told == (Told("ended 1 session of b-2, of an earlier start of its command"),)
        assert not alive(first) and alive(second)
        assert store.exchange(election, renewal("b-2", 2, 5, None)).told == ()
        assert alive(second)
        store.exchange(election, renewal("b-2", 2, 6, 3))  # its command is gone, and the third start comes next
        assert not alive(second)
        assert all(alive(conn) for conn in spared)


def test_members_of_an_older_version_and_of_this_one_are_ended_alike(url: str, theirs: Sessions) -> None:
    with leading(url, new_election(), "a-1", "b-2") as (_, lead):
        sessions = [theirs.open(name) for name in ("heirflow/a-1", "heirflow/a-1/7", "heirflow/b-2/12")]
        lead("c-3")
        assert not any(alive(conn) for conn in sessions)


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_leader_that_the_history_has_forgotten_is_ended_by_its_place_in_the_line(
    driver: str, new_database: NewDatabase, theirs: Sessions
) -> None:
    """A fail-over forgot that it took charge. A session with the number of a start is a command's, and it does not lead."""
    url, election, another = new_database(driver), new_election(), new_election()
    with leading(url, election, "b-2") as (store, lead):
        for where, member in ((election, "a-1"), (election, "c-3"), (another, "x-7")):
            store.exchange(where, Exchange(who(member), join=True))
        its, prepared, elsewhere = (theirs.open(f"heirflow/{name}", url) for name in ("a-1/1", "c-3", "x-7/1"))
        told = lead("b-2").told
        assert [each.sentence for each in told] == ["ended 1 session of a-1, which led before"]
        assert not alive(its)
        assert alive(prepared), "a standby has no number"
        assert alive(elsewhere)
