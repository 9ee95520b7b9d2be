"""How long nobody ran: from a fault to the first line that the successor's command writes.

    python bench/failover.py [--runs 20] [--store postgres|mysql|sqlite] [--ttl 10] [--fault command] [--json]

Three members on this machine against a real server on this machine. The command is a Python program that writes a line every
millisecond; its own start (about 20 ms) is part of each figure. For a clean stop the time runs from the old command's last
line, for every other fault from the moment of the signal.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab.rig.rig import Member, Rig, now_s, store_url
from lab.rig.written import starts_in

FAULTS: dict[str, tuple[str, Callable[[Member], None]]] = {
    "command": ("command killed with -9", lambda member: member.kill("command")),
    "member": ("member killed with -9", lambda member: member.kill("member")),
    "guard": ("guard killed with -9", lambda member: member.kill("guard")),
    "stop": ("clean stop (SIGTERM)", lambda member: member.signal("member", signal.SIGTERM)),
    "both": ("member and guard killed with -9", lambda member: member.kill("member", "guard", "backstop")),
}


def measure(rig: Rig, fault: str, runs: int) -> list[float]:
    times = []
    hosts = ["ada", "ben", "cleo"]
    for host in hosts:
        rig.add(host)
    for _ in range(runs):
        leader = rig.wait_for_line(len(hosts), limit_s=40)
        facts = leader.ask()
        assert facts is not None, "the leader answered a moment ago"
        me = facts["member"]
        at_s = now_s()
        FAULTS[fault][1](leader)
        start = rig.wait_for_start(at_s, 40, other_than=me)
        if fault == "stop":
            at_s = max(old.to_s for old in starts_in(rig.ticks) if old.member == me)
        times.append(start.from_s - at_s)
        rig.ticks.write_text("")
        if fault in {"command", "guard"}:
            leader.signal("member", signal.SIGTERM)  # a new member has no crash loop behind it, and no back-off
        leader.process.wait()
        rig.add(leader.host)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--store", choices=["postgres", "mysql", "sqlite"], default="postgres")
    parser.add_argument("--ttl", type=float, default=10.0)
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder, store_url(options.store, Path(folder)) as url:
        for fault in options.fault or FAULTS:
            runs = min(options.runs, 5) if fault == "both" and not options.fault else options.runs
            home = Path(folder, fault)
            home.mkdir()
            with Rig(url, home, ttl_s=options.ttl, election=f"bench-{fault}", tick_ms=1) as rig:
                results[fault] = measure(rig, fault, runs)
            if not options.json:
                show(fault, results[fault])
    if options.json:
        print(json.dumps(results))


def show(fault: str, times: list[float]) -> None:
    ordered = sorted(1000 * value for value in times)
    ninety = ordered[min(len(ordered) - 1, round(0.9 * len(ordered)))]
    print(
        f"{FAULTS[fault][0]:32} median {statistics.median(ordered):7.0f} ms   min {ordered[0]:6.0f}"
        f"   90 % {ninety:6.0f}   max {ordered[-1]:6.0f}   ({len(ordered)} runs)",
        flush=True,
    )


if __name__ == "__main__":
    main()
