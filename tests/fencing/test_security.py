"""What docs/security.md promises: the roles, TLS, no secret where others look, and hostile names that do nothing."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from heirflow.election.record import Exchange
from heirflow.stores import StoreMisfit, StoreUnavailable, open_store
from heirflow.terminal.tables import CELL_LIMIT
from heirflow.testing.store_tools import HOSTILE, new_election, take, who
from lab.rig.rig import Rig
from lab.servers.pooler import pooler
from lab.servers.servers import Server, mariadb_server, postgres_server
from tests.contract.drivers import MYSQL, POSTGRES
from tests.contract.test_wills import carry_out, sent
from tests.fencing.test_recipe import blocks
from tests.schemas import check_output

ROLES = {"heirflow_member": "change-me-1", "heirflow_reader": "change-me-2", "heirflow_operator": "change-me-3"}
MAY = "this role may do all that a member does, but not delete old history"
MEMBER = f"{MAY}, and may not make tables: upgrades need `heirflow init` as another"


def heirflow(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HEIRFLOW_DB_URL": url}
    said = subprocess.run([sys.executable, "-m", "heirflow", *words], capture_output=True, text=True, env=env)
    check_output(words, said.stdout)
    return said


def doctor(url: str) -> tuple[int, str, str]:
    """Its exit code, and what it finds about the role: the level, and the sentence."""
    answer = heirflow(url, "doctor", "--json")
    [found] = [each for each in json.loads(answer.stdout)["findings"] if each["topic"] in {"rights", "tables"}]
    return answer.returncode, found["level"], found["sentence"]


@pytest.fixture(params=[POSTGRES[0], MYSQL[0]])
def as_role(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Callable[[str], str]]:
    """The URL of a fresh database, with tables, for each of the roles that the page makes."""
    driver: str = request.param
    owner = new_database(driver)
    store = open_store(owner, call_limit_s=5)
    store.open()
    store.close()
    mysql = driver in MYSQL
    server: Server = request.getfixturevalue("mariadb" if mysql else "postgres")
    database = owner.rpartition("/")[2]
    (statements,) = blocks("security.md", "sql mysql" if mysql else "sql postgresql")
    if mysql:
        statements = statements.replace("heirflow.heirflow_", f"{database}.heirflow_")
    server.sql(statements, database=database)
    yield lambda role: str(
        sa.engine.make_url(owner).set(username=role, password=ROLES[role]).render_as_string(hide_password=False)
    )
    for role in ROLES:
        if mysql:
            server.sql(f"DROP USER {role}@'%'")
        else:
            server.sql(f"DROP OWNED BY {role}; DROP ROLE {role}", database=database)


def test_each_role_can_do_its_work_and_no_more(as_role: Callable[[str], str]) -> None:
    election = "nightly"
    member = open_store(as_role("heirflow_member"), call_limit_s=5)
    for name, swap in (("a-1", take("a-1", 1, 1, expected=None)), ("b-2", None)):
        reading = member.exchange(election, Exchange(who(name), join=True, swap=swap))
    assert [row.id for row in reading.members] == ["a-1", "b-2"]
    assert carry_out(sent(member.will(election, "a-1", 1, "a-1 was killed")))
    assert member.exchange(election, Exchange(who("b-2"), swap=take("b-2", 2, 3, expected=2))).swapped
    member.exchange(election, Exchange(who("c-3"), join=True))
    member.exchange(election, Exchange(who("d-4"), join=True, forget=("c-3",)))
    member.exchange(election, Exchange(who("d-4"), leave=True))

    assert doctor(as_role("heirflow_member")) == (0, "note", MEMBER)

    reader = as_role("heirflow_reader")
    code, level, sentence = doctor(reader)
    assert (code, level) == (0, "warning")
    assert sentence.startswith("this role is good for reading, not for orders or a member")
    assert len(sentence) < CELL_LIMIT, "the table would cut it off"
    assert heirflow(reader, "status", election).returncode == 0
    assert "b-2 took charge" in heirflow(reader, "history", election).stdout
    assert heirflow(reader, "pause", election).returncode != 0
    assert heirflow(reader, "drain", "b-2", "--name", election).returncode != 0
    store = open_store(reader, call_limit_s=5)
    for request in (Exchange(who("e-5"), join=True), Exchange(swap=take("e-5", 9, 9, expected=3))):
        with pytest.raises(StoreUnavailable, match="denied"):
            store.exchange(election, request)
    store.close()

    operator = as_role("heirflow_operator")
    code, level, sentence = doctor(operator)
    assert (code, level) == (0, "warning")
    assert sentence == (
        "this role is good for reading and orders, not for a member: it lacks INSERT on heirflow_election; "
        "INSERT, UPDATE, DELETE on heirflow_member (docs/security.md)"
    )
    for words in (("pause", election), ("resume", election), ("drain", "b-2"), ("drain", "b-2", "--undo")):
        answer = heirflow(operator, *words)
        assert answer.returncode == 0, answer.stderr
    store = open_store(operator, call_limit_s=5)
    with pytest.raises(StoreUnavailable, match="denied"):
        store.exchange(election, Exchange(who("e-5"), join=True))
    with pytest.raises(StoreUnavailable, match="denied"):
        store.exchange("made up", Exchange(swap=take("e-5", 1, 1, expected=None)))
    store.close()
    member.close()


def test_tables_in_the_schema_of_an_airflow(new_database: Callable[[str], str], postgres: Server) -> None:
    owner = new_database(POSTGRES[0])
    database = owner.rpartition("/")[2]
    postgres.sql("CREATE SCHEMA airflow AUTHORIZATION heirflow", database=database)
    made = heirflow(f"{owner}?options=-csearch_path%3Dairflow", "init")
    assert made.stdout.endswith("; every other role needs the GRANTs of docs/security.md\n"), made.stderr
    (statements,) = blocks("security.md", "sql postgresql")
    usage = f"GRANT USAGE ON SCHEMA airflow TO {', '.join(ROLES)}"
    postgres.sql(f"SET search_path TO airflow; {statements} {usage}", database=database)
    member, reader = (
        sa.engine.make_url(owner).set(username=role, password=ROLES[role]).render_as_string(hide_password=False)
        for role in ("heirflow_member", "heirflow_reader")
    )
    try:
        with closing(open_store(member, call_limit_s=5, schema="airflow")) as store:
            assert store.exchange("nightly", Exchange(who("a-1"), join=True)).members
        assert heirflow(f"{reader}?options=-csearch_path%3Dairflow", "status", "nightly").returncode == 0
    finally:
        for role in ROLES:
            postgres.sql(f"DROP OWNED BY {role}; DROP ROLE {role}", database=database)


@pytest.fixture(scope="module")
def certificates() -> Iterator[Path]:
    """A certificate for 127.0.0.1 and another one that nobody uses, with keys that the server's user can read."""
    folder = Path(tempfile.mkdtemp(prefix="heirflow-tls-"))
    folder.chmod(0o755)
    for name in ("server", "other"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.pem"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    if os.geteuid() == 0:
        user = next(name for name in ("postgres", "mysql", "nobody") if name in {e.pw_name for e in pwd.getpwall()})
        shutil.chown(folder / "server.key", user)
    # The servers run as different users here; nobody else has a use for this key.
    (folder / "server.key").chmod(0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def tls_only(certificates: Path) -> Iterator[Callable[[str], str]]:
    """The URL of a database that takes TLS only. (The wheel's PostgreSQL has none; pgbouncer, which speaks its protocol, has.)"""
    key, certificate = str(certificates / "server.key"), str(certificates / "server.pem")
    with ExitStack() as undo:

        def url(driver: str) -> str:
            if driver in MYSQL:
                settings = {"ssl-key": key, "ssl-cert": certificate, "require-secure-transport": "ON"}
                return undo.enter_context(mariadb_server(settings=settings)).url(driver)
            address = undo.enter_context(postgres_server()).url(driver)
            settings = {
                "client_tls_key_file": key,
                "client_tls_cert_file": certificate,
                "client_tls_sslmode": "require",
            }
            return undo.enter_context(pooler(address, **settings))

        yield url


@pytest.mark.parametrize("driver", [*POSTGRES, MYSQL[0]])
def test_tls_is_asked_for_in_the_url_and_verified(
    driver: str, tls_only: Callable[[str], str], certificates: Path
) -> None:
    url = tls_only(driver)
    trust, distrust = (f"{certificates}/{name}.pem" for name in ("server", "other"))
    if driver in MYSQL:
        good, bad = [f"?ssl_ca={trust}"], [f"?ssl_ca={distrust}"]
    else:
        good = [f"?sslmode={mode}&sslrootcert={trust}" for mode in ("verify-ca", "verify-full")]
        bad = [f"?sslmode=verify-ca&sslrootcert={distrust}", "?sslmode=disable"]
    for query in good:
        election = new_election()
        store = open_store(url + query, call_limit_s=5)
        assert store.exchange(election, Exchange(who("a"), join=True, swap=take("a", 1, 1, expected=None))).swapped
        assert carry_out(sent(store.will(election, "a", 1, "a was killed"))), "the helper speaks TLS too"
        store.close()
    for query in bad:
        store = open_store(url + query, call_limit_s=5)
        with pytest.raises((StoreUnavailable, StoreMisfit)):
            store.open()
        store.close()


def test_no_secret_stands_where_others_look(
    new_database: Callable[[str], str], tmp_path: Path, postgres: Server
) -> None:
    url = new_database(POSTGRES[0])
    secret = postgres.password.encode()
    with Rig(url, tmp_path, ttl_s=3) as rig:
        for host in ("ada", "ben"):
            rig.add(host)
        leader = rig.wait_for_line(2)
        facts = json.dumps(leader.ask())
        pids = {"member": leader.process.pid, **leader.seen}
        for part, pid in pids.items():
            assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes(), part
            if part != "member":  # which got it in its environment, from us
                assert secret not in Path(f"/proc/{pid}/environ").read_bytes(), part
        leader.kill("member")
        rig.wait_for_leader(other_than=leader)
        logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
        told = heirflow(url, "history", "--json").stdout + heirflow(url, "status", "--json").stdout
        told += heirflow(url, "doctor").stdout + heirflow(url, "config").stdout
    for text in (facts, logs, told):
        assert secret.decode() not in text
    assert "released" in told, "the will was carried out"


@pytest.mark.parametrize("driver", [POSTGRES[0], MYSQL[0], "sqlite"])
def test_hostile_names_and_labels_do_nothing(driver: str, new_database: Callable[[str], str]) -> None:
    url = new_database(driver)
    hostile = HOSTILE + "<script>alert(1)</script>\x1b[31m\x1b]0;owned\x07$(touch owned)`id`"
    store = open_store(url, call_limit_s=5)
    election = "x'); DROP TABLE heirflow_election;-- <b>\x1b[2J$(id)"
    swap = take("a-1", 1, 1, expected=None, note=hostile)
    store.exchange(election, Exchange(who("a-1", label=hostile, note=hostile), join=True, swap=swap))
    store.exchange(election, Exchange(who(hostile.strip()[:190]), join=True))
    assert len(store.exchange(election, Exchange()).members) == 2
    store.close()
    for words in (("status",), ("history",), ("doctor",)):
        answer = heirflow(url, *words)
        assert answer.returncode == 0, answer.stderr
        assert "\x1b" not in answer.stdout and "\x07" not in answer.stdout and "\u202e" not in answer.stdout
