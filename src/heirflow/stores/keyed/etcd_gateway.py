"""etcd's JSON gateway: one question over HTTP, with the token of its user, and what its errors mean.

A token ends by time, by a change of the users, and with the server that gave it. An answer that refuses it says that nothing was
done, so that a new one is fetched and the question asked again. Where the password itself is refused, it is read anew once.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from enum import Enum
from typing import Any

from heirflow.stores.base import StoreMisfit, StoreRefuses, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.http import Answer, Http, excerpt
from heirflow.stores.keyed.place import Place, Where

Document = dict[str, Any]
RANGE, TXN, DELETE, WATCH = "/v3/kv/range", "/v3/kv/txn", "/v3/kv/deleterange", "/v3/watch"
AT_ONCE = {"Grpc-Metadata-Hasleader": "true"}
"""A server that knows of no leader says so at once, and does not let us wait."""
UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE, DEADLINE_EXCEEDED = 16, 7, 14, 4


class Trouble(Enum):
    """What an answer that is an error means for us."""

    TOKEN = "token"  # noqa: S105
    PASSWORD = "password"  # noqa: S105
    RIGHTS = "rights"
    NO_USERS = "no users"
    SPACE = "space"
    TOO_MUCH = "too much"
    QUORUM = "quorum"
    OTHER = "other"


KNOWN = {
    "etcdserver: invalid auth token": Trouble.TOKEN,
    "etcdserver: user name is empty": Trouble.TOKEN,
    "etcdserver: user name not found": Trouble.TOKEN,
    "etcdserver: revision of auth store is old": Trouble.TOKEN,
    "etcdserver: authentication failed, invalid user ID or password": Trouble.PASSWORD,
    "etcdserver: permission denied": Trouble.RIGHTS,
    "etcdserver: authentication is not enabled": Trouble.NO_USERS,
    "etcdserver: mvcc: database space exceeded": Trouble.SPACE,
    "etcdserver: too many operations in txn request": Trouble.TOO_MUCH,
    "etcdserver: request is too large": Trouble.TOO_MUCH,
}
"""etcd's own client tells its errors apart by these words too: several have the same code."""
CODES = {
    UNAUTHENTICATED: Trouble.TOKEN,
    PERMISSION_DENIED: Trouble.RIGHTS,
    UNAVAILABLE: Trouble.QUORUM,
    DEADLINE_EXCEEDED: Trouble.QUORUM,
}


class Gateway:
    """Questions to one cluster, over one connection that is kept. Used by one thread at a time, except `sever`."""

    def __init__(self, where: Where, *, limit_s: float, clock: TheirClock, insists: bool = True) -> None:
        """`insists`: whether a refused password is looked for anew, which may take a while."""
        self._insists = insists
        self._where, self._limit_s, self._clock = where, limit_s, clock
        self._place: Place | None = None
        self._http: Http | None = None
        self._token: str | None = None
        self._doubted = True
        """The last call failed: what the URL says may have changed."""
        self.cluster: str | None = None
        """Which cluster answered last."""
        self.has_users = False
        """Whether etcd asks who we are, as far as we have noticed."""

    def ask(self, path: str, body: Document, *, writes: bool = False, of: str | None = None) -> Document:
        """One question, and its answer. `of`: to this cluster only. Raises as `Keys` does.

        Before a write over a new connection something is read: a server that stands still, or another cluster, is noticed by that.
        """
        until = time.monotonic() + self._limit_s
        if writes and not (self._http is not None and self._http.is_open and not self._doubted):
            self._asked(RANGE, {"key": coded(f"{self._now().folder}/"), "count_only": True}, False, until, None)
        found = self._asked(path, body, writes, until, of)
        if of is not None and self.cluster != of:
            raise StoreUnavailable(f"another etcd cluster has answered ({self.cluster}, and not {of})")
        return found

    def stream(self, path: str, body: Document, idle_s: float) -> Any:
        """The lines of an answer without end: see `Http.lines`. A question before has seen that the token holds."""
        http = self._lined_up(time.monotonic() + self._limit_s)
        return http.lines(path, body, headers=self.said, idle_s=idle_s)

    @property
    def said(self) -> dict[str, str]:
        """The headers by which it is us who ask."""
        return {**AT_ONCE, "Authorization": self._token} if self._token else AT_ONCE

    def sever(self) -> None:
        """End a call that hangs in another thread. Never raises."""
        if (http := self._http) is not None:
            http.sever()

    def close(self) -> None:
        """Give the connection back. Never raises."""
        if (http := self._http) is not None:
            http.close()

    def _asked(self, path: str, body: Document, writes: bool, until: float, of: str | None) -> Document:
        renewed = False
        try:
            while True:
                http = self._lined_up(until)
                if of is not None and self.cluster != of:
                    raise StoreUnavailable(
                        f"another etcd cluster answers here ({self.cluster}, and not {of}); nothing was written"
                    )
                left = max(0.001, until - time.monotonic())
                if writes and left < self._limit_s / 10:
                    raise StoreUnavailable("etcd answers too slowly; nothing was written")
                answer = http.call("POST", path, body, writes=writes, headers=self.said, limit_s=left)
                trouble, sentence = self._judged(answer)
                if trouble is None:
                    return self._understood(answer)
                if trouble is Trouble.TOKEN and not renewed:
                    self._token, renewed = None, True
                    self.has_users = True
                    continue
                if trouble is Trouble.QUORUM and writes:
                    http.leave()
                    sentence += " (whether it was written is not known)"
                raise self._error(trouble, sentence)
        except StoreUnavailable:
            self._doubted = True
            raise

    def _now(self) -> Place:
        if self._place is None:
            self._take(self._where.now())
        assert self._place is not None
        return self._place

    def _take(self, place: Place) -> None:
        """Use this place from now on."""
        before, self._place = self._place, place
        if before is not None and (before.user, before.password) != (place.user, place.password):
            self._token = None
        same = before is not None and (before.hosts, before.secure, before.options) == (
            place.hosts,
            place.secure,
            place.options,
        )
        if self._http is None or not same:
            self.close()
            self._http = Http(
                "etcd",
                place.hosts,
                limit_s=self._limit_s,
                secure=place.secure,
                options=place.options,
                clock=self._clock,
            )

    def _lined_up(self, until: float) -> Http:
        """What to ask with: as the URL is now, and with a token where there must be one."""
        if self._doubted:
            self._take(self._where.now())
            self._doubted = False
        place = self._now()
        if place.user and self._token is None:
            self._token = self._fetched(until)
            self._where.accepted()
        assert self._http is not None
        return self._http

    def _fetched(self, until: float) -> str:
        """A new token; an empty one where etcd does not ask who we are."""
        asked_again = False
        while True:
            place = self._now()
            assert self._http is not None
            body = {"name": place.user, "password": place.secret()}
            left = max(0.001, until - time.monotonic())
            answer = self._http.call("POST", "/v3/auth/authenticate", body, writes=False, headers=AT_ONCE, limit_s=left)
            trouble, sentence = self._judged(answer)
            if trouble is None:
                self.has_users = True
                return str(self._understood(answer).get("token", ""))
            if trouble is Trouble.NO_USERS:
                self.has_users = False
                return ""
            if trouble is Trouble.PASSWORD and not asked_again and self._insists and self._where.refused():
                self._take(self._where.now())
                asked_again, until = True, time.monotonic() + self._limit_s
                continue
            raise self._error(trouble, sentence)

    def _judged(self, answer: Answer) -> tuple[Trouble | None, str]:
        """None, or what is wrong and a sentence."""
        if answer.status == 200:
            return None, ""
        if answer.status == 404:
            raise StoreMisfit(
                f"{answer.at} has no JSON gateway (/v3/… is not found): start it with --enable-grpc-gateway=true, "
                "and with etcd 3.4 or later"
            )
        said = answer.json()
        if not isinstance(said, dict):
            said = {}
        message, code = str(said.get("message") or said.get("error") or excerpt(answer.body)), said.get("code")
        default = CODES.get(code, Trouble.OTHER) if isinstance(code, int) else Trouble.OTHER
        return KNOWN.get(message, default), f"{answer.at}: {message}"

    def _error(self, trouble: Trouble, sentence: str) -> StoreUnavailable:
        place = self._now()
        user = f"user {place.user}" if place.user else "a client without a user"
        match trouble:
            case Trouble.TOKEN if not place.user:
                return StoreRefuses(
                    f"{sentence}: it asks for a user and a password, and the URL names none (a certificate is no user "
                    "for its gateway)"
                )
            case Trouble.TOKEN | Trouble.PASSWORD:
                return StoreRefuses(f"{sentence} ({user})")
            case Trouble.RIGHTS:
                return StoreRefuses(
                    f"{sentence}: {user} needs the right to read and write all below {place.folder}/: "
                    f"`etcdctl role grant-permission ROLE readwrite --prefix=true {place.folder}/`"
                )
            case Trouble.SPACE:
                return StoreUnavailable(
                    f"{sentence}: nothing can be written until it is compacted and defragmented (`etcdctl compact`, "
                    "`etcdctl defrag`) or has a larger --quota-backend-bytes, and then `etcdctl alarm disarm`"
                )
            case Trouble.TOO_MUCH:
                return StoreUnavailable(f"{sentence}; nothing was written (--max-txn-ops, --max-request-bytes)")
            case Trouble.QUORUM:
                return StoreUnavailable(f"{sentence}: it has no leader, or cannot reach most of its servers")
        return StoreUnavailable(sentence)

    def _understood(self, answer: Answer) -> Document:
        found = answer.json()
        if not isinstance(found, dict):
            raise StoreUnavailable(f"{answer.at} answers something that is not of etcd: {excerpt(answer.body)}")
        header = found.get("header")
        if isinstance(header, dict) and header.get("cluster_id"):
            self.cluster = str(header["cluster_id"])
        return found


def coded(key: str | bytes) -> str:
    """As the gateway takes keys and values."""
    return b64encode(key.encode(errors="surrogateescape") if isinstance(key, str) else key).decode()


def decoded(text: Any) -> bytes:
    """What the gateway shows; a key or value that is absent is empty."""
    return b64decode(text or "", validate=True)


def below(folder: str) -> Document:
    """The range of all keys below a folder."""
    return {"key": coded(f"{folder}/"), "range_end": coded(f"{folder}0")}  # 0 is what follows the slash
