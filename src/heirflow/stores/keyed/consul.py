"""Consul's KV as a place for keys: `ModifyIndex` is a key's number, and a write is one transaction.

The transaction checks the numbers of the keys that guard it, writes, and shows the folder last: its operations are carried out in
order, each sees what those before it did, and the whole is one entry in the servers' log (so it is in the published source; the
documents only call it atomic). Where the look does not show what was written, or all was rolled back, the folder is read anew.

Consul has no name for its history, and a transaction compares no values. A snapshot that is restored into new servers takes back
what was written since, and gives the same numbers a second time. That it happened is seen by any key that is shown with a lower
number than before: then nothing is concluded, once. A number that was given again by chance fits a member's write only if its own
row and the record have it as well: that row only the member itself writes. What remains are orders of people, for the moment
between their reading and their write. No session of Consul is used: its locks are advice, and its time-outs judge by other clocks.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from heirflow.stores.base import Finding, StoreRefuses, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.consul_agent import DENIED, GONE_BACK, Agent
from heirflow.stores.keyed.consul_watch import ConsulWatcher
from heirflow.stores.keyed.http import Answer, excerpt
from heirflow.stores.keyed.keys import ABSENT, Bell, Entry, Seen, Write
from heirflow.stores.keyed.place import Where
from heirflow.stores.keyed.watcher import end

MOST = 64
"""So many operations were documented for a transaction; later it is twice as many."""
GUARDED = {"cas", "check-index", "check-not-exists"}
Operation = dict[str, Any]


class Consul:
    """`keys.Keys` in Consul."""

    title = "Consul"
    history: str | None = None
    """The ID of a cluster would have to be one that a restored snapshot changes: there is none."""

    def __init__(self, where: Where, *, call_limit_s: float) -> None:
        """Raises `ConfigError`."""
        self._at, self._limit_s = where, call_limit_s
        self._clock = TheirClock()
        self._agent = Agent(where, limit_s=call_limit_s, clock=self._clock)
        self.where = self._agent.title
        self._shown: dict[str, dict[str, int]] = {}
        """Folder -> key -> number, as seen last."""
        self._watchers: list[ConsulWatcher] = []

    def connect(self) -> None:
        self._see_rights("elections")

    def now(self) -> float:
        return self._clock.now()

    def read(self, folder: str) -> Seen:
        with self._agent.one_call():
            answer = self._agent.get(f"{folder}/", recurse="")
            if answer.status == 404:
                # A folder that may not be read is shown empty. A single key is refused.
                self._see_rights(folder)
                return self._take(folder, {})
            return self._take(folder, self._agent.entries(answer.json()))

    def commit(self, folder: str, write: Write) -> tuple[bool, Seen]:
        operations, later = self._operations(write)
        with self._agent.one_call():
            done, shown = self._transacted(folder, operations)
            while done and later:
                # Of rows and events that are not wanted any more each is as good alone.
                done, shown = self._transacted(folder, later[: MOST - 1])
                later = later[MOST - 1 :]
            if done and self._is_after(folder, write, shown):
                return True, self._take(folder, shown)
            seen = self.read(folder)
            if done or not self._is_after(folder, write, seen.entries):
                return done, seen
            # What we are told of may be a second time: proxies send a PUT again when they have not seen its answer.
            others = {key: value for key, value in write.puts.items() if not key.startswith(f"{folder}/")}
            if not write.puts or self.values(others) != others:
                return False, seen
            raise StoreUnavailable(
                f"{self.where}: all that was to be written stands there, and yet it was refused; is there a proxy before it that "
                "sends requests again?"
            )

    def names(self, folder: str) -> list[str]:
        with self._agent.one_call():
            answer = self._agent.get(f"{folder}/", keys="")
            if answer.status == 404:
                self._see_rights(folder)
                return []
        listed = self._agent.listed(answer.json())
        return [name for key in listed if (name := key.removeprefix(f"{folder}/"))]

    def tree(self, folder: str) -> Seen:
        with self._agent.one_call():
            answer = self._agent.get(f"{folder}/", recurse="")
            if answer.status == 404:
                self._see_rights(folder)
                return Seen({})
            return Seen(self._agent.entries(answer.json()))

    def values(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = list(keys)
        with self._agent.one_call():
            parts = [self._some_values(wanted[start : start + MOST]) for start in range(0, len(wanted), MOST)]
        return {key: value for part in parts for key, value in part.items()}

    def _some_values(self, keys: list[str]) -> dict[str, bytes]:
        # `get` fails for a key that is gone. This shows none then, and those that begin in the same way.
        operations = [{"Verb": "get-tree", "Key": self._agent.key(key)} for key in keys]
        answer = self._agent.transact(operations, writes=False)
        if answer.status != 200:
            raise self._failed(answer)
        shown = self._agent.entries(_results(answer))
        return {key: shown[key].value for key in keys if key in shown}

    def clear(self, folder: str) -> None:
        answer = self._agent.transact([{"Verb": "delete-tree", "Key": self._agent.key(f"{folder}/")}], writes=True)
        if answer.status != 200:
            raise self._failed(answer)

    def watch(self, key: str, number: int, bell: Bell) -> None:
        agent = Agent(self._at, limit_s=self._limit_s, clock=TheirClock())
        self._watchers.append(ConsulWatcher(agent, key, number, bell))

    def examine(self) -> list[Finding]:
        from heirflow.stores.keyed.consul_doctor import examined

        return examined(self._agent, self._clock, self._limit_s)

    def sever(self) -> None:
        self._agent.sever()

    def close(self) -> None:
        watchers, self._watchers = self._watchers, []
        end(watchers, self._limit_s)
        self._agent.close()

    def _see_rights(self, folder: str) -> None:
        """Raises `StoreRefuses` where we may not read there."""
        self._agent.get(f"{folder}/rights")

    def _operations(self, write: Write) -> tuple[list[Operation], list[Operation]]:
        """What must come about at once, and deletions that may follow where it would be too much."""
        key, guards = self._agent.key, write.guards
        checks: list[Operation] = [
            {"Verb": "check-not-exists", "Key": key(name)}
            if number == ABSENT
            else {"Verb": "check-index", "Key": key(name), "Index": number}
            # Also for what is deleted: a deletion with an index passes where the key is gone already.
            for name, number in guards.items()
            if name not in write.puts
        ]
        puts: list[Operation] = [
            {"Verb": "set", "Key": key(name), "Value": base64.b64encode(value).decode()}
            | ({"Verb": "cas", "Index": guards[name]} if name in guards else {})
            for name, value in write.puts.items()
        ]
        gone = [name for name in write.deletes if name not in write.puts]
        sure: list[Operation] = [{"Verb": "delete", "Key": key(name)} for name in gone if name in guards]
        free: list[Operation] = [{"Verb": "delete", "Key": key(name)} for name in gone if name not in guards]
        whole = [*checks, *puts, *sure]
        fit = max(0, MOST - 1 - len(whole))
        return (whole + free[:fit], free[fit:]) if whole else (free[: MOST - 1], free[MOST - 1 :])

    def _transacted(self, folder: str, operations: list[Operation]) -> tuple[bool, dict[str, Entry]]:
        """Whether the guards held, and what a look at the folder showed last."""
        look = {"Verb": "get-tree", "Key": self._agent.key(f"{folder}/")}
        answer = self._agent.transact([*operations, look], writes=True)
        if answer.status == 200:
            # The other operations show their keys without values: also those that are deleted after they were checked.
            ours = {each["Key"] for each in operations}
            shown = [row for row in _results(answer) if row.get("Value") is not None or row.get("Key") not in ours]
            return True, self._agent.entries(shown)
        guards = {number for number, each in enumerate(operations) if each["Verb"] in GUARDED}
        if any(number not in guards or DENIED.search(what) for number, what in _errors(answer)):
            raise self._failed(answer)
        return False, {}

    def _is_after(self, folder: str, write: Write, shown: Mapping[str, Entry]) -> bool:
        """Whether that look shows the folder as it is after the write. That it does is not documented: so it is checked."""
        there = all(
            key in shown and shown[key].value == value
            for key, value in write.puts.items()
            if key.startswith(f"{folder}/")
        )
        return there and not any(key in shown for key in write.deletes if key not in write.puts)

    def _failed(self, answer: Answer) -> StoreUnavailable:
        """What to raise of a transaction that was rolled back, and not for a guard."""
        said = "; ".join(dict.fromkeys(what for _, what in _errors(answer))) or excerpt(answer.body)
        folder = f"{self._agent.place.folder}/"
        if DENIED.search(said):
            return StoreRefuses(
                f"{answer.at} refuses what is to be written: {said}; the token needs a policy with key_prefix {folder!r} = write"
            )
        return StoreUnavailable(f"{answer.at} has rolled a transaction back: {said}")

    def _take(self, folder: str, entries: dict[str, Entry]) -> Seen:
        """What is right below a folder. Raises `StoreUnavailable` where it is older than what was shown before, once."""
        below = f"{folder}/"
        seen = Seen(
            {
                key: entry
                for key, entry in entries.items()
                if key.startswith(below) and key != below and "/" not in key.removeprefix(below)
            }
        )
        before = self._shown.get(folder, {})
        self._shown[folder] = {key: entry.number for key, entry in seen.entries.items()}
        if any(entry.number < before.get(key, ABSENT) for key, entry in seen.entries.items()):
            raise StoreUnavailable(f"{self._agent.title}: {GONE_BACK}")
        return seen


def _results(answer: Answer) -> list[Any]:
    """The keys that a transaction shows."""
    said = answer.json()
    try:
        return [each["KV"] for each in said["Results"] or ()]
    except (KeyError, TypeError):
        raise StoreUnavailable(f"{answer.at} answers a transaction with something else") from None


def _errors(answer: Answer) -> list[tuple[int, str]]:
    """Which operation failed, and why. Raises `StoreUnavailable` where that is not said."""
    said = answer.json()
    try:
        found = [(int(each["OpIndex"]), str(each["What"])) for each in said["Errors"]]
    except (KeyError, TypeError, ValueError):
        found = []
    if not found:
        raise StoreUnavailable(f"{answer.at} answers {answer.status}, and not why: {excerpt(answer.body)}")
    return found
