"""The guard: owns one command, kills its whole tree in time, and proves that nothing of it is left.

    member ── backstop ── guard ── command ── whatever the command starts
                 └─ the will's helper, when the member is gone

It is a program of its own (``python -I -S -E guard.py FD WORDS SIGNAL backstop [name]``), imports nothing of ours, and speaks lines
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

Why a kill is sure: a command that could become another user's (sudo, a set-uid program) could not be signalled any more. So
before it starts there is the right to kill anybody (root, CAP_KILL), or a cgroup of its own with ``cgroup.kill``, or else it
gets no-new-privileges, and cannot become anybody else. `why.KillBy` names the choice, and the member is told.

On macOS there is no subreaper, no parent-death signal and no /proc: the tree is what `ps` shows below the command or in
its session's process group, and a descendant that left both is not found. docs/safety.md says so.
"""

# ruff: noqa: PTH118, PTH119, PTH120 -- pathlib would cost the guard memory
from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import sys
from types import ModuleType
from typing import Any, NoReturn


def beside(name: str) -> ModuleType:
    """Load a file by its place beside this one: started alone, there is no package."""
    spec = importlib.util.spec_from_file_location(
        os.path.basename(name), os.path.join(os.path.dirname(__file__), name + ".py")
    )
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


processes = beside("processes")
if __name__ == "__main__":
    processes.close_to_others()
clock, proof, backstop = beside("../clock"), beside("proof"), beside("backstop")
will_sender, gatekeeper, deadlines = beside("will_sender"), beside("gatekeeper"), beside("deadlines")
launch, channel, why, title = beside("launch"), beside("channel"), beside("why"), beside("title")
Why, KillBy, boottime, FOREVER = why.Why, why.KillBy, clock.boottime, deadlines.FOREVER
KILLING_S, KILLING_EVERY_S = 1.0, 0.3
"""While it kills, a guard tells its backstop so, again and again; one that is then silent for so long is frozen."""


class Guard:
    """Its events are read in `run`, its one command lives from `start` to `finish`, and its own end is `leave`."""

    def __init__(
        self,
        socket: int,
        request: int,
        helper_stdin: int,
        helper_stdout: int,
        backstop_pid: int,
        cgroup: Any,
        kill_by: Any,
        stop_signal: int,
    ) -> None:
        self.kill_by, self.stop_signal = kill_by, stop_signal
        self.channel = channel.Channel(socket)
        self.request, self.backstop_pid, self.cgroup = request, backstop_pid, cgroup
        self.tree = proof.Tree(processes, boottime, cgroup)
        self.backstop_gone = self.leaving = False
        self.serial = 0
        """The member's number for what runs."""
        self.deadlines = deadlines.Deadlines()
        self.ending = Why.ENDED
        """What an end of its own would mean now."""
        self.asked_others = False
        """The main process ended in an orderly stop, and what it left was asked to end too."""
        self.sent_killing_at = 0.0
        self.timer = processes.Timer(clock.CLOCK)
        self.wake_r, wake_w = os.pipe()
        for fd in (socket, request, self.wake_r, wake_w, helper_stdout, helper_stdin):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.poll = select.poll()
        for fd in (socket, self.wake_r, self.timer.fd):
            if fd >= 0:
                self.poll.register(fd, select.POLLIN)
        self.poll.register(request, 0)  # only its error: the backstop's end
        self.launch = launch.Launch(processes, self.poll, cgroup)
        self.gate, told = gatekeeper.Gatekeeper(self.poll), self.send_backstop
        self.will = will_sender.WillSender(processes, clock, self.poll, told, helper_stdin, helper_stdout, backstop_pid)

    def run(self) -> NoReturn:
        self.channel.send("hello", pid=os.getpid(), backstop_pid=self.backstop_pid, kill_by=self.kill_by)
        while True:
            ready = self.poll.poll(self.patience_ms())
            self.look_at_clock()  # first, always: whoever was frozen past the deadline kills before anything else
            for fd, _ in ready:
                if fd == self.channel.fd:
                    self.listen()
                elif fd == self.request:
                    self.poll.unregister(fd)
                    self.backstop_gone = True
                    self.kill(Why.BACKSTOP_GONE)
                elif fd == self.wake_r:
                    os.read(fd, 4096)
                elif fd == self.launch.fd:
                    self.hear_exec()
                elif fd == self.will.stdout:
                    self.will.hear()
                elif fd == self.gate.reader:
                    self.hear_standby()
            self.look_at_command()
            self.finish()
            self.channel.flush()
            self.arm()

    def patience_ms(self) -> float | None:
        """How long to sleep when nothing happens; None: until something does."""
        if self.tree.why:
            return 1000 * float(self.tree.next_look_s())
        if self.channel.outbox or self.timer.fd < 0 or self.will.helper != "none":
            return 100
        return None

    # what the member says

    def listen(self) -> None:
        for message in self.channel.read():
            self.obey(message)
        if self.channel.closed:
            self.poll.unregister(self.channel.fd)
            self.kill(Why.MEMBER_GONE)
            if not self.leaving:
                self.will.ask(self.deadlines.kill_at)

    def obey(self, message: dict[str, Any]) -> None:
        what = message.pop("what")
        now = boottime()
        if what == "ping":
            self.channel.send("pong", n=message["n"])
        elif what == "start":
            self.start(**message)
        elif what == "standby":
            self.standby(**message)
        elif what == "open":
            self.open_gate(**message)
        elif what == "will":
            self.will.payload, self.will.argv = message["payload"], message["argv"]
            self.send_backstop("will", [self.will.payload, self.will.argv])
        elif what == "bye":
            self.leaving = True
            self.send_backstop("will", [None, []])
            self.kill(Why.MEMBER_DONE)
        elif what == "lease":
            # One that crossed our word that the command is gone is no new deadline for the backstop.
            if self.deadlines.extend(now, message["term_at"], message["kill_at"]) and self.tree.running:
                self.send_backstop("deadline", self.deadlines.kill_at)
        elif what == "signal":
            self.tree.send(message["n"])
        elif what == "stop" and self.tree.running:
            if self.deadlines.stop(now, message["grace_s"], message["again_s"]):
                self.ending = Why.STOPPED
                self.term()
        elif what == "kill":
            self.kill(Why.ORDERED)

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
            try:
                ends = self.gate.build()
            except OSError as error:
                self.send_gone(n, Why.NOT_RUNNABLE, status=launch.NOT_RUNNABLE, detail=str(error.strerror))
                return
            self.run_command(argv, {**env, "HEIRFLOW_GATE": f"{ends[0]},{ends[1]}"}, cwd, ends)
            self.gate.built(ends)

    def open_gate(self, env: dict[str, str], term_at: float, kill_at: float, n: int) -> None:
        """Let the standby begin, if it stands there and there is time; otherwise nothing begins."""
        if not self.tree.running:
            self.send_gone(n, Why.STANDBY_GONE)
        elif self.gate.stands and not self.tree.why and boottime() < min(term_at, kill_at):
            self.set_deadline(term_at, kill_at)
            self.gate.open(env)
            self.channel.send("started", pid=self.tree.main_pid)
        else:
            self.kill(Why.NOT_AT_GATE)

    def hear_standby(self) -> None:
        stood = self.gate.stands
        for text in self.gate.hear():
            self.channel.send("note", text=text)
        if self.gate.stands and not stood:
            self.channel.send("waits", pid=self.tree.main_pid)

    def may_begin(self, n: int, limit_at: float) -> bool:
        assert not self.tree.running, "one guard runs one command at a time"
        if self.channel.closed or self.backstop_gone or self.leaving or boottime() >= limit_at:
            self.send_gone(n, Why.TOO_LATE)
            return False
        self.serial = n
        return True

    def set_deadline(self, term_at: float | None, kill_at: float) -> None:
        self.deadlines.begin(term_at, kill_at)
        self.ending, self.asked_others = Why.ENDED, False
        self.send_backstop("deadline", None if kill_at == FOREVER else kill_at)

    def send_backstop(self, what: str, value: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone, which `poll` tells, or frozen: then we are not
            os.write(self.request, json.dumps([what, value]).encode() + b"\n")

    def run_command(self, argv: list[str], env: dict[str, str], cwd: str, keep: tuple[int, ...]) -> None:
        me = os.getpid()
        try:
            pid, report, inside = self.launch.fork(boottime())
        except OSError as error:  # no process, memory or descriptor to be had just now
            self.gate.close()
            self.set_deadline(None, FOREVER)
            self.send_gone(self.serial, Why.NOT_RUNNABLE, status=launch.NOT_RUNNABLE, detail=str(error.strerror))
            return
        if pid == 0:
            processes.become_command(
                me,
                argv,
                env,
                cwd,
                report,
                None if inside else self.cgroup,
                keep,
                in_cgroup=self.kill_by is KillBy.CGROUP,
                no_new_privileges=self.kill_by is KillBy.NO_NEW_PRIVILEGES,
            )
        self.tree.begin(pid)

    def hear_exec(self) -> None:
        said = self.launch.hear()
        if said:
            self.kill(Why.NOT_RUNNABLE, said)
        elif said is not None and self.gate.opened:
            self.channel.send("started", pid=self.tree.main_pid)

    def look_at_clock(self) -> None:
        now = boottime()
        if not self.tree.running or self.tree.why:
            return
        if now >= self.deadlines.kill_at:
            self.kill(Why.LEASE_OVER)
        elif now >= self.deadlines.stop_at:
            self.kill(Why.STOP_TIMEOUT)
        elif self.deadlines.lease_is_ending(now):
            self.ending = Why.LEASE_ENDING
            self.term()
            self.channel.send("ending")
        elif self.deadlines.again(now):
            self.term()

    def arm(self) -> None:
        at = self.deadlines.next()
        self.timer.set(at if at < FOREVER and self.tree.running and not self.tree.why else None)

    def term(self) -> None:
        self.tree.send(self.stop_signal, signal.SIGCONT)  # a stopped process acts on a signal only after CONT

    def kill(self, why: Any, detail: str = "") -> None:
        """Begin to kill the whole tree; `finish` goes on until it is proved gone."""
        if self.tree.running and not self.tree.why:
            self.tree.kill(why, detail)
            self.send_killing()

    def send_killing(self) -> None:
        """Much memory takes its time to die: the backstop must not take that for a frozen guard."""
        self.sent_killing_at = boottime()
        self.send_backstop("deadline", self.sent_killing_at + KILLING_S)

    def look_at_command(self) -> None:
        """Collect the dead. When the main process is among them, what is left of its tree is killed, or asked to end first.

        A shell that runs a program dies of its TERM at once, and the program has the rest of the stop's time.
        """
        nobody_left = self.tree.reap()
        if not self.tree.running or self.tree.main or self.tree.why:
            return
        self.hear_exec()
        if self.ending is Why.ENDED or nobody_left:
            self.tree.left_behind = len(self.tree.others()) if self.ending is Why.ENDED and not nobody_left else 0
            self.kill(self.ending)
        elif not self.asked_others:
            self.asked_others = True
            others = self.tree.others()
            processes.send(others, self.stop_signal)
            processes.send(others, signal.SIGCONT)

    def finish(self) -> None:
        """While killing: tell when it is proved gone. Then what the end of the command was waited for."""
        if self.tree.running and self.tree.why:
            withstood = self.tree.finish()
            if withstood:
                self.channel.send("stuck", pids=withstood, refused=[pid for pid in withstood if processes.refuses(pid)])
            if withstood is not None:
                if boottime() > self.sent_killing_at + KILLING_EVERY_S:
                    self.send_killing()
                return
            self.hear_exec()
            status = self.tree.status if self.launch.failed is None else self.launch.failed
            took_s = boottime() - self.tree.struck_at
            detail, left = self.tree.detail, self.tree.left_behind
            self.send_gone(self.serial, self.tree.why, status=status, detail=detail, took_s=took_s, left=left)
            self.tree.why = None
            self.send_backstop("deadline", None)
            self.gate.close()
            self.launch.ended(status, self.tree.struck_at)
        if self.leaving and not self.tree.running:
            self.leave()
        if self.channel.closed and not self.tree.running and self.will.carry_out():
            self.leave()

    def send_gone(
        self, n: int, why: Any, *, status: int | None = None, detail: str = "", took_s: float = 0.0, left: int = 0
    ) -> None:
        self.channel.send("gone", n=n, status=status, why=why, detail=detail, took_s=took_s, left=left)

    def leave(self) -> NoReturn:
        self.channel.flush()
        if self.cgroup:
            processes.Cgroup.remove(self.cgroup.path)
        os._exit(0)


def main() -> NoReturn:
    """Become backstop and guard.

    Arguments: the socket; ``cgroup`` if it may make one, and ``gain`` if the command may gain privileges; the number of the
    signal that asks the command to end; then, for people, a word that `title` replaces, and a name.
    """
    os.set_inheritable(socket := int(sys.argv[1]), False)
    may, stop_signal = set(sys.argv[2].split(",")), int(sys.argv[3])
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    for number in signal.valid_signals() - faults - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        # A terminal's Ctrl-C, a service manager's TERM to all: the member decides.
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    processes.become_subreaper()
    cgroup = None
    if "cgroup" in may and processes.LINUX:
        with contextlib.suppress(OSError):  # none here, or not ours to use: the walk does without
            cgroup = processes.Cgroup(f"heirflow-{os.getpid()}")
    request_r, request_w = os.pipe()
    stdin_r, stdin_w = os.pipe()
    stdout_r, stdout_w = os.pipe()
    me = os.getpid()
    guard = os.fork()
    title.show(processes, "backstop" if guard else "guard")
    if guard:
        for fd in (socket, request_w, stdin_w, stdout_r):
            os.close(fd)
        tree = proof.Tree(processes, boottime, cgroup)
        backstop.Backstop(processes, clock, will_sender, tree).stand_by(request_r, stdin_r, stdout_w, Why.GUARD_GONE)
    os.setsid()
    processes.become_subreaper()
    may_gain = "gain" in may or not processes.LINUX
    sure = KillBy.chosen(right=processes.may_kill_anybody(), cgroup=cgroup is not None, may_gain=may_gain)
    for fd in (request_r, stdin_r, stdout_w):
        os.close(fd)
    Guard(socket, request_w, stdin_w, stdout_r, me, cgroup, sure, stop_signal).run()


if __name__ == "__main__":
    main()
