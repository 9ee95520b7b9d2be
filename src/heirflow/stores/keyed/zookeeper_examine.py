"""What `heirflow doctor` tells about a ZooKeeper."""

# The client has no types.
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kazoo.exceptions import KazooException, NoAuthError, NoNodeError

from heirflow.stores.base import Finding
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.examining import took
from heirflow.stores.keyed.place import Place
from heirflow.stores.keyed.zookeeper_session import Session, dial, tls_of

SAMPLES = 5
OLDEST = (3, 5)
CLOCKS_APART_S = 2.0


@dataclass(frozen=True)
class Host:
    """What one server says of itself."""

    name: str
    version: str = ""
    mode: str = ""
    silent: str = ""
    """Why it says nothing; empty: it does."""
    answers: bool = False


def examined(
    session: Session, place: Place, path: str, acl: list[Any], clock: TheirClock, call_limit_s: float
) -> list[Finding]:
    """Each call within the limit. Raises what kazoo does where the session is lost."""
    return list(_findings(session, place, path, acl, clock, call_limit_s))


def _findings(
    session: Session, place: Place, path: str, acl: list[Any], clock: TheirClock, call_limit_s: float
) -> Iterator[Finding]:
    def wait(result: Any) -> Any:
        return session.wait(result, time.monotonic() + call_limit_s)

    with ThreadPoolExecutor(len(place.hosts)) as pool:
        hosts = list(pool.map(lambda host: _asked(place, host, call_limit_s), place.hosts))
    yield _version(hosts)
    yield from _quorum(hosts, _voters(session, wait))
    yield _latency(session, wait, path, call_limit_s)
    rights, written = _rights(session, wait, path, acl, clock)
    yield rights
    if written:
        yield _clock(clock)
    if (open_to_all := _open_to_all(session, wait, path)) is not None:
        yield open_to_all
    yield Finding(
        "forgetting",
        "note",
        "a server that runs with forceSync=no confirms writes before they are on disk and can forget them in a power cut; "
        "that cannot be seen from here",
    )


def _asked(place: Place, host: tuple[str, int], limit_s: float) -> Host:
    name = f"{host[0]}:{host[1]}"
    try:
        with dial(*host, host[0], tls_of(place), limit_s) as link:
            link.sendall(b"srvr")
            parts = []
            while part := link.recv(65536):
                parts.append(part)
    except OSError as error:
        return Host(name, silent=str(error.strerror or error))
    said = dict(line.partition(": ")[::2] for line in b"".join(parts).decode("utf-8", "replace").splitlines())
    version, mode = said.get("Zookeeper version", "").partition("-")[0], said.get("Mode", "")
    return Host(name, version, mode, "" if mode else "it does not answer `srvr`", answers=True)


def _version(hosts: list[Host]) -> Finding:
    versions = sorted({host.version for host in hosts if host.version})
    if not versions:
        return Finding(
            "version",
            "note",
            "the version is not known: no server answers `srvr`; 4lw.commands.whitelist=srvr allows it",
        )
    facts = {"versions": versions}
    numbers = [tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) for version in versions]
    if min(numbers) < OLDEST:
        return Finding(
            "version", "warning", f"ZooKeeper {versions[0]} is older than what HeirFlow is tested with", facts
        )
    return Finding("version", "ok", f"ZooKeeper {', '.join(versions)}", facts)


def _voters(session: Session, wait: Any) -> int:
    """How many servers the ensemble says that it has; 0: it does not say."""
    with suppress(KazooException):
        data, _ = wait(session.client.get_async("/zookeeper/config"))
        lines = data.decode("utf-8", "replace").splitlines()
        return sum(line.startswith("server.") and ":observer" not in line for line in lines)
    return 0


def _quorum(hosts: list[Host], voters: int) -> Iterator[Finding]:
    serving = [host for host in hosts if host.mode]
    leader = next((host.name for host in serving if host.mode == "leader"), None)
    facts = {"hosts": {host.name: host.mode or host.silent for host in hosts}, "voters": voters}
    if any(host.mode == "standalone" for host in serving) or (voters <= 1 and len(hosts) == 1):
        yield Finding(
            "quorum",
            "warning",
            "one server only: while it is away nobody can lead anew, and what its disk loses is lost",
            facts,
        )
        return
    quiet = [host for host in hosts if not host.mode]
    where = f"; {leader} leads" if leader else "; which leads is not known"
    of = f" of {voters} in the ensemble" if voters > len(hosts) else ""
    sentence = f"{len(serving)} of the {len(hosts)} servers in the URL serve{of}{where}"
    if not quiet:
        yield Finding("quorum", "ok", sentence, facts)
        return
    level = "note" if all(host.answers for host in quiet) else "warning"
    yield Finding("quorum", level, f"{sentence}; {', '.join(f'{host.name}: {host.silent}' for host in quiet)}", facts)


def _latency(session: Session, wait: Any, path: str, call_limit_s: float) -> Finding:
    def ask() -> None:
        session.client.sync_async(path)
        wait(session.client.exists_async(path))

    median = took(ask, SAMPLES)
    level = "warning" if median > call_limit_s / 4 else "ok"
    sentence = f"a reading after a sync takes {median * 1000:.1f} ms; a call may take {call_limit_s:g} s"
    return Finding("latency", level, sentence, {"median_s": median, "call_limit_s": call_limit_s})


def _rights(session: Session, wait: Any, path: str, acl: list[Any], clock: TheirClock) -> tuple[Finding, bool]:
    """Whether we may make, write and delete a node: tried in one multi, after which nothing is there."""
    there = path
    while there and wait(session.client.exists_async(there)) is None:
        there = there.rpartition("/")[0]
    probe = f"{there}/heirflow-doctor-{secrets.token_hex(8)}"
    multi = session.client.transaction()
    multi.create(probe, b"", acl=acl)
    multi.set_data(probe, b"doctor")
    multi.delete(probe)
    asked_at = time.time()
    results = wait(multi.commit_async())
    answered_at = time.time()
    if any(isinstance(result, NoAuthError) for result in results):
        sentence = f"no right to make, write and delete nodes in {there or '/'}: give the user cdrwa there"
        return Finding("rights", "problem", sentence), False
    if troubles := [result for result in results if isinstance(result, Exception)]:
        return Finding("rights", "problem", f"nodes cannot be written in {there or '/'}: {troubles[-1]!r}"), False
    clock.told(results[1].mtime / 1000, 0.001, asked_at, answered_at)
    yet = "" if there == path else f"; {path} is made when a member first joins"
    return Finding("rights", "ok", f"nodes can be made, written and deleted in {there or '/'}{yet}"), True


def _clock(clock: TheirClock) -> Finding:
    apart = clock.now() - time.time()
    level = "warning" if abs(apart) > CLOCKS_APART_S else "ok"
    return Finding(
        "clock",
        level,
        f"the leader's clock is {abs(apart):.3f} s {'ahead of' if apart > 0 else 'behind'} ours; only people read it",
        {"ahead_s": apart},
    )


def _open_to_all(session: Session, wait: Any, path: str) -> Finding | None:
    try:
        acls, _ = wait(session.client.get_acls_async(path))
    except (NoNodeError, NoAuthError):
        return None
    # All but reading.
    if any((acl.id.scheme, acl.id.id) == ("world", "anyone") and acl.perms & ~1 for acl in acls):
        return Finding(
            "acl",
            "warning",
            f"anybody who reaches this ZooKeeper may change {path}: name a user and a password in the URL before it is made, or "
            "change its ACL with `setAcl -R`",
        )
    return Finding("acl", "ok", f"{path} is closed to strangers")
