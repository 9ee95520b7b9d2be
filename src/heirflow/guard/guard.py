"""The guard: owns one command, kills its whole tree in time, and proves that nothing of it is left.

    member ── backstop ── guard ── command ── whatever the command starts
                 └─ the will's helper, when the member is gone

It is a program of its own (``python -I -S -E guard.py FD cgroup|plain [name]``), imports nothing of ours, and speaks lines
of JSON over the socket FD. It forks at once: the child is the guard, the parent stays behind as the *backstop*.

Why no process is left, whichever of the three is killed with -9, or any two of them:

* All three are child subreapers: a descendant whose parent dies, whatever session it made, becomes a child of the
  nearest living one of them. So ``waitpid`` saying ECHILD in the guard (or, after the guard, in the backstop, or, after
  both, in the member) is a proof that nothing is left below it.
* The guard sees the member's end (end of file on the socket) and the backstop's (error on the pipe to it), and kills the
  tree. The backstop sees the guard's end (end of file on the same pipe) and does the same.
* The command dies with the guard at once (parent-death signal). That is speed, not proof.

Why the command is dead in time: ``kill_at`` is a moment of CLOCK_BOOTTIME, held by a timer of that clock, and after every
wake-up the first act is to look at the clock. Only a `lease` message that comes before ``kill_at`` and names a later
moment extends it.

Why the will is never early: its helper is a child of the *backstop*, so the guard's ECHILD speaks about the command alone,
without exceptions to count. The helper may connect while the tree is dying, and acts only on the word "go" from the
guard, which is written in one place, after the proof. If the guard dies before, the helper reads end of file and ends.

On macOS there is no subreaper, no parent-death signal and no /proc: the tree is what `ps` shows below the command or in
its session's process group, and a descendant that left both is not found. docs/safety.md says so.
"""

# ruff: noqa: PTH118, PTH120 -- pathlib would cost the guard memory
from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import select
import signal
import sys
from types import ModuleType
from typing import Any, NoReturn

STUCK_AFTER_S = 2.0
FOREVER = float("inf")


def beside(name: str) -> ModuleType:
    """Load a file from where this one lies: started alone, there is no package."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), name + ".py"))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


processes, backstop = beside("processes"), beside("backstop")
will_sender, gatekeeper = beside("will_sender"), beside("gatekeeper")
boottime, strike, descendants = processes.boottime, processes.strike, processes.descendants


class Guard:
    """Its events are read in `run`, its one command lives from `start` to `finish`, and its own end is `leave`."""

    def __init__(
        self, channel: int, request: int, helper_stdin: int, helper_stdout: int, backstop_pid: int, cgroup: Any
    ) -> None:
        self.channel, self.request, self.backstop_pid, self.cgroup = channel, request, backstop_pid, cgroup
        self.inbox = self.outbox = b""
        self.member_gone = self.backstop_gone = self.leaving = self.losing = False
        self.command = self.main_pid = self.group = 0  # `command`: the main process while it is not reaped
        self.running = False  # from fork until proved gone
        self.serial = 0  # the member's number for what runs
        self.status: int | None = None
        self.failed_exec: int | None = None
        self.exec_fd = -1
        self.term_at: float | None = None
        self.kill_at = self.stop_at = 0.0
        self.again_at: float | None = None
        self.because = self.ending = ""  # why we are killing, empty while we are not; what an end of its own would mean
        self.struck_at = self.next_pass_s = 0.0
        self.told_stuck = False
        self.timer = processes.Timer()
        self.wake_r, wake_w = os.pipe()
        for fd in (channel, request, self.wake_r, wake_w, helper_stdout, helper_stdin):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.poll = select.poll()
        for fd in (channel, self.wake_r, self.timer.fd):
            if fd >= 0:
                self.poll.register(fd, select.POLLIN)
        self.poll.register(request, 0)  # only its error: the backstop's end
        self.gate, told = gatekeeper.Gatekeeper(self.poll), self.tell_backstop
        self.will = will_sender.WillSender(processes, self.poll, told, helper_stdin, helper_stdout, backstop_pid)

    def run(self) -> NoReturn:
        self.say("hello", pid=os.getpid(), backstop_pid=self.backstop_pid)
        while True:
            ready = self.poll.poll(self.patience_ms())
            self.look_at_clock()  # first, always: whoever was frozen past the deadline kills before anything else
            for fd, _ in ready:
                if fd == self.channel:
                    self.listen()
                elif fd == self.request:
                    self.poll.unregister(fd)
                    self.backstop_gone = True
                    self.kill("its backstop was killed")
                elif fd == self.wake_r:
                    os.read(fd, 4096)
                elif fd == self.exec_fd:
                    self.hear_exec()
                elif fd == self.will.stdout:
                    self.will.hear()
                elif fd == self.gate.reader:
                    self.hear_standby()
            self.reap()
            self.finish()
            self.flush()
            self.arm()

    def patience_ms(self) -> float | None:
        """How long to sleep when nothing happens; None: until something does."""
        if self.because:
            self.next_pass_s = min(0.05, self.next_pass_s + 0.001)
            return self.next_pass_s * 1000
        if self.outbox or self.timer.fd < 0 or self.will.helper != "none":
            return 100
        return None

    # what the member says

    def say(self, what: str, **fields: Any) -> None:
        self.outbox += json.dumps({"what": what, **fields}).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        try:
            while self.outbox and not self.member_gone:
                self.outbox = self.outbox[os.write(self.channel, self.outbox) :]
        except OSError:  # full (the member is frozen), or broken: reading will tell
            pass

    def listen(self) -> None:
        try:
            while data := os.read(self.channel, 65536):
                self.inbox += data
            self.member_gone = True
        except BlockingIOError:
            pass
        except OSError:
            self.member_gone = True
        *lines, self.inbox = self.inbox.split(b"\n")
        for line in lines:
            self.obey(json.loads(line))
        if self.member_gone:
            self.poll.unregister(self.channel)
            self.kill("its member is gone")
            if not self.leaving:
                self.will.ask(self.kill_at)

    def obey(self, message: dict[str, Any]) -> None:
        what = message.pop("what")
        now = boottime()
        if what == "ping":
            self.say("pong", n=message["n"])
        elif what == "start":
            self.start(**message)
        elif what == "standby":
            self.standby(**message)
        elif what == "open":
            self.open_gate(**message)
        elif what == "will":
            self.will.payload, self.will.argv = message["payload"], message["argv"]
        elif what == "bye":
            self.leaving = True
            self.kill("its member is done")
        elif what == "lease":  # one that comes after kill_at, or after its TERM, changes nothing: the command is ending
            if now < self.kill_at < message["kill_at"] and not self.losing:
                self.kill_at = message["kill_at"]
                self.term_at = None if self.term_at is None else message["term_at"]
                self.tell_backstop("deadline", self.kill_at)
        elif what == "signal" and self.command:
            processes.send([self.command], message["n"])
        elif what == "stop" and self.running:
            first = self.term_at is not None
            self.stop_at = min(self.stop_at, now + message["grace_s"])
            self.term_at = None
            if first:
                self.ending = "it ended as it was told"
                self.again_at = None if message["again_s"] is None else now + message["again_s"]
                self.term()
        elif what == "kill":
            self.kill("it was told to be killed")

    # the command

    def start(self, argv: list[str], env: dict[str, str], cwd: str, term_at: float, kill_at: float, n: int) -> None:
        """Run it. Texts are bytes read as Latin-1, so that any bytes pass unchanged whatever our locale is."""
        if self.may_begin(n, min(term_at, kill_at)):
            self.set_deadline(term_at, kill_at)
            self.run_command(argv, env, cwd, ())

    def standby(self, argv: list[str], env: dict[str, str], cwd: str, n: int) -> None:
        """Run it up to its gate. It has no lease, and so does not begin before `open_gate`."""
        if self.may_begin(n, FOREVER):
            self.set_deadline(None, FOREVER)
            ends = self.gate.build()
            self.run_command(argv, {**env, "HEIRFLOW_GATE": f"{ends[0]},{ends[1]}"}, cwd, ends)
            self.gate.built(ends)

    def open_gate(self, env: dict[str, str], term_at: float, kill_at: float, n: int) -> None:
        """Let the standby begin, if it stands there and there is time; otherwise nothing begins."""
        if not self.running:
            self.say("gone", n=n, status=None, because="its standby had ended", took_s=0.0)
        elif self.gate.stands and not self.because and boottime() < min(term_at, kill_at):
            self.set_deadline(term_at, kill_at)
            self.gate.open(env)
            self.say("started", pid=self.main_pid)
        else:
            self.kill("it was not at its gate when it should have begun")

    def hear_standby(self) -> None:
        stood = self.gate.stands
        for text in self.gate.hear():
            self.say("note", text=text)
        if self.gate.stands and not stood:
            self.say("standing", pid=self.main_pid)

    def may_begin(self, n: int, limit_at: float) -> bool:
        assert not self.running, "one guard runs one command at a time"
        if self.member_gone or self.backstop_gone or self.leaving or boottime() >= limit_at:
            because = "it was not started: its lease had already run out"
            self.say("gone", n=n, status=None, because=because, took_s=0.0)
            return False
        self.serial = n
        return True

    def set_deadline(self, term_at: float | None, kill_at: float) -> None:
        self.term_at, self.kill_at, self.again_at, self.stop_at = term_at, kill_at, None, FOREVER
        self.ending, self.losing = "it ended by itself", False
        self.tell_backstop("deadline", None if kill_at == FOREVER else kill_at)

    def tell_backstop(self, what: str, value: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone, which `poll` tells, or frozen: then we are not
            os.write(self.request, json.dumps([what, value]).encode() + b"\n")

    def run_command(self, argv: list[str], env: dict[str, str], cwd: str, keep: tuple[int, ...]) -> None:
        self.status, self.failed_exec, self.because, self.told_stuck = None, None, "", False
        self.running = True
        self.exec_fd, report = os.pipe()
        me = os.getpid()
        self.command = processes.fork()
        if self.command == 0:
            processes.become_command(me, argv, env, cwd, report, self.cgroup, keep)
        self.main_pid, self.group = self.command, 0 if processes.LINUX else self.command
        os.close(report)
        os.set_blocking(self.exec_fd, False)
        self.poll.register(self.exec_fd, select.POLLIN)

    def hear_exec(self) -> None:
        """End of file: it runs. Anything else: the error that exec ended with."""
        if self.exec_fd >= 0:
            try:
                report = os.read(self.exec_fd, 4096)
            except BlockingIOError:
                return
            self.poll.unregister(self.exec_fd)
            os.close(self.exec_fd)
            self.exec_fd = -1
            if report:
                number, _, path = report.decode(errors="replace").partition(" ")
                self.failed_exec = 127 if int(number) == errno.ENOENT else 126
                self.kill(f"it could not be started: {os.strerror(int(number))}: {path}")
            elif self.gate.opened:
                self.say("started", pid=self.main_pid)

    def look_at_clock(self) -> None:
        now = boottime()
        if not self.running or self.because:
            return
        if now >= self.kill_at:
            self.kill("its lease ran out")
        elif now >= self.stop_at:
            self.kill("it did not stop in time")
        elif self.term_at is not None and now >= self.term_at:
            self.term_at, self.losing = None, True
            self.ending = "it ended because its lease was running out"
            self.term()
            self.say("ending", because="its lease is running out")
        elif self.again_at is not None and now >= self.again_at:
            self.again_at = None
            self.term()

    def arm(self) -> None:
        moments = [at for at in (self.term_at, self.kill_at, self.stop_at, self.again_at) if at is not None]
        self.timer.set(min(moments) if min(moments) < FOREVER and self.running and not self.because else None)

    def term(self) -> None:
        if self.command:  # a stopped process acts on TERM only after CONT
            processes.send([self.command], signal.SIGTERM)
            processes.send([self.command], signal.SIGCONT)

    def kill(self, because: str) -> None:
        """Begin to kill the whole tree; `finish` goes on until it is proved gone."""
        if self.running and not self.because:
            self.hit()
            self.because, self.struck_at, self.next_pass_s = because, boottime(), 0.0
            strike(os.getpid(), group=self.group)

    def hit(self) -> None:
        """The quickest blow at the most: one call each, before any walk."""
        if self.cgroup:
            self.cgroup.kill()
        if self.command:
            try:
                os.killpg(self.command, signal.SIGKILL)
            except OSError:  # it has not made its session yet: the walk finds it
                processes.send([self.command], signal.SIGKILL)

    def reap(self) -> bool:
        """Collect the dead. True when no child is left at all, which for a subreaper means: no descendant."""
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.command:
                self.command = 0
                self.hear_exec()
                self.status = os.waitstatus_to_exitcode(raw) if self.failed_exec is None else self.failed_exec
                self.kill(self.ending)

    def all_gone(self) -> bool:
        """The proof. Every release of a record rests on this one answer."""
        gone = self.reap() and (self.cgroup is None or self.cgroup.empty())
        return gone and (processes.LINUX or not descendants(os.getpid(), group=self.group))

    def finish(self) -> None:
        """While killing: is it proved gone? Otherwise strike again. Then what the end of the command was waited for."""
        if self.running and self.because:
            if not self.all_gone():
                self.hit()
                left = strike(os.getpid(), group=self.group)
                if left and not self.told_stuck and boottime() > self.struck_at + STUCK_AFTER_S:
                    self.told_stuck = True
                    table = processes.process_table()
                    stuck = [pid for pid in left if table.get(pid, (0, 0, ""))[2] == "D"]
                    self.say("stuck", pids=stuck or left)
                return
            took_s = boottime() - self.struck_at
            self.say("gone", n=self.serial, status=self.status, because=self.because, took_s=took_s)
            self.running, self.because = False, ""
            self.tell_backstop("deadline", None)
            self.gate.close()
        if self.leaving and not self.running:
            self.leave()
        if self.member_gone and not self.running and self.will.carry_out():
            self.leave()

    def leave(self) -> NoReturn:
        self.flush()
        if self.cgroup:
            processes.Cgroup.remove(self.cgroup.path)
        os._exit(0)


def main() -> NoReturn:
    """Become backstop and guard."""
    os.set_inheritable(channel := int(sys.argv[1]), False)
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    for number in signal.valid_signals() - faults - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(
            number, signal.SIG_IGN
        )  # a terminal's Ctrl-C, a service manager's TERM to all: the member decides
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    processes.become_subreaper()
    cgroup = None
    if sys.argv[2] == "cgroup" and processes.LINUX:
        with contextlib.suppress(OSError):  # none here, or not ours to use: the walk does without
            cgroup = processes.Cgroup(f"heirflow-{os.getpid()}")
    request_r, request_w = os.pipe()
    stdin_r, stdin_w = os.pipe()
    stdout_r, stdout_w = os.pipe()
    me = os.getpid()
    guard = os.fork()
    if guard:
        for fd in (channel, request_w, stdin_w, stdout_r):
            os.close(fd)
        backstop.stand_by(processes, request_r, stdin_r, stdout_w, cgroup)
    os.setsid()
    processes.become_subreaper()
    for fd in (request_r, stdin_r, stdout_w):
        os.close(fd)
    Guard(channel, request_w, stdin_w, stdout_r, me, cgroup).run()


if __name__ == "__main__":
    main()
