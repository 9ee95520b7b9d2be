"""What a Consul server keeps, in memory, written from what is documented of it: keys, indexes, transactions, rights.

Where the documents are silent, it does what the server's published source was seen to do; each such place says so. Nothing of that
source is in here.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MOST_OPERATIONS = 64
"""In one transaction. Documented later: 128."""
LARGEST = 512 * 1024
"""Bytes of a value, and of the body of a transaction."""
RIGHTS = {"deny": 0, "read": 1, "write": 2}
Operation = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A key that is there."""

    key: str
    value: bytes
    flags: int
    created: int
    modified: int

    def shown(self, *, value: bool = True) -> dict[str, Any]:
        """As JSON."""
        coded = base64.b64encode(self.value).decode() if value and self.value else None
        return {
            "LockIndex": 0,
            "Key": self.key,
            "Flags": self.flags,
            "Value": coded,
            "CreateIndex": self.created,
            "ModifyIndex": self.modified,
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that there was."""

    index: int
    rows: Mapping[str, Row]
    gone: Mapping[str, int]


class DeniedError(Exception):
    """This token may not."""


class NoTokenError(Exception):
    """There is no such token."""


class _FailedError(Exception):
    """An operation of a transaction."""


@dataclass
class Rights:
    """Access control: by token, what may be done below which beginning of a key. None: it is switched off."""

    tokens: dict[str, dict[str, str]] | None = None
    """The anonymous token is the empty one. A token without rules may nothing."""
    managers: set[str] = field(default_factory=set)
    """Tokens that may all."""

    def know(self, token: str) -> None:
        """Raises `NoTokenError`."""
        if self.tokens is not None and token and token not in self.tokens and token not in self.managers:
            raise NoTokenError

    def may(self, token: str, key: str, right: str) -> bool:
        """Whether this may be done with a key: the rule with the longest beginning holds."""
        if self.tokens is None or token in self.managers:
            return True
        rules = self.tokens.get(token, {})
        fitting = [begins for begins in rules if key.startswith(begins)]
        return bool(fitting) and RIGHTS[rules[max(fitting, key=len)]] >= RIGHTS[right]

    def may_all(self, token: str, prefix: str) -> bool:
        """Whether all keys with that beginning may be written."""
        rules = (self.tokens or {}).get(token, {})
        below = [right for begins, right in rules.items() if begins.startswith(prefix)]
        free = self.tokens is None or token in self.managers
        return free or (self.may(token, prefix, "write") and all(right == "write" for right in below))

    def need(self, token: str, key: str, right: str) -> None:
        """Raises `DeniedError`."""
        if not self.may(token, key, right):
            raise DeniedError


class State:
    """Keys with their indexes. Its lock is held by whoever asks."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.rights = Rights()
        self.index = 10  # a server has written some things of its own by then
        self.rows: dict[str, Row] = {}
        self.gone: dict[str, int] = {}
        """When keys were deleted: so that what a folder shows does not go backwards."""
        self.restored = 0

    def snapshot(self) -> Snapshot:
        """As it is now."""
        with self.changed:
            return Snapshot(self.index, dict(self.rows), dict(self.gone))

    def restore(self, snapshot: Snapshot, *, fresh: bool) -> None:
        """Go back to that. `fresh`: into new servers, which give numbers a second time; else they go on from where they were."""
        with self.changed:
            self.rows, self.gone = dict(snapshot.rows), dict(snapshot.gone)
            self.index = snapshot.index if fresh else self.index + 1
            self.restored += 1
            self.changed.notify_all()

    def highest(self) -> int:
        """Of all keys that are or were there."""
        return max([row.modified for row in self.rows.values()] + [*self.gone.values(), 0])

    def get(self, key: str) -> tuple[int, Row | None]:
        """A key, with the index for a blocking query. Of an absent one that is the whole table's (seen in the source)."""
        row = self.rows.get(key)
        return (max(1, self.highest()), None) if row is None else (row.modified, row)

    def tree(self, prefix: str) -> tuple[int, list[Row]]:
        """All keys with that beginning, in order, with the index for a blocking query."""
        rows = [row for key, row in sorted(self.rows.items()) if key.startswith(prefix)]
        indexes = [row.modified for row in rows] + [at for key, at in self.gone.items() if key.startswith(prefix)]
        return max(indexes) if indexes and prefix else max(1, self.highest()), rows

    # Writing

    def put(self, key: str, value: bytes, flags: int = 0, cas: int | None = None) -> bool:
        """Set a key; False where it has another index. With an index of 0 it is only made."""
        with self.changed:
            operation = {"Verb": "set", "Key": key, "Value": base64.b64encode(value).decode(), "Flags": flags}
            if cas is not None:
                operation |= {"Verb": "cas", "Index": cas}
            return not self._applied([operation])[1]

    def delete(self, key: str, *, recurse: bool = False, cas: int | None = None) -> bool:
        """Delete a key, or all with that beginning; False where it has another index, or that is 0."""
        with self.changed:
            if cas == 0:
                return False
            operation: dict[str, Any] = {"Verb": "delete-tree" if recurse else "delete", "Key": key}
            if cas is not None:
                operation = {"Verb": "delete-cas", "Key": key, "Index": cas}
            return not self._applied([operation])[1]

    def transact(self, operations: list[Operation], token: str = "") -> tuple[list[Any], list[Any]]:
        """Results and errors: one of both is empty. Rights are looked at first, and results are only what may be read."""
        with self.changed:
            denied = [
                {"OpIndex": number, "What": f"Permission denied: {each['Verb']} {each['Key']}"}
                for number, each in enumerate(operations)
                if not self._may(each, token)
            ]
            if denied:
                return [], denied
            results, errors = self._applied(operations)
            readable = [each for each in results if self.rights.may(token, each["KV"]["Key"], "read")]
            return readable, errors

    def _may(self, operation: Operation, token: str) -> bool:
        verb, key, rights = operation["Verb"], operation["Key"], self.rights
        if verb in {"get", "get-tree"}:
            return True  # what comes out is filtered
        if verb == "delete-tree":
            return rights.may_all(token, key)
        # Seen in the source: in some versions an operation that only looks needs the right to write.
        return rights.may(token, key, "read" if verb == "check-index" else "write")

    def _applied(self, operations: list[Operation]) -> tuple[list[Any], list[Any]]:
        """All or nothing: each operation sees what those before it did (seen in the source, and in its tests)."""
        before = (dict(self.rows), dict(self.gone))
        at, results, errors = self.index + 1, list[Any](), list[Any]()
        for number, each in enumerate(operations):
            found = self._one(each, at)
            if isinstance(found, str):
                errors.append({"OpIndex": number, "What": found})
            else:
                results += [{"KV": row} for row in found]
        if errors:
            self.rows, self.gone = before
            return [], errors
        if any(each["Verb"] in WRITES for each in operations):
            self.index = at
            self.changed.notify_all()
        return results, []

    def _one(self, operation: Operation, at: int) -> list[Any] | str:
        """What it shows, or why it fails."""
        act = VERBS.get(operation["Verb"])
        if act is None:
            return f"there is no verb {operation['Verb']}"
        try:
            return act(self, operation, at)
        except _FailedError as error:
            return str(error)

    def _set(self, operation: Operation, at: int) -> list[Any]:
        key, value = operation["Key"], base64.b64decode(operation.get("Value") or "")
        old = self.rows.get(key)
        new = Row(key, value, int(operation.get("Flags") or 0), at if old is None else old.created, at)
        if old is not None and replace(new, modified=old.modified) == old:
            new = old  # seen in the source: what changes nothing gets no new index
        self.rows[key] = new
        self.gone.pop(key, None)
        return [new.shown(value=False)]

    def _cas(self, operation: Operation, at: int) -> list[Any]:
        old, index = self.rows.get(operation["Key"]), int(operation.get("Index") or 0)
        if index != (0 if old is None else old.modified):
            raise _FailedError(f"{operation['Key']} has another index")
        return self._set(operation, at)

    def _delete(self, operation: Operation, at: int) -> list[Any]:
        if self.rows.pop(operation["Key"], None) is not None:
            self.gone[operation["Key"]] = at
        return []

    def _delete_cas(self, operation: Operation, at: int) -> list[Any]:
        row = self.rows.get(operation["Key"])
        # Seen in the source: what is not there is deleted already, whatever the index.
        if row is not None and row.modified != int(operation.get("Index") or 0):
            raise _FailedError(f"{operation['Key']} has another index")
        return self._delete(operation, at)

    def _delete_tree(self, operation: Operation, at: int) -> list[Any]:
        for key in [key for key in self.rows if key.startswith(operation["Key"])]:
            self._delete({"Key": key}, at)
        return []

    def _get(self, operation: Operation, at: int) -> list[Any]:
        row = self.rows.get(operation["Key"])
        if row is None:
            raise _FailedError(f"{operation['Key']} is not there")
        return [row.shown()]

    def _get_tree(self, operation: Operation, at: int) -> list[Any]:
        return [row.shown() for row in self.tree(operation["Key"])[1]]

    def _check_index(self, operation: Operation, at: int) -> list[Any]:
        row = self.rows.get(operation["Key"])
        if row is None or row.modified != int(operation.get("Index") or 0):
            raise _FailedError(f"{operation['Key']} has another index, or is not there")
        return [row.shown(value=False)]

    def _check_not_exists(self, operation: Operation, at: int) -> list[Any]:
        if operation["Key"] in self.rows:
            raise _FailedError(f"{operation['Key']} is there")
        return []


Act = Callable[[State, Operation, int], list[Any]]
VERBS: dict[str, Act] = {
    "set": State._set,
    "cas": State._cas,
    "delete": State._delete,
    "delete-cas": State._delete_cas,
    "delete-tree": State._delete_tree,
    "get": State._get,
    "get-tree": State._get_tree,
    "check-index": State._check_index,
    "check-not-exists": State._check_not_exists,
}
WRITES = {"set", "cas", "delete", "delete-cas", "delete-tree"}
