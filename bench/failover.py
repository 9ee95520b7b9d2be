"""How long nobody ran: from a fault to the first line that the successor's command writes.

    python bench/failover.py [--runs 20] [--store etcd] [--ttl 10] [--fault command] [--json] [--timeline] [--beside]

Three members on this machine against a real server on this machine. The command is a Python program that writes a line every
millisecond; its own start (about 20 ms) is part of each figure. For a clean stop the time runs from the old command's last
line, for every other fault from the moment of the signal. The whole line has stood for 5 s before each fault: with each check-in
a member prepares one more statement.

`--store` may be given several times, and as `all`: then one table tells the medians, with causes as rows and stores as columns.

`--beside` adds what others make of the same command: `etcdctl lock`, and a program with kazoo's Election (bench/others).

`--timeline` also shows when each step of a handover was told, in milliseconds from the fault: by the members' own journals, and
by the command's first line. It is for the causes in which the old member tells of the end: `command`, `guard` and `stop`.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.others import beside
from lab.rig.rig import STORES, Member, Rig, now_s, store_url
from lab.rig.written import starts_in

STOOD_S = 5.0
UNSEEN_S = 0.1
"""So long nobody looks after a fault: to read all lines again and again would take a processor from those who are measured."""
FAULTS: dict[str, tuple[str, Callable[[Member], None]]] = {
    "command": ("command killed with -9", lambda member: member.kill("command")),
    "member": ("member killed with -9", lambda member: member.kill("member")),
    "guard": ("guard killed with -9", lambda member: member.kill("guard")),
    "stop": ("clean stop (SIGTERM)", lambda member: member.signal("member", signal.SIGTERM)),
    "two": ("member and guard killed with -9", lambda member: member.kill("member", "guard")),
    "all": ("every process killed with -9", lambda member: member.kill("member", "guard", "backstop")),
}


STEPS = {
    "the end is proved and told": {"command_ended", "command_restarts"},
    "the release is confirmed": {"released"},
    "the heir has taken charge": {"took_charge"},
    "its guard says: started": {"command_started"},
}
"""The names by which the journal tells each step, in the order in which they come."""
FIRST_LINE = "its command's first line"


def steps_of(rig: Rig, fault_at_s: float, first_line_s: float, wall_ahead_s: float) -> dict[str, float]:
    """Milliseconds from the fault. A step counts once the step before it has come."""
    told = sorted((1000 * (entry["at"] - wall_ahead_s - fault_at_s), str(entry["event"])) for entry in rig.journal())
    found: dict[str, float] = {}
    last = 0.0
    for step, names in STEPS.items():
        at = next((at for at, event in told if at >= last and event in names), None)
        if at is not None:
            found[step] = last = at
    return {**found, FIRST_LINE: 1000 * (first_line_s - fault_at_s)}


def measure(rig: Rig, fault: str, runs: int, timelines: list[dict[str, float]]) -> list[float]:
    times = []
    hosts = ["ada", "ben", "cleo"]
    for host in hosts:
        rig.add(host)
    for _ in range(runs):
        rig.wait_for_line(len(hosts), limit_s=40)
        time.sleep(STOOD_S)
        leader = rig.wait_for_line(len(hosts), limit_s=40)
        facts = leader.ask()
        assert facts is not None, "the leader answered a moment ago"
        me = facts["member"]
        wall_ahead_s = time.time() - now_s()
        at_s = now_s()
        FAULTS[fault][1](leader)
        time.sleep(UNSEEN_S)
        start = rig.wait_for_start(at_s, 40, other_than=me)
        if fault == "stop":
            at_s = max(old.to_s for old in starts_in(rig.ticks) if old.member == me)
        times.append(start.from_s - at_s)
        timelines.append(steps_of(rig, at_s, start.from_s, wall_ahead_s))
        rig.ticks.write_text("")
        if fault in {"command", "guard"}:
            leader.signal("member", signal.SIGTERM)  # a new member has no crash loop behind it, and no back-off
        leader.process.wait()
        rig.add(leader.host)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--store", choices=[*STORES, "all"], action="append", help="several times for several")
    parser.add_argument("--ttl", type=float, default=10.0)
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--timeline", action="store_true", help="when each step of the handover was told")
    parser.add_argument("--beside", action="store_true", help="also what others make of the same command")
    parser.add_argument("--beside-runs", type=int, default=3)
    options = parser.parse_args()
    named = options.store or ["postgres"]
    stores = STORES if "all" in named else tuple(dict.fromkeys(named))
    results = {}
    for store in stores:
        if not options.json:
            print(f"{store}:", flush=True)
        results[store] = of_store(store, options)
    others = {}
    if options.beside:
        with tempfile.TemporaryDirectory() as folder:
            others = beside.measured(options.beside_runs, Path(folder))
    if options.json:
        print(json.dumps({"stores": results, "beside": beside.as_json(others)}))
        return
    if len(stores) > 1:
        print(*table(medians(results)), sep="\n")
    if others:
        print("", *table(beside.rows(others)), sep="\n")


def of_store(store: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds by cause, shown as they come."""
    results = {}
    with tempfile.TemporaryDirectory() as folder, store_url(store, Path(folder)) as url:
        for fault in options.fault or FAULTS:
            runs = min(options.runs, 5) if fault == "all" and not options.fault else options.runs
            home = Path(folder, fault)
            home.mkdir()
            timelines: list[dict[str, float]] = []
            as_json = ("--log-format", "json")
            with Rig(url, home, ttl_s=options.ttl, election=f"bench-{fault}", tick_ms=1, options=as_json) as rig:
                results[fault] = measure(rig, fault, runs, timelines)
            if not options.json:
                show(fault, results[fault])
                if options.timeline:
                    show_timeline(timelines)
    return results


def medians(results: dict[str, dict[str, list[float]]]) -> list[list[str]]:
    """Causes as rows, and stores as columns."""
    causes = next(iter(results.values()))
    return [
        ["", *results],
        *(
            [FAULTS[fault][0], *(f"{statistics.median(times[fault]):.2f} s" for times in results.values())]
            for fault in causes
        ),
    ]


def table(rows: list[list[str]]) -> list[str]:
    """As Markdown writes one, which people can read too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(f"{word:{width}}" for word, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def show(fault: str, times: list[float]) -> None:
    ordered = sorted(1000 * value for value in times)
    ninety = ordered[min(len(ordered) - 1, round(0.9 * len(ordered)))]
    print(
        f"{FAULTS[fault][0]:32} median {statistics.median(ordered):7.0f} ms   min {ordered[0]:6.0f}"
        f"   90 % {ninety:6.0f}   max {ordered[-1]:6.0f}   ({len(ordered)} runs)",
        flush=True,
    )


def show_timeline(timelines: list[dict[str, float]]) -> None:
    for step in (*STEPS, FIRST_LINE):
        if came := [each[step] for each in timelines if step in each]:
            print(
                f"    {step:28} median {statistics.median(came):7.1f} ms   min {min(came):6.1f}   max {max(came):6.1f}"
            )


if __name__ == "__main__":
    main()
