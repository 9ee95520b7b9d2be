"""How each kind of fault is carried out. A strike is a context: it strikes on entering, and heals on leaving.

What dies by a strike is not brought back here: the world starts a new member on a host that has none, as a service manager would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

from heirflow.guard.processes import lives
from lab.campaign.ensembles import ENSEMBLES
from lab.campaign.failovers import FAILOVERS
from lab.campaign.ground import kill_all, signal_all
from lab.campaign.plan import Fault
from lab.campaign.stage import NotNow, Stage, Strike
from lab.campaign.takeovers import TAKEOVERS
from lab.servers import outages

ORDER_LIMIT_S = 20.0


def strike(stage: Stage, fault: Fault, host: str) -> AbstractContextManager[None]:
    """Carry out a fault on a host (for the database's faults: the host of its primary)."""
    family, _, rest = fault.kind.name.partition(" ")
    if family in {"kill", "stop"} and rest not in {"host", "in order"}:
        return (_killed if family == "kill" else _stopped)(stage, host, rest.split("+"))
    return _OTHERS[fault.kind.name](stage, fault, host)


# ---- processes ------------------------------------------------------------------------------------------------------


def _pids(stage: Stage, host: str, parts: list[str]) -> list[int]:
    member = stage.member(host)
    member.ask()
    try:
        return [member.seen[part] for part in parts]
    except KeyError as part:
        raise NotNow(f"{host} has no {part.args[0]}") from None


@contextlib.contextmanager
def _killed(stage: Stage, host: str, parts: list[str]) -> Iterator[None]:
    pids = _pids(stage, host, parts)
    _reach(pids, signal.SIGSTOP)  # all of them before any can react
    _send(pids, signal.SIGKILL)
    yield


@contextlib.contextmanager
def _stopped(stage: Stage, host: str, parts: list[str]) -> Iterator[None]:
    pids = _pids(stage, host, parts)
    _reach(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(pids, signal.SIGCONT)


def _reach(pids: list[int], number: signal.Signals) -> None:
    if not _send(pids, number):
        raise NotNow("what it would strike has just ended")


def _send(pids: list[int], number: signal.Signals) -> int:
    """How many it reached that live."""
    reached = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            reached += lives(pid)
            os.kill(pid, number)
    return reached


@contextlib.contextmanager
def _kill_host(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    space = stage.ground.space(host)
    signal_all(space, signal.SIGSTOP)
    kill_all(space)
    yield


@contextlib.contextmanager
def _stop_host(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    space = stage.ground.space(host)
    signal_all(space, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(space, signal.SIGCONT)


@contextlib.contextmanager
def _freeze_host(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    freezer = stage.ground.freezers.get(host)
    if freezer is None:
        raise NotNow("there is no cgroup freezer here")
    freezer.freeze(True)
    try:
        yield
    finally:
        freezer.freeze(False)


# ---- the network ----------------------------------------------------------------------------------------------------


def _cut(*, sent: bool, received: bool) -> Strike:
    @contextlib.contextmanager
    def cut(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
        cable = stage.ground.cables[host]
        cable.drop_from, cable.drop_to = sent, received
        stage.ground.apply()
        try:
            yield
        finally:
            cable.drop_from = cable.drop_to = False
            stage.ground.apply()

    return cut


@contextlib.contextmanager
def _unplug(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    stage.ground.unplug(host, out=True)
    try:
        yield
    finally:
        stage.ground.unplug(host, out=False)


@contextlib.contextmanager
def _lossy(stage: Stage, fault: Fault, host: str) -> Iterator[None]:
    cable = stage.ground.cables[host]
    cable.loss_percent = 5 + abs(fault.amount) % 36
    stage.ground.apply()
    try:
        yield
    finally:
        cable.loss_percent = 0
        stage.ground.apply()


@contextlib.contextmanager
def _slow_link(stage: Stage, fault: Fault, host: str) -> Iterator[None]:
    stage.ground.narrow(host, 50 + abs(fault.amount) % 500)
    try:
        yield
    finally:
        stage.ground.narrow(host, None)


# ---- the database ---------------------------------------------------------------------------------------------------


def _outage(way: outages.Outage) -> Strike:
    def out(stage: Stage, _fault: Fault, _host: str) -> AbstractContextManager[None]:
        return way(stage.database.server)

    return out


@contextlib.contextmanager
def _sessions_ended(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
    with outages.superuser(stage.database.server) as end_theirs:
        if not end_theirs():
            raise NotNow("no member has a session")
    yield


@contextlib.contextmanager
def _immediate(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
    stage.database.server.immediate()
    yield
    stage.database.server.start()


@contextlib.contextmanager
def _very_slow(stage: Stage, fault: Fault, _host: str) -> Iterator[None]:
    """Its processes run only a small part of the time."""
    server, ending = stage.database.server, threading.Event()
    stands_s = 0.1 + abs(fault.amount) % 500 / 1000

    def machine() -> None:
        while not ending.is_set():
            server.freeze()
            ending.wait(stands_s)
            server.thaw()
            ending.wait(0.03)

    pulsing = threading.Thread(target=machine, name="machine")
    pulsing.start()
    try:
        yield
    finally:
        ending.set()
        pulsing.join()
        server.thaw()


# ---- clocks, and people ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _jump(stage: Stage, fault: Fault, host: str) -> Iterator[None]:
    if stage.clocks.library is None:
        raise NotNow("there is no C compiler here, which clocks that jump need")
    stage.clocks.jump(host, fault.amount)
    try:
        yield
    finally:
        stage.clocks.jump(host, 0)


@contextlib.contextmanager
def _stop_in_order(stage: Stage, _fault: Fault, host: str) -> Iterator[None]:
    stage.member(host).process.send_signal(signal.SIGTERM)
    yield


def _order(stage: Stage, *words: str) -> None:
    """Give an order as an operator would. Raises `NotNow` when it is refused."""
    done = subprocess.run(
        [*stage.store.order_words(), sys.executable, "-m", "heirflow", *words],
        env={**os.environ, "HEIRFLOW_DB_URL": stage.store.order_url()},
        capture_output=True, text=True, check=False, timeout=ORDER_LIMIT_S, start_new_session=True,
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        assert "Traceback" not in done.stderr, done.stderr
        raise NotNow(f"{words[0]} was refused: {said[-1][:160]}")


@contextlib.contextmanager
def _switchover(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
    _order(stage, "switchover", stage.election, "--no-wait")
    yield


@contextlib.contextmanager
def _pause(stage: Stage, _fault: Fault, _host: str) -> Iterator[None]:
    _order(stage, "pause", stage.election)
    try:
        yield
    finally:
        for again in range(5):  # otherwise nobody could ever lead again
            try:
                _order(stage, "resume", stage.election)
                break
            except NotNow:
                if again == 4:
                    raise


_OTHERS: dict[str, Strike] = {
    "kill host": _kill_host,
    "stop host": _stop_host,
    "freeze host": _freeze_host,
    "cut from": _cut(sent=True, received=False),
    "cut to": _cut(sent=False, received=True),
    "cut both": _cut(sent=True, received=True),
    "cut database": _cut(sent=True, received=True),
    "unplug": _unplug,
    "lossy": _lossy,
    "slow link": _slow_link,
    "restart": _outage(outages.restarted),
    "immediate": _immediate,
    "crash": _outage(outages.crashed),
    "stand still": _outage(outages.frozen),
    "very slow": _very_slow,
    "read-only": _outage(outages.read_only),
    "connections full": _outage(outages.connections_exhausted),
    "disk full": _outage(outages.disk_full),
    "record locked": _outage(outages.record_locked),
    "sessions ended": _sessions_ended,
    **FAILOVERS,
    **ENSEMBLES,
    **TAKEOVERS,
    "clock of host": _jump,
    "clock of database": _jump,
    "stop in order": _stop_in_order,
    "switchover": _switchover,
    "pause": _pause,
}
