"""A modelled member process: the real rules between a modelled store and a modelled guard.

Events reach `decide` one at a time, as late as the world likes. The process can be frozen anywhere, also between deciding
and acting.
"""

from __future__ import annotations

from collections.abc import Callable

from heirflow.election import rules
from heirflow.election.record import What
from heirflow.election.state import Policy, State
from heirflow.election.steps import (
    Abandon,
    Act,
    Answered,
    CommandEnding,
    CommandGone,
    Exit,
    ExtendLease,
    Failed,
    GuardDown,
    GuardUp,
    KillCommand,
    Readiness,
    Send,
    StartCommand,
    StateEvent,
    StopAsked,
    StopCommand,
    Tick,
    Unhealthy,
)
from heirflow.election.timings import Timings
from heirflow.member.answers import OBEY_LIMIT_S
from lab.sim.clock import Host, Process
from lab.sim.seen import SeenGuard
from lab.sim.supervision import CommandProcess, Guard
from lab.sim.surroundings import Surroundings


class MemberProcess(Process):
    """One incarnation of `heirflow run`."""

    __slots__ = (
        "born_s",
        "commanded",
        "guard",
        "guard_clear_at",
        "guard_word_at",
        "held_acts",
        "hold",
        "id",
        "kill_at",
        "prompt_from",
        "sluggish",
        "starts",
        "state",
        "stop_asked",
        "timings",
        "wake_at",
        "wake_serial",
        "wants_ready",
        "world",
    )

    def __init__(
        self, world: Surroundings, host: Host, name: str, timings: Timings, policy: Policy, *, ready: bool = True
    ) -> None:
        super().__init__(host)
        self.world, self.id, self.timings = world, name, timings
        self.born_s = world.agenda.now
        now = host.local(self.born_s)
        self.state = State(me=name, host=host.name, pid=1, born_at=now, policy=policy, standby_ready=ready)
        self.guard: Guard | None = None
        self.commanded = False
        """Whether a start was ordered whose end was not yet reported."""
        self.starts = 0
        self.kill_at = float("inf")
        """The deadline that it last told its guard."""
        self.hold = False
        """The next acts find the process frozen between deciding and acting."""
        self.held_acts: list[tuple[Act, ...]] = []
        self.sluggish = 0
        self.prompt_from = 0.0
        """From this true time on, nothing late is under way to this member."""
        self.guard_word_at = self.guard_clear_at = 0.0
        """Their socket keeps the order: when the last word to the guard, and from it, arrives."""
        self.wake_serial = 0
        self.wake_at = -1.0
        self.stop_asked = 0
        self.wants_ready = ready
        """Whether the world last told it that its standby is ready."""
        world.agenda.after(0.0, self, self.happen, Tick())
        world.agenda.after(world.little_s() * 10, self, self.spawn_guard)

    # ---- events ----

    def late_s(self) -> float:
        """How late the next event reaches this member."""
        if self.sluggish:
            return self.world.rng.random() * self.timings.check_in_s
        return self.world.little_s()

    def post(self, event: StateEvent) -> None:
        """Let something happen to this member, soon."""
        self.world.agenda.after(self.late_s(), self, self.happen, event)

    def happen(self, event: StateEvent) -> None:
        """Decide about one event, and act."""
        world = self.world
        now = self.host.local(world.agenda.now)
        if isinstance(event, Answered):
            world.judge.answered(self, event)
        elif isinstance(event, Failed):
            world.judge.failed(self, event)
        elif isinstance(event, Readiness):
            self.wants_ready = event.ready
        world.judge.turned(self)
        before = self.state
        step = rules.decide(before, event, now, self.timings)
        self.state = step.state
        if isinstance(event, Unhealthy):
            world.judge.told_unwell(self, before, step)
        for noted in step.state.unwritten:
            if noted.event.what is What.LOST and noted not in before.unwritten:
                world.judge.told_lost(self, noted.event)
        for sentence in step.because:
            world.say(self.id, sentence)
        if step.acts:
            world.judge.decided(self, before, step)
            if self.hold or self._freezes_start(step.acts):
                self.hold = False
                self.held_acts.append(step.acts)
                self._freeze_between()
            elif self.held_acts:
                self.held_acts.append(step.acts)
            else:
                self._perform(step.acts)
        if self.alive:
            self._wake(now)

    def _wake(self, now: float) -> None:
        at = rules.wake_at(self.state, now, self.timings)
        self.world.judge.asked_to_wake(self, at, now)
        if at == self.wake_at:
            return
        self.wake_at = at
        self.wake_serial += 1
        if at != float("inf"):
            true = self.host.true(at) + 1e-6 + self.late_s()
            self.world.agenda.at(true, self, self._tick, self.wake_serial)

    def _tick(self, serial: int) -> None:
        if serial == self.wake_serial:
            self.wake_at = -1.0
            self.happen(Tick())

    def unwell(self, because: str) -> None:
        """Its probe says that the command does not do its work."""
        self.world.judge.unwell.add(self.id)
        self.post(Unhealthy(because))

    def look_whether_it_works(self, command: CommandProcess) -> None:
        """A probe of a command that may have been stopped."""
        if command.alive and command.frozen:
            self.unwell("the command has not said a word for a while")

    # ---- freezes ----

    def freeze(self) -> Callable[[], None] | None:
        """SIGSTOP to this member. Returns what continues it."""
        if self.frozen or (self.guard is not None and self.guard.frozen):
            return None
        self.frozen = True

        def thaw() -> None:
            self.frozen = False
            self.wake_up()

        return thaw

    def hold_next_acts(self) -> None:
        """SIGSTOP, just between the next decision and what it leads to."""
        if not self.frozen and not (self.guard is not None and self.guard.frozen):
            self.hold = True

    def _freezes_start(self, acts: tuple[Act, ...]) -> bool:
        """Whether this member is to be frozen just before it lets its guard start the command."""
        world = self.world
        if not world.frozen_starts or not any(isinstance(act, StartCommand) for act in acts):
            return False
        return not self.held_acts and world.rng.random() < world.frozen_starts

    def _freeze_between(self) -> None:
        """It has decided, and is frozen before it acts."""
        end = None if self.guard is not None and self.guard.frozen else self.freeze()
        if end is None:
            self._act_what_was_held()
            return
        world = self.world
        lasts = world.rng.random() * world.rng.choice((0.1, 2.0)) * world.longest_ttl_s
        world.say(self.id, f"is frozen between deciding and acting, for {lasts:.3f} s")
        world.agenda.at(min(world.agenda.now + lasts, max(world.act_s, world.agenda.now)), None, end)

    def wake_up(self) -> None:
        """It goes on, unless something else still keeps it: first it does what it had decided."""
        if self.alive and not self.host.frozen and not self.frozen:
            self._act_what_was_held()
            self.world.agenda.thaw(self)
            self.prompt_from = self.world.agenda.now + self.timings.check_in_s

    # ---- acts ----

    def _act_what_was_held(self) -> None:
        """Thawed between deciding and acting."""
        held, self.held_acts = self.held_acts, []
        for acts in held:
            if self.alive:
                self._perform(acts)

    def _perform(self, acts: tuple[Act, ...]) -> None:
        for act in acts:
            match act:
                case Send():
                    self.world.network.send(self, act.ask)
                case Abandon():
                    pass  # its answer may still come; the rules drop it
                case StartCommand():
                    self.commanded = True
                    self.starts += 1
                    self.kill_at = act.kill_at
                    self._tell_guard(act)
                case Exit():
                    self.world.say(self.id, f"left with exit code {act.code}")
                    self.world.judge.exited(self)
                    if self.guard is not None:
                        self.guard.will_term = None  # an orderly end says its own last word
                    self.end()
                case ExtendLease():
                    self.kill_at = act.kill_at
                    self._tell_guard(act)
                case StopCommand(grace_s):
                    self._tell_guard(act)
                    self._await_end(grace_s)
                case KillCommand():
                    self._tell_guard(act)
                    self._await_end(0.0)

    def _tell_guard(self, act: Act) -> None:
        guard, agenda = self.guard, self.world.agenda
        if guard is None or not guard.alive:
            if guard is not None and isinstance(act, StartCommand):
                agenda.after(0.0, self, self._guard_is_down, guard)
            return
        self.guard_word_at = max(self.guard_word_at, agenda.now + self.world.little_s())
        agenda.at(self.guard_word_at, guard, guard.told, act)

    # ---- the guard, and how it ends ----

    def spawn_guard(self) -> None:
        """A new guard is there."""
        self.guard = Guard(self, self.host)
        self.happen(GuardUp())

    def hear_guard(self, guard: SeenGuard, event: StateEvent) -> None:
        """A word from the guard arrives, in order."""
        agenda = self.world.agenda
        self.guard_clear_at = max(self.guard_clear_at, agenda.now + self.late_s())
        agenda.at(self.guard_clear_at, self, self._guard_said, guard, event)

    def _guard_said(self, guard: SeenGuard, event: StateEvent) -> None:
        if guard is not self.guard:
            return
        if isinstance(event, CommandGone):
            self.commanded = False
        elif isinstance(event, CommandEnding):
            self._await_end(max(0.0, self.kill_at - self.host.local(self.world.agenda.now)))
        self.happen(event)

    def guard_stopped_answering(self, guard: Guard) -> None:
        """A guard that is frozen for `guard_limit_s` is killed, and its command with it."""
        if self.guard is guard and guard.frozen and guard.alive:
            self.kill_guard("the guard did not answer")

    def watch_deadline(self, guard: Guard) -> None:
        """A frozen guard cannot keep the deadline: then its member strikes, a moment later and still inside the trust."""
        if self.guard is not guard or not guard.frozen or not guard.alive or not self.world.member_strikes:
            return
        strike_at = self.kill_at + self.timings.strike_after_s
        if self.host.local(self.world.agenda.now) >= strike_at:
            self.kill_guard("the guard did not keep the deadline")
        elif strike_at != float("inf"):
            self.world.agenda.at(self.host.true(strike_at) + 1e-6, self, self.watch_deadline, guard)

    def _await_end(self, grace_s: float) -> None:
        limit_s = (grace_s + OBEY_LIMIT_S) / self.host.rate
        self.world.agenda.after(limit_s, self, self.guard_owes_an_end, self.guard, self.starts)

    def guard_owes_an_end(self, guard: Guard | None, start: int) -> None:
        """A guard that answers, and has not given up what it was told to, is killed."""
        if guard is not None and self.guard is guard and guard.hangs and self.starts == start:
            self.kill_guard("the guard did not do as told")

    def kill_guard(self, because: str) -> None:
        """Kill the guard; its command dies with it (parent-death signal), and we reap what is left."""
        guard = self.guard
        if guard is None or not guard.alive:
            return
        self.world.say(self.id, f"{because}: it is killed, with all that it ran")
        guard.alive = False
        if guard.command is not None and guard.command.alive:
            guard.command.kill(because)
        else:
            self.guard_ended(guard)

    def guard_ended(self, guard: SeenGuard) -> None:
        """The guard is dead and nothing that it ran is left: this member comes to know."""
        if not guard.orphaned:
            self.world.agenda.after(self.late_s(), self, self._guard_is_down, guard)

    def _guard_is_down(self, guard: Guard) -> None:
        if self.guard is not guard or (guard.command is not None and guard.command.alive):
            return
        self.guard = None
        self.guard_clear_at = 0.0
        ended = CommandGone(None, "the guard is gone, and its command with it") if self.commanded else None
        self.commanded = False
        self.happen(GuardDown("the guard is gone", ended))
        if self.alive:
            self.world.agenda.after(0.01 + self.world.rng.random() * self.timings.check_in_s, self, self.spawn_guard)

    # ---- the end ----

    def ask_to_stop(self, because: str) -> None:
        """SIGTERM."""
        self.stop_asked += 1
        self.post(StopAsked(because))

    def end(self) -> None:
        """This process is gone, of its own will or killed; its guard sees the end of their socket."""
        self.alive = False
        if self.guard is not None and self.guard.alive:
            self.world.agenda.after(self.world.little_s(), self.guard, self.guard.end_of_file)
        self.world.member_ended(self)
