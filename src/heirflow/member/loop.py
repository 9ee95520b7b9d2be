"""The member: the one loop in which rules, store, guard and clock meet.

The loop waits in one place, on one selector: the guard's socket, the store store_thread's answers, signals, and whoever asks at the
local door. It never waits on the store. After each wake-up it looks at the guard first, because what the guard says about
the command must be known before anything is said to the store.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heirflow.clock import boottime
from heirflow.election.record import Keep
from heirflow.election.rules import decide, wake_at
from heirflow.election.state import Policy, State
from heirflow.election.steps import (
    Abandon,
    Act,
    Answered,
    CommandEnding,
    CommandGone,
    CommandStarted,
    CommandWithstands,
    Exit,
    ExtendLease,
    Failed,
    GuardDown,
    GuardUp,
    KillCommand,
    News,
    Readiness,
    Send,
    StartCommand,
    StateEvent,
    StopAsked,
    StopCommand,
    Tick,
)
from heirflow.election.timings import Timings
from heirflow.election.told import Named
from heirflow.errors import HeirflowError
from heirflow.guard.why import KillBy
from heirflow.member.door import LocalDoor
from heirflow.member.environment import command_environment, names_of, numbered
from heirflow.member.guard_events import (
    AtGate,
    Ending,
    Gone,
    Lost,
    Note,
    Ready,
    StandbyGone,
    Started,
    Stuck,
    how,
    lost,
    stuck,
)
from heirflow.member.health import Lookout, Stale
from heirflow.member.journal import Log
from heirflow.member.keeper import Keeper
from heirflow.member.listeners import Listener
from heirflow.member.report import describe, noted, settings_of
from heirflow.member.standby import Standby
from heirflow.member.store_thread import Outcome, StoreThread
from heirflow.member.telling import tell_of_health, tell_of_kills, tell_of_store, tell_step
from heirflow.member.wills import Wills
from heirflow.stores.base import Address, Register

RESPAWN_AFTER_S = 1.0
"""Pause before a new guard, when the one before did not last longer than this."""
HOST_LIMIT = 39
"""Characters of the host in a member's id: PostgreSQL keeps 63 of ``heirflow-standby/<id>``."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this incarnation is."""

    id: str
    """Host and a random part: a restart is a new member. Short and plain, as database sessions are named after it."""
    host: str
    pid: int
    label: str = ""
    argv: tuple[str, ...] = ()
    partition: str | None = None  # see `Partition.told`

    @classmethod
    def new(cls, host: str, label: str = "", argv: Sequence[str] = ()) -> Identity:
        plain = "".join(c if "!" <= c <= "~" else "-" for c in host)[:HOST_LIMIT]
        return cls(f"{plain}-{os.urandom(3).hex()}", host, os.getpid(), label, (*argv,))


class Member:
    """One incarnation, from joining to leaving. `run` returns its exit code."""

    def __init__(
        self,
        *,
        election: str,
        identity: Identity,
        keeper_factory: Callable[[], Keeper],
        store_factory: Callable[[], Register],
        timings: Timings,
        policy: Policy,
        journal: Log,
        again_s: float | None = None,
        standby_argv: Sequence[str] | None = None,
        door: LocalDoor | None = None,
        lookout: Lookout | None = None,
        listeners: Sequence[Listener] = (),
        address: Address | None = None,
        keep: Keep | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`standby_argv`: what waits at a gate until needed; None: started cold. `address`: the stores' URL, if it can change.

        `environment`: what the command finds there, beside what this process has.
        """
        self._election, self._identity = election, identity
        self._keeper_factory = keeper_factory
        self._store_factory = store_factory
        self._timings = timings
        self._settings = settings_of(timings, identity.argv, identity.partition, policy.seats)
        self._journal = journal
        self._again_s = again_s
        self._standby = Standby(standby_argv, journal)
        self._door = door
        self._lookout = lookout or Lookout()
        self._listeners = listeners
        self._address, self._keep, self._more = address, keep, environment or {}
        self._exit_code: int | None = None
        self._command_pid: int | None = None
        self._starts = 0
        self._kill_by: KillBy | None = None
        self._state = State(
            me=identity.id,
            host=identity.host,
            pid=identity.pid,
            label=identity.label,
            born_at=boottime(),
            policy=policy,
            standby_ready=standby_argv is None,
        )
        self._nudge_reader, self._nudge_writer = socket.socketpair()
        self._nudge_reader.setblocking(False)
        self._nudge_writer.setblocking(False)
        self._stop_because: list[str] = []
        self._signals: list[int] = []  # to be passed on

    @property
    def state(self) -> State:
        """What this member knows now. Immutable; safe to read from any thread."""
        return self._state

    def stop(self, because: str) -> None:
        """Ask for an orderly stop, from a signal handler or another thread. Asked twice, the command is killed."""
        self._stop_because.append(because)
        self._nudge()

    def fileno(self) -> int:
        """Whatever is written to this descriptor wakes the loop."""
        return self._nudge_writer.fileno()

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            self._nudge_writer.send(b".")

    def forward(self, number: int) -> None:
        """Pass a signal on to the command, from the loop: an order of the loop's own may be half said just now."""
        self._signals.append(number)
        self._nudge()

    def run(self) -> int:
        """Stay in the line until told to leave. The exit order can be read off the nesting: the command first, the store last."""
        store_thread = StoreThread(self._store_factory, self._election, self._address, self._keep)
        self._wills = Wills(self._store_factory(), self._election, self._identity.id, self._address)
        try:
            self._store_thread = store_thread
            self._keeper = self._keeper_factory()
            self._keeper.spawn()
            self._guard_since = boottime()
            self._lookout.begin(self._nudge)
            try:
                self._loop()
            finally:
                self._lookout.close()
                self._keeper.close()
        finally:
            store_thread.close()
            if self._door is not None:
                self._door.close()
            for listener in self._listeners:
                listener.close()
            self._nudge_reader.close()
            self._nudge_writer.close()
        assert self._exit_code is not None
        return self._exit_code

    # ---- the loop -------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        self._guard_wanted_at: float | None = None
        self._standby.want(boottime())
        self._happen(GuardUp())
        self._tend_standby()
        while not self._state.done:
            self._wait()
            for event in self._look():
                self._happen(event)
            self._tend_standby()
            for listener in self._listeners:
                listener.look(self._state, self._facts)

    def _wait(self) -> None:
        now = boottime()
        moments = [wake_at(self._state, now, self._timings)]
        if self._standby.at is not None:
            moments.append(self._standby.at)
        moments.append(self._keeper.wake_at() if self._guard_wanted_at is None else self._guard_wanted_at)
        moments += [listener.wake_at() for listener in self._listeners]
        # The selector's clock does not count suspended time: never trust it for longer than a check-in.
        timeout_s = min(max(0.0, min(moments) - now), self._timings.check_in_s)
        with selectors.PollSelector() as selector:  # needs no descriptor of its own, which may not be had just now
            for source in (self._nudge_reader, self._store_thread, self._door):
                if source is not None:
                    selector.register(source, selectors.EVENT_READ)
            if self._guard_wanted_at is None and self._keeper.fileno() >= 0:
                selector.register(self._keeper, selectors.EVENT_READ)
            selector.select(timeout_s)

    def _look(self) -> Iterator[StateEvent]:
        """What has happened, the guard's word first; at the end always a `Tick`."""
        yield from self._look_at_guard()
        with contextlib.suppress(BlockingIOError):
            self._nudge_reader.recv(4096)
        while self._stop_because:
            yield StopAsked(self._stop_because.pop(0))
        while self._signals:
            number = self._signals.pop(0)
            if not self._state.idle:
                self._keeper.signal(number)
        for found in self._lookout.take():
            if isinstance(found, Stale):
                yield from self._renew_standby(found)
            else:
                yield from tell_of_health(self._journal, found)
        outcomes, news = self._store_thread.take()
        for outcome in outcomes:
            tell_of_store(self._journal, outcome.reading)
            yield _event_of(outcome)
        if news:
            yield News()
        if self._door is not None:
            self._door.answer(self._facts())
        yield Tick()

    def _facts(self) -> dict[str, Any]:
        guard = getattr(self._keeper, "pid", None)
        pids = {"command": self._command_pid, "standby": self._standby.pid, "guard": guard}
        facts = describe(self._election, self._state, pids, boottime(), self._timings)
        return {**facts, "kill_is_sure": self._kill_by is not KillBy.NOTHING}

    def _look_at_guard(self) -> Iterator[StateEvent]:
        now = boottime()
        if self._guard_wanted_at is not None:
            if now < self._guard_wanted_at:
                return
            self._keeper = self._keeper_factory()
            try:
                self._keeper.spawn()
            except HeirflowError as error:  # no process or no memory to be had just now
                self._journal.warn(str(error), event=Named.GUARD_NOT_STARTED)
                self._guard_wanted_at = now + RESPAWN_AFTER_S
                return
            self._guard_wanted_at, self._guard_since = None, now
            self._want_standby(now)
            yield GuardUp()
        for event in self._keeper.poll(now):
            match event:
                case Started(pid):
                    self._command_pid = pid
                    # Not before, as people wait for the start; a member that dies in between leaves no will, only its lease.
                    self._keeper.will(self._wills.write(self._state.term, self._state.seat.number))
                    self._standby.begun()
                    tell, term = self._journal.log, self._state.term
                    tell("the command has started", event=Named.COMMAND_STARTED, command_pid=pid, term=term)
                    self._lookout.command(pid)
                    yield CommandStarted()
                case Ending():
                    yield CommandEnding("the lease is about to end: the command is asked to stop")
                case Ready(kill_by):
                    self._tell_of_kills(kill_by)
                case Stuck():
                    yield CommandWithstands(stuck(event))
                case Gone():
                    self._forget_command()
                    self._want_standby(now)
                    yield from self._ready(False)  # first: who has no standby does not start again at once
                    yield CommandGone(event.status, f"the command {how(event)}")
                case AtGate(pid):
                    self._standby.at_gate(pid)
                    yield from self._ready(True)
                case StandbyGone():
                    self._want_standby(self._standby.gone(event, now))
                    yield from self._ready(False)
                case Note(text):
                    self._lookout.note(text)
                    yield Readiness(self._state.standby_ready, text)
                case Lost(ended=ended):
                    self._forget_command()
                    self._keeper.close()
                    lasted_s = now - self._guard_since
                    self._guard_wanted_at = now + (RESPAWN_AFTER_S if lasted_s < RESPAWN_AFTER_S else 0.0)
                    self._standby.lost()
                    yield from self._ready(False)
                    gone = None if ended is None else CommandGone(ended.status, f"the command {how(ended)}")
                    yield GuardDown(lost(event), gone)

    def _forget_command(self) -> None:
        self._command_pid = None
        self._lookout.command(None)

    def _tell_of_kills(self, kill_by: KillBy) -> None:
        """Once: what the command may not do so that it can be killed, or what is not promised because it may."""
        if kill_by is not self._kill_by:
            self._kill_by = kill_by
            tell_of_kills(self._journal, kill_by)

    def _ready(self, ready: bool) -> Iterator[StateEvent]:
        if self._standby.argv is not None:
            yield Readiness(ready, self._state.note)

    def _renew_standby(self, found: Stale) -> Iterator[StateEvent]:
        if self._standby.at is None and self._state.idle:
            self._standby.replace(found.because)
            yield from self._ready(False)
            if self._state.idle:
                self._keeper.kill()

    def _want_standby(self, at: float) -> None:
        if self._state.leaving is None:
            self._standby.want(at)

    def _tend_standby(self) -> None:
        """Start the standby that is due."""
        if self._guard_wanted_at is None and self._state.leaving is None and (argv := self._standby.due(boottime())):
            self._lookout.standby()
            self._keeper.standby(argv=argv, env=self._environment(None))

    def _happen(self, event: StateEvent) -> None:
        before, step = self._state, decide(self._state, event, boottime(), self._timings)
        self._state = step.state
        for act in step.acts:  # before anything is told: people wait for a start
            self._do(act)
        tell_step(self._journal, before, event, step)

    def _do(self, act: Act) -> None:
        match act:
            case Send(ask):
                said = noted(ask.exchange, self._settings, kill_is_sure=self._kill_by is not KillBy.NOTHING)
                request = numbered(said, self._starts + self._state.idle)
                failed = self._store_thread.submit(ask.serial, request)
                if failed is not None:
                    self._happen(_event_of(failed))
            case Abandon():
                self._store_thread.abandon()
            case StartCommand(term, term_at, kill_at):
                self._starts += 1
                self._keeper.start(env=self._environment(term), term_at=term_at, kill_at=kill_at)
            case ExtendLease(term_at, kill_at):
                self._keeper.lease(term_at=term_at, kill_at=kill_at)
                if self._wills.stale():
                    self._keeper.will(self._wills.again())
            case StopCommand(grace_s):
                self._keeper.stop(grace_s=grace_s, again_s=self._again_s)
            case KillCommand():
                self._keeper.kill()
            case Exit(code):
                self._exit_code = code

    # ---- what others need to know -------------------------------------------------------------------------------------

    def _environment(self, term: int | None) -> dict[str, str]:
        """The command's environment; a standby's has no term yet."""
        seat, start = (None, None) if term is None else (self._state.seat.number, self._starts)
        ours = names_of(self._election, self._identity.id, term, start, seat)
        return command_environment(os.environ, {**self._more, **ours})


def _event_of(outcome: Outcome) -> StateEvent:
    if outcome.reading is not None:
        return Answered(outcome.serial, outcome.reading)
    return Failed(outcome.serial, outcome.error, outcome.fatal_code)
