"""The fault laboratory: ``python -m lab.campaign --minutes 60 --seed 7`` (or ``make faults``).

Three members on three hosts against a real database, in two worlds beside each other (PostgreSQL with a standby and the fence;
MariaDB), struck by a seeded plan of faults. Other worlds are played where they are asked for: ``--world seats`` has four members
of which two lead, on PostgreSQL; ``--world etcd`` and ``--world zookeeper`` have an ensemble of three servers; ``--world patroni``
and ``--world patroni-async`` have a Patroni pair on three etcd servers, synchronous or not, reached by one URL of several hosts.
Needs root and Linux's network namespaces; says what is missing where it cannot.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.campaign import coordinators, ground, pair, report
from lab.campaign.judging import Red, Verdict
from lab.campaign.machine import Machine
from lab.campaign.picture import draw
from lab.campaign.plan import COORDINATORS, PAIRS, Fault, kinds_of, plan
from lab.campaign.runner import Runner
from lab.servers.servers import mariadb_missing

TELL_EVERY_S = 15.0
CANNOT_RUN = 3
ANYWAY = (
    "What runs anyway: `python -m pytest tests/faults tests/process tests/fencing` strikes the same processes and databases on "
    "loopback, without partitions and frozen machines; and `make sim` plays partitions in a simulation."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print what came out, and return 1 when a promise was broken."""
    given = _arguments(arguments)
    if given.minutes is None and given.faults is None and given.times is None:
        given.minutes = 1.0
    worlds = given.world or ["postgres", "mariadb"]
    chosen = [world for world in worlds if kinds_of(world, given.only)]
    if not chosen:
        known = ", ".join(dict.fromkeys(kind.name for world in worlds for kind in kinds_of(world, None)))
        _say(f"No kind of fault begins with {given.only!r} in {' and '.join(worlds)}; there are {known}.")
        return 2
    plans = {world: _chosen(given, world) for world in chosen}
    if given.plan:
        return _show(plans, all_of_them=given.faults is not None or given.times is not None)
    missing = ground.missing()
    missing += [absent for world in plans if world in COORDINATORS and (absent := coordinators.missing(world))]
    if any(world in PAIRS for world in plans) and (absent := pair.missing()) is not None:
        missing.append(absent)
    if "mariadb" in plans and (absent := mariadb_missing()) is not None:
        if len(plans) == 1 or given.world:
            missing.append(absent)
        else:
            _say(f"The MariaDB world is left out: {absent}.")
            del plans["mariadb"]
    if missing:
        _say(f"The fault laboratory cannot run here: {'; '.join(missing)}.\n{ANYWAY}")
        return CANNOT_RUN
    try:  # now, and not after an hour
        for path in filter(None, (given.picture, given.summary)):
            path.touch()
    except OSError as error:
        _say(f"Cannot write {error.filename}: {error.strerror}.")
        return 2
    for remark in ground.remarks():
        _say(remark)
    for name in ground.clear_away():
        _say(f"Cleared away what a laboratory before left: {name}")
    return _run(given, plans)


def _show(plans: dict[str, Iterator[Fault]], *, all_of_them: bool) -> int:
    for world, faults in plans.items():
        for fault in faults if all_of_them else itertools.islice(faults, 50):
            beside = f"; beside it {fault.beside}" if fault.beside else ""
            print(f"{world} {fault.number}: {fault}{beside}")
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab.campaign", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="how long to strike (default 1, unless --faults is given)")
    parser.add_argument("--seed", type=int, default=0, help="of the plan (default 0)")
    parser.add_argument(
        "--world", action="append", choices=sorted(report.FENCED), help="only this one; can be repeated"
    )
    parser.add_argument("--first", type=int, default=1, metavar="N", help="begin with the fault of this number")
    parser.add_argument("--faults", type=int, metavar="N", help="end after so many faults in each world")
    parser.add_argument("--again", type=int, default=1, metavar="N", help="play the chosen faults so many times")
    parser.add_argument(
        "--only", metavar="KIND", help="only kinds of fault whose name begins so, as 'kill' or 'cut both'"
    )
    parser.add_argument("--times", type=int, metavar="N", help="play each kind so many times, and end")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, and progress to standard error")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the timeline into this SVG file")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the summary (JSON) here, anew every minute")
    parser.add_argument("--keep", action="store_true", help="keep journals and records, also of a run without red")
    parser.add_argument("--plan", action="store_true", help="print the plan and strike nobody")
    return parser.parse_args(arguments)


def _chosen(given: argparse.Namespace, world: str) -> Iterator[Fault]:
    """The part of the plan that was asked for. A fault beside another comes with it."""

    def part() -> Iterator[Fault]:
        for fault in plan(given.seed, world, only=given.only, times=given.times):
            last = fault.beside.number if fault.beside else fault.number
            if given.faults is not None and fault.number >= given.first + given.faults:
                return
            if last >= given.first:
                yield fault

    return itertools.chain.from_iterable(part() for _ in range(max(1, given.again)))


def _run(given: argparse.Namespace, plans: dict[str, Iterator[Fault]]) -> int:
    folder = Path(tempfile.mkdtemp(prefix=f"{ground.PREFIX}{ground.own_mark()}-"))
    folder.chmod(0o755)
    ending, began, machine = threading.Event(), time.monotonic(), Machine()

    def over() -> bool:
        return given.minutes is not None and time.monotonic() - began >= 60 * given.minutes

    def red(kind: str, broken: Red) -> None:
        again = report.replay(kind, given.seed, broken.number, given.only)
        _say(f"RED in {kind}: {broken.promise}: {broken.sentence}\n    replay: {again}")

    runners = [
        Runner(world, number, folder, faults, over, ending, on_red=red, machine=machine)
        for number, (world, faults) in enumerate(plans.items(), 1)
    ]
    threads = [threading.Thread(target=runner.run, name=runner.kind) for runner in runners]
    with _asked_to_end(ending), machine:
        for thread in threads:
            thread.start()
        tell_at, write_at = began, began + 60
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.2)
            if time.monotonic() >= tell_at + TELL_EVERY_S:
                tell_at = time.monotonic()
                _progress(given, runners, tell_at - began)
            if given.summary and time.monotonic() >= write_at:
                write_at += 60
                given.summary.write_text(json.dumps(_facts(given, runners, machine), indent=1))
    facts, verdicts = _facts(given, runners, machine), _verdicts(runners)
    if given.summary:
        given.summary.write_text(json.dumps(facts, indent=1))
    if given.picture and verdicts:
        given.picture.write_text(draw(verdicts, title=_title(facts)))
        _say(f"The picture: {given.picture}")
    print(json.dumps(facts, indent=1) if given.json else report.text(facts))
    broken = bool(facts["red"] or facts["troubles"])
    if broken or given.keep:
        kept = Path(tempfile.mkdtemp(prefix="heirflow-lab-"))
        shutil.rmtree(kept)
        shutil.move(folder, kept)
        _say(f"Journals, marks and what was not judged are in {kept}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return int(broken)


def _verdicts(runners: Sequence[Runner]) -> list[Verdict]:
    return [verdict for runner in runners for verdict in runner.all()]


def _facts(given: argparse.Namespace, runners: Sequence[Runner], machine: Machine) -> dict[str, object]:
    troubles = [trouble for runner in runners for trouble in runner.troubles]
    return report.summary(
        _verdicts(runners),
        troubles,
        seed=given.seed,
        only=given.only,
        stalls=machine.standstills_s,
        stolen_s=machine.stolen_s,
    )


def _title(facts: dict[str, object]) -> str:
    seconds, faults = facts["seconds"], facts["faults"]
    assert isinstance(seconds, float)
    return f"HeirFlow's fault laboratory: {faults} faults in {seconds / 60:.0f} minutes, seed {facts['seed']}, ttl 3 s"


def _progress(given: argparse.Namespace, runners: Sequence[Runner], spent_s: float) -> None:
    verdicts = _verdicts(runners)
    of = f" of {given.minutes:g}" if given.minutes else ""
    counts = {
        "faults": sum(sum(v.faults.values()) for v in verdicts),
        "overlaps": sum(len(v.overlaps) for v in verdicts),
        "orphans": sum(len(v.orphans) for v in verdicts),
        "red": sum(len(v.red) for v in verdicts),
    }
    doing = "; ".join(f"{runner.kind}: {runner.now}" for runner in runners)
    _say(
        f"{time.strftime('%H:%M:%S')}  {spent_s / 60:.1f}{of} min: {', '.join(f'{n} {w}' for w, n in counts.items())}  [{doing}]"
    )


@contextlib.contextmanager
def _asked_to_end(ending: threading.Event) -> Iterator[None]:
    """Ctrl-C and TERM: heal, judge what there is, clear away. Again: still that, as anything else would leave things behind."""

    def asked(_number: int, _frame: object) -> None:
        if not ending.is_set():
            _say("Ending: healing what was struck and clearing away (some seconds) …")
        ending.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{sentence}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
