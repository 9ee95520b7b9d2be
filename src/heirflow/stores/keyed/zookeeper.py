"""Keys in ZooKeeper: each a znode, whose version is its number. What is written at once is one *multi*.

All that is asked for in one exchange goes out together: the multi, what stands in the nodes that were known before, and the list
of the folder. A session is answered in order, so the readings are of after the multi, and that is one round trip. Where a node is
new, all is read again. Readings of one folder are not of one instant; but the records are read first and last, and what is
between counts only where they stood still meanwhile.

**A number may come again.** A node that is deleted and made anew begins at version 0 again. So a record is never deleted: it is
emptied, its version goes on, and an empty one reads as absent. A swap from before a `forget` that was late on its way can never
match the record of after it.

**What a sync is.** A server may lag; before a reading that no write of ours came before, it is told to catch up with the leader.
A leader that was cut off and does not know it yet may answer that, too: then the reading is old, and whatever is concluded from it
is refused, since a write needs the others. A multi that fails is a transaction like any other, and what follows it is as new.
"""

# The client has no types.
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from kazoo.exceptions import (
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    QuotaExceededError,
    RolledBackError,
    RuntimeInconsistency,
    UnimplementedError,
)

from heirflow.stores.base import Finding, StoreMisfit, StoreRefuses, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.keys import ABSENT, Bell, Entry, Seen, Write
from heirflow.stores.keyed.place import Where
from heirflow.stores.keyed.zookeeper_examine import examined
from heirflow.stores.keyed.zookeeper_session import ENDING_S, KazooTimeoutError, NotReached, Session, acl_of, left
from heirflow.stores.keyed.zookeeper_watch import Watch

LEAF = 3
"""Keys have so many parts: ``elections/<name>/record``."""
BITE = 100
"""So many nodes are deleted at once."""
ROUNDS = 20
"""So often a reading is begun again."""
_T = TypeVar("_T")
_Asked = tuple[dict[str, Any], Any, dict[str, Any]]


class ZooKeeper:
    """`keys.Keys` for ZooKeeper."""

    title = "ZooKeeper"

    def __init__(self, where: Where, *, call_limit_s: float) -> None:
        """Raises `ConfigError`."""
        place = where.now()
        self.where = f"ZooKeeper at {place.shown}"
        # A server has a name for its ensemble's configuration, and none for its history: who was set up anew, or from a copy,
        # cannot be told from who was always there. So there is nothing that an ordinary client could compare.
        self.history: str | None = None
        self._where, self._place, self._call_limit_s = where, place, call_limit_s
        self._acl = acl_of(place)
        self._clock = TheirClock()
        self._session: Session | None = None
        self._secret = ""
        """Used last."""
        self._ending: list[Session] = []
        self._watches: dict[str, Watch] = {}
        self._made: set[str] = set()
        """Folders that were there."""
        self._known: dict[str, set[str]] = {}
        """Folder -> its keys when it was read last, those of emptied records too."""
        self._emptied: dict[str, int] = {}
        """Records that were emptied -> their number when they were read last."""

    def connect(self) -> None:
        def see(session: Session, limit: float) -> None:
            with suppress(NoNodeError):
                session.wait(session.client.get_children_async(self._path("")), limit)

        self._call(see)

    def now(self) -> float:
        return self._clock.now()

    def read(self, folder: str) -> Seen:
        return self._call(lambda session, limit: self._read(session, folder, limit))

    def commit(self, folder: str, write: Write) -> tuple[bool, Seen]:
        return self._call(lambda session, limit: self._commit(session, folder, write, limit))

    def names(self, folder: str) -> list[str]:
        def found(session: Session, limit: float) -> list[str]:
            session.client.sync_async(self._path(folder))
            folders = [folder]
            for _ in range(folder.count("/") + 1, LEAF):
                asked = [(each, session.client.get_children_async(self._path(each))) for each in folders]
                folders = [
                    f"{each}/{name}"
                    for each, result in asked
                    for name in self._or_gone(session, result, limit, otherwise=())
                ]
            stats = {key: session.client.exists_async(self._path(key)) for key in folders if _is_record(key)}
            there = {key for key, result in stats.items() if (stat := session.wait(result, limit)) and stat.dataLength}
            return sorted(key.removeprefix(f"{folder}/") for key in folders if key not in stats or key in there)

        return self._call(found)

    def tree(self, folder: str) -> None:
        return None

    def values(self, keys: Iterable[str]) -> dict[str, bytes]:
        several = list(keys)

        def found(session: Session, limit: float) -> dict[str, bytes]:
            session.client.sync_async(self._path(""))
            asked = {key: session.client.get_async(self._path(key)) for key in several}
            answers = {key: self._or_gone(session, result, limit, otherwise=None) for key, result in asked.items()}
            return {key: answer[0] for key, answer in answers.items() if answer and (answer[0] or not _is_record(key))}

        return self._call(found)

    def clear(self, folder: str) -> None:
        names = self.names(folder)
        for start in range(0, len(names), BITE):
            bite = [f"{folder}/{name}" for name in names[start : start + BITE]]
            done, _ = self.commit("", Write(deletes=bite))
            for key in () if done else bite:  # somebody else has deleted some of them
                self.commit("", Write(deletes=[key]))

        def remove(session: Session, limit: float) -> None:
            self._made.discard(folder)
            with suppress(NoNodeError, NotEmptyError):
                session.wait(session.client.delete_async(self._path(folder)), limit)

        self._call(remove)

    def watch(self, key: str, number: int, bell: Bell) -> None:
        watch = self._watches[key] = Watch(self._path(key), number, bell)
        if self._session is not None:
            watch.set(self._session.client)

    def examine(self) -> list[Finding]:
        return self._call(
            lambda session, _: examined(
                session, self._where.now(), self._path(""), self._acl, self._clock, self._call_limit_s
            )
        )

    def sever(self) -> None:
        if (session := self._session) is not None:
            session.sever()

    def close(self) -> None:
        self._watches.clear()
        self._drop(at_once=False)
        limit = time.monotonic() + ENDING_S
        self._ending = [session for session in self._ending if not session.ended(left(limit))]

    # A session

    def _call(self, work: Callable[[Session, float], _T]) -> _T:
        """What this comes to, within the limit of a call. Refused, it is done once more if another password is known by now.

        A refusal is an answer: nothing was written.
        """
        try:
            return self._tried(work)
        except (AuthFailedError, NoAuthError):
            if not (self._where.refused() or self._where.now().secret() != self._secret):
                raise StoreRefuses(self._refusal()) from None
        try:
            return self._tried(work)
        except (AuthFailedError, NoAuthError):
            raise StoreRefuses(self._refusal()) from None

    def _tried(self, work: Callable[[Session, float], _T]) -> _T:
        """The same once. Raises kazoo's errors where it is refused, and ours."""
        limit = time.monotonic() + self._call_limit_s
        try:
            return work(self._connected(limit), limit)
        except (AuthFailedError, NoAuthError):
            self._drop()
            raise
        except InvalidACLError:
            self._drop()
            raise StoreRefuses(
                f"{self.where} does not take the acl that its URL names, or nobody is logged in that `creator` could stand for"
            ) from None
        except QuotaExceededError:
            raise StoreRefuses(f"{self.where}: a quota is used up; `setquota` gives the folder more") from None
        except (UnimplementedError, BadArgumentsError) as error:
            self._drop()
            raise StoreMisfit(
                f"{self.where} cannot be used: {_words(error)}; it takes a ZooKeeper of 3.5 or later, and a folder with an "
                "ordinary name"
            ) from None
        except (KazooException, KazooTimeoutError, NotReached, RuntimeError) as error:
            self._drop()
            raise StoreUnavailable(f"{self.where}: {_words(error)}") from None
        except BaseException:
            self._drop()
            raise

    def _connected(self, limit: float) -> Session:
        if self._session is not None and self._session.is_over:
            self._drop()
        if self._session is None:
            self._ending = [session for session in self._ending if not session.ended(0)]
            place = self._where.now()
            self._secret = place.secret()
            self._session = Session(place, self._secret, call_limit_s=self._call_limit_s, lost=self._ring)
            self._session.start(limit)
            for watch in self._watches.values():
                watch.set(self._session.client)
            self._where.accepted()
        return self._session

    def _drop(self, *, at_once: bool = True) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end(at_once=at_once)
            self._ending.append(session)

    def _ring(self) -> None:
        """By a thread of kazoo: nothing more will be heard, and something may have changed."""
        for watch in list(self._watches.values()):
            watch.bell.ring(None)

    def _refusal(self) -> str:
        user = self._where.now().user
        who = f"the user {user}" if user else "whoever names no user"
        return (
            f"{self.where} does not let {who} in: give it the rights cdrwa on this folder and all below (`setAcl -R`), or correct "
            "the user, the password or the password-file in the URL"
        )

    # Nodes

    def _path(self, key: str) -> str:
        return f"/{self._place.folder}/{key}" if key else f"/{self._place.folder}"

    def _or_gone(self, session: Session, result: Any, limit: float, *, otherwise: Any) -> Any:
        try:
            return session.wait(result, limit)
        except NoNodeError:
            return otherwise

    def _make(self, session: Session, folder: str, limit: float) -> None:
        """Make a folder with all above it. None of it has anything in it, and none is ever deleted while it has."""
        if folder in self._made:
            return
        missing: list[str] = []
        path = self._path(folder)
        while path and session.wait(session.client.exists_async(path), limit) is None:
            missing.append(path)
            path = path.rpartition("/")[0]
        for each in reversed(missing):
            with suppress(NodeExistsError):
                session.wait(session.client.create_async(each, b"", acl=self._acl), limit)
        self._made.add(folder)

    def _read(self, session: Session, folder: str, limit: float) -> Seen:
        session.client.sync_async(self._path(folder))
        return self._gather(session, folder, self._ask(session, folder, self._known.get(folder, ())), limit)

    def _ask(self, session: Session, folder: str, known: Iterable[str]) -> _Asked:
        """Ask for these keys of a folder, for what else is in it, and for the records again."""
        client, known = session.client, sorted(known, key=lambda key: not _is_record(key))
        first = {key: client.get_async(self._path(key)) for key in known}
        names = client.get_children_async(self._path(folder))
        return first, names, {key: client.get_async(self._path(key)) for key in known if _is_record(key)}

    def _gather(self, session: Session, folder: str, asked: _Asked, limit: float) -> Seen:
        """What was asked for; and all of it again where something is new, or a record has changed meanwhile."""
        for _ in range(ROUNDS):
            first, again = (
                {
                    key: answer
                    for key, result in each.items()
                    if (answer := self._or_gone(session, result, limit, otherwise=None)) is not None
                }
                for each in (asked[0], asked[2])
            )
            try:
                keys = {f"{folder}/{name}" for name in session.wait(asked[1], limit)}
                self._made.add(folder)
            except NoNodeError:
                keys = set()
                self._made.discard(folder)
            found = {key: answer for key, answer in {**first, **again}.items() if key in keys}
            if keys == found.keys() and all(first.get(key, (b"", None))[1] == stat for key, (_, stat) in again.items()):
                break
            asked = self._ask(session, folder, keys)
        entries = {key: Entry(data, stat.version + 1) for key, (data, stat) in found.items()}
        # They are given away only together: a plan is made from what is seen now.
        self._known[folder] = set(entries)
        for key in [key for key in self._emptied if key.startswith(f"{folder}/")]:
            del self._emptied[key]
        self._emptied.update((key, entry.number) for key, entry in entries.items() if _is_emptied(key, entry))
        return Seen({key: entry for key, entry in entries.items() if not _is_emptied(key, entry)})

    def _commit(self, session: Session, folder: str, write: Write, limit: float) -> tuple[bool, Seen]:
        for parent in sorted({key.rpartition("/")[0] for key in write.puts}):
            self._make(session, parent, limit)
        multi = session.client.transaction()
        self._fill(multi, write)
        asked_at = time.time()
        committed = multi.commit_async()
        keys = {*self._known.get(folder, ()), *(key for key in write.puts if key.startswith(f"{folder}/"))}
        asked = (
            self._ask(session, folder, keys - {key for key in write.deletes if not _is_record(key)}) if folder else None
        )
        results = session.wait(committed, limit)
        if not _held(results):
            # What is not as it was known may be a folder, too.
            self._made -= {key.rpartition("/")[0] for key in write.puts}
            return False, self._read(session, folder, limit) if folder else Seen({})
        answered_at = time.time()
        for result in results:
            if hasattr(result, "mtime"):
                self._clock.told(result.mtime / 1000, 0.001, asked_at, answered_at)
        try:
            return True, Seen({}) if asked is None else self._gather(session, folder, asked, limit)
        except NoAuthError:
            # It is written: to do it again, as one who was refused, would be to write it twice.
            self._drop()
            raise StoreRefuses(self._refusal()) from None

    def _fill(self, multi: Any, write: Write) -> None:
        for key, value in write.puts.items():
            path, guard = self._path(key), write.guards.get(key)
            if guard == ABSENT and key in self._emptied:
                multi.set_data(path, value, self._emptied[key] - 1)
            elif guard == ABSENT or (guard is None and key not in self._known.get(key.rpartition("/")[0], ())):
                multi.create(path, value, acl=self._acl)
            else:
                multi.set_data(path, value, -1 if guard is None else guard - 1)
        for key in write.deletes:
            version = write.guards.get(key, ABSENT) - 1  # -1: whichever it is
            if _is_record(key):
                multi.set_data(self._path(key), b"", version)
            else:
                multi.delete(self._path(key), version)
        for key in write.guards.keys() - write.puts.keys() - {*write.deletes}:
            path, guard = self._path(key), write.guards[key]
            if guard != ABSENT or key in self._emptied:
                multi.check(path, (guard or self._emptied[key]) - 1)
            else:  # there is no question whether a node is absent
                multi.create(path, b"", acl=self._acl)
                multi.delete(path)


def _is_record(key: str) -> bool:
    return key.rpartition("/")[2].partition("#")[0] == "record"


def _is_emptied(key: str, entry: Entry) -> bool:
    return not entry.value and _is_record(key)


def _held(results: list[Any]) -> bool:
    """Whether a multi was carried out; False where a guard did not hold. Raises what else kept it from that."""
    troubles = [result for result in results if isinstance(result, Exception)]
    causes = [each for each in troubles if not isinstance(each, (RolledBackError, RuntimeInconsistency))]
    for cause in causes:
        if not isinstance(cause, (BadVersionError, NoNodeError, NodeExistsError)):
            raise cause
    return not troubles


def _words(error: BaseException) -> str:
    if isinstance(error, NotReached):
        return f"no host takes us: {error}"
    known = {
        "ConnectionLoss": "the connection broke; what was asked may have been done",
        "SessionExpiredError": "the session was ended; what was asked may have been done",
        "ConnectionClosedError": "the connection was closed",
        "KazooTimeoutError": "no answer in time; what was asked may have been done",
    }
    name = type(error).__name__
    return known.get(name) or f"{name} {error}".strip()
