"""The member's side of the guard: never blocks, has no thread, and kills everything itself when the guard cannot.

What can go wrong with the guard, and what becomes of the command:

* the guard or its backstop is killed: the other one kills the tree; after `GRACE_S` the member does it as well;
* both are killed: the member, a subreaper too, inherits what is left and kills it at once (`sweep`);
* the guard is frozen: it does not answer pings; after `guard_limit_s` the member kills everything, guard included;
* the guard is frozen just as the lease runs out: at ``kill_at`` the member strikes too;
* the guard answers, and does not end the command when told to: after `OBEY_LIMIT_S` it is killed, and its backstop does it.

In each case one `Lost` comes out of `poll`, which also tells how the command ended, and not before nothing is left below this
process except `spare`. What a guard says of its command while it is being torn down is not passed on before: another command
would be started on it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from heirflow.clock import boottime
from heirflow.errors import HeirflowError
from heirflow.guard import processes
from heirflow.guard.why import KillBy, Why
from heirflow.member import own_programs
from heirflow.member.answers import EVERY_S, OBEY_LIMIT_S, Answers, EndDue
from heirflow.member.guard_events import (
    OURS_DIED,
    AtGate,
    Ending,
    Gone,
    GuardEvent,
    Lost,
    Note,
    Ready,
    StandbyGone,
    Started,
    Stuck,
)
from heirflow.member.sweep import Sweep

GRACE_S = 1.0
"""How long the surviving half of a broken guard has to clean up before the member does it."""
CLOSE_LIMIT_S = 5.0
GATE_LIMIT_S = 300.0
"""From a standby's start to its gate: imports on a busy host take a minute, hung ones for ever."""
SOON_S = 0.005
PATIENT_AFTER_S = 3.0
"""What was struck and is still there after so long is looked at less often: it may stay for hours."""


class GuardLink:
    """One guard process with its backstop, for one command after another."""

    def __init__(
        self,
        *,
        argv: Sequence[str],
        cwd: str,
        guard_limit_s: float,
        strike_after_s: float | None = None,
        clock: Callable[[], float] = boottime,
        name: str = "",
        use_cgroup: bool = True,
        gain_privileges: bool = False,
        stop_signal: int = signal.SIGTERM,
    ) -> None:
        """`gain_privileges`: the command may become another user's (sudo, set-uid programs), though it could then perhaps not be
        killed. `stop_signal`: what asks it to end.

        `strike_after_s`: how long after its deadline a silent guard is struck, which must lie inside the trust; None: as
        fits a `guard_limit_s` that came from a ttl. `name` is for people who read `ps`. `clock` must count as `boottime` does:
        the guard reads the same one.
        """
        self.argv, self.cwd, self.name = list(argv), cwd, name
        self.clock = clock
        self.may = [word for word, yes in (("cgroup", use_cgroup), ("gain", gain_privileges)) if yes]
        self.stop_signal = stop_signal
        self.gate_limit_s = GATE_LIMIT_S
        self.spare: set[int] = set()
        """Children of this process that are not the guard's and must not be killed or reaped here (hooks, other guards)."""
        self.collects = False
        """Whether every dead child of this process but `spare` is collected, whoever made it: what a hook left behind, and
        as PID 1 anything."""
        self.pid = 0
        self.backstop_pid = 0
        self.running = False
        """From `start` until `Gone`."""
        self.waiting = False
        """From `standby` until `start` or `StandbyGone`."""
        self._standby_env: dict[str, str] = {}
        self._stand_by = float("inf")
        """When a standby is given up that is not at its gate."""
        self._overdue: str | None = None
        """How long the standby had that was given up, in seconds."""
        self._serial = 0
        """Number of the last `start` or `standby`, which "gone" repeats: one that crossed our next order is not about it."""
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._inbox = self._outbox = b""
        self._broken: Lost | None = None
        """Why, once the guard cannot be used any more."""
        self._broken_at = 0.0
        self._kill_at = float("inf")
        self._struck_late = False
        self._answers, self._end = Answers(guard_limit_s), EndDue()
        self._strike_after_s = self._answers.every_s / 4 if strike_after_s is None else strike_after_s
        self._polled_at = 0.0
        self._sweep = Sweep((), self._collect)

    def spawn(self) -> None:
        """Start guard and backstop. This process becomes a child subreaper. Raises `HeirflowError`."""
        processes.become_subreaper()
        ours, theirs = socket.socketpair()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # until it ignores them itself
        try:
            words = [*own_programs.words("guard/guard.py"), str(theirs.fileno()), ",".join(self.may)]
            self._process = subprocess.Popen(
                [*words, str(int(self.stop_signal)), "backstop", self.name],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=own_programs.environment(),
            )
        except OSError as error:
            ours.close()
            raise HeirflowError(f"the guard could not be started: {error.strerror or error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self.backstop_pid, self.pid = self._process.pid, 0
        self._inbox = self._outbox = b""
        self._broken, self._sweep = None, Sweep(self.spare, self._collect, self.backstop_pid)
        self.running = self.waiting = False
        self._polled_at = self.clock()
        self._answers.begin(self._polled_at)

    def fileno(self) -> int:
        """The socket, to be watched for reading; -1 once the guard is lost or closed."""
        return self._socket.fileno() if self._socket else -1

    # orders; none of them blocks or fails: what a dead guard cannot do, `poll` tells

    def standby(self, *, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Run this program up to its gate; `start` then opens it. It is told by `AtGate`, or `StandbyGone`."""
        self._serial += 1
        self.waiting, self._standby_env = True, dict(env)
        self._stand_by, self._overdue = self.clock() + self.gate_limit_s, None
        self._end.settle()
        self._send("standby", n=self._serial, **own_programs.described(argv, env, self.cwd))

    def start(self, *, env: Mapping[str, str], term_at: float, kill_at: float) -> None:
        """Run the command now, or open the gate of the standby.

        TERM at `term_at` and SIGKILL of the tree at `kill_at` (CLOCK_BOOTTIME) unless extended.
        """
        if self.running:
            raise AssertionError("the command of this guard is still running")
        self.running, self._struck_late = True, False
        self._kill_at = kill_at
        self._answers.silent_s = 0.0
        self._end.settle()
        if self.waiting:
            self.waiting = False
            new = {name: value for name, value in env.items() if self._standby_env.get(name) != value}
            self._send("open", env=new, term_at=term_at, kill_at=kill_at, n=self._serial)
        else:
            self._serial += 1
            program = own_programs.described(self.argv, env, self.cwd)
            self._send("start", n=self._serial, **program, term_at=term_at, kill_at=kill_at)
        self._ping(self.clock())

    def lease(self, *, term_at: float, kill_at: float) -> None:
        """Extend the deadline; an earlier one than before is ignored."""
        self._kill_at = max(self._kill_at, kill_at)
        self._send("lease", term_at=term_at, kill_at=kill_at)

    def stop(self, *, grace_s: float, again_s: float | None = None) -> None:
        """TERM now, once more after `again_s`, SIGKILL of the tree after `grace_s`."""
        self._send("stop", grace_s=grace_s, again_s=again_s)
        self._end.owe(self.clock() + grace_s)

    def kill(self) -> None:
        """SIGKILL the whole tree now."""
        self._send("kill")
        self._end.owe(self.clock())

    def signal(self, number: int) -> None:
        """Forward a signal to the command's main process."""
        self._send("signal", n=int(number))

    def will(self, payload: dict[str, Any] | None) -> None:
        """What to do at the database if this process dies (the fields of `stores.base.Will`); None: nothing."""
        if payload is not None:
            payload = {**own_programs.for_drivers(), **payload}
        self._send("will", payload=payload, argv=own_programs.words("alone/will_helper.py"))

    # news

    def poll(self, now: float) -> list[GuardEvent]:
        """What has happened since the last call. Never blocks. `now` is the clock's time."""
        events: list[GuardEvent] = []
        if self._process is None:
            return events
        self._read(events)
        self._reap()
        if not self._broken:
            self._flush()
            self._look_at_guard(now)
            if self.waiting and now >= self._stand_by:
                self._stand_by, self._overdue = float("inf"), f"{self.gate_limit_s:g}"
                self.gate_limit_s = min(3600.0, 2 * self.gate_limit_s)  # hung or slow: that cannot be told
                self.kill()
        if self._broken:
            self._clean_up(now, events)
        self._polled_at = now
        self._answers.looked(now)
        return events

    def wake_at(self) -> float:
        """When `poll` wants to be called again, at the latest; infinity when only news can wake it."""
        if self._process is None:
            return float("inf")
        if self._broken:
            return self._polled_at + (SOON_S if self._polled_at < self._broken_at + PATIENT_AFTER_S else EVERY_S)
        moments = [self._stand_by if self.waiting else float("inf")]
        if self._outbox:
            moments.append(self._polled_at + SOON_S)
        moments.append(self._end.wake_at())
        if self.running:
            moments.append(self._answers.wake_at())
            if not self._struck_late:
                moments.append(self._kill_at + self._strike_after_s)
        return min(moments)

    def close(self) -> None:
        """End guard and command, without the will. Waits a limited time, then kills. Nothing is left afterwards."""
        self._send("bye")
        limit = self.clock() + CLOSE_LIMIT_S
        with selectors.PollSelector() as selector:
            watched = self.fileno()
            if watched >= 0:
                selector.register(watched, selectors.EVENT_READ)
            while self._process is not None:
                now = self.clock()
                if now > limit and not self._broken:
                    self._break(Lost(Why.GUARD_STAYS), now, strike=True)
                self.poll(now)
                if self._process is not None:
                    if self._socket is None and watched >= 0:
                        selector.unregister(watched)
                        watched = -1
                    selector.select(min(0.1, SOON_S if self._broken else 0.1))

    # inside

    def _send(self, what: str, **fields: Any) -> None:
        if self._socket is not None:
            self._outbox += json.dumps({"what": what, **fields}).encode() + b"\n"
            self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox and self._socket is not None:
                self._outbox = self._outbox[self._socket.send(self._outbox) :]
        except OSError:  # full: it is slow or frozen, and the pings tell; broken: reading tells
            pass

    def _read(self, events: list[GuardEvent]) -> None:
        ended = False
        try:
            while self._socket is not None:
                data = self._socket.recv(65536)
                if not data:
                    ended = True
                    break
                self._inbox += data
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        *lines, self._inbox = self._inbox.split(b"\n")
        for line in lines:
            self._hear(json.loads(line), events)
        if ended:
            self._break(Lost(Why.GUARD_GONE), self.clock())
            self._hang_up()

    def _hear(self, message: dict[str, Any], events: list[GuardEvent]) -> None:
        what = message["what"]
        if what == "hello":
            self.pid = message["pid"]
            events.append(Ready(KillBy(message["kill_by"])))
        elif what == "pong":
            self._answers.heard(message["n"])
        elif what == "started":
            events.append(Started(message["pid"]))
        elif what == "ending":
            self._end.owe(self._kill_at)
            events.append(Ending())
        elif what == "stuck":
            self._end.withstands()
            events.append(Stuck(tuple(message["pids"]), tuple(message["refused"])))
        elif what == "waits" and self.waiting:
            self._stand_by = float("inf")
            events.append(AtGate(message["pid"]))
        elif what == "note":
            events.append(Note(message["text"]))
        elif what == "gone" and message["n"] == self._serial:
            why, detail = Why(message["why"]), message["detail"]
            if self._broken is not None or why in OURS_DIED:
                self._break(Lost(why, detail), self.clock())
                return  # told with the end of the guard
            if self.running:
                events.append(Gone(message["status"], why, detail, message["took_s"], message["left"]))
            elif self.waiting:
                if self._overdue is not None:
                    why, detail = Why.NEVER_AT_GATE, self._overdue
                events.append(StandbyGone(message["status"], why, detail))
            self.running = self.waiting = False

    def _reap(self) -> None:
        """Collect the backstop when it is dead, and orphans once they can have come to us."""
        if self.backstop_pid:
            self._collect(self.backstop_pid)
        if self._broken or self.collects:
            self._sweep.collect()

    def _collect(self, pid: int) -> None:
        """Collect one child if it is dead."""
        try:
            reaped, raw = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            reaped, raw = pid, 0
        if reaped and pid == self.backstop_pid:
            self.backstop_pid = 0
            if self._process is not None:
                self._process.returncode = os.waitstatus_to_exitcode(raw)
            self._send("bye")  # its guard kills what is left and ends; we are alive, so no will
            self._break(Lost(Why.BACKSTOP_GONE), self.clock())

    def _ping(self, now: float) -> None:
        self._send("ping", n=self._answers.ask(now))

    def _look_at_guard(self, now: float) -> None:
        """Is it frozen? Then everything is killed from here. Is it deaf? Then its backstop does that, which knows the cgroup."""
        if not self.running and not self.waiting:
            self._end.settle()
        elif self._end.overdue(now):
            self._break(Lost(Why.GUARD_DEAF, f"{OBEY_LIMIT_S:g}"), now, strike=not self.pid)
            processes.send([self.pid] if self.pid else (), signal.SIGKILL)
        if not self.running or self._broken is not None:
            return
        if self._answers.frozen(now, said_hello=bool(self.pid)):
            self._break(Lost(Why.GUARD_FROZEN, f"{self._answers.silent_s:.1f}"), now, strike=True)
        elif self._answers.due(now):
            self._ping(now)
        if now >= self._kill_at + self._strike_after_s and not self._struck_late:
            self._struck_late = True  # the guard should have said gone: strike as well, and leave the proof to it
            if self.pid:
                processes.strike(self.pid, thorough=not processes.QUICK)
            else:
                self._break(Lost(Why.GUARD_MUTE), now, strike=True)

    def _break(self, lost: Lost, now: float, *, strike: bool = False) -> None:
        if self._broken is None:
            self._broken, self._broken_at = lost, now
        if strike:
            self._broken_at = now - GRACE_S

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _clean_up(self, now: float, events: list[GuardEvent]) -> None:
        """Wait for the surviving half to clean up, then kill; end when nothing is left below us but `spare`."""
        assert self._broken is not None
        # With both dead there is no surviving half: what they ran would go on, and be nobody's if we died meanwhile.
        strike = now >= self._broken_at + GRACE_S or (self._socket is None and self.backstop_pid == 0)
        if not self._sweep.finish(strike=strike):
            if strike and self._sweep.withstands(now):
                left = self._sweep.left
                events.append(Stuck(tuple(left), tuple(pid for pid in left if processes.refuses(pid))))
            return
        self._hang_up()
        self._process = None
        took_s = max(0.0, now - self._broken_at)
        ended = Gone(None, self._broken.why, self._broken.detail, took_s) if self.running else None
        self.running = False
        events.append(replace(self._broken, ended=ended))
