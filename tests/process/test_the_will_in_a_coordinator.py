"""The will where the record is in a coordinator: the same promises, with a helper that loads the store as members use it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from heirflow.clock import CLOCK, boottime
from heirflow.election.record import CheckIn, Event, Exchange, Record, Swap, What
from heirflow.guard import processes
from heirflow.guard.processes import descendants
from heirflow.member import own_programs
from heirflow.stores import KeyedWill, open_store
from lab.rig.rig import Rig
from lab.servers.etcd import etcd_missing, etcd_server
from lab.servers.server import Server
from lab.servers.zookeeper import zookeeper_missing, zookeeper_server
from tests.process.stage import BECAUSE, Stage, wait_until
from tests.process.test_the_will import seize

KINDS = ["etcd", "zookeeper"]
SECRET = "hunter2"
QUICK_S = 2.0
"""What a release takes on a machine that does other things too; alone it is a quarter of a second."""


class Line:
    """An election that ``me`` leads in term 7, with an heir."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = open_store(url, call_limit_s=1.5)
        self.store.open()
        for name in ("me", "heir"):
            who = CheckIn(name, f"host-{name}", 1, ready=True)
            self.store.exchange("line", Exchange(check_in=who, join=True))
        self.store.exchange("line", Exchange(swap=Swap(None, Record(1, 7, "me", 30.0))))

    def will(self) -> dict[str, Any]:
        """As a member hands it to its guard."""
        will = self.store.will("line", "me", 7, BECAUSE)
        assert isinstance(will, KeyedWill)
        return asdict(will)

    def moves_on(self) -> None:
        """The heir takes charge."""
        event = Event(What.TOOK_CHARGE, 8, "heir", "for a test")
        assert self.store.exchange("line", Exchange(swap=Swap(1, Record(2, 8, "heir", 30.0), event))).swapped

    @property
    def leader(self) -> str | None:
        record = self.store.exchange("line", Exchange()).record
        assert record is not None
        return record.leader

    @property
    def told(self) -> list[tuple[What, str]]:
        return [(each.what, each.because) for each in self.store.events("line", 10)]


@pytest.fixture(scope="module")
def _lasting() -> Iterator[dict[str, str]]:
    if missing := etcd_missing() or zookeeper_missing():
        pytest.skip(missing)
    with etcd_server() as etcd, zookeeper_server() as ensemble:
        yield {"etcd": etcd.store_url, "zookeeper": ensemble.url}


@pytest.fixture(params=KINDS)
def line(request: pytest.FixtureRequest, _lasting: dict[str, str], tmp_path: Path) -> Iterator[Line]:
    """In a coordinator that nobody stops. Its URL has a user with a password, as most have."""
    url = f"{_lasting[request.param]}-{abs(hash(tmp_path))}"
    line = Line(url.replace("://", f"://heir:{SECRET}@"))
    yield line
    line.store.close()


Mortal = tuple[str, Server]


@pytest.fixture(scope="module")
def _mortals() -> Iterator[dict[str, Mortal]]:
    if missing := etcd_missing() or zookeeper_missing():
        pytest.skip(missing)
    with etcd_server() as etcd, zookeeper_server() as ensemble:
        yield {"etcd": (etcd.store_url, etcd), "zookeeper": (ensemble.url, ensemble.server)}


@pytest.fixture(params=KINDS)
def mortal(
    request: pytest.FixtureRequest, _mortals: dict[str, Mortal], tmp_path: Path
) -> Iterator[tuple[Line, Server]]:
    """A line in a server for a test to stop."""
    url, server = _mortals[request.param]
    line = Line(f"{url}-{abs(hash(tmp_path))}")
    yield line, server
    line.store.close()
    server.thaw()
    server.start()


def helper(line: Line, *lines: bytes, give_up_s: float = 5.0) -> subprocess.Popen[bytes]:
    order = {"prover": "its guard", "give_up_at": boottime() + give_up_s, "clock": CLOCK}
    payload = {**own_programs.for_drivers(), **line.will(), **order}
    words = own_programs.words("alone/will_helper.py")
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(json.dumps(payload).encode() + b"\n" + b"".join(lines))
    process.stdin.flush()
    return process


@pytest.mark.parametrize("lines", [(), (b"go",), (b"no\n",)], ids=["end of file", "half a go", "another word"])
def test_without_go_it_does_nothing(line: Line, lines: tuple[bytes, ...]) -> None:
    with helper(line, *lines) as process:
        answer, errors = process.communicate(timeout=10)
    assert (answer, errors, process.returncode) == (b"", b"", 0)
    assert line.leader == "me"


def test_with_go_it_releases_and_leaves_the_line(line: Line) -> None:
    with helper(line, b"go\n") as process:
        answer, errors = process.communicate(timeout=10)
    assert (answer, errors, process.returncode) == (b"released\n", b"", 0)
    assert line.leader is None
    assert line.told == [(What.RELEASED, "me was killed, and its guard proved it")]
    assert [row.id for row in line.store.exchange("line", Exchange()).members] == ["heir"]


def test_a_record_that_moved_on_is_left_alone(line: Line) -> None:
    """Also where it had seen the record before."""
    with helper(line) as process:
        at = boottime()
        wait_until(lambda: boottime() > at + 0.5, "time for it to read the record")
        line.moves_on()
        answer, errors = process.communicate(b"go\n", timeout=10)
    assert (answer, errors) == (b"nothing to release\n", b"")
    assert line.leader == "heir"
    assert [what for what, _ in line.told] == [What.TOOK_CHARGE]


def test_a_renewal_that_was_under_way_is_no_reason_to_give_up(line: Line) -> None:
    """The member's last write arrives after the helper has looked: the term is the same, and only its version is another."""
    with helper(line) as process:
        at = boottime()
        wait_until(lambda: boottime() > at + 0.5, "time for it to read the record")
        assert line.store.exchange("line", Exchange(swap=Swap(1, Record(2, 7, "me", 30.0), expected_term=7))).swapped
        answer, _ = process.communicate(b"go\n", timeout=10)
    assert (answer, line.leader) == (b"released\n", None)


@pytest.mark.parametrize("how", ["dead", "frozen"])
def test_a_coordinator_that_is_away_is_asked_until_it_gives_up_in_time(mortal: tuple[Line, Server], how: str) -> None:
    line, server = mortal
    server.crash() if how == "dead" else server.freeze()
    at = boottime()
    with helper(line, b"go\n", give_up_s=2.0) as process:
        answer, errors = process.communicate(timeout=20)
    took_s = boottime() - at
    assert (answer, errors, process.returncode) == (b"gave up\n", b"", 1)
    assert took_s < 2.0 + 1.5 + QUICK_S, "one call may have begun just before"
    server.thaw()
    server.start()
    wait_until(lambda: answers(line), "the coordinator's return", 20)
    assert line.leader == "me"


@pytest.mark.parametrize("how", ["dead", "frozen"])
def test_a_coordinator_that_comes_back_is_asked_again(mortal: tuple[Line, Server], how: str) -> None:
    line, server = mortal
    with helper(line, give_up_s=30.0) as process:
        server.crash() if how == "dead" else server.freeze()
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
        at = boottime()
        wait_until(lambda: boottime() > at + 2.0, "longer than the limit of a call")
        assert process.poll() is None
        server.thaw()
        server.start()
        answer, errors = process.communicate(timeout=30)
    assert (answer, errors) == (b"released\n", b"")
    wait_until(lambda: answers(line), "the coordinator's return", 20)
    assert line.leader is None


def answers(line: Line) -> bool:
    try:
        return line.store.exchange("line", Exchange()).record is not None
    except Exception:
        return False


def test_an_end_of_file_while_the_coordinator_is_away_ends_it(mortal: tuple[Line, Server]) -> None:
    """Nobody proved anything, and nobody will: it may take until it gives up, and not longer."""
    line, server = mortal
    server.freeze()
    with helper(line, give_up_s=1.0) as process:
        answer, errors = process.communicate(timeout=20)
    assert (answer, errors) in {(b"", b""), (b"gave up\n", b"")}
    server.thaw()
    wait_until(lambda: answers(line), "the coordinator's return", 20)
    assert line.leader == "me"


@pytest.mark.parametrize("killed", [("member",), ("member", "guard")], ids="+".join)
def test_killed_is_released_at_once(line: Line, stage: Stage, killed: tuple[str, ...]) -> None:
    stage.run(*stage.command("ignores-term"), ttl_s=30, will=line.will())
    stage.wait_for_ticks()
    at = stage.send(signal.SIGKILL, *killed)
    wait_until(lambda: line.leader is None, "the release")
    took_s = boottime() - at
    print(f"{'+'.join(killed)} killed -> released: {1000 * took_s:.0f} ms")
    assert took_s < QUICK_S
    stage.wait_for_nobody()
    prover = "backstop" if "guard" in killed else "guard"
    assert line.told == [(What.RELEASED, f"me was killed, and its {prover} proved it")]


@pytest.mark.parametrize("killed", [("member",), ("member", "guard")], ids="+".join)
def test_it_waits_for_the_last_process_and_shows_no_secret(line: Line, stage: Stage, killed: tuple[str, ...]) -> None:
    """While one process cannot die the helper stands by; what it knows stands neither in `ps` nor in its environment."""
    stage.run(*stage.command("daemon"), ttl_s=30, will=line.will())
    stage.wait_for_ticks(4)
    slow = next(pid for _, pid in stage.ticks() if pid != stage.role("command"))
    seize(slow)
    at = stage.send(signal.SIGKILL, *killed)
    if "guard" not in killed:
        [pid] = wait_until(lambda: helpers(stage.role("backstop")), "the helper")
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        hosts = line.url.partition("://")[2].rpartition("@")[2].partition("/")[0]
        assert b"will_helper.py" in shown
        assert not [word for word in (SECRET, hosts, "heir:") if word.encode() in shown]
    stage.wait_until_past(at + 1.0)
    assert line.leader == "me", "not proved, and released"
    assert os.waitpid(slow, 0x40000000) == (slow, signal.SIGKILL)  # __WALL
    wait_until(lambda: line.leader is None, "the release")
    stage.wait_for_nobody()


def helpers(backstop: int) -> list[int]:
    """The helpers that this backstop has started."""
    found = []
    for pid in descendants(backstop, thorough=True):
        try:
            if b"will_helper.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("killed", [("member",), ("member", "guard")], ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
def test_an_heir_leads_at_once(
    kind: str, killed: tuple[str, ...], tmp_path: Path, new_folder_url: Callable[[str], str]
) -> None:
    """Whole members, with a lease that nobody could wait for."""
    with Rig(new_folder_url(kind), tmp_path, ttl_s=30) as rig:
        rig.add("ada")
        leader = rig.wait_for_leader()
        rig.add("ben")
        rig.wait_for_line(2)
        at = boottime()
        leader.kill(*killed)
        start = rig.wait_for_start(at, 20, other_than=rig_name(leader))
        print(f"{kind}: {'+'.join(killed)} killed -> the heir's command: {1000 * (start.from_s - at):.0f} ms")
        assert start.from_s - at < QUICK_S + 0.5
        assert not rig.orphans()


def rig_name(member: Any) -> str | None:
    """The id of a member that is dead by now, from its journal."""
    found = re.search(rf"{member.host}-[0-9a-f]+", member.log.read_text())
    return found[0] if found else None


def test_the_helper_loads_little(line: Line) -> None:
    """It is started when every millisecond counts: no SQLAlchemy, no Click, no Rich."""
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import heirflow.stores.keyed.will; "
        f"from heirflow.stores import open_store; open_store({line.url!r}, call_limit_s=1).close(); "
        "print(*sorted({'sqlalchemy', 'click', 'rich', 'jinja2'} & sys.modules.keys()))"
    )
    paths = json.dumps([entry for entry in sys.path if entry])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", code, paths], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_client_that_is_not_there_any_more_ends_it_quietly(line: Line) -> None:
    """An upgrade has replaced the environment under a member that runs: the heirs wait for the lease, and nobody is alarmed."""
    order = {"prover": "its guard", "give_up_at": boottime() + 1.0, "clock": CLOCK}
    source = [str(Path(processes.__file__).parents[2])]
    standard = [entry for entry in sys.path if "site-packages" not in entry and entry]
    payload = {**line.will(), **order, "sys_path": [*source, *standard]}
    done = subprocess.run(
        own_programs.words("alone/will_helper.py"),
        input=json.dumps(payload).encode() + b"\ngo\n",
        capture_output=True,
        timeout=20,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1
    assert line.leader == "me"
