"""Requests to a Consul agent, and what its answers mean: who we are, which consistency we insist on, what is a refusal.

Every reading says ``?consistent``: the leader asks a majority whether it still leads. An answer that shows that it was not so (a
proxy or a cache has taken the word away) is no answer. The default mode can show an old record just after a change of the leader.

Names of keys are spelt with letters, digits and ``,-_/`` only, as Consul 1.22 and later refuse others, and some endings.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from heirflow.errors import ConfigError
from heirflow.stores.base import StoreRefuses, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.http import Answer, Http, excerpt
from heirflow.stores.keyed.keys import Entry
from heirflow.stores.keyed.place import Place, Where

KV, TXN = "/v1/kv/", "/v1/txn"
QUERY = {"namespace": "ns", "partition": "partition", "dc": "dc"}
"""Option -> what it is called in a request."""
FIELDS = {"namespace": "Namespace", "partition": "Partition"}
"""Option -> what it is called in an operation of a transaction, where what the request says does not count."""
SPELT = {"%": ",", ":": ",c", "#": ",n", ".": ",d", "~": ",t"}
"""What `keys.quoted` leaves in a name, and Consul may refuse. Behind each % are two digits or capitals, so that it can be read."""
_READ = {spelt: letter for letter, spelt in SPELT.items()}
DENIED = re.compile(r"(?i)permission denied|ACL not found")
"""How an operation in a transaction is refused: Consul tells it by these words only."""
GONE_BACK = "Consul shows an older state than before: was a snapshot restored? What stands there now is read anew"


class TooOften(StoreUnavailable):
    """There is a limit on how often Consul may be asked."""

    wait_s = 0.0
    """So long it wants to be left alone."""


def spelt(key: str) -> str:
    """A key in letters that every Consul takes."""
    return re.sub(r"[%:#.~]", lambda found: SPELT[found[0]], key)


def unspelt(text: str) -> str | None:
    """The key that is spelt so; None where none is: somebody else has put it there."""
    key = re.sub(r",[cndt]?", lambda found: _READ[found[0]], text)
    return key if spelt(key) == text else None


class Agent:
    """One connection to Consul, as one user. Used by one thread at a time, except `sever`."""

    def __init__(self, where: Where, *, limit_s: float, clock: TheirClock) -> None:
        self._where, self._limit_s, self._clock = where, limit_s, clock
        self._accepted = False
        self._until: float | None = None
        """When all requests of one call must have ended."""
        self._take(where.now())

    def _take(self, place: Place) -> None:
        if place.user and not place.password and "token-file" not in place.options:
            raise ConfigError("a consul URL has no user, only a token, behind a colon: consul://:TOKEN@host/folder")
        self.place = place
        self.title = f"Consul at {place.shown}"
        self._http = Http(
            "Consul",
            place.hosts,
            limit_s=self._limit_s,
            secure=place.secure,
            options=place.options,
            clock=self._clock,
        )

    # Keys

    def key(self, key: str) -> str:
        """A key of ours as it stands there. With a slash behind it: all that is below."""
        return f"{self.place.folder}/{spelt(key)}"

    def entries(self, found: Any) -> dict[str, Entry]:
        """Keys of ours in an answer, by our names."""
        try:
            if not isinstance(found, list):
                raise TypeError(found)
            rows = [(each["Key"], each["Value"], each["ModifyIndex"]) for each in found]
            named = {self._named(key): Entry(_decoded(value), int(number)) for key, value, number in rows}
        except (KeyError, TypeError, ValueError):
            raise StoreUnavailable(f"{self.title} answers with keys that cannot be understood") from None
        return {key: entry for key, entry in named.items() if key is not None}

    def listed(self, found: Any) -> list[str]:
        """The same where there are only names, in order."""
        if not isinstance(found, list):
            raise StoreUnavailable(f"{self.title} answers with names that cannot be understood")
        return sorted(key for each in found if (key := self._named(str(each))) is not None)

    def _named(self, key: str) -> str | None:
        return unspelt(key.removeprefix(f"{self.place.folder}/"))

    # Questions

    @contextmanager
    def one_call(self) -> Iterator[None]:
        """All that is asked within the block ends within one limit."""
        outer = self._until
        self._until = time.monotonic() + self._limit_s if outer is None else outer
        try:
            yield
        finally:
            self._until = outer

    def get(self, key: str, **query: str) -> Answer:
        """What stands at a key, or (``recurse=""``, ``keys=""``) below it: 200 or 404."""
        return self._ask("GET", KV + quote(self.key(key)), query)

    def waited(self, key: str, index: int, wait_s: float) -> Answer:
        """The same once it has another index, or after that time; over the connection of the last call."""
        query = {"index": str(index), "wait": f"{wait_s:.0f}s"}
        # Consul adds a sixteenth at most.
        return self._ask("GET", KV + quote(self.key(key)), query, limit_s=wait_s * 17 / 16 + self._limit_s, kept=True)

    def transact(self, operations: list[dict[str, Any]], *, writes: bool) -> Answer:
        """All these, or none: 200, or 409 where one failed."""
        more = {name: self.place.options[option] for option, name in FIELDS.items() if option in self.place.options}
        body = [{"KV": {**operation, **more}} for operation in operations]
        answer = self._ask("PUT", TXN, {}, body, writes=writes)
        if answer.status not in {200, 409}:
            raise StoreUnavailable(f"{answer.at} answers a transaction with {answer.status}")
        return answer

    def told(self, path: str) -> Answer:
        """What the server says of itself."""
        return self._ask("GET", path, {}, consistent=False)

    def sever(self) -> None:
        """End a call that hangs in another thread. Never raises."""
        self._http.sever()

    def close(self) -> None:
        """Give the connection back. Never raises."""
        self._http.close()

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object = None,
        *,
        writes: bool = False,
        consistent: bool = True,
        limit_s: float | None = None,
        kept: bool = False,
    ) -> Answer:
        """Raises `StoreUnavailable` and its kin for what is neither yes nor no."""
        deadline = self._until or time.monotonic() + (self._limit_s if limit_s is None else limit_s)
        if not self._http.is_open:
            if kept:
                raise StoreUnavailable(f"{self.title} has ended the connection; nothing was sent")
            self._move(self._where.now())
        said = {name: self.place.options[option] for option, name in QUERY.items() if option in self.place.options}
        # What comes out of a transaction that writes is consistent, whatever is said.
        said = {**query, **said, **({"consistent": ""} if consistent and not writes else {})}
        target = path + (f"?{urlencode(said)}" if said else "")
        turns = 1 if writes or kept else len(self.place.hosts)
        again = not (writes or kept)
        while True:
            token = token_of(self.place)
            answer = self._http.call(
                method,
                target,
                body,
                writes=writes or kept,  # for a question that waits, too, there is one server and the whole time
                headers={"X-Consul-Token": token} if token else None,
                limit_s=max(0.001, deadline - time.monotonic()),
            )
            turns -= 1
            if answer.status == 429:
                self._http.leave()  # documented: another server may do it
                if turns > 0:
                    continue
            if answer.status in {401, 403} and self._is_known_anew(token) and again:
                again = False
                continue
            break
        self._see_to(answer, writes=writes, with_token=bool(token))
        if consistent and not writes:
            self._see_whether_consistent(answer)
        if not self._accepted:
            self._accepted = True
            self._where.accepted()
        return answer

    def _is_known_anew(self, token: str) -> bool:
        """A token was refused: whether there is another one now, for the next request."""
        self._where.refused()
        self._move(self._where.now())  # in any case: who listens for news may have asked for it before us
        return token_of(self.place) != token

    def _move(self, place: Place) -> None:
        if place != self.place:
            self._http.close()
            self._take(place)

    def _see_to(self, answer: Answer, *, writes: bool, with_token: bool) -> None:
        """Raises what a status says that is neither yes nor no."""
        status, said = answer.status, excerpt(answer.body)
        if status < 300 or status in {404, 409}:
            return
        if status in {401, 403}:
            who = "the token" if with_token else "who comes without a token"
            raise StoreRefuses(
                f"{answer.at} refuses {who}: {said}; it needs a policy with key_prefix "
                f"{self.place.folder + '/'!r} = write (and list, where lists are restricted)"
            )
        if status == 429:
            error = TooOften(
                f"{answer.at} may not be asked so often: {said}; raise the rate limit of its servers, or have fewer "
                "members and longer leases"
            )
            wait = answer.headers.get("Retry-After", "")
            error.wait_s = float(wait) if wait.isdecimal() else 0.0
            raise error
        if status == 413:
            raise StoreRefuses(
                f"{answer.at} does not take so much at once ({said}): remove members that are gone one by one, or take a newer "
                "Consul, which takes twice as many operations"
            )
        if status in {400, 405}:
            raise StoreRefuses(f"{answer.at} does not take what is asked ({status}): {said}")
        known = "; whether it was written is not known" if writes else ""
        raise StoreUnavailable(f"{answer.at} answers {status}: {said}{known}")

    def _see_whether_consistent(self, answer: Answer) -> None:
        headers = answer.headers
        if answer.status in {200, 404} and "X-Consul-KnownLeader" not in headers:
            raise StoreUnavailable(f"{answer.at} answers {answer.status} as Consul never does: is it another program?")
        if headers.get("X-Consul-KnownLeader", "true").lower() != "true":
            self._http.leave()
            raise StoreUnavailable(f"{answer.at} knows no leader of its servers: wait, or see to their quorum")
        mode = headers.get("X-Consul-Effective-Consistency", "consistent")
        if headers.get("X-Consul-LastContact", "0") != "0" or mode != "consistent":
            self._http.leave()
            raise StoreUnavailable(
                f"{answer.at} does not ask the leader, though it is told to: is there a proxy or a cache before it?"
            )
        if headers.get("X-Consul-Results-Filtered-By-ACLs", "").lower() == "true":
            raise StoreRefuses(
                f"{answer.at} shows the token a part only of {self.place.folder}/: it needs the right to read all of it"
            )


def token_of(place: Place) -> str:
    """As whom we come: what the URL says, else what Consul's own programs would take. Raises `StoreRefuses`."""
    if place.password or "token-file" in place.options:
        return place.secret()
    if file := os.environ.get("CONSUL_HTTP_TOKEN_FILE"):
        try:
            return Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise StoreRefuses(f"cannot read the token in {file}: {why}") from None
    return os.environ.get("CONSUL_HTTP_TOKEN", "")


def _decoded(value: str | None) -> bytes:
    """An empty value is told as null."""
    try:
        return base64.b64decode(value or "", validate=True)
    except binascii.Error:
        raise ValueError(value) from None
