"""What each request to the double of Consul means: paths, parameters, headers, limits. See `consul_double`."""

from __future__ import annotations

import base64
import json
import random
import re
import time
from dataclasses import dataclass
from typing import Any

from lab.servers.consul_state import LARGEST, WRITES, DeniedError

Answered = tuple[int, Any, dict[str, str]]
"""Status, body, headers."""
NAME = re.compile(r"[A-Za-z0-9,\-_./]*")
"""What 1.22 and later take as a key, if not told otherwise."""
SUSPICIOUS = (".js", ".json", ".html", ".txt", ".sh", ".com", ".py", ".log", ".zip", ".gz")
"""Some of the endings that they do not take."""
DEFAULT_WAIT_S, LONGEST_WAIT_S = 300.0, 600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as it came."""

    method: str
    path: str
    query: dict[str, str]
    token: str
    body: bytes


class AnswerError(Exception):
    """Ends a request with this."""

    def __init__(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status, self.body, self.headers = status, body, headers or {}


class Request:
    """One request, and what it means."""

    def __init__(self, double: Any, asked: Asked) -> None:
        self.double, self.asked, self.state = double, asked, double.state
        self.query, self.token = asked.query, asked.token

    def answered(self) -> Answered:
        self.state.rights.know(self.token)
        path = self.asked.path
        if "stale" in self.query and "consistent" in self.query:
            raise AnswerError(400, "stale and consistent cannot be had at once")
        if path == "/v1/status/leader":
            return 200, json.dumps(self.double.peers[0] if self.double.leads else "").encode(), {}
        if path == "/v1/status/peers":
            return 200, self.double.peers, {}
        if path == "/v1/agent/self":
            if not self.double.agent_may_be_read:
                raise DeniedError
            return 200, {"Config": {"Version": self.double.version, "Datacenter": "dc1", "Server": True}}, {}
        if not self.double.leads:
            raise AnswerError(500, "No cluster leader")
        if path == "/v1/txn" and self.asked.method == "PUT":
            return self._transaction()
        if path.startswith("/v1/kv/"):
            key = path.removeprefix("/v1/kv/")
            if self.double.checks_names and (not NAME.fullmatch(key) or key.lower().endswith(SUSPICIOUS)):
                raise AnswerError(400, "key contains what is not allowed")
            return {"GET": self._read, "PUT": self._put, "DELETE": self._delete}[self.asked.method](key)
        raise AnswerError(404, "")

    def _put(self, key: str) -> Answered:
        self.state.rights.need(self.token, key, "write")
        if len(self.asked.body) > LARGEST:
            raise AnswerError(413, "value too large")
        cas = int(self.query["cas"]) if "cas" in self.query else None
        return 200, self.state.put(key, self.asked.body, int(self.query.get("flags", 0)), cas), {}

    def _delete(self, key: str) -> Answered:
        self.state.rights.need(self.token, key, "write")
        cas = int(self.query["cas"]) if "cas" in self.query else None
        return 200, self.state.delete(key, recurse="recurse" in self.query, cas=cas), {}

    def _read(self, key: str) -> Answered:
        many = "recurse" in self.query or "keys" in self.query
        if not many:
            self.state.rights.need(self.token, key, "read")
        with self.state.changed:
            index, rows = self._awaited(key, many=many)
        readable = [row for row in rows if self.state.rights.may(self.token, row.key, "read")]
        headers = self._meta(index)
        if len(readable) < len(rows) and self.token:
            headers["X-Consul-Results-Filtered-By-Acls"] = "true"
        if not readable and (not many or key or "keys" not in self.query):
            raise AnswerError(404, "", headers)
        if "keys" in self.query:
            return 200, self._names(key, [row.key for row in readable]), headers
        if "raw" in self.query and not many:
            return 200, readable[0].value, headers
        return 200, [row.shown() for row in readable], headers

    def _names(self, prefix: str, keys: list[str]) -> list[str]:
        separator = self.query.get("separator", "")
        if not separator:
            return keys
        cut = [(key, key.find(separator, len(prefix))) for key in keys]
        return list(dict.fromkeys(key if at < 0 else key[: at + len(separator)] for key, at in cut))

    def _meta(self, index: int | None) -> dict[str, str]:
        headers = {
            "X-Consul-KnownLeader": "true" if self.double.known_leader else "false",
            "X-Consul-LastContact": str(self.double.last_contact_ms),
            "X-Consul-Effective-Consistency": next(
                (mode for mode in ("consistent", "stale") if mode in self.query), "leader"
            ),
        }
        if index is not None:
            headers["X-Consul-Index"] = str(index)
        return headers

    def _awaited(self, key: str, *, many: bool) -> tuple[int, list[Any]]:
        """What is there, once its index is above the one that was named, or the time is over. The lock is held."""
        known = int(self.query.get("index") or 0)
        wait_s = min(_seconds(self.query.get("wait")) or DEFAULT_WAIT_S, LONGEST_WAIT_S)
        limit = time.monotonic() + wait_s + (random.uniform(0, wait_s / 16) if self.double.jitter else 0.0)
        woken, restored = self.double.woken, self.state.restored
        while True:
            if many:
                index, rows = self.state.tree(key)
            else:
                index, row = self.state.get(key)
                rows = [] if row is None else [row]
            index = max(0, index + self.double.index_offset)
            left = limit - time.monotonic()
            over = left <= 0 or (woken, restored) != (self.double.woken, self.state.restored)
            if not known or index > known or over:
                return index, rows
            self.double.blocked += 1
            self.state.changed.wait(left)
            self.double.blocked -= 1

    def _transaction(self) -> Answered:
        if len(self.asked.body) > LARGEST:
            raise AnswerError(413, "request body too large")
        try:
            operations = [each["KV"] for each in json.loads(self.asked.body)]
            sizes = [len(base64.b64decode(each.get("Value") or "", validate=True)) for each in operations]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise AnswerError(400, "the body cannot be understood") from None
        if len(operations) > self.double.most_operations:
            raise AnswerError(413, f"too many operations ({len(operations)} > {self.double.most_operations})")
        if max(sizes, default=0) > LARGEST:
            raise AnswerError(413, "value too large")
        results, errors = self.state.transact(operations, self.token)
        writes = any(each["Verb"] in WRITES for each in operations)
        headers = {} if writes else self._meta(None)
        # Seen in the source: empty lists are told as null.
        return (409 if errors else 200), {"Results": results or None, "Errors": errors or None}, headers


def _seconds(text: str | None) -> float:
    found = re.fullmatch(r"(\d+)(ms|s|m)", text or "")
    if text and found is None:
        raise AnswerError(400, "not a time to wait")
    return 0.0 if found is None else int(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[2]]
