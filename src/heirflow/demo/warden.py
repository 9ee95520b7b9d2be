"""The warden: starts what the demonstration asks for, and leaves nothing of it behind, however the demonstration ends.

A program of its own (``python -I -S warden.py FD FOLDER``), standard library only. It hears requests as lines of JSON on
the socket FD, answers there, and tells when something that it started has ended. The end of that socket, by `Stage.close` or
by a ``kill -9`` of the demonstration, is its signal: it kills every descendant and removes FOLDER (when one is named).

It is a child subreaper, so whatever a process it started leaves behind becomes its own child, and ``waitpid`` saying ECHILD
proves that nothing is left. Should the warden itself be killed, what it started gets a parent-death signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
END_LIMIT_S = 10.0
libc = ctypes.CDLL(None, use_errno=True)


class Warden:
    """What was started and is still there."""

    def __init__(self, channel: socket.socket, folder: str) -> None:
        self.channel = channel
        self.folder = folder
        self.names: dict[int, str] = {}

    def tell(self, **message: Any) -> None:
        with contextlib.suppress(OSError):
            self.channel.sendall(json.dumps(message).encode() + b"\n")

    def start(self, request: dict[str, Any]) -> None:
        name = request["start"]
        try:
            pid = self.spawn(request)
        except OSError as error:
            self.tell(failed=name, because=f"{error.strerror or error}: {error.filename or request['argv'][0]}")
            return
        self.names[pid] = name
        self.tell(started=name, pid=pid)

    def spawn(self, request: dict[str, Any]) -> int:
        reader, writer = os.pipe()  # closed by a successful exec; otherwise it carries the errno
        own, log = os.getpid(), os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                if LINUX:
                    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                    if os.getppid() != own:
                        os._exit(1)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                nothing = os.open(os.devnull, os.O_RDONLY)
                for source, target in ((nothing, 0), (log, 1), (log, 2)):
                    os.dup2(source, target)
                os.chdir(request["cwd"])
                os.execvpe(request["argv"][0], request["argv"], request["env"])  # noqa: S606  (no shell is wanted)
            except OSError as error:
                os.write(writer, str(error.errno or 1).encode())
            os._exit(127)
        os.close(log)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            failed = file.read()
        if failed:
            os.waitpid(pid, 0)
            raise OSError(int(failed), os.strerror(int(failed)), request["argv"][0])
        return pid

    def reap(self) -> bool:
        """Collect everything that has ended. False when there is no child at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if name := self.names.pop(pid, None):
                self.tell(ended=name, pid=pid, status=os.waitstatus_to_exitcode(status))

    def serve(self) -> None:
        """Until the other end of the socket is closed."""
        wake_reader, wake_writer = os.pipe()
        os.set_blocking(wake_writer, False)
        os.set_blocking(wake_reader, False)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        heard = b""
        while True:
            readable, _, _ = select.select([self.channel.fileno(), wake_reader], [], [], 1.0)
            if wake_reader in readable:
                os.read(wake_reader, 4096)
            if self.channel.fileno() in readable:
                try:
                    data = self.channel.recv(65536)
                except OSError:
                    return
                if not data:
                    return
                *lines, heard = (heard + data).split(b"\n")
                for line in lines:
                    request = json.loads(line)
                    if "keep" in request:
                        self.folder = ""
                    else:
                        self.start(request)
            self.reap()

    def end(self) -> None:
        """Kill whatever descends from here, again and again, until there is nothing."""
        limit = time.monotonic() + END_LIMIT_S
        while self.reap() and time.monotonic() < limit:
            for pid in descendants(os.getpid()) if LINUX else list(self.names):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                if not LINUX:
                    with contextlib.suppress(OSError):
                        os.killpg(pid, signal.SIGKILL)
            time.sleep(0.01)


def descendants(ancestor: int) -> list[int]:
    """Every process below this one, parents first. Linux only; elsewhere nothing is found."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, waiting = [], list(children.get(ancestor, ()))
    while waiting:
        pid = waiting.pop(0)
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def main() -> None:
    """Serve until the demonstration is gone, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    if LINUX:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    warden = Warden(channel, sys.argv[2])
    try:
        warden.serve()
    finally:
        warden.end()
        if warden.folder:
            shutil.rmtree(warden.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
