"""Word of a key that changed: a thread that asks blocking queries on a connection of its own.

An answer to one is no promise of a change: only another number of the key rings. An index that goes backwards (a restored
snapshot, for one) is forgotten, so that the next query does not wait for it to come again. It is never below 1, which would not
wait at all. Whoever answers at once again and again is asked less often.
"""

from __future__ import annotations

import threading
import time

from heirflow.errors import HeirflowError
from heirflow.stores.keyed.consul_agent import Agent, TooOften
from heirflow.stores.keyed.keys import ABSENT, Bell

WAIT_S = 20.0
"""So long one query waits: a server that is gone without a word is noticed after that."""
REST_S, LONGEST_REST_S = 0.1, 2.0
BURST, EVERY_S = 4.0, 0.5
"""So many answers may follow each other at once, and one more after each such time."""


class Watcher:
    """Rings a bell whenever a key has another number."""

    def __init__(self, agent: Agent, key: str, number: int, bell: Bell) -> None:
        self._agent, self._key, self._number, self._bell = agent, key, number, bell
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heirflow-consul-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin to end."""
        self._stopped.set()
        self._agent.sever()

    def join(self, limit_s: float) -> None:
        """See that it has ended. Never raises."""
        limit = time.monotonic() + limit_s
        while self._thread.is_alive() and time.monotonic() < limit:
            self._agent.sever()  # again: it may have begun a call just then
            self._thread.join(0.02)

    def _run(self) -> None:
        index, rest_s, left, since = 0, REST_S, BURST, time.monotonic()
        while not self._stopped.is_set():
            try:
                index = self._asked(index)
            except (HeirflowError, ValueError, TypeError, KeyError, IndexError) as error:
                index = 0
                self._stopped.wait(max(rest_s, error.wait_s if isinstance(error, TooOften) else 0.0))
                rest_s = min(2 * rest_s, LONGEST_REST_S)
                continue
            rest_s, now = REST_S, time.monotonic()
            left, since = min(BURST, left + (now - since) / EVERY_S) - 1, now
            if left < 0:
                self._stopped.wait(-left * EVERY_S)
        self._agent.close()

    def _asked(self, index: int) -> int:
        """Ask once, and return the index for the next time; 0: begin anew."""
        answer = self._agent.waited(self._key, index, WAIT_S) if index else self._agent.get(self._key)
        rows = answer.json() if answer.status == 200 else []
        number = int(rows[0]["ModifyIndex"]) if rows else ABSENT
        if number != self._number:
            # Of a number that went back nobody knows whether it is news: let them look.
            self._bell.ring(number if number > self._number else None)
            self._number = number
        shown = int(answer.headers.get("X-Consul-Index") or 0)
        return 0 if shown < index else max(1, shown)
