"""A seeded world: the real rules of several members against a modelled store, modelled guards and everything that goes wrong.

Two acts. In the *safety act* faults are as wild as the seed wishes, and the judge looks at every instant. In the *liveness
act* the faults end, and within a known time somebody who is ready must lead, with an heir behind it, and stay.

The same seed gives the same world, on every machine. What the world assumes, and a real host must give:

- Clock rates differ by less than margin/ttl (``drift=1``; more than that must turn red).
- A kill is over within ``kill_lead_s``; a guard that is not frozen wakes within a few milliseconds.
- Member and guard of one host are not both frozen unless the whole host is. What a host that is thawed after its lease does
  until its guard has killed is counted apart (`Lives.thaw_overlaps`): only fencing closes it.
- A fail-over that forgets voids nothing: the store's history has another name then.
- A store that forgets confirmed writes without that (a restored backup) voids "never two" and "terms only grow"
  for a while, and the world says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random

from heirflow.election.record import ANYONE, Record
from heirflow.election.state import Policy
from heirflow.election.timings import Timings
from lab.sim import faults
from lab.sim.clock import Agenda, Host
from lab.sim.judge import Judge
from lab.sim.network import Network
from lab.sim.process import MemberProcess
from lab.sim.promises import Promise
from lab.sim.register import SimStore
from lab.sim.seen import SeenMember
from lab.sim.supervision import Guard
from lab.sim.surroundings import FOREVER, Manners


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one world ended."""

    seed: int
    promise: Promise | None
    """The promise that was broken; None when the world is clean."""
    sentence: str
    thaw_overlaps: int
    changes: int
    void: bool
    simulated_s: float
    unjudged: str = ""
    """Why nobody had to lead when the faults were over; empty when that was judged, or the world is red."""


class World:
    """One world. `acts.run` plays both acts; tests of quiet worlds start members and give orders themselves."""

    def __init__(
        self,
        seed: int,
        *,
        keep: Collection[int] | None = None,
        hosts: int | None = None,
        drift: float = 1.0,
        quiet: bool = False,
        only: Collection[str] = (),
        seats: int = 1,
    ) -> None:
        """`keep` names the only faults to play, `hosts` limits the machines, `drift` scales the clocks' share of the budget.

        `only` names the kinds of fault that happen, each for sure; `quiet` leaves all of them out.
        `seats`: how many may lead at once.
        """
        self.seed = seed
        choose = Random(f"plan {seed}")
        self.rng = Random(f"luck {seed}")
        self.agenda = Agenda()
        self.judge = Judge(self)
        self.store = SimStore(self.judge, seats)
        self.network = Network(self)
        self.transcript: list[tuple[float, str, str]] = []
        self.members: dict[str, MemberProcess] = {}
        self.everybody: dict[str, MemberProcess] = {}
        self.stubborn = self.crash_loop = self.orders_at_changes = 0
        self.next_order_s = 0.0
        self.frozen_starts = 0.0
        """The share of starts before which the member is frozen, between deciding and acting."""
        self.member_strikes = True
        """Whether a member strikes when its frozen guard misses the deadline; mutants of other lines take this one away."""
        self.calm = quiet
        """Whether faults are over: commands behave, messages are quick."""
        count = choose.choice((2, 2, 3, 3, 3, 4))
        self.timings = _timings(choose, count)
        self.longest_ttl_s = max(timings.ttl_s for timings in self.timings)
        budget = min(timings.margin_s / timings.ttl_s for timings in self.timings)
        self.hosts = [_host(choose, name, budget / 2 * drift) for name in "abcdefgh"[:count]]
        self.act_s = self.longest_ttl_s * choose.uniform(4, 9)
        self.restart_share = choose.choice((0.5, 0.9, 1.0))
        self.crashing_share = choose.choice((0.0, 0.0, 0.1, 0.4))
        self.faults = () if quiet else faults.plan(choose, self.act_s, self.longest_ttl_s, count, only)
        self.starts = [self.rng.random() * self.longest_ttl_s * (0.0 if quiet else 1.0) + 0.1 * n for n in range(count)]
        self.network.late_limit_s = 0.0 if quiet else self.longest_ttl_s * choose.choice((0.2, 1.0, 2.0))
        self.network.news_lost = choose.choice((0.0, 0.1, 0.5))
        if keep is not None:
            self.faults = tuple(fault for fault in self.faults if fault.number in keep)
        self.standing = min(count, hosts or count)
        """How many of the hosts run a member."""
        self.faults = tuple(fault for fault in self.faults if fault.host < self.standing)

    # ---- its story ----

    def say(self, who: str, sentence: str) -> None:
        """One line of the story."""
        self.transcript.append((self.agenda.now, who, sentence))

    def story(self, last: int = 60) -> str:
        """The last sentences, one per line, in true time."""
        return "\n".join(f"{at:9.3f} s  {who:<6} {sentence}" for at, who, sentence in self.transcript[-last:])

    # ---- luck ----

    def little_s(self) -> float:
        """What anything takes on a host that is well."""
        return 0.0001 + 0.002 * self.rng.random()

    def manners(self, timings: Timings) -> Manners:
        """How the next command behaves, of a member with these timings."""
        rng = self.rng
        kill = timings.kill_lead_s * 0.6 * rng.random()
        if self.calm:
            return Manners(0.01 + 0.02 * rng.random(), FOREVER, 0, kill)
        stubborn = self.stubborn and rng.random() < 0.7
        obeys = FOREVER if stubborn else rng.random() * rng.choice((0.1, 0.5, 3.0)) * timings.loss_grace_s
        exits = rng.random() * timings.ttl_s * 3 if rng.random() < self.crashing_share else FOREVER
        if self.crash_loop:
            exits = 0.05 * rng.random()
        return Manners(obeys, exits, rng.choice((0, 1, -11)), kill)

    # ---- members ----

    def member_at(self, host: int) -> MemberProcess | None:
        """The newest living member of a host."""
        found = None
        for member in self.members.values():
            if member.host is self.hosts[host]:
                found = member
        return found

    def start_member(self, host: int) -> MemberProcess | None:
        """Somebody starts a new member; at most two at a time live on one host."""
        where = self.hosts[host]
        if sum(member.host is where for member in self.members.values()) >= 2 or host >= self.standing:
            return None
        born = 1 + sum(member.host is where for member in self.everybody.values())
        name = where.name if born == 1 else f"{where.name}{born}"
        timings, rng = self.timings[host], self.rng
        policy = Policy(
            exit_with_command=not self.calm and rng.random() < 0.1,
            exit_on_loss=not self.calm and rng.random() < 0.1,
            start_timeout_s=3 * timings.ttl_s,
            healthy_after_s=timings.ttl_s,
            restart_limit_s=2 * timings.check_in_s,
        )
        member = MemberProcess(self, where, name, timings, policy)
        self.members[name] = self.everybody[name] = member
        self.say(name, "starts")
        return member

    def member_ended(self, member: SeenMember) -> None:
        """Its supervisor starts a new one, usually."""
        self.members.pop(member.id, None)
        if self.rng.random() < self.restart_share:
            self.agenda.after(
                self.rng.random() * member.timings.check_in_s, None, self.start_member, self.hosts.index(member.host)
            )

    def kill_member(self, member: MemberProcess) -> None:
        """SIGKILL to the member only. With a frozen guard it would be two faults at once: then both die."""
        if member.guard is not None and member.guard.frozen:
            self.kill_both(member)
            return
        self.say(member.id, "is killed")
        member.end()

    def kill_guard(self, guard: Guard) -> None:
        """SIGKILL to the guard: the command dies with it."""
        if not guard.alive:
            return
        self.say(guard.member.id, "its guard is killed")
        guard.alive = False
        if guard.command is not None and guard.command.alive:
            guard.command.kill("the guard died")
        else:
            guard.member.guard_ended(guard)

    def kill_both(self, member: MemberProcess) -> None:
        """SIGKILL to member and guard: the command still dies, and nobody carries out a will."""
        guard = member.guard
        if guard is not None:
            guard.orphaned = True
            self.kill_guard(guard)
        self.say(member.id, "is killed")
        member.end()

    # ---- freezes ----

    def freeze_guard(self, member: MemberProcess) -> Callable[[], None] | None:
        """SIGSTOP to the guard; its member, which must be awake for that, notices."""
        guard = member.guard
        busy = member.frozen or member.hold or member.sluggish or self.agenda.now < member.prompt_from
        if guard is None or not guard.alive or guard.frozen or busy:
            return None
        guard.frozen = True
        limit_s = member.timings.guard_limit_s / member.host.rate
        self.agenda.after(limit_s, member, member.guard_stopped_answering, guard)
        member.watch_deadline(guard)

        def thaw() -> None:
            guard.frozen = False
            if guard.alive and not guard.host.frozen:
                guard.look()
                self.agenda.thaw(guard)

        return thaw

    def freeze_host(self, index: int) -> Callable[[], None] | None:
        """A paused machine: everything on it stands still, its clock goes on. Returns what continues it."""
        host = self.hosts[index]
        if host.frozen:
            return None
        host.frozen = True
        for command in self.judge.lives:
            command.suspended = command.suspended or command.host is host
        return lambda: self.thaw_host(index)

    def thaw_host(self, index: int) -> None:
        """It goes on: each guard's first act is to look at the clock, and everybody catches up."""
        host = self.hosts[index]
        host.frozen = False
        commands = [command for command in self.judge.lives if command.host is host]
        for command in commands:
            self.judge.lives.thawed(command)
        for member in self.everybody.values():
            guard = member.guard
            if member.host is host and guard is not None and guard.alive and not guard.frozen:
                guard.look()
                self.agenda.thaw(guard)
        for command in commands:
            self.agenda.thaw(command)
        for member in self.everybody.values():
            if member.host is host:
                member.wake_up()

    def make_sluggish(self, member: MemberProcess) -> Callable[[], None] | None:
        """Events reach this member late."""
        if member.guard is not None and member.guard.frozen:
            return None
        member.sluggish += 1

        def end() -> None:
            member.sluggish -= 1
            member.prompt_from = self.agenda.now + member.timings.check_in_s

        return end

    # ---- orders ----

    def order(self, *, paused: bool | None = None, switchover_to: str | None = None) -> None:
        """An operator writes an order into the record."""
        if self.store.down or self.store.read_only:
            return
        self.judge.switchovers += switchover_to is not None
        if self.store.order(paused=paused, switchover_to=switchover_to):
            what = "everybody" if switchover_to == ANYONE else switchover_to
            self.say("order", f"switchover to {what}" if switchover_to else ("pause" if paused else "resume"))
            self.network.news()

    def drain(self, member: str, on: bool) -> None:
        """An operator lets one member stand aside, or takes that back."""
        self.judge.drained.add(member)
        self.store.drain(member, on)
        self.say("order", f"{'drain' if on else 'no longer drain'} {member}")

    def leadership_changed(self, record: Record) -> None:
        """The judge saw a change; the story has it too."""
        self.say("store", f"term {record.term}: {record.leader or 'nobody'} leads: {record.because}")
        if self.orders_at_changes and self.agenda.now >= self.next_order_s:  # people are not quicker than that
            self.next_order_s = self.agenda.now + max(timings.check_in_s for timings in self.timings)
            self.agenda.after(self.little_s() * self.rng.choice((1, 50)), None, self._any_order)

    def _any_order(self) -> None:
        """An operator who happens to act just now."""
        names = [*self.members, ANYONE, "nobody-knows"]
        if self.calm:
            return
        if self.rng.random() < 0.6:
            self.order(switchover_to=self.rng.choice(names))
        else:
            self.order(paused=self.rng.random() < 0.4)


def _timings(choose: Random, count: int) -> list[Timings]:
    """Mostly the same for everybody; sometimes each its own, as during a change of settings."""
    ttl, margin = choose.choice((2.0, 3.0, 5.0, 10.0)), choose.choice((0.05, 0.1, 0.2))
    same = choose.random() < 0.7
    made = []
    for _ in range(count):
        own = ttl if same else ttl * choose.choice((1.0, 1.5, 2.0))
        stop = own * choose.uniform(0.3, 1.5)
        made.append(Timings.of(own, margin_s=own * (margin if same else 0.1), stop_timeout_s=stop))
    return made


def _host(choose: Random, name: str, spread: float) -> Host:
    """A clock somewhere in the budget, often at its edge."""
    wrong = choose.choice((-1.0, 1.0, choose.uniform(-1, 1), 0.0)) * spread * 0.98
    return Host(name, 1.0 + wrong, choose.uniform(0, 1e5))
