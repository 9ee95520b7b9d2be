"""Word of a key that changed: a thread that asks blocking queries on a connection of its own.

An answer to one is no promise of a change: only another number of the key rings. An index that goes backwards (a restored
snapshot, for one) is forgotten, so that the next query does not wait for it to come again. It is never below 1, which would not
wait at all. Whoever answers at once again and again is asked less often.
"""

from __future__ import annotations

import time

from heirflow.errors import HeirflowError
from heirflow.stores.keyed.consul_agent import Agent, TooOften
from heirflow.stores.keyed.keys import ABSENT
from heirflow.stores.keyed.watcher import LONGEST_REST_S, REST_S, Watcher

WAIT_S = 20.0
"""So long one query waits: a server that is gone without a word is noticed after that."""
BURST, EVERY_S = 4.0, 0.5
"""So many answers may follow each other at once, and one more after each such time."""


class ConsulWatcher(Watcher[Agent]):
    """Rings a bell whenever a key has another number."""

    name = "heirflow-consul-watch"

    def _watch(self) -> None:
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

    def _asked(self, index: int) -> int:
        """Ask once, and return the index for the next time; 0: begin anew."""
        answer = self._asks.waited(self._key, index, WAIT_S) if index else self._asks.get(self._key)
        rows = answer.json() if answer.status == 200 else []
        number = int(rows[0]["ModifyIndex"]) if rows else ABSENT
        if number != self._number:
            # Of a number that went back nobody knows whether it is news: let them look.
            self._bell.ring(number if number > self._number else None)
            self._number = number
        shown = int(answer.headers.get("X-Consul-Index") or 0)
        return 0 if shown < index else max(1, shown)
