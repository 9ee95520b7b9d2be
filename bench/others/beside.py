"""The same command in three wrappers of each kind, and what becomes of it: HeirFlow, `etcdctl lock`, and kazoo's election.

Each has its own way to wait, all have a lease or session of 10 s. Judged is what the commands wrote: when the next one began, and
for how long two of them ran at once; and which of them run at the end without a wrapper.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from heirflow.guard.processes import lives, stat_of
from lab.rig import ticker
from lab.rig.rig import now_s
from lab.rig.spans import overlaps
from lab.rig.written import Start, starts_in
from lab.servers.etcd import EtcdServer, etcd_server, program
from lab.servers.zookeeper import Ensemble, zookeeper_server

TTL_S = 10
FROZEN_S = 13.0
"""Longer than the lease, and than what one adds to look for it."""
WATCHED_S = 5.0
"""How long everything is watched after the next command has begun, or the frozen wrapper was thawed."""
STOOD_S = 3.0
NEXT_LIMIT_S = 30.0
CAUSES = {
    "command": "command killed with -9",
    "wrapper": "wrapper killed with -9",
    "frozen": f"wrapper frozen for {FROZEN_S:g} s",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one cause."""

    next_s: float | None
    """From the cause to the first line of the next command; None: there was none."""
    both_s: float
    """For how long two commands ran at once."""
    still_both: bool
    """Whether they did so when nobody watched any more."""
    orphans: int
    """Commands that ran without a wrapper at the end."""


Words = Callable[[Path, str, int], list[str]]
"""Folder, name of the election, number of the wrapper -> how to start it; the command stands behind."""


@contextlib.contextmanager
def tools() -> Iterator[dict[str, Words]]:
    """Each kind of wrapper, with the server that it needs."""
    with etcd_server() as etcd, zookeeper_server() as zookeeper:
        yield {
            "HeirFlow on etcd": heirflow(etcd.store_url),
            "HeirFlow on ZooKeeper": heirflow(zookeeper.url),
            "etcdctl lock": etcdctl(etcd),
            "kazoo's Election": kazoo(zookeeper),
        }


def heirflow(url: str) -> Words:
    def words(folder: Path, name: str, number: int) -> list[str]:
        more = ["--name", name, "--ttl", f"{TTL_S}s", "--host", f"host{number}", "--run-dir", str(folder / "run")]
        return [sys.executable, "-m", "heirflow", "run", "--db-url", url, *more, "--"]

    return words


def etcdctl(server: EtcdServer) -> Words:
    return lambda _, name, __: [
        str(program("etcdctl")), f"--endpoints=http://{server.endpoint}", "lock", f"--ttl={TTL_S}", name, "--"
    ]  # fmt: skip


def kazoo(ensemble: Ensemble) -> Words:
    script = str(Path(__file__).with_name("kazoo_election.py"))
    return lambda _, name, __: [sys.executable, script, f"127.0.0.1:{ensemble.server.port}", f"/{name}"]


def measure(words: Words, cause: str, folder: Path) -> Run:
    """One cause, on three new wrappers."""
    folder.mkdir()
    ticks = folder / "ticks"
    command = [sys.executable, "-S", "-E", ticker.__file__, str(ticks)]
    wrappers: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(3):
            with (folder / f"log{number}").open("wb") as log:
                wrappers.append(
                    subprocess.Popen(
                        [*words(folder, folder.name, number), *command],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True,
                        env={**os.environ, "ETCDCTL_API": "3"},
                    )
                )  # fmt: skip
        first = wait_for(lambda: next(iter(starts_in(ticks)), None), NEXT_LIMIT_S)
        assert first is not None, [path.read_text() for path in folder.glob("log*")]
        time.sleep(STOOD_S)
        return carried_out(wrappers, first, cause, ticks)
    finally:
        for process in wrappers:
            for number in (signal.SIGCONT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
            process.wait()
        time.sleep(0.5)
        for pid in commands(ticks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def carried_out(wrappers: list[subprocess.Popen[bytes]], first: Start, cause: str, ticks: Path) -> Run:
    wrapper = next(each for each in wrappers if each.pid in above(first.pid))
    at_s = now_s()
    if cause == "frozen":
        os.kill(wrapper.pid, signal.SIGSTOP)
    else:
        os.kill(first.pid if cause == "command" else wrapper.pid, signal.SIGKILL)

    def found() -> Start | None:
        return next((each for each in starts_in(ticks) if each.from_s > at_s), None)

    after = wait_for(found, NEXT_LIMIT_S)
    if cause == "frozen":
        time.sleep(max(0.0, at_s + FROZEN_S - now_s()))
        os.kill(wrapper.pid, signal.SIGCONT)
    time.sleep(WATCHED_S)
    ends_s = now_s()
    living = commands(ticks)
    both = overlaps(starts_in(ticks))
    wrapper.poll()
    with_wrapper = {pid for pid in living if any(lives(each.pid) for each in wrappers if each.pid in above(pid))}
    return Run(
        None if after is None else after.from_s - at_s,
        sum(each.lasted_s for each in both),
        any(min(each.earlier.to_s, each.later.to_s) > ends_s - 0.5 for each in both),
        len(living - with_wrapper),
    )


def wait_for(found: Callable[[], Start | None], limit_s: float) -> Start | None:
    until = time.monotonic() + limit_s
    while (value := found()) is None and time.monotonic() < until:
        time.sleep(0.02)
    return value


def above(pid: int) -> set[int]:
    """All processes that this one descends from."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        while pid > 1:
            pid = int(stat_of(pid)[1])
            found.add(pid)
    return found


def commands(ticks: Path) -> set[int]:
    """Living tickers that write there."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if len(words) > 4 and words[3] == os.fsencode(ticker.__file__) and words[4] == os.fsencode(ticks):
                    found.add(int(entry.name))
    return {pid for pid in found if lives(pid)}


def measured(runs: int, folder: Path) -> dict[str, dict[str, list[Run]]]:
    """Tool -> cause -> what came of each run."""
    found: dict[str, dict[str, list[Run]]] = {}
    with tools() as each:
        for title, words in each.items():
            found[title] = {
                cause: [
                    measure(words, cause, folder / f"{title.replace(' ', '-')}-{cause}-{number}")
                    for number in range(runs)
                ]
                for cause in CAUSES
            }
    return found


def as_json(found: dict[str, dict[str, list[Run]]]) -> dict[str, object]:
    return {
        title: {cause: [asdict(run) for run in runs] for cause, runs in causes.items()}
        for title, causes in found.items()
    }


def rows(found: dict[str, dict[str, list[Run]]]) -> list[list[str]]:
    """A table for people: the next command, and what was wrong meanwhile."""
    titles = list(found)
    table = [["", *titles]]
    for cause, sentence in CAUSES.items():
        table.append([sentence, *(said(found[title][cause]) for title in titles)])
    return table


def said(runs: list[Run]) -> str:
    came = [run.next_s for run in runs if run.next_s is not None]
    parts = [f"{statistics.median(came):.2f} s" if came else "never"]
    if 0 < len(came) < len(runs):
        parts.append(f"{len(runs) - len(came)} of {len(runs)} never")
    both = [run.both_s for run in runs]
    if any(both):
        on = " and on" if any(run.still_both for run in runs) else ""
        parts.append(f"two at once for {statistics.median(both):.1f} s{on}")
    if orphans := sum(run.orphans for run in runs):
        parts.append(f"{orphans} {'orphan' if orphans == 1 else 'orphans'} in {len(runs)} runs")
    return ", ".join(parts)
