"""The judge of a simulated world: sees true time and every process, and raises `Red` at the instant a promise breaks."""

from __future__ import annotations

from collections import deque
from typing import NoReturn

from heirflow.election.record import Event, Exchange, Record
from heirflow.election.state import Ask, Purpose, State, Then
from heirflow.election.steps import (
    Abandon,
    Answered,
    ExtendLease,
    Failed,
    KillCommand,
    Send,
    StartCommand,
    Step,
    StopCommand,
)
from lab.sim import vacates
from lab.sim.lives import ROUNDING_S, Lives
from lab.sim.promises import Promise
from lab.sim.register import OPERATOR
from lab.sim.seen import SeenCommand, SeenGuard, SeenMember, SeenWorld

SENDS_PER_CHECK_IN = 25
"""More exchanges than this within one check-in, and one for each change of leadership in it, is a hot loop.

Nine members whose commands all end at once hand over as often in a row: a burst, which ends as each then waits longer.
"""
TURNS_PER_INSTANT = 200
"""More decisions than this within a millisecond is a spin."""


class Red(Exception):
    """A promise is broken: which one, and how."""

    def __init__(self, promise: Promise, sentence: str) -> None:
        super().__init__(f"{promise}: {sentence}")
        self.promise: Promise = promise
        self.sentence = sentence


class Judge:
    """Every invariant of the safety act."""

    def __init__(self, world: SeenWorld) -> None:
        self.world = world
        self.lives = Lives(self)
        self.void_until_s = -1.0
        """Until then a store that forgot confirmed writes excuses what no lease can promise."""
        self.highest_term: dict[int, int] = {}
        """Of each seat, as the next."""
        self.written_at_s: dict[int, float] = {}
        self.failed_over_at_s: float | None = None
        """When the last fail-over was."""
        self.numbers_again = False
        """Whether a fail-over went back behind the one before it."""
        self.changes = 0
        """How often the leadership changed."""
        self.switchovers = 0
        self.drained: set[str] = set()
        self.unwell: set[str] = set()
        """Members whose command was once said not to work."""
        self.slack_s = 0.0
        """How much later a command may be gone; only for worlds whose other layers are taken away on purpose."""
        self.lease_end: dict[str, float] = {}
        """Until when, on its host's clock, each member's last *confirmed* renewal lets its command live."""
        self.seen_term: dict[tuple[str, int], int] = {}
        """Of each member and seat."""
        self.sends: dict[str, deque[tuple[float, int]]] = {}
        self.sent: dict[str, int] = {}
        self.broken_watch: dict[str, float] = {}
        """When, on its own clock, each member's reading was last interrupted."""
        self.based_on: dict[tuple[str, int], Record | None] = {}
        """The record that a swap was asked for."""
        self.watch_when_asked: dict[tuple[str, int], float] = {}
        """The same, as it was when a take was asked: what comes after that cannot have been known."""
        self.answered_at: dict[str, float] = {}
        self.first_seen: dict[tuple[str, int], tuple[Record | None, float]] = {}
        """What each member read last of each seat, and when that was new to it."""
        self.released: set[tuple[str, int, int]] = set()
        """Who released which seat's term itself, whether the answer ever came or not."""
        self._turns: dict[str, tuple[float, int]] = {}
        self._speaker: Ask | None = None

    @property
    def void(self) -> bool:
        """Whether the argument's ground, a store that forgets nothing, is missing just now."""
        return self.world.agenda.now <= self.void_until_s

    def broken(self, promise: Promise, sentence: str) -> NoReturn:
        """Say that a promise is broken, and end the world."""
        self.world.say("judge", f"{promise}: {sentence}")
        raise Red(promise, sentence)

    # ---- commands ----

    def command_started(self, command: SeenCommand) -> None:
        """A command begins to run."""
        self.world.say(command.member.id, f"its command runs for term {command.term}")
        if command.term < self.seen_term.get((command.member.id, command.seat), 0):
            self.broken(
                "terms only grow", f"{command.member.id} starts for term {command.term} and has seen a higher one"
            )
        self.lives.started(command)

    def command_gone(self, command: SeenCommand) -> None:
        """A command and all its descendants are gone."""
        self.world.say(command.member.id, f"its command of term {command.term} is gone")
        self.lives.gone(command)

    # ---- the store ----

    def speaking(self, member: SeenMember, ask: Ask) -> None:
        """The next write belongs to this question."""
        self._speaker = ask

    def written(self, before: Record | None, after: Record, writer: str, seat: int) -> None:
        """A record is replaced."""
        world, now = self.world, self.world.agenda.now
        if after.version != (before.version if before else 0) + 1:
            self.broken("legal records", f"version {after.version} follows {before}")
        if self._hit_by_chance(before, writer):
            return
        holder, term = (before.leader, before.term) if before else (None, 0)
        taken = after.leader is not None and (after.leader != holder or after.term != term)
        if taken and after.term <= max(
            term, 0 if self.void_until_s >= 0 or self.numbers_again else self.highest_term.get(seat, 0)
        ):
            self.broken("terms only grow", f"{writer} takes charge with term {after.term} after {term}")
        if taken and after.term <= self.seen_term.get((writer, seat), 0) and self._speaker_is_taking():
            self.broken(
                "terms only grow", f"{writer} takes term {after.term} and had seen {self.seen_term[writer, seat]}"
            )
        vacated = after.leader is None and after.term > term  # it skips what may have been forgotten
        if not taken and after.term != term and not vacated:
            self.broken("terms only grow", f"{writer} changed term {term} to {after.term} without taking charge")
        if taken and after.leader != writer:
            self.broken("legal records", f"{writer} made {after.leader} leader")
        if writer != OPERATOR and after.paused != (before.paused if before else False):
            self.broken("orders are an operator's", f"{writer} {'pauses' if after.paused else 'resumes'} the election")
        self._own_command(after, writer, taken)
        if taken and before is not None:
            self._forgotten(before, after, now, seat)
            self._moved(before, after, now, seat)
        if taken:
            self._sits_once(after, seat)
        if after.leader is None and before is not None and before.leader is not None:
            self._released(before, writer, seat)
        if taken or (before and before.leader and after.leader is None):
            self.changes += 1
            if not after.because:
                self.broken("explains itself", f"{writer} changed the leadership without a word")
            world.leadership_changed(after)
        self.highest_term[seat] = max(self.highest_term.get(seat, 0), after.term)
        self.written_at_s[seat] = now

    def _hit_by_chance(self, before: Record | None, writer: str) -> bool:
        """After a restore, versions come a second time, and a question about the forgotten record can hit one: void."""
        ask = self._speaker
        if (
            writer not in self.world.everybody
            or ask is None
            or self.based_on.get((writer, ask.serial), before) == before
        ):
            return False
        if self.void_until_s < 0:
            self.broken("legal records", f"{writer} replaced {before}, which it never saw")
        self.world.say("judge", f"{writer} hit by chance a version that came a second time: void")
        self.restored(self.world.longest_ttl_s * 2.5)
        return True

    def _own_command(self, after: Record, writer: str, taken: bool) -> None:
        if self.void and (self._speaker is None or not self._fresh(self._speaker)):
            return  # an old question finds the record that it was asked for, which was restored: void
        for command in self.lives.of(writer):
            if taken:
                self.broken(
                    "take only when the own command is gone", f"{writer} takes term {after.term} and its command lives"
                )
            if writer == after.leader and command.term != after.term:
                self.broken(
                    "terms only grow", f"{writer} renews term {after.term} with a command of term {command.term}"
                )

    def _speaker_is_taking(self) -> bool:
        # A take that lands long after its question is judged by what its member knew when it asked.
        return self._speaker is not None and self._speaker.purpose is Purpose.TAKE and self._fresh(self._speaker)

    def _fresh(self, ask: Ask) -> bool:
        members = self.world.members
        who = ask.exchange.check_in
        return who is not None and who.id in members and members[who.id].state.ask is ask

    def _moved(self, before: Record, after: Record, now: float, seat: int) -> None:
        self.lives.sweep()
        taker = self.world.everybody[after.leader or ""]
        if before.paused and before.leader != after.leader:
            self.broken("paused: nobody changes place", f"{after.leader} took charge")
        # Named by a restored backup, and knowing it: not an old question that hit a version which came a second time.
        known = self._speaker_is_taking() and self.first_seen.get((taker.id, seat), (None, 0.0))[0] == before
        stale = known and before.leader == taker.id and before.term < self.seen_term.get((taker.id, seat), 0)
        asked_at = self._speaker.asked_at if self._speaker is not None else 0.0
        if before.leader is not None and (stale or (before.leader != after.leader and not self.void)):
            waited = (now - self.written_at_s[seat]) * taker.host.rate
            if stale:
                waited = asked_at - self.first_seen[taker.id, seat][1]
            if waited < before.ttl_s - ROUNDING_S:
                sentence = f"{after.leader} waited {waited:.3f} s of {before.ttl_s:g} s for {before.leader}"
                self.broken("a silent leader has its whole lease", sentence)
            watched = asked_at - self.watch_when_asked.get(
                (taker.id, self._speaker.serial if self._speaker else 0), asked_at
            )
            if watched < before.ttl_s - ROUNDING_S:
                sentence = f"{after.leader} has read for {watched:.3f} s only since its reading was interrupted"
                self.broken("after an outage the leader has its chance first", sentence)
        if before.leader is None or self.void:
            return
        for command in self.lives.of(before.leader, seat):
            if not self.lives.fenced(command):
                self.broken(
                    "a leader's end comes first", f"{after.leader} moved while the command of {before.leader} lived"
                )

    def _forgotten(self, before: Record, after: Record, now: float, seat: int) -> None:
        """A record from before a fail-over says nothing about who leads: whoever takes it waits as for a leader."""
        if (
            self.failed_over_at_s is None
            or before.history == self.world.store.name
            or before.history is None
            or self.void
        ):
            return
        taker = self.world.everybody[after.leader or ""]
        waited_s = (now - self.failed_over_at_s) * taker.host.rate
        if waited_s < before.ttl_s - ROUNDING_S:
            sentence = f"{after.leader} waited {waited_s:.3f} s of {before.ttl_s:g} s for whoever led what is forgotten"
            self.broken("who may be forgotten has its whole lease", sentence)

    def failed_over(self, *, twice: bool) -> None:
        """Another server answers, which may have forgotten. No promise is void for that.

        Save one: where it has not heard of any leader since the fail-over before (`twice`), the term of one may come again.
        """
        self.failed_over_at_s = self.world.agenda.now
        self.numbers_again |= twice
        self.world.say("judge", "the store fails over, and forgets what its standby had not heard")

    def _released(self, before: Record, writer: str, seat: int) -> None:
        now, own = self.world.agenda.now, before.leader == writer or writer == f"will of {before.leader}"
        for command in self.lives.of(before.leader, seat):
            if own or not (self.void or self.lives.fenced(command)):
                self.broken("release only when gone", f"{writer} released while the command of {before.leader} lived")
        if before.leader == writer:
            self.released.add((writer, seat, before.term))
        if not own and not self.void:
            rate = self.world.everybody[writer].host.rate
            waited = (now - self.written_at_s[seat]) * rate
            if waited < before.ttl_s - ROUNDING_S:
                sentence = (
                    f"{writer} waited {waited:.3f} s of {before.ttl_s:g} s, and vacates the seat of {before.leader}"
                )
                self.broken("a silent leader has its whole lease", sentence)
        if (
            before.paused
            and writer in self.world.everybody
            and not (own and self.world.everybody[writer].state.leaving)
        ):
            self.broken("paused: nobody changes place", f"{writer} released")

    def _sits_once(self, after: Record, seat: int) -> None:
        """A member holds one seat at most. Another one may name it by a write of its own that landed late."""
        for command in self.lives.of(after.leader):
            if command.seat != seat:
                self.broken(
                    "one seat each", f"{after.leader} takes seat {seat} and its command leads seat {command.seat}"
                )

    def checked_in(self, member: str, silent_since_s: float, exchange: Exchange, asked_s: float) -> None:
        """A member's check-in is applied, which was asked at a true time after a silence."""
        who = self.world.everybody[member]
        silent = (asked_s - silent_since_s) * who.host.rate
        leads = any(record.leader == member for record in self.world.store.records.values())
        lost = silent > who.timings.ttl_s + ROUNDING_S and who.state.term is None and not leads
        if lost and not exchange.join and not exchange.leave:
            self.broken("silence loses seniority", f"{member} was silent for {silent:.3f} s and keeps its place")

    def restored(self, window_s: float) -> None:
        """A backup was restored: for a while nothing that rests on confirmed writes is promised."""
        self.void_until_s = self.world.agenda.now + window_s
        self.world.say(
            "judge", f"never two and terms only grow are void for {window_s:.1f} s: the store forgot confirmed writes"
        )

    # ---- members ----

    def told_lost(self, member: SeenMember, event: Event) -> None:
        """A member notes that it lost a term."""
        if (member.id, event.seat, event.term) in self.released and not self.void:
            self.broken("explains itself", f"{member.id} says that it lost term {event.term}, which it had released")

    def answered(self, member: SeenMember, event: Answered) -> None:
        """An answer reaches its member: the only thing that can lengthen a lease."""
        ask, reading = member.state.ask, event.reading
        if ask is None or ask.serial != event.serial:
            return
        now = member.host.local(self.world.agenda.now)
        if now - self.answered_at.get(member.id, now) > member.timings.fresh_s + ROUNDING_S:
            self.broken_watch[member.id] = now
        self.answered_at[member.id] = now
        for seat, place in enumerate(reading.places, 1):
            key, record = (member.id, seat), place.record
            if key not in self.first_seen or self.first_seen[key][0] != record:
                self.first_seen[key] = (record, now)
            if record is not None:
                self.seen_term[key] = max(self.seen_term.get(key, 0), record.term)
        swap = ask.exchange.swap
        if reading.swapped and swap is not None and swap.record.leader == member.id:
            end = ask.asked_at + swap.record.ttl_s - member.timings.margin_s
            self.lease_end[member.id] = max(self.lease_end.get(member.id, end), end)

    def decided(self, member: SeenMember, before: State, step: Step) -> None:
        """What a member is about to do."""
        now = member.host.local(self.world.agenda.now)
        deposed = before.term is not None and step.state.term is None and before.working
        if deposed and not any(isinstance(act, KillCommand) for act in step.acts) and not step.state.idle:
            self.broken(
                "a deposed leader kills at once", f"{member.id} lost term {before.term} and its command goes on"
            )
        for act in step.acts:
            if isinstance(act, Send):
                self._sent(member, now)
                if act.ask.exchange.swap is not None:
                    seat = act.ask.exchange.swap.seat
                    [known] = [each.record for each in step.state.all_seats if each.number == seat]
                    self.based_on[member.id, act.ask.serial] = known
                if act.ask.purpose is Purpose.VACATE:
                    vacates.judge(self, member, step.state, act.ask, now)
                if act.ask.purpose is Purpose.TAKE:
                    since = self.broken_watch.get(member.id, float("-inf"))
                    self.watch_when_asked[member.id, act.ask.serial] = since
            elif isinstance(act, StopCommand):
                paused = step.state.record is not None and step.state.record.paused
                then = step.state.stop.then if step.state.stop is not None else None
                if paused and not member.stop_asked and then not in {Then.REPLACE, Then.LOST}:
                    self.broken("paused: nobody changes place", f"{member.id} stops its command")
                ordered = member.stop_asked or self.switchovers or member.id in self.drained | self.unwell
                if not ordered and step.state.stop is not None and then is not Then.LOST:
                    self.broken("no preemption without an order", f"{member.id} stops: {step.state.stop.because}")
            elif isinstance(act, Abandon):
                self.broken_watch[member.id] = now
            elif isinstance(act, (StartCommand, ExtendLease)):
                if isinstance(act, StartCommand) and act.term_at <= now:
                    self.broken("dead by the end of trust", f"{member.id} starts its command when its lease is over")
                end = self.lease_end.get(member.id, float("-inf"))
                if act.kill_at > end + ROUNDING_S:
                    self.broken(
                        "dead by the end of trust",
                        f"{member.id} lets its command live {act.kill_at - end:.3f} s longer",
                    )

    def told_unwell(self, member: SeenMember, before: State, step: Step) -> None:
        """A member has heard that its command does not do its work."""
        works_for_us = before.working
        if works_for_us and not any(isinstance(act, (StopCommand, KillCommand)) for act in step.acts):
            self.broken(
                "who does not work is succeeded", f"{member.id} lets a command go on that its probe found unwell"
            )

    def _sent(self, member: SeenMember, now: float) -> None:
        self.sent[member.id] = self.sent.get(member.id, 0) + 1
        recent = self.sends.setdefault(member.id, deque())
        recent.append((now, self.changes))
        while recent[0][0] < now - member.timings.check_in_s:
            recent.popleft()
        if len(recent) > SENDS_PER_CHECK_IN + self.changes - recent[0][1]:
            self.broken("no hot loop", f"{member.id} sent {len(recent)} exchanges within one check-in")

    def failed(self, member: SeenMember, event: Failed) -> None:
        """A call of this member failed: its reading is interrupted."""
        if member.state.ask is not None and member.state.ask.serial == event.serial:
            self.broken_watch[member.id] = member.host.local(self.world.agenda.now)

    def turned(self, member: SeenMember) -> None:
        """A member decides once more."""
        now = self.world.agenda.now
        since, count = self._turns.get(member.id, (now, 0))
        self._turns[member.id] = (since, count + 1) if now - since < 0.001 else (now, 1)
        if count > TURNS_PER_INSTANT:
            self.broken("no hot loop", f"{member.id} decided {count} times within a millisecond")

    def asked_to_wake(self, member: SeenMember, at: float, now: float) -> None:
        """A member wants its next tick."""
        if at <= now:
            self.broken("no hot loop", f"{member.id} wants to wake in the past")

    def left_behind(self, guard: SeenGuard) -> None:
        """A guard has seen that its member is gone."""
        command = guard.command
        if command is not None and command.alive and not command.dying:
            self.broken("never an orphan", f"{guard.member.id} is gone and its command lives on")

    def exited(self, member: SeenMember) -> None:
        """A member ends by itself: nothing of it may be left."""
        if self.lives.of(member.id):
            self.broken("never an orphan", f"{member.id} left while its command lived")
