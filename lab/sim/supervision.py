"""The modelled guard and command of one member: a deadline on the host's clock, TERM, KILL, and the will.

This is the contract that the real guard keeps, seen from the rules: it starts a command only inside its lease, lets nothing
but a confirmed renewal move the deadline, and says "gone" only when that is proved.
"""

from __future__ import annotations

from heirflow.election.steps import (
    Act,
    CommandEnding,
    CommandGone,
    CommandStarted,
    ExtendLease,
    KillCommand,
    StartCommand,
    StateEvent,
    StopCommand,
)
from lab.sim.clock import Host, Process
from lab.sim.surroundings import FOREVER, Guarded, Manners


class CommandProcess(Process):
    """One run of a command, with all its descendants."""

    __slots__ = (
        "dead_by",
        "dying",
        "guard",
        "guard_slept",
        "late",
        "manners",
        "member",
        "seat",
        "suspended",
        "term",
        "termed",
    )

    def __init__(self, guard: Guard, term: int, manners: Manners) -> None:
        super().__init__(guard.host)
        self.guard, self.member, self.term, self.manners = guard, guard.member, term, manners
        self.seat = guard.member.state.seat.number  # it holds no other while this one lives
        self.dying = self.termed = False
        self.suspended = False
        """Frozen with its whole host: it does nothing."""
        self.late = False
        """Thawed with its host when no kill could come in time any more."""
        self.dead_by = FOREVER
        """When it must be gone then, on its host's clock."""
        self.guard_slept = False
        """Whether its guard did not go on with the host: then its member strikes, unless a renewal was confirmed meanwhile."""

    def terminate(self) -> None:
        """TERM, followed by CONT: one that was stopped acts on it."""
        self.go_on()
        if not self.termed and self.manners.obeys_term_after_s < FOREVER:
            self.member.world.agenda.after(
                self.manners.obeys_term_after_s, self, self.end, -15, "the command ended after TERM"
            )
        self.termed = True

    def kill(self, because: str) -> None:
        """KILL, to the whole tree; it takes a moment until the last one is gone."""
        if not self.dying:
            self.dying = True
            self.frozen = False  # a stopped process dies of KILL as it is
            self.backlog.clear()
            self.member.world.agenda.after(self.manners.kill_takes_s, self, self.end, -9, because)

    def stand_still(self) -> None:
        """STOP: it does nothing, and neither exits nor dies of TERM."""
        self.frozen = not self.dying

    def go_on(self) -> None:
        """CONT."""
        if self.frozen:
            self.frozen = False
            self.member.world.agenda.thaw(self)

    def end_by_itself(self, because: str) -> None:
        """It exits, unless the faults are over by now."""
        if not self.member.world.calm:
            self.end(self.manners.exit_status, because)

    def end(self, status: int, because: str) -> None:
        """The last descendant is gone."""
        if not self.alive:
            return
        self.alive = False
        self.member.world.judge.command_gone(self)
        if self.guard.alive:
            world = self.member.world
            world.agenda.after(world.little_s(), self.guard, self.guard.reap, self, status, because)
        else:
            self.member.guard_ended(self.guard)


class Guard(Process):
    """Owns the command and its deadline; knows no store and no rule."""

    __slots__ = (
        "command",
        "deaf",
        "ending",
        "hangs",
        "kill_at",
        "member",
        "orphaned",
        "stop_kill_at",
        "term_at",
        "will_term",
    )

    def __init__(self, member: Guarded, host: Host) -> None:
        super().__init__(host)
        self.member = member
        self.command: CommandProcess | None = None
        self.term_at = self.kill_at = self.stop_kill_at = FOREVER
        self.ending = False
        self.hangs = False
        """It took a start, and nothing has begun."""
        self.deaf = False
        """And it does not give that up when it is told to."""
        self.orphaned = False
        """Its member is gone: end of file on their socket."""
        self.will_term: int | None = None

    def told(self, act: Act) -> None:
        """A word from the member."""
        command = self.command
        now = self.host.local(self.member.world.agenda.now)
        match act:
            case StartCommand():
                self._start(act, now)
            case ExtendLease():
                if not self.ending:
                    self.term_at, self.kill_at = act.term_at, act.kill_at
                    self.look()
            case StopCommand() if command is not None or self.hangs:
                self.stop_kill_at = now + act.grace_s
                if command is not None:
                    command.terminate()
                self._look_again()
            case KillCommand():
                self._kill("the command was killed")
            case _:
                pass

    def _start(self, act: StartCommand, now: float) -> None:
        world = self.member.world
        self.term_at, self.kill_at, self.stop_kill_at = act.term_at, act.kill_at, FOREVER
        self.ending = False
        if now >= act.term_at:
            self._tell(CommandGone(None, "the lease was over before the command could start"))
            return
        self.will_term = act.term
        if self.host.hanging_starts and not world.calm:
            world.say(self.member.id, "its guard takes the start, and nothing begins")
            self.hangs, self.deaf = True, world.rng.random() < 0.5
            self._look_again()
            return
        manners = world.manners(self.member.timings)
        self.command = command = CommandProcess(self, act.term, manners)
        world.judge.command_started(command)
        if manners.exits_after_s < FOREVER:
            because = f"the command ended with status {manners.exit_status}"
            world.agenda.after(manners.exits_after_s, command, command.end_by_itself, because)
        self._tell(CommandStarted())
        self._look_again()

    def look(self) -> None:
        """Look at the clock: the first thing a guard does whenever it wakes."""
        command = self.command
        if not self.hangs and (command is None or not command.alive or command.dying):
            return
        now = self.host.local(self.member.world.agenda.now)
        if now >= self.kill_at:
            self._kill("the lease is over: the command was killed")
        elif now >= self.stop_kill_at:
            self._kill("the command did not end in time and was killed")
        else:
            if now >= self.term_at and not self.ending:
                self.ending = True
                self._tell(CommandEnding("the lease is nearly over: the command was told to end"))
                if command is not None:
                    command.terminate()
            self._look_again()

    def _kill(self, because: str) -> None:
        """Kill what runs. What has not begun is gone at once, unless this guard does not do as told: then its member ends it."""
        if self.command is not None:
            self.command.kill(because)
        elif self.hangs and not self.deaf:
            self.hangs = False
            self._tell(CommandGone(None, because))

    def _look_again(self) -> None:
        world = self.member.world
        moment = min(self.kill_at, self.stop_kill_at, FOREVER if self.ending else self.term_at)
        if moment < FOREVER:
            # The smallest of steps keeps rounding from waking it just before its moment.
            world.agenda.at(self.host.true(moment) + 1e-6 + world.little_s(), self, self.look)

    def reap(self, command: CommandProcess, status: int, because: str) -> None:
        """The command is proved gone."""
        self.command = None
        if self.orphaned:
            self._carry_out_the_will()
        else:
            self._tell(CommandGone(status, because))

    def end_of_file(self) -> None:
        """The member is gone: kill, prove it, and only then carry out its will."""
        self.orphaned = True
        if self.command is not None and self.command.alive:
            self.command.kill("the member is gone")
        elif self.command is None:
            self._carry_out_the_will()
        self.member.world.judge.left_behind(self)

    def _carry_out_the_will(self) -> None:
        self.alive = False
        if self.will_term is not None:
            self.member.world.network.will(self.member, self.will_term)

    def _tell(self, event: StateEvent) -> None:
        self.member.hear_guard(self, event)
