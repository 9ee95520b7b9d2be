"""The guard's part in the will: when the helper starts, and when it hears "go".

A file that the guard loads from beside itself; it imports nothing of ours either.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from typing import Any

WILL_LIMIT_S = 3.0


def order(clock: Any, payload: dict[str, Any] | None, give_up_at: float, prover: str = "its guard") -> bytes:
    """What the helper reads first: what to do, until when, and who has the proof."""
    more = {"give_up_at": give_up_at, "clock": clock.CLOCK, "prover": prover}
    return json.dumps({**(payload or {}), **more}).encode() + b"\n"


class WillSender:
    """What is to be done at the database once the member is gone *and* nothing of the command is left.

    The helper is started and connects while the tree is dying. It acts only on "go", which is written in one place,
    `carry_out`, and that is called with the proof in hand.
    """

    def __init__(
        self, processes: Any, clock: Any, poll: Any, backstop: Any, stdin: int, stdout: int, backstop_pid: int
    ) -> None:
        self.processes, self.clock, self.poll = processes, clock, poll
        self.backstop, self.backstop_pid = backstop, backstop_pid
        self.stdin, self.stdout = stdin, stdout
        self.payload: dict[str, Any] | None = None
        self.argv: list[str] = []
        self.text = self.answer = b""
        self.helper = "none"  # none -> asked -> told (go was written) -> done; asked or told -> lost -> told
        self.give_up_at = 0.0

    def ask(self, kill_at: float) -> None:
        """The member is gone: let the backstop start the helper."""
        if self.payload is None:
            return
        self.give_up_at = max(self.clock.boottime(), kill_at) + WILL_LIMIT_S
        self.text = order(self.clock, self.payload, self.give_up_at)
        self.helper = "asked"
        self.poll.register(self.stdout, select.POLLIN)
        if os.getppid() == self.backstop_pid:
            self.processes.send([self.backstop_pid], signal.SIGCONT)
        self.backstop("helper", self.argv)  # no backstop: its end of the helper's output closes, and `hear` sees it
        self.speak()

    def speak(self) -> None:
        with contextlib.suppress(OSError):  # full, or nobody there: its output tells
            self.text = self.text[os.write(self.stdin, self.text) :]

    def hear(self) -> None:
        try:
            if data := os.read(self.stdout, 4096):
                self.answer += data
                return
        except BlockingIOError:
            return
        self.poll.unregister(self.stdout)
        self.helper = "done" if self.answer or self.helper == "done" else "lost"

    def carry_out(self) -> bool:
        """Called only with the proof that nothing of the command is left. True when there is no more to do."""
        if self.helper == "asked":
            self.text += b"go\n"
            self.helper = "told"
        elif self.helper == "lost":  # killed with the backstop, or before it answered: once more, as our own child
            self.answer = b"tried twice"
            self.helper = "told"
            stdin, self.stdin = os.pipe()
            self.stdout, stdout = os.pipe()
            with contextlib.suppress(OSError):  # no process to be had: its output closes, and `hear` sees it
                self.processes.run_helper(self.argv, stdin, stdout)
            os.close(stdin)
            os.close(stdout)
            self.poll.register(self.stdout, select.POLLIN)
            self.text = order(self.clock, self.payload, self.give_up_at) + b"go\n"
        if self.helper in ("none", "done") or self.clock.boottime() > self.give_up_at + 1:
            return True
        self.speak()
        return False
