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

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

LINUX = sys.platform == "linux"
CLOCK = 7 if LINUX else time.CLOCK_MONOTONIC_RAW  # CLOCK_BOOTTIME: counts suspended time
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
STUCK_AFTER_S = 2.0
WILL_LIMIT_S = 3.0
libc = ctypes.CDLL(None, use_errno=True)


def boottime() -> float:
    return time.clock_gettime(CLOCK)


def become_subreaper() -> bool:
    """Let orphaned descendants become our children. False where the platform cannot."""
    return LINUX and libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


# ---- the tree ---------------------------------------------------------------------------------------------------------


def process_table() -> dict[int, tuple[int, int, str]]:
    """Every process: pid -> (parent, process group, state). Thorough and slow; `children` is the quick way."""
    table: dict[int, tuple[int, int, str]] = {}
    if not LINUX:
        with os.popen("/bin/ps -A -o pid=,ppid=,pgid=,state=") as listing:
            for pid, parent, group, state in (line.split(None, 3) for line in listing):
                table[int(pid)] = int(parent), int(group), state[0]
        return table
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()  # a name may contain spaces and parentheses
                table[int(entry)] = int(fields[1]), int(fields[2]), fields[0].decode()
            except (OSError, IndexError):  # it ended while we looked
                pass
    return table


def children(pid: int) -> list[int]:
    """The children of a process, zombies included. May miss some while others end, so only ECHILD is a proof."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:  # it ended while we looked
        pass
    return found


QUICK = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def descendants(root: int, spare: Collection[int] = (), *, group: int = 0, thorough: bool = False) -> list[int]:
    """All below `root`, parents first, without `spare` and what is below those. `group`: this process group too."""
    below: dict[int, list[int]] = {}
    found: list[int] = []
    if thorough or not QUICK:
        for pid, (parent, process_group, _) in process_table().items():
            below.setdefault(root if process_group == group and group else parent, []).append(pid)
    todo, seen = [root], {root, os.getpid(), *spare}
    while todo:
        pid = todo.pop()
        for child in below.get(pid, ()) if below else children(pid):
            if child not in seen:
                seen.add(child)
                found.append(child)
                todo.append(child)
    return found


def send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:  # already gone; or not ours to kill (a set-user-id program): the proof will stay open
            pass


def strike(root: int, spare: Collection[int] = (), *, group: int = 0, thorough: bool = False) -> list[int]:
    """Kill everything below `root` once; returns what was there. The caller reaps and repeats until none is left.

    Stopping all before killing any keeps a fork storm from outrunning the walk: what is stopped neither forks nor ends.
    """
    stopped: dict[int, None] = {}
    for _ in range(20):
        fresh = [pid for pid in descendants(root, spare, group=group, thorough=thorough) if pid not in stopped]
        if not fresh:
            break
        send(fresh, signal.SIGSTOP)
        stopped.update(dict.fromkeys(fresh))
    send(stopped, signal.SIGKILL)
    return list(stopped)


class Cgroup:
    """A cgroup v2 of the command's own, where we may make one: its kill is one write and hits all at once."""

    def __init__(self, name: str) -> None:
        self.path = os.path.join(self._own(), name)
        os.mkdir(self.path)
        try:
            self.kill_fd = os.open(f"{self.path}/cgroup.kill", os.O_WRONLY)  # Linux 5.14
            self.procs_fd = os.open(f"{self.path}/cgroup.procs", os.O_WRONLY)
        except OSError:
            os.rmdir(self.path)
            raise

    @staticmethod
    def _own() -> str:
        """The directory of our own cgroup, and stale empty ones of ours in it removed. Raises OSError without one."""
        with open("/proc/self/cgroup") as file:
            inside = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), None)
        with open("/proc/self/mountinfo") as file:
            for words in map(str.split, file):
                if inside and words[words.index("-") + 1] == "cgroup2" and (inside + "/").startswith(words[3]):
                    own = os.path.join(words[4], os.path.relpath(inside, words[3]))
                    for entry in os.listdir(own):
                        owner = entry.rpartition("-")[2]
                        if entry.startswith("heirflow-") and not os.path.exists(f"/proc/{owner}"):
                            Cgroup.remove(os.path.join(own, entry))
                    return own
        raise OSError(errno.ENOENT, "no cgroup v2 here")

    @staticmethod
    def remove(path: str) -> None:
        try:
            os.rmdir(path)
        except OSError:  # not empty, or gone
            pass

    def kill(self) -> None:
        try:
            os.write(self.kill_fd, b"1")
        except OSError:  # removed under us: the walk does the work
            pass

    def empty(self) -> bool:
        try:
            with open(f"{self.path}/cgroup.events") as file:
                return "populated 0" in file.read()
        except OSError:
            return True


class Timer:
    """A descriptor that becomes readable at a moment of CLOCK_BOOTTIME, at once after a suspend; fd -1 where there is none."""

    def __init__(self) -> None:
        self.fd = libc.timerfd_create(CLOCK, TFD_FLAGS) if LINUX else -1

    def set(self, at: float | None) -> None:
        if self.fd >= 0:
            whole = int(at or 0)
            spec = (ctypes.c_long * 4)(0, 0, whole, max(1, int(((at or 0) - whole) * 1e9)) if at else 0)
            libc.timerfd_settime(self.fd, 1, spec, None)  # 1: TFD_TIMER_ABSTIME


# ---- the backstop -----------------------------------------------------------------------------------------------------


def run_helper(argv: list[str], stdin: int, stdout: int) -> None:
    """Fork and run the will's helper with these two descriptors."""
    if os.fork() == 0:
        try:
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            os.execv(argv[0], argv)
        finally:
            os._exit(127)


def backstop(guard: int, request: int, helper_stdin: int, helper_stdout: int, cgroup: Cgroup | None) -> NoReturn:
    """Wait for the guard's end, then kill whatever is left until none is. Starts the will's helper when asked."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # the command's own; a reader of its output must see its end when it ends
        os.dup2(null, fd)
    while line := os.read(request, 4096):
        run_helper(json.loads(line), helper_stdin, helper_stdout)
        os.close(helper_stdin)
        os.close(helper_stdout)
    pause_s = 0.0
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # a subreaper without children: nothing is left
            break
        if cgroup:
            cgroup.kill()
        strike(os.getpid())
        time.sleep(pause_s)
        pause_s = min(0.05, pause_s + 0.001)
    if cgroup:
        Cgroup.remove(cgroup.path)
    os._exit(0)


# ---- the guard --------------------------------------------------------------------------------------------------------


class Guard:
    def __init__(
        self, channel: int, request: int, helper_stdin: int, helper_stdout: int, backstop_pid: int, cgroup: Cgroup | None
    ) -> None:
        self.channel, self.request, self.backstop_pid, self.cgroup = channel, request, backstop_pid, cgroup
        self.helper_stdin, self.helper_stdout = helper_stdin, helper_stdout
        self.inbox = self.outbox = b""
        self.member_gone = self.backstop_gone = self.leaving = False
        self.command = self.group = 0  # pid of the main process while it is not reaped; its group where ps must find it
        self.running = False  # from fork until proved gone
        self.status: int | None = None
        self.failed_exec: int | None = None
        self.exec_fd = -1
        self.term_at: float | None = None
        self.kill_at = self.stop_at = 0.0
        self.again_at: float | None = None
        self.because = ""  # why we are killing; empty while we are not
        self.struck_at = self.next_pass_s = 0.0
        self.told_stuck = False
        self.will: dict[str, Any] | None = None
        self.will_argv: list[str] = []
        self.will_text = self.answer = b""
        self.helper = "none"  # none -> asked -> told (go was written) -> done; asked or told -> lost -> told
        self.give_up_at = 0.0
        self.timer = Timer()
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
                elif fd == self.helper_stdout:
                    self.hear_helper()
            self.reap()
            self.finish()
            self.flush()
            self.arm()

    def patience_ms(self) -> float | None:
        """How long to sleep when nothing happens; None: until something does."""
        if self.because:
            self.next_pass_s = min(0.05, self.next_pass_s + 0.001)
            return self.next_pass_s * 1000
        if self.outbox or self.timer.fd < 0 or self.helper != "none":
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
                self.ask_helper()

    def obey(self, message: dict[str, Any]) -> None:
        what = message.pop("what")
        now = boottime()
        if what == "ping":
            self.say("pong", n=message["n"])
        elif what == "start":
            self.start(**message)
        elif what == "will":
            self.will, self.will_argv = message["payload"], message["argv"]
        elif what == "bye":
            self.leaving = True
            self.kill("its member is done")
        elif what == "lease":  # one that comes after kill_at changes nothing: the tree is being killed
            if now < self.kill_at < message["kill_at"]:
                self.kill_at = message["kill_at"]
                self.term_at = None if self.term_at is None else message["term_at"]
        elif what == "signal" and self.command:
            send([self.command], message["n"])
        elif what == "stop" and self.running:
            first = self.term_at is not None
            self.stop_at = min(self.stop_at, now + message["grace_s"])
            self.term_at = None
            if first:
                self.again_at = None if message["again_s"] is None else now + message["again_s"]
                self.term()
        elif what == "kill":
            self.kill("it was told to be killed")

    # the command

    def start(self, argv: list[str], env: dict[str, str], cwd: str, term_at: float, kill_at: float) -> None:
        """Run it. Texts are bytes read as Latin-1, so that any bytes pass unchanged whatever our locale is."""
        assert not self.running, "one guard runs one command at a time"
        if self.member_gone or self.backstop_gone or self.leaving or boottime() >= min(term_at, kill_at):
            self.say("gone", status=None, because="it was not started: its lease had already run out", took_s=0.0)
            return
        self.term_at, self.kill_at, self.again_at = term_at, kill_at, None
        self.stop_at = float("inf")
        self.status, self.failed_exec, self.because, self.told_stuck = None, None, "", False
        self.running = True
        self.exec_fd, report = os.pipe()
        me = os.getpid()
        self.command = os.fork()
        if self.command == 0:
            become_command(me, argv, env, cwd, report, self.cgroup)
        self.group = 0 if LINUX else self.command
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
            else:
                self.say("started", pid=self.command)

    def look_at_clock(self) -> None:
        now = boottime()
        if not self.running or self.because:
            return
        if now >= self.kill_at:
            self.kill("its lease ran out")
        elif now >= self.stop_at:
            self.kill("it did not stop in time")
        elif self.term_at is not None and now >= self.term_at:
            self.term_at = None
            self.term()
            self.say("ending", because="its lease is running out")
        elif self.again_at is not None and now >= self.again_at:
            self.again_at = None
            self.term()

    def arm(self) -> None:
        moments = [at for at in (self.term_at, self.kill_at, self.stop_at, self.again_at) if at is not None]
        self.timer.set(min(moments) if self.running and not self.because else None)

    def term(self) -> None:
        if self.command:  # a stopped process acts on TERM only after CONT
            send([self.command], signal.SIGTERM)
            send([self.command], signal.SIGCONT)

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
                send([self.command], signal.SIGKILL)

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
                self.hear_exec()
                self.command = 0
                self.status = os.waitstatus_to_exitcode(raw) if self.failed_exec is None else self.failed_exec
                self.kill("it ended by itself")

    def all_gone(self) -> bool:
        """The proof. Every release of a record rests on this one answer."""
        gone = self.reap() and (self.cgroup is None or self.cgroup.empty())
        return gone and (LINUX or not descendants(os.getpid(), group=self.group))

    def finish(self) -> None:
        """While killing: is it proved gone? Otherwise strike again. Then what the end of the command was waited for."""
        if self.running and self.because:
            if not self.all_gone():
                self.hit()
                left = strike(os.getpid(), group=self.group)
                if left and not self.told_stuck and boottime() > self.struck_at + STUCK_AFTER_S:
                    self.told_stuck = True
                    table = process_table()
                    stuck = [pid for pid in left if table.get(pid, (0, 0, ""))[2] == "D"]
                    self.say("stuck", pids=stuck or left)
                return
            took_s = boottime() - self.struck_at
            self.say("gone", status=self.status, because=self.because, took_s=took_s)
            self.running, self.because = False, ""
        if not self.running and self.leaving:
            self.leave()
        if not self.running and self.member_gone:
            self.carry_out_the_will()

    # the will

    def ask_helper(self) -> None:
        """The member is gone: let the helper start and connect while the tree is dying. It acts only on "go"."""
        if self.will is None:
            return
        self.give_up_at = max(boottime(), self.kill_at) + WILL_LIMIT_S
        self.will_text = json.dumps({**self.will, "give_up_at": self.give_up_at}).encode() + b"\n"
        self.helper = "asked"
        self.poll.register(self.helper_stdout, select.POLLIN)
        try:
            if os.getppid() == self.backstop_pid:
                os.kill(self.backstop_pid, signal.SIGCONT)
            os.write(self.request, json.dumps(self.will_argv).encode() + b"\n")
        except OSError:  # no backstop: its end of the helper's output closes, and `hear_helper` sees that
            pass
        self.tell_helper()

    def tell_helper(self) -> None:
        try:
            self.will_text = self.will_text[os.write(self.helper_stdin, self.will_text) :]
        except OSError:
            pass

    def hear_helper(self) -> None:
        try:
            if data := os.read(self.helper_stdout, 4096):
                self.answer += data
                return
        except BlockingIOError:
            return
        self.poll.unregister(self.helper_stdout)
        self.helper = "done" if self.answer or self.helper == "done" else "lost"

    def carry_out_the_will(self) -> None:
        """Called only when nothing of the command is left: `finish` has the proof."""
        if self.helper == "asked":
            self.will_text += b"go\n"
            self.helper = "told"
        elif self.helper == "lost":  # killed with the backstop, or before it answered: once more, as our own child
            self.answer = b"tried twice"
            self.helper = "told"
            stdin, self.helper_stdin = os.pipe()
            self.helper_stdout, stdout = os.pipe()
            run_helper(self.will_argv, stdin, stdout)
            os.close(stdin)
            os.close(stdout)
            self.poll.register(self.helper_stdout, select.POLLIN)
            self.will_text = json.dumps({**(self.will or {}), "give_up_at": self.give_up_at}).encode() + b"\ngo\n"
        if self.helper in ("none", "done") or boottime() > self.give_up_at + 1:
            self.leave()
        self.tell_helper()

    def leave(self) -> NoReturn:
        self.flush()
        if self.cgroup:
            Cgroup.remove(self.cgroup.path)
        os._exit(0)


def become_command(
    guard: int, argv: list[str], env: dict[str, str], cwd: str, report: int, cgroup: Cgroup | None
) -> NoReturn:
    """In the new child: the command's own session, default signals, a death tied to the guard's, and exec."""
    try:
        if LINUX:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:  # it died before we asked to die with it
            os._exit(126)
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if cgroup:
            try:
                os.write(cgroup.procs_fd, b"0")
            except OSError:  # not allowed here: the walk finds it as well
                pass
        os.chdir(cwd.encode("latin-1"))
        environment = {name.encode("latin-1"): value.encode("latin-1") for name, value in env.items()}
        os.execvpe(argv[0].encode("latin-1"), [word.encode("latin-1") for word in argv], environment)
    except OSError as error:
        os.write(report, b"%d %s" % (error.errno or 0, os.fsencode(error.filename or argv[0])))
    finally:
        os._exit(126)


def main() -> NoReturn:
    channel, make_cgroup = int(sys.argv[1]), sys.argv[2] == "cgroup"
    os.set_inheritable(channel, False)
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    for number in signal.valid_signals() - faults - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)  # a terminal's Ctrl-C, a service manager's TERM to all: the member decides
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    become_subreaper()
    cgroup = None
    if make_cgroup and LINUX:
        try:
            cgroup = Cgroup(f"heirflow-{os.getpid()}")
        except OSError:  # none here, or not ours to use: the walk does without
            pass
    request_r, request_w = os.pipe()
    stdin_r, stdin_w = os.pipe()
    stdout_r, stdout_w = os.pipe()
    me = os.getpid()
    guard = os.fork()
    if guard:
        for fd in (channel, request_w, stdin_w, stdout_r):
            os.close(fd)
        backstop(guard, request_r, stdin_r, stdout_w, cgroup)
    os.setsid()
    become_subreaper()
    for fd in (request_r, stdin_r, stdout_w):
        os.close(fd)
    Guard(channel, request_w, stdin_w, stdout_r, me, cgroup).run()


if __name__ == "__main__":
    main()
