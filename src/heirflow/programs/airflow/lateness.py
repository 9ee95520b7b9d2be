"""Death by proof, not by lateness: what several schedulers are told of one another, each with an heir.

Airflow guesses who is dead. A scheduler looks at its start, and then every 300 s (``orphaned_tasks_check_interval``), for others
whose heartbeat is older than 30 s (``scheduler_health_check_threshold``), and takes their tasks. One that is only late is robbed,
and with LocalExecutor its tasks run twice. What a dead one left waits for up to 330 s.

With seats nobody need guess. Whoever takes the seat of a scheduler that is proved gone, or vacates it, marks its row (`adopt`),
and the next look of any other finds it. So looks may be frequent, and the guess may come late. It stays, for a row that no member
knows: a scheduler that was killed before it had told its number. That waits no longer than with Airflow's own defaults.

Both are read by the scheduler's own process, so they are set in its environment, and only where nobody has set them. Where somebody
keeps the guess early, looks are left as rare as they are: frequent ones would find more of those that are only late.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from heirflow.config.resolve import Config
from heirflow.member.health import SLOWEST_LOOK_S
from heirflow.programs.airflow.ask import LATENESS, Given

(SECTION, THRESHOLD), (_, INTERVAL) = LATENESS
THRESHOLD_S, INTERVAL_S = 300, 5
"""Together less than the 330 s that Airflow's own defaults come to."""
MARGIN_S = 60
QUICK_S = 60.0
"""A look that comes less often is worth a word: until then, what a vacated seat left waits."""


@dataclass(frozen=True, slots=True)
class SeatSettings:
    """What follows for one scheduler of several."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """To be added to its own."""
    told: str = ""
    """Why, for people; empty where nothing is added."""
    doubts: tuple[str, ...] = ()
    """What somebody else has set and should think about."""


def patience_s(config: Config) -> float:
    """For how long the heartbeat of a scheduler that HeirFlow will end, or that is ending, can stand still at most."""
    unwell_s = max(config["health-timeout"], config["health-start"])
    return float(unwell_s + SLOWEST_LOOK_S + config["stop-timeout"] + config["ttl"])


def seat_settings(seats: int, given: Mapping[str, Given], patience_s: float) -> SeatSettings:
    """With one seat: nothing. `given`: how Airflow has both settings. `patience_s`: see `patience_s`."""
    if seats <= 1:
        return SeatSettings()
    wanted = {} if _is_early(given, patience_s) else {THRESHOLD: threshold_for(patience_s), INTERVAL: INTERVAL_S}
    added = {variable(key): str(value) for key, value in wanted.items() if key in given and not given[key].by}
    told = ""
    if added:
        told = (
            f"its scheduler runs with {' and '.join(f'{name}={value}' for name, value in added.items())}, which nobody has set: "
            f"with {seats} seats, one that is late keeps its tasks, and those of one that is gone are adopted soon"
        )
    return SeatSettings(added, told, doubts(given, patience_s))


def doubts(given: Mapping[str, Given], patience_s: float, *, sets_the_rest: bool = True) -> tuple[str, ...]:
    """What is wrong, where there are several schedulers, with what somebody else has set.

    `sets_the_rest`: a member sets what nobody has; where none does, that is Airflow's default.
    """
    if not given:
        return (
            "Airflow cannot tell who has set what in [scheduler], so another one takes the tasks of one that is late",
        )
    late, look = given[THRESHOLD], given[INTERVAL]
    found = []
    limit = threshold_for(patience_s)
    if _is_early(given, patience_s):
        found.append(
            f"[{SECTION}] {THRESHOLD} is {late.value} ({late.by}), so another scheduler takes the tasks of one that is late by "
            f"{late.value} s, though it lives; leave it out, or set {limit}"
        )
    elif not sets_the_rest and not late.by:
        found.append(
            f"[{SECTION}] {THRESHOLD} is {late.value} by default, so another scheduler takes the tasks of one that is late by "
            f"{late.value} s, though it lives; let all schedulers stand in one line with --seats, or set {limit}"
        )
    if look.by and (look_s := seconds(look)) is not None and look_s > QUICK_S:
        found.append(
            f"[{SECTION}] {INTERVAL} is {look.value} ({look.by}), so what a scheduler without an heir leaves waits for up to "
            f"{look.value} s; leave it out, or set {INTERVAL_S}"
        )
    return tuple(found)


def _is_early(given: Mapping[str, Given], patience_s: float) -> bool:
    """Whether somebody has set that one is taken for dead before HeirFlow has ended it."""
    late = given.get(THRESHOLD, Given(""))
    return bool(late.by) and (late_s := seconds(late)) is not None and late_s <= patience_s


def threshold_for(patience_s: float) -> int:
    """Longer than HeirFlow needs for one that hangs, and for one that ends in order and waits for its tasks."""
    return max(THRESHOLD_S, math.ceil(patience_s) + MARGIN_S)


def variable(key: str) -> str:
    """The name of this setting in the environment."""
    return f"AIRFLOW__{SECTION}__{key}".upper()


def seconds(setting: Given) -> float | None:
    """Its value; None where it is no number, as Airflow itself tells then."""
    try:
        found = float(setting.value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
