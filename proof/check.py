"""Check the model of the protocol with Spin: every property holds, and every planted fault breaks the one that it must.

    make proof                                  everything (up to half an hour)
    python proof/check.py --short               fewer faults in one story, two members (seconds)
    python proof/check.py --story START_LATE    the shortest way to what a planted fault breaks

Ends with 1 when a property fails or a planted fault breaks another one or none, and with 2 when it cannot check: `spin` and a C
compiler are needed (on Debian: apt-get install spin gcc).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("election.pml")
SEATS = Path(__file__).with_name("seats.pml")
"""The same protocol with two seats: what two records and one line add."""
MEMORY_MB = 12_000
DEPTH = 8_000_000
LIMIT_S = 3600.0
ASSERT, UNJUDGED = "assert(", "assert(true || "
LIVENESS = "someone leads, and stays"
STANDSTILL = "nothing can happen any more"
BREAKS = {
    "TRUST_FROM_ANSWER": ["no command after the lease"],
    "NO_MARGIN": ["no command after the lease"],
    "NO_DEADLINE": ["no command after the lease"],
    "NO_BACKSTOP": ["no command after the lease"],
    "WAIT_SHORT": ["a leader's end comes first"],
    "START_LATE": ["never two commands"],
    "RELEASE_BEFORE_GONE": ["release only when gone"],
    "WILL_BEFORE_GONE": ["release only when gone"],
    "WILL_UNCONDITIONAL": ["never two commands"],
    "SWAP_WITHOUT_VERSION": ["a term has one leader"],
    "LATE_ANSWER_COUNTS": ["a leader's end comes first"],
    "NAMED_ONLY_LOOKS": ["always one, soon", LIVENESS],
    "WATCH_STARTS_ANEW": ["always one, soon"],
    "STORE_FORGETS": ["never two commands"],
    "FORGOTTEN_IS_VACANT": ["never two commands"],
    "FORGOTTEN_NAMES": ["never two commands"],
    "FORGOTTEN_AND_LATE": ["never two commands"],
    "FORGOTTEN_AND_RELEASED": ["never two commands"],
    "CLOCK_STANDS": ["no command after the lease"],
}
"""What each planted fault must break. Something else, or a standstill, would be another fault than the one that we mean."""

BREAKS_OF_SEATS = {
    "WATCH_OF_ANOTHER": ["a leader's end comes first", "never two of one seat"],
    "VACATE_EARLY": ["a leader's end comes first"],
    "VACATE_COUNTS": ["no command after the lease"],
    "SECOND_SEAT": ["one seat each"],
    "SWAP_OF_THE_FIRST": ["a leader's end comes first"],
    "ONE_VERSION": ["a term has one leader"],
    "ONLY_THE_FIRST": ["as many as can lead, soon"],
    "RELEASE_EARLY": ["release only when gone"],
}
"""The same for the model with two seats."""

SLOW = {"FORGOTTEN_AND_RELEASED"}
"""Their stories need a tick more within the trust: a release that is given up, and the look after it."""


class CannotCheck(Exception):
    """What is missing or went wrong, in a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """One question to Spin."""

    name: str
    fault: str = "NONE"
    breaks: str | None = None
    """The property that the planted fault must break: the only one that is judged. None: all are, and all must hold."""
    members: int = 2
    ttl: int = 3
    faults_at_most: int | None = None
    """Of members, network and operators in one story; None: no limit."""
    file: Path = MODEL
    liveness: bool = False
    """Look for a cycle in which nobody leads for ever, instead of states that must not be."""

    def model(self) -> str:
        """The model's text. What is not judged stays on its line, and holds."""
        lines = self.file.read_text("utf-8").splitlines()
        if self.breaks is not None:
            mine = f"/* {self.breaks} */"
            lines = [line if line.endswith(mine) else line.replace(ASSERT, UNJUDGED) for line in lines]
        return "\n".join(lines) + "\n"

    def defines(self) -> list[str]:
        limit = [] if self.faults_at_most is None else [f"-DFAULTS_AT_MOST={self.faults_at_most}"]
        return [f"-DN={self.members}", f"-DTTL={self.ttl}", f"-DFAULT={self.fault}", *limit]


@dataclass(frozen=True, slots=True)
class Found:
    """What Spin answered."""

    run: Run
    broken: str | None
    """The property that does not hold; None: all hold, in every state that there is."""
    states: int
    took_s: float

    @property
    def good(self) -> bool:
        return self.broken == self.run.breaks

    def __str__(self) -> str:
        if self.run.fault == "NONE":
            said = "holds" if self.broken is None else f"BROKEN: {self.broken}"
        elif self.good:
            said = f"found: breaks '{self.broken}'"
        else:
            said = f"NOT FOUND: '{self.run.breaks}' is not broken, but {self.broken or 'nothing'}"
        return f"{self.run.name:<58} {said:<52} {self.states:>9,} states {self.took_s:6.1f} s"


def planted(file: Path = MODEL) -> dict[str, str]:
    """The faults that a model knows, and what each takes away."""
    return {
        name: (said or name.lower().replace("_", " ")).strip()
        for name, said in re.findall(
            r"^#define ([A-Z_]+) +\d+(?:[ \t]*/\* (.*?) \*/)?$", file.read_text("utf-8"), re.MULTILINE
        )
        if name not in {"NONE", "MARGIN", "NOSEAT"}
    }


def question(fault: str, breaks: str, name: str) -> Run:
    """Whether this planted fault breaks this property."""
    ttl = 4 if fault in SLOW else 3
    return Run(name, fault, breaks, ttl=ttl, faults_at_most=3, liveness=breaks == LIVENESS)


def question_of_seats(fault: str, breaks: str, name: str) -> Run:
    """The same about the model with two seats."""
    return Run(name, fault, breaks, faults_at_most=3, file=SEATS)


def runs(*, short: bool) -> list[Run]:
    """Every question, the quick ones first."""
    asked = [question(name, breaks, f"planted: {said}") for name, said in planted().items() for breaks in BREAKS[name]]
    asked.append(Run("two members, at most 3 faults in a story", faults_at_most=3))
    asked += [
        question_of_seats(name, breaks, f"two seats, planted: {said}")
        for name, said in planted(SEATS).items()
        for breaks in BREAKS_OF_SEATS[name]
    ]
    asked.append(Run("two seats, two members, at most 2 faults in a story", faults_at_most=2, file=SEATS))
    if not short:
        asked += [
            Run("two seats, three members, at most 2 faults in a story", members=3, faults_at_most=2, file=SEATS),
            Run("three members, at most 3 faults in a story", members=3, faults_at_most=3),
            Run("two members, ttl of 4 ticks, at most 5 faults", ttl=4, faults_at_most=5),
            Run("two members, any number of faults"),
            Run(f"two members, any number of faults: {LIVENESS}", liveness=True),
        ]
    return asked


def programs() -> tuple[str, str]:
    """Spin and a C compiler. Raises `CannotCheck`."""
    spin, compiler = shutil.which("spin"), shutil.which("gcc") or shutil.which("cc")
    missing = [name for name, path in (("spin", spin), ("gcc", compiler)) if path is None]
    if spin is None or compiler is None:
        raise CannotCheck(f"{' and '.join(missing)} not found; on Debian: apt-get install {' '.join(missing)}")
    return spin, compiler


def ask(run: Run, *, shortest: bool = False, limit_s: float = LIMIT_S) -> tuple[Found, str]:
    """Let Spin answer; also the story of what is broken, as the model tells it. Raises `CannotCheck`."""
    spin, compiler = programs()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="heirflow-proof-") as folder:

        def call(*words: str) -> str:
            try:
                done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=limit_s)
            except subprocess.TimeoutExpired:
                raise CannotCheck(f"{run.name}: no answer within {limit_s:g} s") from None
            return done.stdout + done.stderr

        model = Path(folder, run.file.name)
        model.write_text(run.model(), "utf-8")
        told = call(spin, *run.defines(), "-a", model.name)
        # Every state is stored whole (collapsed, not hashed): "holds" means in every state.
        how = ["-DCOLLAPSE"] if run.liveness else ["-DSAFETY", "-DNOCLAIM", "-DBFS" if shortest else "-DCOLLAPSE"]
        # Compiling takes time too.
        effort = "-O2" if run.faults_at_most is None else "-O0" if run.fault != "NONE" else "-O1"
        told += call(compiler, effort, "-w", f"-DMEMLIM={MEMORY_MB}", *how, "-o", "pan", "pan.c")
        if not Path(folder, "pan").exists():
            raise CannotCheck(f"{run.name}: spin or {compiler} failed:\n{told[-2000:]}")
        answer = call("./pan", *(["-a"] if run.liveness else []), f"-m{DEPTH}", "-w24")
        counted = re.search(r"errors: (\d+)\s+([\d.e+]+) states, stored", answer)
        errors = int(counted[1]) if counted else 0
        if (
            counted is None
            or "max search depth too small" in answer
            or (not errors and "Search not completed" in answer)
        ):
            raise CannotCheck(f"{run.name}: the search did not end:\n{answer[-2000:]}")
        broken, story = None, ""
        if errors and "acceptance cycle (at" in answer:
            broken = LIVENESS
        elif errors:
            trail = next(Path(folder).glob("*.trail"))
            story = call(spin, *run.defines(), "-t", "-k", trail.name, model.name)
            broken = _property(story, run.file)
        return Found(run, broken, round(float(counted[2])), time.monotonic() - began), story


def _property(story: str, file: Path) -> str:
    """What the model says beside the assertion that failed."""
    line = re.search(r"\.pml:(\d+), Error: assertion violated", story)
    if line is None:
        return STANDSTILL
    said = re.search(r"/\* ([^*]*) \*/\s*$", file.read_text("utf-8").splitlines()[int(line[1]) - 1])
    return said[1] if said else f"the assertion in line {line[1]}"


def sentences(story: str) -> Iterator[str]:
    """What the model told, without Spin's own words."""
    for line in story.splitlines():
        if line.startswith("spin:"):
            return
        if not line.lstrip().startswith(("Starting", "ltl", "using")):
            yield line.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask everything, and say what came out."""
    parser = argparse.ArgumentParser(description="Check the model of the protocol with Spin.")
    parser.add_argument("--short", action="store_true", help="two members and at most 3 faults in a story: seconds")
    parser.add_argument(
        "--story", metavar="FAULT", choices=[*planted(), *planted(SEATS)], help="the shortest story of a planted fault"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON per answer")
    asked = parser.parse_args(arguments)
    try:
        if asked.story:
            of_seats = asked.story in BREAKS_OF_SEATS
            about = question_of_seats if of_seats else question
            breaks = (BREAKS_OF_SEATS if of_seats else BREAKS)[asked.story][0]
            found, story = ask(about(asked.story, breaks, asked.story), shortest=True)
            print("\n".join(sentences(story)), f"\n{found}")
            return int(not found.good)
        bad = 0
        for run in runs(short=asked.short):
            if sys.stderr.isatty():
                print(f"… {run.name}", end="\r", file=sys.stderr, flush=True)
            found, _ = ask(run)
            bad += not found.good
            print(json.dumps({**asdict(found), "good": found.good}, default=str) if asked.json else found, flush=True)
        if not asked.json:
            fine = "every property holds, and every planted fault breaks the one that it must"
            print(fine if not bad else f"{bad} of these are wrong")
        return int(bad > 0)
    except CannotCheck as trouble:
        print(f"the model cannot be checked: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
