"""Real Airflow 3.3.2, struck again and again while tasks are queued and running: how long until work goes on, and is it right?

    python bench/airflow_failover.py [--what failover] [--executor celery] [--store postgres etcd] [--runs 10] [--json]

--what failover       the scheduler's command killed with -9: until the heir's scheduler is in its loop, until the next task
                      starts, until what the dead one had queued is adopted. --cold, --no-adopt: without these two
--what chaos          50 mixed faults while runs go; everything is judged by what tasks and schedulers wrote down themselves
--what frozen         SIGSTOP when the scheduler holds Airflow's critical section: the whole host; the command alone; and one of
                      two native schedulers beside it. With --seats 2: one of two
--what native         two native schedulers, one host lost: until the survivor adopts what the dead one had queued
--what restart        one native scheduler, killed and started again at once, as a service manager would
--what idle           what one scheduler and two heirs cost the database, and one to three native ones. --seats 2: two and an heir
--what survivor       two seats and no heir: one host lost, and one scheduler killed with its member, until the other's
                      scheduler has adopted what was left
--what late           a scheduler's heartbeat kept 45 s behind: how many tasks it is robbed of. Without --seats: of two native
--what load           tasks per second under a full load: two native schedulers, and two seats with an heir, in turn
--what dag-processor  the leading dag-processor killed, and a DAG file changed: until the change is known

--store: where the line is; with several of them, everything is done for each in turn.

Embedded PostgreSQL, RabbitMQ and two Celery workers (or LocalExecutor), API server and DAG processor on this machine, every
"host" in a folder of its own; Airflow's own 30 s and 300 s for dead schedulers. The tasks write each beginning and each end to a
file, and schedulers that they live, every 20 ms. Figures count from the signal, in seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from heirflow.demo.stage import Process, Stage
from heirflow.demo.warden import descendants
from heirflow.guard import processes
from lab.airflow import ledger
from lab.airflow.chaos import Files, Load, campaign, load_now, mixed, scene, verdict
from lab.airflow.line import BOTH, KINDS, LEFT, Blow, Line
from lab.airflow.native import Natives, catch, cost
from lab.airflow.play import THREE
from lab.airflow.seated import Seats
from lab.airflow.site import COORDINATORS, PARALLELISM, Site

BUSY = Load(tasks=6, sleep_s=3.0, every_s=5.0, runs=4, long_s=3600.0, begun_ago_s=3600.0)
"""More to do than there are slots for: the next task starts as soon as a scheduler lets it."""
STEADY = Load(tasks=1, sleep_s=3.0, every_s=1.5, runs=16, long_s=3600.0)
"""A task falls due every 1.5 s, and finds a slot free: how soon the next one starts is the scheduler's doing alone."""
FULL = Load(tasks=6, sleep_s=0.0, every_s=5.0, runs=8, begun_ago_s=36000.0)
"""More short tasks than can be done, so that schedulers and workers are busy all the time."""
CALM = Load(tasks=2, sleep_s=4.0, every_s=5.0, runs=2, long_s=3600.0, begun_ago_s=3600.0)
"""For what takes minutes of waiting anyway."""
LIMIT_S = 400.0
QUEUED_BY_SUCCESSOR = """
SELECT extract(epoch FROM min(start_date)) FROM task_instance
WHERE dag_id = 'many' AND queued_dttm > to_timestamp(:at) AND start_date > to_timestamp(:at)
"""
Figures = dict[str, list[float]]


def tell(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {sentence}", file=sys.stderr, flush=True)


def told(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())


def busy(site: Site, slots: int = 99) -> Callable[[int], bool]:
    """Tasks are running in the job's name, the long one among them, and one is queued; fewer in all than there are slots."""

    def of(job: int) -> bool:
        states = site.ask(
            "SELECT state, count(*) FROM task_instance WHERE queued_by_job_id = :job GROUP BY state", job=job
        )
        now = dict(states)
        rows = site.ask(
            "SELECT 1 FROM task_instance WHERE dag_id = 'long' AND state = 'running' AND queued_by_job_id = :job",
            job=job,
        )
        running, queued = now.get("running", 0), now.get("queued", 0)
        return bool(rows) and running >= 3 and queued >= 1 and running + queued < slots

    return of


def follow(files: Files, blow: Blow, wanted: dict[str, Callable[[], float | None]], limit_s: float) -> None:
    """Look until everything that is wanted was seen. Adoption is noted at the moment at which it is seen."""
    limit = time.monotonic() + limit_s
    while time.monotonic() < limit and not set(wanted) <= set(blow.seconds):
        for name, look in wanted.items():
            if name not in blow.seconds and (at := look()) is not None:
                blow.seconds[name] = at - blow.at
        time.sleep(0.02)
    while (first := ledger.first_after(files.tasks, blow.at + 0.02)) is None and time.monotonic() < limit:
        time.sleep(0.2)
    if first is not None:
        blow.seconds["next task of all"] = first - blow.at


def gather(figures: Figures, seconds: dict[str, float], prefix: str = "") -> None:
    """Put the figures of one blow to those of the others."""
    for name, value in seconds.items():
        figures[prefix + name].append(value)


def adopted(site: Site, job: int) -> float | None:
    return None if site.ask(LEFT, job=job)[0][0] else time.time()


def started_by_successor(site: Site, at: float) -> float | None:
    found = site.ask(QUEUED_BY_SUCCESSOR, at=at)[0][0]
    return None if found is None else float(found)


def opened(
    options: argparse.Namespace, load: Load, **settings: Any
) -> AbstractContextManager[tuple[Site, Stage, Files]]:
    """The installation with its lines where they are wanted."""
    return scene(options.executor, load, store=options.at, **settings)


def line_of(options: argparse.Namespace, site: Site, stage: Stage, *flags: str, hosts: tuple[str, ...] = THREE) -> Line:
    """Schedulers on these hosts: one that works, or as many as there are seats."""
    if options.seats > 1:
        return Seats(site, stage, "scheduler", hosts, options.seats, *flags)
    return Line(site, stage, "scheduler", hosts, *flags)


# ---- the modes: each yields figures by name --------------------------------------------------------------------------


def failover(options: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)
    flags = [f"--{name}" for name in ("cold", "no-adopt") if getattr(options, name.replace("-", "_"))]
    with opened(options, STEADY) as (site, stage, files):
        line = line_of(options, site, stage, *flags)
        line.start()
        for number in range(options.runs):
            blow = line.strike("command", busy(site, PARALLELISM))
            wanted: dict[str, Callable[[], float | None]] = {
                "in charge": lambda b=blow: line.in_charge_at(b.at),
                "in its loop": lambda b=blow: line.in_loop_at(b.at),
                "adopted": lambda b=blow: adopted(site, b.job),
                "next task that it queued": lambda b=blow: started_by_successor(site, b.at),
            }
            follow(files, blow, wanted, LIMIT_S)
            tell(f"{number + 1:>3}: {told(blow.seconds)}")
            gather(figures, blow.seconds)
        line.close()
    return figures


def chaos(options: argparse.Namespace) -> Figures:
    load = Load(tasks=4, sleep_s=0.5, every_s=6.0)
    figures: Figures = defaultdict(list)
    # A task that was marked queued and never sent, because the scheduler died in between, is queued again by Airflow after
    # this time (600 s by default): shorter here, so that the end of the run need not be waited for so long.
    with opened(options, load, SCHEDULER__TASK_QUEUED_TIMEOUT="60") as (site, stage, files):
        line = line_of(options, site, stage)
        line.start()
        line.settled(lambda _: bool(ledger.attempts(files.tasks)), heirs=1)
        # One ready heir is enough for the next blow: the third member may still be on its way back.
        kinds = mixed(KINDS, options.runs, options.seed)
        blows = campaign(line, kinds, seed=options.seed, heirs=1, tell=tell)
        found = verdict(site, line, files, load, limit_s=900.0, tell=tell)
        line.close()
    for blow in blows:
        if "job row" in blow.seconds:
            figures[f"{blow.kind} to job row"].append(blow.seconds["job row"])
    if len(figures) and sum(map(len, figures.values())) < options.runs:
        found.broken.append("the campaign broke off: the line did not settle")
    print(
        f"{len(blows)} failovers on {options.executor}: {found.runs} runs, {found.tasks} tasks, {found.attempts} attempts; "
        f"cut short {found.cut_short}, done again in a later attempt {found.done_again}; broken promises: {len(found.broken)}"
    )
    for sentence in found.broken:
        print(f"  BROKEN: {sentence}")
    options.failed = bool(found.broken)
    return figures


def frozen(options: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)
    with opened(options, BUSY) as (site, stage, files):
        line = line_of(options, site, stage)
        line.start()
        for what in ("whole host", "command alone"):
            for _ in range(options.runs):
                host, job = line.settled(busy(site))
                pid = int(line.facts(host)["command_pid"])
                at, tries = catch(site, pid)
                everything = [line.members[host].pid, *descendants(line.members[host].pid)]
                if what == "whole host":
                    processes.send(everything, signal.SIGSTOP)
                blow = Blow(what, host, job, at)
                wanted: dict[str, Callable[[], float | None]] = {
                    "in charge": lambda b=blow: line.in_charge_at(b.at),
                    "next task that it queued": lambda b=blow: started_by_successor(site, b.at + 1.0),
                }
                follow(files, blow, wanted, LIMIT_S)
                tell(f"{what} of {host} frozen at try {tries}: {told(blow.seconds)}")
                gather(figures, blow.seconds, f"{what}: ")
                processes.send(everything, signal.SIGCONT)
                if what == "whole host":
                    stage.signal(line.members[host], signal.SIGTERM)
                    stage.wait(line.members[host], 60.0)
                line.start(host)
        line.close()
        if options.seats > 1:
            return figures
        end(stage, line.members)
        natives = Natives(site, stage)
        natives.start("nat-a", "nat-b")
        for _ in range(min(options.runs, 2)):
            time.sleep(15.0)
            at, tries = catch(site, natives.processes["nat-a"].pid)
            blow = Blow("native", "nat-a", 0, at)
            follow(files, blow, {"next task": lambda b=blow: started_by_successor(site, b.at + 1.0)}, 60.0)
            processes.send([natives.processes["nat-a"].pid], signal.SIGCONT)
            blow.seconds.pop("next task of all", None)  # of those that the workers had already
            if "next task" not in blow.seconds:
                tell(
                    f"one of two native schedulers frozen at try {tries}: the other started nothing for 60 s, then it was let go"
                )
                blow.seconds["next task, broken off"] = 60.0
            else:
                tell(f"one of two native schedulers frozen at try {tries}: {told(blow.seconds)}")
            gather(figures, blow.seconds, "two native, one frozen: ")
    return figures


def native(options: argparse.Namespace) -> Figures:
    return _natively(options, ("nat-a", "nat-b"), restart=False)


def of_long_task(site: Site, natives: Natives, hosts: tuple[str, ...]) -> tuple[str, int]:
    """The native scheduler that has the long task in its name, and its job."""
    limit = time.monotonic() + 120.0
    while time.monotonic() < limit:
        for host in hosts:
            if (job := natives.job(host)) is not None and busy(site)(job):
                return host, job
        time.sleep(0.2)
    raise SystemExit("no native scheduler has the long task in its name")


def restart(options: argparse.Namespace) -> Figures:
    return _natively(options, ("nat-a",), restart=True)


def _natively(options: argparse.Namespace, hosts: tuple[str, ...], *, restart: bool) -> Figures:
    figures: Figures = defaultdict(list)
    with opened(options, CALM) as (site, stage, files):
        natives = Natives(site, stage)
        natives.start(*hosts)
        for _ in range(options.runs):
            victim, job = of_long_task(site, natives, hosts)
            blow = Blow("native", victim, job, natives.kill(victim))
            if restart:
                natives.start(victim)
            wanted: dict[str, Callable[[], float | None]] = {
                "next task queued since": lambda b=blow: started_by_successor(site, b.at + 0.5),
                "adopted": lambda b=blow: adopted(site, b.job),
            }
            follow(files, blow, wanted, LIMIT_S)
            tell(told(blow.seconds))
            gather(figures, blow.seconds)
            if not restart:
                natives.start(victim)
    return figures


def idle(options: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)

    def show(what: str, site: Site, pids: list[int]) -> None:
        time.sleep(20.0)
        found = cost(site, pids, for_s=options.seconds)
        for name, value in {
            "statements/s of Airflow": found.statements["airflow"], "statements/s of HeirFlow": found.statements["heirflow"],
            "transactions/s": found.transactions, "sessions": found.sessions, "RSS MB": found.rss_mb, "PSS MB": found.pss_mb,
        }.items():  # fmt: skip
            figures[f"{what}: {name}"].append(value)
        tell(f"{what}: {asdict(found)}")

    with opened(options, Load(), dag_processor=False) as (site, stage, _):
        natives = Natives(site, stage)
        natives.start("nat-a")
        show("one native", site, [process.pid for process in natives.processes.values()])
        for more in ("nat-b", "nat-c"):
            natives.start(more)
            show(f"{len(natives.processes)} native", site, [process.pid for process in natives.processes.values()])
        end(stage, natives.processes)
        line = line_of(options, site, stage)
        line.start()
        line.settled()
        line.close()
        heirs = len(THREE) - options.seats
        show(f"{options.seats} led and {heirs} in line", site, [member.pid for member in line.members.values()])
    return figures


def end(stage: Stage, those: dict[str, Process]) -> None:
    """All of them, each in good order."""
    for process in those.values():
        stage.signal(process, signal.SIGTERM)
    for process in those.values():
        stage.wait(process, 60.0)
    those.clear()


def load(options: argparse.Namespace) -> Figures:
    """Tasks that end in a second while there is always more to do: two native schedulers, and two seats with an heir, in turn."""
    figures: Figures = defaultdict(list)
    options.seats = 2
    with opened(options, FULL) as (site, stage, files):
        natives = Natives(site, stage)

        def measure(what: str) -> None:
            time.sleep(20.0)
            at = time.time()
            time.sleep(options.seconds)
            until = time.time()
            done = sum(
                1 for each in ledger.attempts(files.tasks) if each.ended is not None and at < each.ended <= until
            )
            figures[f"{what}: tasks per second"].append(done / (until - at))
            tell(f"{what}: {done / (until - at):.2f} tasks per second")

        for _ in range(options.runs):
            natives.start("nat-a", "nat-b")
            measure("two native")
            end(stage, natives.processes)
            line = line_of(options, site, stage)
            line.start()
            line.settled()
            measure("two seats and an heir")
            line.close()
            end(stage, line.members)
    return figures


def dag_processor(options: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)
    with scene("local", Load(every_s=3600.0), dag_processor=False, store=options.at) as (site, stage, _):
        line = Line(site, stage, "dag-processor", THREE[:2])
        line.start()
        file = site.dags / "changing.py"
        text = "from airflow.sdk import DAG\ndag = DAG('changing', schedule=None, description='{}')\n"
        known = "SELECT 1 FROM dag WHERE dag_id = 'changing' AND description = :text"
        file.write_text(text.format("first"))
        line.settled(lambda _: bool(site.ask(known, text="first")))
        for number in range(options.runs):
            time.sleep(random.uniform(0.0, 3.0))
            blow = line.strike("command")
            file.write_text(text.format(number))
            blow.at = time.time()
            limit = time.monotonic() + LIMIT_S
            while not site.ask(known, text=str(number)) and time.monotonic() < limit:
                time.sleep(0.02)
            blow.seconds["change known"] = time.time() - blow.at
            tell(f"{number + 1:>3}: {told(blow.seconds)}")
            figures["change known"].append(blow.seconds["change known"])
        line.close()
    return figures


def survivor(options: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)
    options.seats = 2
    with opened(options, BUSY) as (site, stage, files):
        line = line_of(options, site, stage, hosts=THREE[:2])
        line.start()
        for what, kind in (
            ("host lost", "host"),
            ("scheduler and member killed", BOTH),
            ("scheduler killed", "command"),
        ):
            for _ in range(options.runs):
                host, _ = line.settled(busy(site))
                blow = line.strike(kind, busy(site))
                wanted = {"adopted": lambda b=blow: adopted(site, b.job)}
                follow(files, blow, wanted, LIMIT_S)
                tell(f"{what} on {blow.host}: {told(blow.seconds)}")
                gather(figures, blow.seconds, f"{what}: ")
                stage.wait(line.members[blow.host], 10.0 if kind != "command" else 0.0)
                line.start(host)
        line.close()
    return figures


def late(options: argparse.Namespace) -> Figures:
    """How many tasks of a scheduler that was late belong to another one afterwards. Without --seats: of two native ones.

    It works, and its heartbeat is kept 45 s behind, as if its writes came late. A stopped one would be replaced for that by
    HeirFlow. Native schedulers look at one another only every 300 s and at their start, so one is started anew meanwhile.
    """
    figures: Figures = defaultdict(list)
    owned = (
        "SELECT id FROM task_instance WHERE queued_by_job_id = :job AND state IN ('queued', 'running', 'restarting')"
    )
    of_others = "SELECT id FROM task_instance WHERE queued_by_job_id <> :job"
    behind = "UPDATE job SET latest_heartbeat = clock_timestamp() - interval '45 seconds' WHERE id = :job RETURNING id"
    with opened(options, BUSY) as (site, stage, _):
        line, natives = line_of(options, site, stage, hosts=THREE[:2]), Natives(site, stage)
        if options.seats > 1:
            line.start()
        else:
            natives.start("nat-a", "nat-b")
        for _ in range(options.runs):
            host, job = (
                line.settled(busy(site)) if options.seats > 1 else of_long_task(site, natives, ("nat-a", "nat-b"))
            )
            its = {number for (number,) in site.ask(owned, job=job)}
            other = next(each for each in ("nat-a", "nat-b") if each != host)
            began = time.monotonic()
            while (passed := time.monotonic() - began) < 45.0:
                site.ask(behind, job=job)
                time.sleep(0.2)
                if options.seats == 1 and passed > 5.0 and other in natives.processes:
                    natives.kill(other)
                    natives.processes[f"{other} again"] = site.start_alone(
                        f"{other}-again", other, ["airflow", "scheduler"]
                    )
            robbed = its & {number for (number,) in site.ask(of_others, job=job)}
            figures["tasks robbed"].append(float(len(robbed)))
            figures["tasks that it had"].append(float(len(its)))
            tell(f"{host} was late by 45 s: {len(robbed)} of {len(its)} tasks robbed")
            time.sleep(20.0)
        line.close()
    return figures


MODES = {
    "failover": failover, "chaos": chaos, "frozen": frozen, "native": native, "restart": restart, "idle": idle, "load": load,
    "survivor": survivor, "late": late, "dag-processor": dag_processor,
}  # fmt: skip
LINELESS = ("native", "restart")
RUNS = {"chaos": 50, "frozen": 5, "native": 1, "restart": 1, "idle": 1, "load": 3, "survivor": 4, "late": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=list(MODES), default="failover")
    parser.add_argument("--executor", choices=["celery", "local"], default="celery")
    parser.add_argument(
        "--store",
        choices=["postgres", *COORDINATORS],
        nargs="+",
        default=["postgres"],
        help="where the line is (default postgres)",
    )
    parser.add_argument("--seats", type=int, default=1, help="how many schedulers of the line work at once (default 1)")
    parser.add_argument("--runs", type=int, help="how often; default 10, chaos 50, frozen 5, native and restart 1")
    parser.add_argument("--seed", type=int, default=1, help="of the order and the moments of chaos")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch each idle installation")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--no-adopt", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.runs = options.runs or RUNS.get(options.what, 10)
    options.failed = False
    if options.what in LINELESS and options.store != ["postgres"]:
        parser.error(f"--store is where a line is, and --what {options.what} has none")
    figures = {}
    for store in options.store:
        options.at = store
        where = f"{store}: " if len(options.store) > 1 else ""
        figures |= {where + name: sorted(values) for name, values in MODES[options.what](options).items()}
    if options.json:
        print(json.dumps({"what": options.what, "executor": options.executor, "load": load_now(), "figures": figures}))
    else:
        print(f"{options.what}, {options.executor}; load of the machine at the end {load_now():.1f}")
        for name, values in figures.items():
            middle = statistics.median(values)
            print(
                f"  {name:<44} median {middle:8.2f}   min {values[0]:8.2f}   max {values[-1]:8.2f}   of {len(values)}"
            )
    sys.exit(1 if options.failed else 0)


if __name__ == "__main__":
    main()
