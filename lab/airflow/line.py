"""A line of real Airflow components that is struck again and again, and what is seen of it each time.

The faults are those that hosts have: the command killed, the member, its guard, everything of a host at once; and an order or
an orderly stop in between. What was killed comes back, as systemd would bring it back.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from heirflow.demo.stage import Process, Stage
from heirflow.demo.warden import descendants
from heirflow.election.record import Event, Exchange, What
from heirflow.guard import processes
from heirflow.member.door import ask
from heirflow.status import Snapshot
from heirflow.stores import Store, StoreUnavailable
from lab.rig.written import Start

KINDS = ("command", "member", "guard", "host", "stop", "switchover")
BOTH = "command and member"
JOBS = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
LEFT = (
    "SELECT count(*) FROM task_instance WHERE queued_by_job_id = :job AND state IN ('queued', 'running', 'restarting')"
)
IN_LOOP = re.compile(r"^(\S+Z) .*Adopting or resetting orphaned tasks", re.MULTILINE)
SETTLE_LIMIT_S = 240.0
ASK_TIMES = 10
Answer = TypeVar("Answer")


class Installation(Protocol):
    """An Airflow that lines belong to: see `lab.airflow.site.Site`."""

    env: dict[str, str]

    def ask(self, statement: str, **parameters: Any) -> Sequence[Any]: ...
    def open_store(self) -> Store: ...
    def order(self, *words: str) -> str: ...
    def start_member(self, host: str, component: str, *flags: str, **own: str) -> Process: ...


class NotSettled(RuntimeError):
    """The line did not become what it should within the time; the message has the ends of the logs."""


@dataclass(slots=True)
class Blow:
    """One fault. Moments in seconds since 1970."""

    kind: str
    host: str
    job: int
    at: float
    seconds: dict[str, float] = field(default_factory=dict)
    """What was measured, counted from `at`."""


class Line:
    """One component on several hosts of a site."""

    seats = 1
    """How many of them work at once."""

    def __init__(
        self, site: Installation, stage: Stage, component: str, hosts: Sequence[str], *flags: str, **env: str
    ) -> None:
        self.site, self.stage, self.component, self.hosts = site, stage, component, tuple(hosts)
        self.election = f"airflow-{component}"
        self._flags, self._env = flags, env
        self.members: dict[str, Process] = {}
        self._store: Store | None = None

    # ---- who is there ----

    def start(self, *hosts: str) -> None:
        """Start members that are not there. Without a name: all of them."""
        for host in hosts or self.hosts:
            known = self.members.get(host)
            if known is None or self.stage.status(known) is not None:
                self.members[host] = self.site.start_member(host, self.component, *self._flags, **self._env)

    def snapshot(self) -> Snapshot:
        """The line now. A database that is too busy to answer this in time is asked again. Raises `StoreUnavailable` at last."""
        return self._patiently(lambda store: Snapshot.of(self.election, store.exchange(self.election, Exchange())))

    def _events(self) -> tuple[Event, ...]:
        return self._patiently(lambda store: store.events(self.election, 400))

    def _patiently(self, ask: Callable[[Store], Answer]) -> Answer:
        for number in range(1, ASK_TIMES + 1):
            try:
                if self._store is None:
                    self._store = self.site.open_store()
                return ask(self._store)
            except StoreUnavailable:  # noqa: PERF203  (that is what the loop is for)
                if number == ASK_TIMES:
                    raise
                time.sleep(0.5)
        raise AssertionError

    def leader(self) -> str | None:
        """The host of the leader."""
        now = self.snapshot()
        return next((row.host for row in now.succession if row.member == now.leader), None)

    def job(self) -> int | None:
        """The row in Airflow's `job` of the leader's component, when it is running."""
        record = self._patiently(lambda store: store.exchange(self.election, Exchange())).record
        running = "SELECT id FROM job WHERE job_type = :job AND state = 'running' "
        kind = JOBS[self.component]
        if "--cold" in self._flags:  # it does not say which is its own
            rows = self.site.ask(running + "ORDER BY id DESC LIMIT 1", job=kind)
        elif record is not None and record.note:
            number = json.loads(record.note)["job_id"]
            rows = self.site.ask(running + "AND id = :id", job=kind, id=number)
        else:
            return None
        return int(rows[0][0]) if rows else None

    def jobs(self) -> set[int]:
        """The rows of all that are to run."""
        return {job} if (job := self.job()) is not None else set()

    def seat_of(self, start: Start) -> int:
        """Which seat a command worked for."""
        return 1

    def facts(self, host: str) -> dict[str, Any]:
        """What that host's member says at its door."""
        door = Path(self.site.env["HEIRFLOW_RUN_DIR"])
        return ask(door, self.election, 5.0, pid=self.members[host].pid)

    def settled(
        self, also: Callable[[int], bool] = lambda _: True, *, heirs: int | None = None, limit_s: float = SETTLE_LIMIT_S
    ) -> tuple[str, int]:
        """Wait for a leader at work, so many ready heirs (None: everybody else), and whatever else of its job is wanted.

        Returns the leader and its job.
        """
        wanted = len(self.hosts) if heirs is None else heirs + 1
        limit = time.monotonic() + limit_s
        while time.monotonic() < limit:
            now = self.snapshot()
            leader, job = self.leader(), self.job()
            ready = sum(1 for row in now.succession if row.rank)
            if leader in self.members and job and ready >= wanted and also(job):
                return str(leader), job
            time.sleep(0.1)
        raise self.not_settled(f"the line of {self.election} is not whole after {limit_s:.0f} s")

    def not_settled(self, what: str) -> NotSettled:
        """The error, with the ends of the logs."""
        ends = "\n".join(f"--- {member.name}\n{member.log_end(15)}" for member in self.members.values())
        return NotSettled(f"{what}\n{ends}")

    def in_charge_at(self, after: float) -> float | None:
        """When somebody first took charge later than that."""
        return next((event.at for event in self._events() if event.what is What.TOOK_CHARGE and event.at > after), None)

    def history(self) -> list[str]:
        """What `heirflow history` tells, and Airflow's rows of this component."""
        told = [f"term {each.term}: {each.member} {each.word}: {each.because}" for each in self._events()]
        rows = self.site.ask(
            "SELECT id, hostname, state, start_date FROM job WHERE job_type = :job ORDER BY id",
            job=JOBS[self.component],
        )
        return told + [f"job {number} of {host} since {since:%H:%M:%S}: {state}" for number, host, state, since in rows]

    def close(self) -> None:
        """Give the connection back."""
        if self._store is not None:
            self._store.close()

    # ---- what is done to it ----

    def strike(self, kind: str, also: Callable[[int], bool] = lambda _: True, *, heirs: int | None = None) -> Blow:
        """Do it to the leader of a line that is settled. See `KINDS`."""
        host, job = self.settled(also, heirs=heirs)
        member = self.members[host]
        facts = self.facts(host)
        blow = Blow(kind, host, job, time.time())
        if kind == "host":
            everything = [member.pid, *descendants(member.pid)]
            # Frozen first, so that no half of it can act on the death of the other.
            processes.send(everything, signal.SIGSTOP)
            blow.at = time.time()
            processes.send(everything, signal.SIGKILL)
        elif kind == "stop":
            self.stage.signal(member, signal.SIGTERM)
        elif kind == "switchover":
            self.order_switchover(host)
        else:
            pids = {"command": facts["command_pid"], "guard": facts["guard_pid"], "member": member.pid}
            processes.send(
                [int(pids[each]) for each in (("command", "member") if kind == BOTH else (kind,))], signal.SIGKILL
            )
        return blow

    def order_switchover(self, host: str) -> None:
        """Have the leader on this host hand over."""
        self.site.order("switchover", self.election, "--no-wait")

    def succeeded(self, blow: Blow, limit_s: float = 60.0) -> None:
        """Wait for all at work, without the one that was struck, and bring back what is gone. Notes the time until the new row."""
        limit = time.monotonic() + limit_s
        while len(jobs := self.jobs()) < self.seats or blow.job in jobs:
            if time.monotonic() > limit:
                raise NotSettled(f"nobody took over within {limit_s:.0f} s of {blow.kind} on {blow.host}")
            time.sleep(0.05)
        rows = self.site.ask("SELECT extract(epoch FROM start_date) FROM job WHERE id = :id", id=max(jobs))
        blow.seconds["job row"] = float(rows[0][0]) - blow.at
        if (
            self.stage.wait(self.members[blow.host], 0.0 if blow.kind in {"command", "switchover"} else 30.0)
            is not None
        ):
            self.start(blow.host)

    # ---- what is seen ----

    def in_loop_at(self, after: float) -> float | None:
        """When a scheduler of this line first began its loop later than that, by its own log."""
        found = []
        for member in self.members.values():
            for stamp in IN_LOOP.findall(member.log.read_text("utf-8", "replace")):
                at = datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
                if at > after:
                    found.append(at)
        return min(found, default=None)
