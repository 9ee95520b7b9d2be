"""A line with several seats: several native schedulers at once, each of which has an heir, struck like a line of one.

It is judged by seat: at any moment there is at most one scheduler for each, and so never more than there are seats.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heirflow.clock import boottime
from heirflow.demo.stage import Stage
from heirflow.election.record import Exchange, Reading, What
from heirflow.status import Snapshot
from lab.airflow.line import JOBS, SETTLE_LIMIT_S, Installation, Line
from lab.rig.written import Start

CLOCKS_S = 0.2
"""By how much a store's clock may be ahead of ours: both are on this machine."""


@dataclass(frozen=True, slots=True)
class Led:
    """A seat that is led, and whose component has its row in Airflow's `job`."""

    seat: int
    member: str
    host: str
    job: int


class Seats(Line):
    """One component on several hosts of a site, and so many of them at once."""

    def __init__(
        self,
        site: Installation,
        stage: Stage,
        component: str,
        hosts: Sequence[str],
        seats: int,
        *flags: str,
        **env: str,
    ) -> None:
        super().__init__(site, stage, component, hosts, "--seats", str(seats), *flags, **env)
        self.seats = seats

    def reading(self) -> Reading:
        """What a member would see. Raises like `snapshot`."""
        return self._patiently(lambda store: store.exchange(self.election, Exchange()))

    def led(self, reading: Reading) -> list[Led]:
        """The seats at work."""
        rows = self.site.ask("SELECT id FROM job WHERE job_type = :job AND state = 'running'", job=JOBS[self.component])
        running, hosts = {int(number) for (number,) in rows}, {row.id: row.host for row in reading.members}
        found = []
        for seat, place in enumerate(reading.places, 1):
            record = place.record
            job = (
                json.loads(record.note).get("job_id") if record is not None and record.leader and record.note else None
            )
            if record is not None and job in running and record.leader in hosts:
                found.append(Led(seat, str(record.leader), hosts[str(record.leader)], int(job)))
        return found

    def jobs(self) -> set[int]:
        return {each.job for each in self.led(self.reading())}

    def seat_of(self, start: Start) -> int:
        # A member can lead two seats one after the other, each in a term of the same number: the later event is meant
        # that came before the start.
        at = start.from_s + time.time() - boottime()
        found = 1
        for event in self._events():
            known = event.what is What.TOOK_CHARGE and (event.term, event.member) == (start.term, start.member)
            if known and event.at <= at + CLOCKS_S:
                found = event.seat
        return found

    def settled(
        self, also: Callable[[int], bool] = lambda _: True, *, heirs: int | None = None, limit_s: float = SETTLE_LIMIT_S
    ) -> tuple[str, int]:
        """Wait until every seat is at work, for so many ready heirs (None: everybody else), and one job of which `also` is true.

        Returns its host and the job.
        """
        wanted = len(self.hosts) - self.seats if heirs is None else heirs
        limit = time.monotonic() + limit_s
        while time.monotonic() < limit:
            reading = self.reading()
            led = self.led(reading)
            ready = [
                row for row in Snapshot.of(self.election, reading).succession if row.rank is not None and row.rank > 1
            ]
            here = [each for each in led if each.host in self.members]
            if len(here) == self.seats and len(ready) >= wanted:
                for each in sorted(here, key=lambda each: -each.job):
                    if also(each.job):
                        return each.host, each.job
            time.sleep(0.1)
        raise self.not_settled(f"the {self.seats} seats of {self.election} are not led after {limit_s:.0f} s")

    def order_switchover(self, host: str) -> None:
        led = next(each for each in self.led(self.reading()) if each.host == host)
        self.site.order("switchover", self.election, "--from", led.member, "--no-wait")
