"""Word of a key that changed: a thread that waits for it on a connection of its own.

A watch may end for many reasons, and most are not told: a token that is not good any more closes it without a word. So whatever
ended it, the key is read, which sees to the token and shows what was missed, and watched again from there on. What has been
compacted since is of no interest then.
"""

from __future__ import annotations

import json
import time
from typing import Any

from heirflow.errors import HeirflowError
from heirflow.stores.base import StoreUnavailable
from heirflow.stores.keyed.etcd_gateway import RANGE, WATCH, Gateway, coded
from heirflow.stores.keyed.keys import ABSENT
from heirflow.stores.keyed.watcher import LONGEST_REST_S, REST_S, Watcher

IDLE_S = 30.0
"""A watch of which nothing was heard for so long is begun anew: its server may be gone without a word."""


class EtcdWatcher(Watcher[Gateway]):
    """Rings a bell whenever a key has another number."""

    name = "heirflow-etcd-watch"

    def _watch(self) -> None:
        rest_s, broken = REST_S, False
        while not self._stopped.is_set():
            try:
                revision = self._caught_up()
                if broken:
                    self._bell.ring(None)  # what stood there in between is not known
                rest_s, broken = REST_S, False
                heard = self._watched(revision + 1)
                broken = not heard
            except (HeirflowError, OSError, ValueError, TypeError, KeyError, AttributeError):
                broken = True
            if broken:
                self._stopped.wait(rest_s)
                rest_s = min(2 * rest_s, LONGEST_REST_S)

    def _caught_up(self) -> int:
        """Read the key, and return the cluster's revision."""
        found = self._asks.ask(RANGE, {"key": coded(self._key), "keys_only": True})
        pairs = found.get("kvs") or [{}]
        self._heard(int(pairs[0].get("mod_revision", ABSENT)))
        return int(found["header"]["revision"])

    def _watched(self, start: int) -> bool:
        """Until it ends; False: it was cancelled."""
        request = {"create_request": {"key": coded(self._key), "start_revision": str(start)}}
        limit = time.monotonic() + IDLE_S
        try:
            for line in self._asks.stream(WATCH, request, IDLE_S):
                said = json.loads(line)
                result = said.get("result") or {}
                if "error" in said or result.get("canceled"):
                    return False
                events: list[Any] = result.get("events") or []
                for event in events:
                    self._heard(int(event["kv"]["mod_revision"]))
                limit = time.monotonic() + IDLE_S
        except StoreUnavailable:
            if time.monotonic() < limit:
                raise
            return True  # idle
        return False

    def _heard(self, number: int) -> None:
        if number != self._number:
            self._number = number
            self._bell.ring(number)
