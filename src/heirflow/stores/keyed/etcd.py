"""etcd (3.4 and later) as a place for keys: `mod_revision` is a key's number, and a write is one transaction.

Every reading is linearizable: what was ever confirmed to anybody is in it, or there is no answer. A transaction compares the
numbers of the keys that guard it and, as a cluster restored from a snapshot gives numbers anew, also what stands in them. It goes
only to the cluster that was read before it: the name of the history is the cluster's id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from heirflow.stores.base import Finding, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.etcd_gateway import DELETE, RANGE, TXN, Document, Gateway, below, coded, decoded
from heirflow.stores.keyed.etcd_watch import EtcdWatcher
from heirflow.stores.keyed.keys import ABSENT, Bell, Entry, Seen, Write
from heirflow.stores.keyed.place import Where
from heirflow.stores.keyed.watcher import end

MOST = 100
"""So much is asked or deleted at once: etcd takes 128 operations, if it is not told otherwise."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What was seen last of a folder, and in which cluster."""

    seen: Seen
    cluster: str | None


class Etcd:
    """A session with one cluster: see `Keys`."""

    title = "etcd"

    def __init__(self, where: Where, *, call_limit_s: float) -> None:
        self._at, self._limit_s = where, call_limit_s
        place = where.now()
        self._folder = place.folder
        self.where = f"etcd at {place.shown}"
        self._clock = TheirClock()
        self._gateway = Gateway(where, limit_s=call_limit_s, clock=self._clock)
        self._shown: dict[str, _Shown] = {}
        self._watchers: list[EtcdWatcher] = []

    @property
    def history(self) -> str | None:
        return self._gateway.cluster

    def connect(self) -> None:
        self._gateway.ask(RANGE, {**below(self._folder), "count_only": True})
        self._at.accepted()

    def now(self) -> float:
        return self._clock.now()

    def read(self, folder: str) -> Seen:
        return self._take(folder, self._gateway.ask(RANGE, below(self._full(folder))))

    def commit(self, folder: str, write: Write) -> tuple[bool, Seen]:
        if not write.guards and not write.puts and len(write.deletes) > MOST:
            for start in range(0, len(write.deletes), MOST):  # of these, each is as good alone
                done, seen = self.commit(folder, Write(deletes=write.deletes[start : start + MOST]))
            return done, seen
        shown = self._shown.get(folder)
        look: Document = {"request_range": below(self._full(folder))}
        body = {
            "compare": [each for key, number in write.guards.items() for each in self._compared(key, number, shown)],
            "success": [
                *({"request_put": {"key": self._key(key), "value": coded(value)}} for key, value in write.puts.items()),
                *({"request_delete_range": {"key": self._key(key)}} for key in write.deletes if key not in write.puts),
                look,
            ],
            "failure": [look],
        }
        answer = self._gateway.ask(TXN, body, writes=True, of=None if shown is None else shown.cluster)
        responses = answer.get("responses")
        if not isinstance(responses, list) or not responses or not isinstance(responses[-1], dict):
            raise StoreUnavailable(f"{self.where} answers a transaction with something else")
        # An absent `succeeded` is a false one.
        return answer.get("succeeded") is True, self._take(folder, responses[-1].get("response_range"))

    def names(self, folder: str) -> list[str]:
        full = self._full(folder)
        found = self._gateway.ask(RANGE, {**below(full), "keys_only": True})
        return [key.removeprefix(f"{full}/") for key, _ in self._pairs(found)]

    def tree(self, folder: str) -> Seen:
        found = self._gateway.ask(RANGE, below(self._full(folder)))
        return Seen({key.removeprefix(f"{self._folder}/"): entry for key, entry in self._pairs(found)})

    def values(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted, found = list(keys), dict[str, bytes]()
        for start in range(0, len(wanted), MOST):
            asked = [{"request_range": {"key": self._key(key)}} for key in wanted[start : start + MOST]]
            responses = self._gateway.ask(TXN, {"success": asked}).get("responses")
            for each in responses if isinstance(responses, list) else ():
                pairs = self._pairs(each.get("response_range") if isinstance(each, dict) else None)
                found |= {key.removeprefix(f"{self._folder}/"): entry.value for key, entry in pairs}
        return found

    def clear(self, folder: str) -> None:
        self._gateway.ask(DELETE, below(self._full(folder)), writes=True)

    def watch(self, key: str, number: int, bell: Bell) -> None:
        gateway = Gateway(self._at, limit_s=self._limit_s, clock=TheirClock(), insists=False)
        self._watchers.append(EtcdWatcher(gateway, self._full(key), number, bell))

    def examine(self) -> list[Finding]:
        from heirflow.stores.keyed.etcd_doctor import examined

        return examined(self._at.now(), self._gateway, self._clock, self._limit_s)

    def sever(self) -> None:
        self._gateway.sever()

    def close(self) -> None:
        watchers, self._watchers = self._watchers, []
        end(watchers, self._limit_s)
        self._gateway.close()

    def _full(self, key: str) -> str:
        return f"{self._folder}/{key}"

    def _key(self, key: str) -> str:
        return coded(self._full(key))

    def _compared(self, key: str, number: int, shown: _Shown | None) -> Iterable[Document]:
        """What must hold for a key: its number, and what stands in it where we know that."""
        yield {"key": self._key(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(number)}
        entry = None if shown is None else shown.seen.entries.get(key)
        if number != ABSENT and entry is not None and entry.number == number:
            yield {"key": self._key(key), "target": "VALUE", "result": "EQUAL", "value": coded(entry.value)}

    def _take(self, folder: str, found: Any) -> Seen:
        """What a range shows of a folder."""
        entries = {key.removeprefix(f"{self._folder}/"): entry for key, entry in self._pairs(found)}
        right_below = {key: entry for key, entry in entries.items() if "/" not in key.removeprefix(f"{folder}/")}
        seen = Seen(right_below)
        self._shown[folder] = _Shown(seen, self._gateway.cluster)
        return seen

    def _pairs(self, found: Any) -> list[tuple[str, Entry]]:
        """The keys in a range's answer, in order: numbers are texts, and what is absent is empty."""
        try:
            return [
                (
                    decoded(each["key"]).decode("utf-8", "surrogateescape"),
                    Entry(decoded(each.get("value")), int(each["mod_revision"])),
                )
                for each in found.get("kvs") or ()
            ]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise StoreUnavailable(f"{self.where} answers with keys that cannot be understood") from None
