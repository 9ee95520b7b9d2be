"""A small member: a Guard in a selector loop, told what to do on its command line, writing what it sees to a file.

python driver.py '{"argv": [...], "events": PATH, "ttl_s": 2.0, "renew_s": 0.2 | null, "will": {...} | null, ...}'
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import sys
from dataclasses import asdict

from heirflow.clock import boottime
from heirflow.member.environment import command_environment
from heirflow.member.guard_events import Ending, Gone, Lost, Started
from heirflow.member.guard_link import GuardLink


def main() -> None:
    options = json.loads(sys.argv[1])
    out = open(options["events"], "a", buffering=1)  # noqa: SIM115

    def note(what: str, **fields: object) -> None:
        out.write(json.dumps({"what": what, "at": boottime(), **fields}) + "\n")

    read, write = os.pipe()
    for fd in (read, write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(write)
    signals: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, lambda n, _: signals.append(n))
    ttl_s, grace_s = options.get("ttl_s", 2.0), options.get("loss_grace_s", 0.3)
    guard = GuardLink(
        argv=options["argv"],
        cwd=options.get("cwd", "."),
        guard_limit_s=options.get("guard_limit_s", 1.0),
        name=options.get("marker", ""),
        use_cgroup=options.get("cgroup", True),
        gain_privileges=options.get("gain_privileges", False),
        stop_signal=options.get("stop_signal", signal.SIGTERM),
    )
    selector = selectors.DefaultSelector()
    selector.register(read, selectors.EVENT_READ)
    watched = -1
    renew_at = float("inf")
    done = False

    def begin() -> None:
        nonlocal watched, renew_at
        now = boottime()
        kill_at = now + ttl_s
        note("start", kill_at=kill_at)
        if options.get("will"):
            guard.will(options["will"])
        guard.start(
            env=command_environment(os.environ, options.get("env", {})), term_at=kill_at - grace_s, kill_at=kill_at
        )
        if options.get("renew_s"):
            renew_at = now + options["renew_s"]

    def spawn() -> None:
        nonlocal watched
        guard.spawn()
        watched = guard.fileno()
        selector.register(watched, selectors.EVENT_READ)

    spawn()
    begin()
    said_hello = False
    while not done:
        now = boottime()
        timeout = max(0.0, min(guard.wake_at(), renew_at) - now)
        selector.select(min(timeout, 5.0))
        now = boottime()
        with contextlib.suppress(BlockingIOError):
            os.read(read, 4096)
        while signals:
            number = signals.pop(0)
            if number == signal.SIGTERM:
                guard.stop(grace_s=options.get("stop_s", 1.0), again_s=options.get("again_s"))
            elif number == signal.SIGUSR1:
                note("told to be quiet")
                renew_at = float("inf")
            elif number == signal.SIGUSR2:
                guard.kill()
            else:
                guard.signal(number)
        events = guard.poll(now)
        if guard.pid and not said_hello:
            said_hello = True
            note("hello", guard=guard.pid, backstop=guard.backstop_pid, member=os.getpid())
        if now >= renew_at and guard.running:
            kill_at = now + ttl_s
            note("lease", kill_at=kill_at)
            guard.lease(term_at=kill_at - grace_s, kill_at=kill_at)
            renew_at = now + options["renew_s"]
        if watched >= 0 and guard.fileno() != watched:
            selector.unregister(watched)
            watched = -1
        for event in events:
            if isinstance(event, Lost) and event.ended is not None:
                note("Gone", **asdict(event.ended))
            note(type(event).__name__, **asdict(event))
            if isinstance(event, Ending) and options.get("renews_late"):
                guard.lease(term_at=now + 5.0, kill_at=now + 5.5)
            if isinstance(event, Started) and options.get("starve_guard"):
                resource.prlimit(guard.pid, resource.RLIMIT_NPROC, (0, 0))
                note("starved")
            if isinstance(event, Gone):
                renew_at = float("inf")
                if not options.get("after_gone") and not guard._broken:
                    done = True
                elif options.get("after_gone") == "again" and not guard._broken:
                    options["after_gone"] = None
                    begin()
            if isinstance(event, Lost):
                done = True
    guard.close()
    note("closed")


if __name__ == "__main__":
    main()
