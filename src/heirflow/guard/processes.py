"""Processes as the platform shows them: how one is born, how a tree of them is walked, and how it is killed.

Standard library only, because the guard loads this file too, alone and without the package. On Linux through /proc and
cgroup v2; elsewhere through `ps`.
"""

# pathlib would cost the guard memory; starting programs is its trade:
# ruff: noqa: PERF203, PTH102, PTH106, PTH110, PTH115, PTH118, PTH123, PTH208, S605, S606
from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Collection, Iterable
from typing import NoReturn

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
PF_EXITING = 0x4
"""In the flags of /proc/PID/stat."""
CAP_KILL = 5
SYS_CLONE3, CLONE_INTO_CGROUP = ctypes.c_long(435), 0x200000000
TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
libc = ctypes.CDLL(None, use_errno=True)
c_with_gil = ctypes.PyDLL(None, use_errno=True)
c_with_gil.syscall.restype = ctypes.c_long


def become_subreaper() -> bool:
    """Let orphaned descendants become our children. False where the platform cannot."""
    return LINUX and libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def close_to_others() -> None:
    """Let nobody but root take our descriptors, read our memory or environment, or have them dumped; until exec, which opens again.

    The command runs as the same user. It could else write into the guard's socket that it is gone (`pidfd_getfd`), and an heir
    would start beside it.
    """
    if LINUX:
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def stat_of(pid: int) -> list[str]:
    """What /proc/PID/stat says after the name: state, parent, process group and so on. Raises OSError when it is gone."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].decode().split()  # a name may contain spaces and parentheses
    if not fields:
        raise ProcessLookupError(pid)
    return fields


def lives(pid: int) -> bool:
    """Whether this process is there and not a zombie. Linux only."""
    try:
        return stat_of(pid)[0] not in "ZX"
    except OSError:
        return False


def is_dying(pid: int) -> bool:
    """Whether this process was killed and is about to be gone. False when that cannot be told."""
    try:
        if int(stat_of(pid)[6]) & PF_EXITING:
            return True
        with open(f"/proc/{pid}/status") as file:
            waiting = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except (OSError, ValueError, IndexError):
        return False
    return any(mask >> (signal.SIGKILL - 1) & 1 for mask in waiting)


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
                fields = stat_of(int(entry))
                table[int(entry)] = int(fields[1]), int(fields[2]), fields[0]
            except OSError:  # it ended while we looked
                pass
    return table


def may_kill_anybody() -> bool:
    """Whether this process may signal processes of every user: it is root, or has CAP_KILL."""
    try:
        with open("/proc/self/status") as file:
            words = next((line.split() for line in file if line.startswith("CapEff:")), ["", "0"])
            return bool(int(words[1], 16) >> CAP_KILL & 1)
    except (OSError, ValueError):
        return os.geteuid() == 0


def refuses(pid: int) -> bool:
    """Whether this process is there and we may not signal it: it has become another user's."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def proc_is_ours() -> bool:
    """Whether /proc shows the pid namespace that we live in: otherwise the numbers in it are other processes' here."""
    try:
        with open("/proc/self/status") as file:
            named = next((line.split()[1:] for line in file if line.startswith("NSpid:")), None)
        # From the namespace that /proc belongs to, down to ours: the same one when there is one number.
        return len(named) == 1 if named else os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


PROC = LINUX and proc_is_ours()
LIST = "children"
"""The file below /proc/PID/task/TID that names the children. Some kernels (CONFIG_PROC_CHILDREN) and sandboxes have none."""
QUICK = PROC and os.path.exists(f"/proc/self/task/{os.getpid()}/{LIST}")


def asked_children() -> list[int]:
    """Our own children, zombies included, found without a /proc of ours: the kernel is asked about one number after the other.

    Numbers are given out in order, so the youngest process tells how far to ask, unless they have begun again from below.
    Raises nothing; reaps nothing.
    """
    first, last = os.getpid(), _number_in("/proc/loadavg", 4) or 0  # the youngest in the namespace of whoever reads it
    if last < first:
        first, last = 1, _number_in("/proc/sys/kernel/pid_max", 0) or 4_194_304  # the most that Linux allows
    found = []
    for pid in range(first, last + 1):
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            found.append(pid)
        except ChildProcessError:
            pass
    return found


def _number_in(path: str, place: int) -> int | None:
    try:
        with open(path) as file:
            return int(file.read().split()[place])
    except (OSError, ValueError, IndexError):
        return None


def dead_child() -> int | None:
    """One of our own children that has ended and was not collected yet; None when there is none. Collects nothing."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def children(pid: int) -> list[int]:
    """The children of a process, zombies included. May miss some while others end, so only ECHILD is a proof.

    Where /proc shows another namespace, only our own are found.
    """
    if not PROC and LINUX:
        return asked_children() if pid == os.getpid() else []
    if not QUICK:
        return [child for child, (parent, _, _) in process_table().items() if parent == pid]
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/{LIST}", "rb") as file:
                found += map(int, file.read().split())
    except OSError:  # it ended while we looked
        pass
    return found


def descendants(root: int, spare: Collection[int] = (), *, group: int = 0, thorough: bool = False) -> list[int]:
    """All below `root`, parents first, without `spare` and what is below those. `group`: this process group too."""
    below: dict[int, list[int]] = {}
    found: list[int] = []
    if (PROC or not LINUX) and (thorough or not QUICK):
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
    """One signal to each. A pid from a walk that ends meanwhile is not given to another process so soon: pids go round."""
    for pid in pids:
        with contextlib.suppress(OSError):  # already gone; or another user's (`refuses`): then the proof stays open
            os.kill(pid, number)


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


def cgroup_folder(pid: int | str = "self") -> str:
    """The directory of the cgroup v2 in which this process lives. Raises OSError where that cannot be seen from here."""
    with open(f"/proc/{pid}/cgroup") as file:
        inside = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), None)
    with open("/proc/self/mountinfo") as file:
        for words in map(str.split, file):
            if inside and words[words.index("-") + 1] == "cgroup2" and (inside + "/").startswith(words[3]):
                return os.path.join(words[4], os.path.relpath(inside, words[3]))
    raise OSError(errno.ENOENT, "no cgroup v2 here")


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
        own = cgroup_folder()  # by this name also where /proc shows another namespace
        for entry in os.listdir(own):
            owner = entry.rpartition("-")[2]
            if entry.startswith("heirflow-") and not os.path.exists(f"/proc/{owner}"):
                Cgroup.remove(os.path.join(own, entry))
        return own

    @staticmethod
    def remove(path: str) -> None:
        """Remove it, and those below it, as far as nobody is in there."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(path):
                if entry.is_dir(follow_symlinks=False):
                    Cgroup.remove(entry.path)
            os.rmdir(path)

    def fork(self) -> int:
        """As `os.fork`, with the child born in a cgroup below this one that is made anew for it.

        To write a process into a cgroup waits for all processors of the machine, 10 ms. A new one each time, because some kernels
        kill whoever is born in a cgroup that was killed more often than the parent's own. Raises `OSError` where there is no
        such call (old kernels, many sandboxes), or where no cgroup or process is to be had.
        """
        inside = os.path.join(self.path, "command")
        self.remove(inside)
        os.mkdir(inside)
        folder = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
        try:
            words = (ctypes.c_uint64 * 11)()  # struct clone_args
            words[0], words[4], words[10] = CLONE_INTO_CGROUP, signal.SIGCHLD, folder
            ctypes.pythonapi.PyOS_BeforeFork()
            pid: int = c_with_gil.syscall(SYS_CLONE3, words, ctypes.c_size_t(ctypes.sizeof(words)))
            number = ctypes.get_errno()
            (ctypes.pythonapi.PyOS_AfterFork_Parent if pid else ctypes.pythonapi.PyOS_AfterFork_Child)()
        finally:
            os.close(folder)
        if pid < 0:
            self.remove(inside)
            raise OSError(number, os.strerror(number))
        return pid

    def kill(self) -> None:
        """Kill all in it at once, whatever they fork meanwhile."""
        with contextlib.suppress(OSError):  # removed under us: the walk does the work
            os.write(self.kill_fd, b"1")

    def empty(self) -> bool:
        """Whether no process, not even a zombie, is in it."""
        try:
            with open(f"{self.path}/cgroup.events") as file:
                return "populated 0" in file.read()
        except OSError:
            return True


class Timer:
    """A descriptor that becomes readable at a moment of the deciding clock, at once after a suspend; fd -1 where there is none."""

    def __init__(self, clock: int) -> None:
        """`clock`: its number, `heirflow.clock.CLOCK`."""
        self.fd = libc.timerfd_create(clock, TFD_FLAGS) if LINUX else -1

    def set(self, at: float | None) -> None:
        """Become readable at this moment, at once when it has passed; None: never."""
        if self.fd >= 0:
            whole = int(at or 0)
            spec = (ctypes.c_long * 4)(0, 0, whole, max(1, int(((at or 0) - whole) * 1e9)) if at else 0)
            libc.timerfd_settime(self.fd, 1, spec, None)  # 1: TFD_TIMER_ABSTIME


def run_helper(argv: list[str], stdin: int, stdout: int) -> int:
    """Fork and run the will's helper with these two descriptors as its input and output; returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            os.execv(argv[0], argv)
        finally:
            os._exit(127)
    return pid


def become_command(
    guard: int,
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    report: int,
    cgroup: Cgroup | None,
    keep: tuple[int, ...],
    *,
    in_cgroup: bool,
    no_new_privileges: bool,
) -> NoReturn:
    """In the new child: the command's own session, default signals, a death tied to the guard's, and exec.

    `cgroup`: one that it is not in yet. `in_cgroup`: that is what makes its end sure, so it does not start outside.
    `no_new_privileges`: neither it nor anything that it starts can become another user's.
    """
    try:
        if LINUX:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:  # it died before we asked to die with it
            os._exit(126)
        os.setsid()
        for fd in keep:
            os.set_inheritable(fd, True)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if cgroup:
            try:
                os.write(cgroup.procs_fd, b"0")
            except OSError:  # not allowed here: the walk finds it as well
                if in_cgroup:
                    raise
        if no_new_privileges and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "no-new-privileges")
        os.chdir(cwd.encode("latin-1"))
        environment = {name.encode("latin-1"): value.encode("latin-1") for name, value in env.items()}
        os.execvpe(argv[0].encode("latin-1"), [word.encode("latin-1") for word in argv], environment)
    except OSError as error:
        os.write(report, b"%d %s" % (error.errno or 0, os.fsencode(error.filename or argv[0])))
    finally:
        os._exit(126)
