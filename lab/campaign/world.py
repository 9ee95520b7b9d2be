"""One world of the laboratory: three members on three hosts (four where two lead), one database or ensemble, one plan.

It strikes, heals, and says what it did.

What it writes is `Mark`s: at each beginning and end of a fault the moment, and who was *able* then: hosts whose member stood in
the line at the last look and which no fault holds, and whether the database is. The judge reads marks and the
commands' own lines, and asks nobody else.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from heirflow.guard.processes import stat_of
from lab.campaign import command
from lab.campaign.clocks import Clocks
from lab.campaign.coordinators import DESK, SERVERS, Coordinator, coordinator
from lab.campaign.databases import HOSTS as DATABASES
from lab.campaign.databases import Database, database
from lab.campaign.disks import Disks
from lab.campaign.ground import Ground, GroundTrouble, processes_in
from lab.campaign.ledger import Ledger
from lab.campaign.pair import Pair, pair
from lab.campaign.plan import COORDINATORS, ENSEMBLE, OF_PAIR, PAIRS, SEATS, TTL_S, WHOLE_HOST, Fault, database_of
from lab.campaign.stage import NotNow
from lab.campaign.strikes import strike
from lab.rig import ticker, written
from lab.rig.rig import Member, Rig, RigError, now_s

HOSTS = ("ada", "ben", "cleo")
MORE_HOSTS = ("dora",)
"""Where several lead at once, there is one more."""
ORPHAN_S = 0.4
"""What is seen twice, so long apart, beside a leader that stayed the same all the while, is no dying process."""
LET_GO_S = 1.0
"""So long after a whole host was let go: its guards come to look at the clock, on a busy machine too."""
HELPER_S = 12.0
"""What HeirFlow itself leaves of a dead member may last so long: it hands over, and its calls have limits."""
ABSENT_S = 40.0
"""Who lives, and was in the line at no look for so long, is waited for."""
STANDING_LIMIT_S = 40.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What the world did, and what was able from then on."""

    at_s: float
    phase: str
    """``begin``, ``struck`` (some strikes take a while), ``healing`` (begins), ``end``; ``standing``: the line stood;
    ``skipped``; ``orphan``; ``told``; ``lost``: nobody can renew from then until the strike is over."""
    number: int
    kind: str
    at: str
    host: str
    database: bool
    able: tuple[str, ...]
    """Hosts with a member in the line and no fault."""
    excused: str = ""
    """Why nobody need lead although somebody is able."""
    note: str = ""


class World:
    """Open it with ``with``, then `play`."""

    def __init__(self, kind: str, number: int, folder: Path, ending: threading.Event) -> None:
        self.kind, self.folder, self.election = kind, folder, f"lab-{kind}"
        self._ending = ending
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        self.ticks = folder / "ticks"
        self.ticks.mkdir()
        self.seats = SEATS.get(kind, 1)
        self.hosts = HOSTS if self.seats == 1 else (*HOSTS, *MORE_HOSTS)
        stands: tuple[str, ...] = (*SERVERS, DESK) if kind in COORDINATORS else DATABASES
        if kind in PAIRS:
            stands = (*DATABASES, *SERVERS, DESK)
        self.ground = Ground(kind, number, (*self.hosts, *stands))
        self.clocks = Clocks(folder / "clocks")
        self.ledger = Ledger(self.ticks)
        self.marks: list[Mark] = []
        self.faults = 0
        self.most: dict[str, int] = {}
        """The most that any member had: descriptors, threads, resident MB."""
        self.after: Callable[[World, Fault], None] = lambda _world, _fault: None
        """Called when the line stands again after a fault."""
        self._record = (folder / "marks.jsonl").open("a", buffering=1)
        self._holding: dict[int, tuple[Fault, str]] = {}
        self._entered: set[int] = set()
        """Of these what is held, whose strikes are over."""
        self._seen: set[str] = set()
        self._places: dict[str, int] = {}
        self._seen_at: dict[str, float] = {}
        self._let_go_at = 0.0
        self._strays: dict[tuple[int, str], float] = {}
        """Processes that belong to no living member, and when they were first seen."""
        self._stack = ExitStack()

    def __enter__(self) -> World:  # noqa: PYI034  `Self` is not in Python 3.10
        with ExitStack() as stack:
            stack.callback(self._record.close)
            stack.callback(self.ground.end)
            self.ground.make()
            self.store: Database | Coordinator = stack.enter_context(self._stored())
            words = [sys.executable, "-S", "-E", command.__file__, str(self.ticks)]
            self.rig = Rig(
                self.store.url(), self.folder, ttl_s=TTL_S, election=self.election, command=words,
                options=["--log-format", "json", "--stop-timeout", "5s", "--history-most", "0",
                         *(["--seats", str(self.seats)] if self.seats > 1 else [])],
                env=self.store.command_env(),
            )  # fmt: skip
            stack.enter_context(self.rig)
            self._try_clocks()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, GroundTrouble):
            for freezer in self.ground.freezers.values():
                freezer.freeze(False)
        self._stack.close()

    def _stored(self) -> contextlib.AbstractContextManager[Database | Coordinator]:
        if self.kind in COORDINATORS:
            return coordinator(self.kind, self.ground, self.clocks, Disks(self.folder / "disks"))
        if self.kind in PAIRS:
            return pair(self.ground, self.clocks, Disks(self.folder / "disks"), synchronous=PAIRS[self.kind])
        return database(database_of(self.kind), self.ground, self.clocks)

    def _try_clocks(self) -> None:
        """A jump that moves nothing must not count as a fault. Raises `GroundTrouble`."""
        if self.clocks.library is not None:
            seen: list[tuple[tuple[str, ...], Callable[[], float]]] = [
                (self.hosts[:1], partial(self.clocks.offset_s, self.hosts[0])),
                (self.store.clock_hosts, self.store.clock_offset_s),
            ]
            for hosts, offset_s in seen:
                for host in hosts:
                    self.clocks.env(host)
                    self.clocks.jump(host, 1000)
                if hosts and not 970 < offset_s() < 1030:
                    raise GroundTrouble(f"the clock of {hosts[0]} does not jump")
                for host in hosts:
                    self.clocks.jump(host, 0)

    # what a strike needs

    @property
    def database(self) -> Database:
        assert isinstance(self.store, Database)
        return self.store

    @property
    def pair(self) -> Pair:
        assert isinstance(self.store, Pair)
        return self.store

    @property
    def coordinator(self) -> Coordinator:
        if isinstance(self.store, Pair):
            return self.store.etcd
        assert isinstance(self.store, Coordinator)
        return self.store

    def member(self, host: str) -> Member:
        member = self.rig.members.get(host)
        if member is None or member.process.poll() is not None:
            raise NotNow(f"{host} has no member now")
        return member

    def start(self, host: str) -> Member:
        return self.rig.add(host, enter=self.ground.enter(host), env=self.clocks.env(host))

    def wait(self, seconds: float) -> bool:
        return self._ending.wait(seconds)

    def tell(self, sentence: str) -> None:
        self._mark("told", None, "", note=sentence)

    def phase(self, phase: str, fault: Fault, host: str) -> None:
        self._mark(phase, fault, host)

    # the plan

    def play(self, faults: Iterable[Fault], until: Callable[[], bool]) -> None:
        """Carry out faults until they end, `until` says so, or the run is ending."""
        for fault in faults:
            if until() or self._ending.is_set():
                break
            self._stand(fault)
            if self.wait(fault.pause_s):
                break
            try:
                self._round(fault)
            except NotNow as reason:
                self._mark("skipped", fault, "", note=str(reason))
            self.ledger.absorb()
        self._stand(None)

    def _round(self, fault: Fault) -> None:
        try:
            with self._struck(fault):
                if fault.beside is not None:
                    # Beside a fault that lasts, in its middle; after one that does not, in the recovery from it.
                    self.wait(min(0.4, fault.hold_s / 2 or 0.25))
                    with contextlib.suppress(NotNow), self._struck(fault.beside):
                        self.wait(max(fault.hold_s, fault.beside.hold_s))
                elif fault.kind.name != "promote asynchronous":
                    self.wait(fault.hold_s)
        finally:
            self.store.settle()

    @contextlib.contextmanager
    def _struck(self, fault: Fault) -> Iterator[None]:
        if not self._away():
            self._look()  # without their database members cannot say where they stand: then the last look counts
        host = self._host(fault.at, fault.number)
        with ExitStack() as stack:
            self._holding[fault.number] = (fault, host)
            self._mark("begin", fault, host)
            try:
                stack.enter_context(strike(self, fault, host))
            except NotNow as reason:
                del self._holding[fault.number]
                self._mark("skipped", fault, host, note=str(reason))
                raise
            self.faults += 1
            self._entered.add(fault.number)
            self._mark("struck", fault, host)
            try:
                yield
            finally:
                self._mark("healing", fault, host)
                # Two steps: what is healed here takes time, and is able only when it is whole.
                with ExitStack() as last:
                    last.callback(self._ended, fault, host)
                    stack.close()

    def _ended(self, fault: Fault, host: str) -> None:
        if fault.kind.takes == "database" or fault.kind in ENSEMBLE | OF_PAIR:
            self.store.whole()
        self._entered.discard(fault.number)
        del self._holding[fault.number]
        if fault.kind.takes == "member":
            self._seen.discard(host)  # it is able again when it has been seen in the line again
        if fault.kind.name in WHOLE_HOST:
            self._let_go_at = now_s()
        self._mark("end", fault, host)

    def _host(self, at: str, number: int) -> str:
        if at == "database":
            return self.store.host
        order = sorted(self._places, key=lambda host: self._places[host])
        if not order:
            raise NotNow("nobody stands in the line")
        leaders = [host for host in order if self._places[host] == 0] or order[:1]
        heir = min(len(leaders), len(order) - 1)
        return {"leader": leaders[number % len(leaders)], "heir": order[heir]}.get(at, order[-1])

    # the line

    def _look(self) -> dict[str, dict[str, Any]]:
        """Ask every living member; remembers who stands in the line and where."""
        facts: dict[str, dict[str, Any]] = {}
        for host, member in self.rig.members.items():
            if member.process.poll() is None and (fact := member.ask(0.3)) is not None:
                facts[host] = fact
        self._seen = {host for host, fact in facts.items() if fact["ready"] and (fact["leader"] or fact["place"])}
        self._places = {host: 0 if facts[host]["leader"] else facts[host]["place"] or 9 for host in self._seen}
        self._seen_at.update(dict.fromkeys(self._seen, now_s()))
        return facts

    def _fill(self) -> None:
        for host in self.hosts:
            member = self.rig.members.get(host)
            if member is None or member.process.poll() is not None:
                self.start(host)

    def _stand(self, fault: Fault | None) -> None:
        """Start who is missing, and wait until the line stands: a leader whose command writes, and an heir. Looks for orphans."""
        until = time.monotonic() + STANDING_LIMIT_S
        while not self._ending.is_set():
            self._fill()
            facts = self._look()
            leading = [fact for fact in facts.values() if fact["leader"] and fact["command_pid"]]
            if len(leading) == self.seats and self._enough() and all(map(self._writes, leading)):
                break
            if time.monotonic() > until:
                self._mark("told", fault, "", note=f"the line did not stand within {STANDING_LIMIT_S:g} s")
                raise RigError(
                    f"{self.kind}: the line did not stand within {STANDING_LIMIT_S:g} s; in it {sorted(self._seen) or 'nobody'}\n"
                    f"{self.rig.story()[-6000:]}"
                )
            self.wait(0.05)
        self._mark("standing", fault, "")
        self._measure()
        self._orphans()
        if fault is not None:
            self.after(self, fault)

    def _enough(self) -> bool:
        """All leaders and an heir; but nobody may be missing for ever."""
        long_ago = now_s() - ABSENT_S
        enough = len(self._seen) > self.seats
        return enough and all(self._seen_at.setdefault(host, now_s()) > long_ago for host in self.hosts)

    def _measure(self) -> None:
        """A member that lives through one outage after the other must not grow."""
        for member in self.rig.members.values():
            with contextlib.suppress(OSError):
                place = Path(f"/proc/{member.process.pid}")
                status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
                now = {
                    "descriptors": len(os.listdir(place / "fd")),  # noqa: PTH208
                    "threads": int(status["Threads"]),
                    "resident_mb": int(status.get("VmRSS", "0 kB").split()[0]) // 1024,
                }
                self.most = {name: max(value, self.most.get(name, 0)) for name, value in now.items()}

    def _name(self, fact: dict[str, Any]) -> Path:
        folder = self.ticks if fact["seat"] == 1 else self.ticks / str(fact["seat"])
        return folder / ticker.file_name(fact["term"], fact["member"], fact["command_pid"])

    def _writes(self, fact: dict[str, Any]) -> bool:
        start = written.start_of(self._name(fact))
        return start is not None and now_s() - start.to_s < 0.2

    def _orphans(self) -> None:
        """Processes of any start but the leader's, seen twice while the leader stayed the same; and what else nobody owns."""
        first = self._strangers()
        if first and not self.wait(max(ORPHAN_S, self._let_go_at + LET_GO_S - now_s())):
            for pid, path in (self._strangers() or {}).items():
                if first.get(pid) == path:
                    self._mark("orphan", None, path.name.split(".")[1].split("-")[0], note=f"{pid} of {path.name}")
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)  # told once: it must not overlap with all that follows
        now = now_s()
        strays = {stray: self._strays.get(stray, now) for stray in self._ownerless()}
        for (pid, began), since_s in strays.items():
            if now - since_s > HELPER_S:
                self._mark("orphan", None, "", note=f"{pid}, that began at tick {began}: {written.words_of(pid)}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._strays = strays

    def _ownerless(self) -> Iterator[tuple[int, str]]:
        """Processes on a member's host that are no living member's: pid, and when it began."""
        owned = {
            pid
            for member in self.rig.members.values()
            if member.process.poll() is None
            for pid in (member.process.pid, *member.tree())
        }
        for host in self.hosts:
            for pid in processes_in(self.ground.space(host)):
                with contextlib.suppress(OSError):
                    if pid not in owned and (facts := stat_of(pid))[0] not in "ZX":
                        yield pid, facts[19]

    def _strangers(self) -> dict[int, Path] | None:
        leading = [fact for fact in self._look().values() if fact["leader"] and fact["command_pid"]]
        if len(leading) != self.seats:
            return None
        own = {self._name(fact) for fact in leading}
        return {pid: path for pid, path in written.processes(self.ticks).items() if path not in own}

    # what is written down

    def _away(self) -> bool:
        """Whether a fault keeps the database away now."""
        return any(
            one.kind.takes == "database" or (one.kind.takes == "takeover" and one.number not in self._entered)
            for one, _ in self._holding.values()
        )

    def _mark(self, phase: str, fault: Fault | None, host: str, *, note: str = "") -> None:
        held = self._holding.values()
        taken = {where for one, where in held if one.kind.takes == "member"}
        excused = "; ".join(one.kind.name for one, _ in held if one.kind.takes == "command")
        mark = Mark(
            now_s(), phase, fault.number if fault else 0, fault.kind.name if fault else "", fault.at if fault else "", host,
            not self._away(), tuple(sorted(self._seen - taken)), excused, note,
        )  # fmt: skip
        self.marks.append(mark)
        self._record.write(json.dumps(asdict(mark)) + "\n")
