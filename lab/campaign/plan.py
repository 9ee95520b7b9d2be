"""The plan: which faults strike, where, how hard and for how long. A seed gives the same plan on every machine.

What a plan cannot repeat is the microsecond: real processes run on a real machine. So a red fault is replayed by playing its
number, and some before it, again and again (`--first`, `--faults`, `--again`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

TTL_S = 3.0
SEATS = {"seats": 2}
"""How many members lead at once, in worlds in which it is not one."""
SQL = ("postgres", "mariadb")
COORDINATORS = ("etcd", "zookeeper")
"""Worlds whose record is in an ensemble of three servers."""
PAIRS = {"patroni": True, "patroni-async": False}
"""Worlds whose database is a Patroni pair, and whether its replica is synchronous."""
PAIR_TTL_S = 20
"""The lease that Patroni's primary has in etcd: the shortest that Patroni takes."""
LONG_S = (TTL_S + 0.5, TTL_S + 1.8)
SHORT_S = (0.2, 2.4)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of doing harm."""

    name: str
    weight: int
    """0: only where its very name is asked for, as it is known to make two leaders."""
    takes: str
    """What is not able while it lasts: ``member`` (the one it strikes), ``database``, or ``nothing``; ``command``: nobody need
    run it meanwhile; ``takeover``: the database, until the strike is over, which lasts until the pair takes writes again."""
    holds: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    """How long it lasts: one of these ranges, in seconds."""
    at: tuple[str, ...] = ("leader", "leader", "leader", "heir", "last")
    """Whom it strikes, by standing."""
    worlds: tuple[str, ...] = (*SQL, *COORDINATORS, *PAIRS)
    beside: bool = True
    """Whether it may strike beside another fault, second."""


WHOLE_HOST = {"stop host", "freeze host"}
"""Kinds that stop a whole host and let it go."""
ONE_IN_REACH = "one server in reach"
BOTH = (LONG_S, SHORT_S)
AWAY = (LONG_S, LONG_S, SHORT_S)
DATABASE = ("database",)
PATRONI = tuple(PAIRS)
SQL_AND_PAIRS = (*SQL, *PAIRS)
KINDS = (
    # Processes killed with -9.
    Kind("kill command", 10, "member", at=("leader",)),
    Kind("kill member", 10, "member"),
    Kind("kill guard", 6, "member"),
    Kind("kill backstop", 5, "member"),
    Kind("kill member+guard", 4, "member"),
    Kind("kill member+backstop", 4, "member"),
    Kind("kill guard+backstop", 4, "member"),
    Kind("kill host", 5, "member"),
    # Processes that stand still, and go on.
    Kind("stop command", 3, "command", ((0.3, 1.5),), ("leader",)),
    Kind("stop member", 5, "member", BOTH),
    Kind("stop guard", 4, "member", BOTH),
    Kind("stop backstop", 3, "member", BOTH),
    Kind("stop host", 5, "member", BOTH),
    Kind("freeze host", 5, "member", BOTH),
    # The network.
    Kind("cut from", 5, "member", BOTH),
    Kind("cut to", 5, "member", BOTH),
    Kind("cut both", 5, "member", BOTH),
    Kind("unplug", 3, "member", BOTH),
    Kind("lossy", 4, "member", ((1.5, 4.0),)),
    Kind("slow link", 4, "member", ((1.5, 4.0),)),
    Kind("cut database", 3, "database", ((0.5, 2.0), (3.5, 4.5)), DATABASE, worlds=SQL_AND_PAIRS, beside=False),
    # The database.
    Kind("restart", 4, "database", at=DATABASE, worlds=SQL_AND_PAIRS, beside=False),
    Kind("immediate", 3, "database", at=DATABASE, worlds=("postgres",), beside=False),
    Kind("crash", 4, "database", at=DATABASE, worlds=SQL_AND_PAIRS, beside=False),
    Kind("stand still", 4, "database", ((0.5, 2.0), (3.5, 4.5)), DATABASE, worlds=SQL_AND_PAIRS, beside=False),
    Kind("very slow", 4, "database", ((2.0, 4.0),), DATABASE, worlds=SQL, beside=False),
    Kind("read-only", 4, "database", ((0.5, 2.0), (3.0, 4.5)), DATABASE, worlds=SQL_AND_PAIRS, beside=False),
    Kind("connections full", 3, "database", ((1.0, 3.5),), DATABASE, worlds=SQL, beside=False),
    Kind("disk full", 3, "database", ((0.5, 3.0),), DATABASE, worlds=SQL, beside=False),
    Kind("record locked", 3, "database", ((0.5, 3.5),), DATABASE, worlds=SQL_AND_PAIRS, beside=False),
    Kind("sessions ended", 3, "nothing", at=DATABASE, worlds=SQL_AND_PAIRS),
    Kind("promote synchronous", 3, "database", at=DATABASE, worlds=("postgres",), beside=False),
    Kind("promote cut off", 3, "database", ((0.5, 2.0), (3.5, 4.5)), DATABASE, worlds=("postgres",), beside=False),
    Kind("cut standby", 3, "database", ((0.5, 2.0), (3.5, 4.5)), DATABASE, worlds=("postgres",), beside=False),
    Kind("promote asynchronous", 2, "database", ((0.5, 2.5),), DATABASE, worlds=SQL, beside=False),
    Kind("forgetful asynchronous", 1, "database", ((1.5, 2.5),), DATABASE, worlds=SQL, beside=False),
    Kind("forgetful cut off", 1, "database", ((1.5, 2.5),), DATABASE, worlds=("postgres",), beside=False),
    Kind("forgetful unreached", 1, "database", ((1.5, 2.5),), DATABASE, worlds=SQL, beside=False),
    Kind("forgetful reached", 1, "database", ((1.5, 2.5),), DATABASE, worlds=SQL, beside=False),
    # One server of an ensemble, its leader, two of three, all of them.
    Kind("server killed", 4, "nothing", BOTH, DATABASE, COORDINATORS),
    Kind("server frozen", 4, "nothing", BOTH, DATABASE, COORDINATORS),
    Kind("server cut off", 4, "nothing", BOTH, DATABASE, COORDINATORS),
    Kind("first server killed", 5, "nothing", BOTH, DATABASE, COORDINATORS),
    Kind("first server frozen", 5, "nothing", BOTH, DATABASE, COORDINATORS),
    Kind("first server cut off", 5, "nothing", BOTH, DATABASE, COORDINATORS),
    Kind("first server parted", 5, "nothing", BOTH, DATABASE, COORDINATORS),
    Kind("first server deaf", 3, "nothing", BOTH, DATABASE, ("etcd",)),
    # ZooKeeper elects it again and again, as its vote is still heard: each time costs the whole initLimit.
    Kind("first server deaf", 3, "database", BOTH, DATABASE, ("zookeeper",), beside=False),
    Kind("first server mute", 3, "nothing", BOTH, DATABASE, COORDINATORS),
    Kind("two servers killed", 3, "database", AWAY, DATABASE, COORDINATORS, beside=False),
    Kind("two servers frozen", 3, "database", AWAY, DATABASE, COORDINATORS, beside=False),
    Kind("two servers cut off", 3, "database", AWAY, DATABASE, COORDINATORS, beside=False),
    Kind("all servers killed", 3, "database", ((0.0, 0.5), LONG_S), DATABASE, COORDINATORS, beside=False),
    Kind("servers in turn", 3, "nothing", at=DATABASE, worlds=COORDINATORS, beside=False),
    Kind("slow disk", 3, "nothing", ((1.5, 4.0),), DATABASE, COORDINATORS),
    Kind("slow disk of the first", 3, "database", ((1.5, 4.0),), DATABASE, COORDINATORS, beside=False),
    Kind("slow disks", 3, "database", ((1.5, 4.0),), DATABASE, COORDINATORS, beside=False),
    Kind(ONE_IN_REACH, 4, "nothing", BOTH, worlds=COORDINATORS, beside=False),
    # A Patroni pair: its primary, its replica, its etcd.
    Kind("primary killed", 4, "takeover", ((0.5, 4.0),), DATABASE, PATRONI),
    Kind("primary frozen", 4, "takeover", ((0.5, 4.0),), DATABASE, PATRONI),
    Kind("primary stopped", 3, "takeover", ((0.5, 4.0),), DATABASE, PATRONI),
    Kind("primary cut off", 3, "takeover", ((0.5, 4.0),), DATABASE, PATRONI),
    Kind("primary deaf", 2, "takeover", ((0.5, 4.0),), DATABASE, PATRONI),
    Kind("primary mute", 2, "takeover", ((0.5, 4.0),), DATABASE, PATRONI),
    Kind("primary without etcd", 3, "takeover", ((0.5, 4.0),), DATABASE, PATRONI),
    Kind("primary parted", 4, "takeover", ((0.5, 4.0),), DATABASE, PATRONI),
    Kind("primary handed over", 4, "takeover", at=DATABASE, worlds=PATRONI),
    Kind("postgres killed", 4, "takeover", at=DATABASE, worlds=PATRONI),
    Kind("patroni killed", 3, "nothing", BOTH, DATABASE, PATRONI),
    Kind("patroni gone", 2, "takeover", (LONG_S,), DATABASE, ("patroni",), beside=False),
    Kind("patroni gone", 0, "takeover", ((6.0, 8.0),), DATABASE, ("patroni-async",), beside=False),
    Kind("replica killed", 3, "takeover", BOTH, DATABASE, PATRONI),
    Kind("replica frozen", 3, "takeover", BOTH, DATABASE, PATRONI),
    Kind("replica cut off", 3, "takeover", BOTH, DATABASE, PATRONI),
    Kind("etcd killed", 2, "nothing", BOTH, DATABASE, PATRONI),
    Kind("etcd frozen", 2, "nothing", BOTH, DATABASE, PATRONI),
    Kind("first etcd killed", 3, "nothing", BOTH, DATABASE, PATRONI),
    Kind("first etcd frozen", 3, "nothing", BOTH, DATABASE, PATRONI),
    Kind("first etcd cut off", 3, "nothing", BOTH, DATABASE, PATRONI),
    Kind("two etcd killed", 2, "database", (LONG_S,), DATABASE, PATRONI, beside=False),
    Kind("two etcd frozen", 2, "database", (LONG_S,), DATABASE, PATRONI, beside=False),
    Kind("two etcd cut off", 2, "database", (LONG_S,), DATABASE, PATRONI, beside=False),
    # Wall clocks.
    Kind("clock of host", 4, "nothing", ((0.5, 1.5),)),
    Kind("clock of database", 4, "nothing", ((0.5, 1.5),), DATABASE, worlds=SQL),
    Kind("clock of the first server", 4, "nothing", ((0.5, 1.5),), DATABASE, worlds=("zookeeper",)),
    # What people do.
    Kind("stop in order", 6, "member"),
    Kind("switchover", 6, "nothing", at=("leader",)),
    Kind("pause", 3, "command", ((0.5, 2.5),), ("leader",)),
)  # fmt: skip
ENSEMBLE = {kind for kind in KINDS if kind.at == DATABASE and set(kind.worlds) <= set(COORDINATORS)}
"""Kinds that touch servers of an ensemble, which then may have to elect a leader of its own."""
OF_PAIR = {kind for kind in KINDS if kind.at == DATABASE and set(kind.worlds) <= set(PAIRS)}
"""Kinds that touch a Patroni pair or its etcd."""
SILENT = {"two servers killed", "two servers frozen", "two servers cut off", "all servers killed"}
"""Kinds that leave nobody who could confirm a renewal."""
FORGETS = {kind.name for kind in KINDS if kind.name.startswith("forgetful")} | {"promote asynchronous"}
"""Kinds that make the database forget what it had confirmed."""
MAY_FORGET = {kind.name for kind in KINDS if kind.takes in {"takeover", "database"} and set(kind.worlds) & set(PAIRS)}
"""Kinds after which an asynchronous pair may have another primary, which forgets what it was not sent."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One strike of the plan."""

    number: int
    kind: Kind
    at: str
    hold_s: float
    pause_s: float
    """From the line standing to the strike."""
    amount: int
    """What is drawn for kinds that need a number: seconds of a jump, percent of loss."""
    beside: Fault | None = None
    """Strikes while this one lasts, or right after."""

    def __str__(self) -> str:
        held = f" for {self.hold_s:.1f} s" if self.hold_s else ""
        return f"{self.kind.name} ({self.at}){held}"


def database_of(world: str) -> str:
    """Which database the members of this world use."""
    return "postgres" if world == "seats" else world


def kinds_of(world: str, only: str | None) -> list[Kind]:
    """The kinds of fault that this world knows, and whose name begins so.

    With several seats there are those of PostgreSQL, without the stories of a single leader that a fail-over forgets.
    """
    known = [kind for kind in KINDS if database_of(world) in kind.worlds]
    if SEATS.get(world, 1) > 1:
        known = [kind for kind in known if not kind.name.startswith("forgetful")]
    known = [kind for kind in known if kind.weight or kind.name == only]
    return [kind for kind in known if (only is None or kind.name.startswith(only))]


def plan(seed: int, world: str, *, only: str | None = None, times: int | None = None) -> Iterator[Fault]:
    """The faults of one world, without end. Numbers count the faults, also those beside others, from 1.

    Every kind that this world knows comes once before the weights decide. `only`: kinds whose name begins so. `times`: each kind
    so many times, and then no more.
    """
    dice = random.Random(f"{seed} {world}")
    kinds = kinds_of(world, only)
    if not kinds:
        raise ValueError(f"no kind of fault begins with {only!r} in {world}")
    first = [kind for _ in range(times or 1) for kind in dice.sample(kinds, len(kinds))]
    besides = [kind for kind in kinds if kind.beside]
    number = 0
    while first or times is None:
        number += 1
        kind = first.pop() if first else dice.choices(kinds, [kind.weight or 1 for kind in kinds])[0]
        fault = _draw(dice, number, kind)
        if besides and dice.random() < 0.3:
            number += 1
            # A pause whose answer is lost could not be taken back by who gave it.
            lost = kind.takes == "database" or kind in ENSEMBLE | OF_PAIR
            seconds = [one for one in besides if not (lost and one.takes == "command")] or besides
            if kind.name == ONE_IN_REACH:  # that one must stay
                seconds = [one for one in seconds if one not in ENSEMBLE]
            second = dice.choices(seconds, [kind.weight for kind in seconds])[0]
            others = [at for at in second.at if at != fault.at]
            if others and not (kind.takes == second.takes == "nothing"):
                beside = _draw(dice, number, second, at=dice.choice(others))
                fault = Fault(fault.number, kind, fault.at, fault.hold_s, fault.pause_s, fault.amount, beside)
            else:
                number -= 1
        yield fault


def _draw(dice: random.Random, number: int, kind: Kind, *, at: str | None = None) -> Fault:
    hold_s = dice.uniform(*dice.choice(kind.holds))
    return Fault(
        number, kind, at or dice.choice(kind.at), round(hold_s, 2), round(dice.uniform(0.05, 0.9), 2),
        dice.choice((-1, 1)) * dice.randint(5, 7200),
    )  # fmt: skip
