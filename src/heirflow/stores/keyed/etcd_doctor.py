"""What `heirflow doctor` tells of an etcd cluster. Nothing is changed: the write that tries our rights cannot come about."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from heirflow.stores.base import Finding, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.etcd_gateway import RANGE, TXN, Document, Gateway, below, coded
from heirflow.stores.keyed.examining import answers, clock_of, way_there
from heirflow.stores.keyed.http import Http
from heirflow.stores.keyed.line import Endpoint
from heirflow.stores.keyed.place import Place

FULL = 0.8
"""Of the quota: time to say so."""
NEVER = str(2**63 - 1)
"""A number that no key ever has."""
QUOTA = b"etcd_server_quota_backend_bytes "
STATUS, MEMBERS = "/v3/maintenance/status", "/v3/cluster/member/list"

FORGETFUL = {"3.5.0", "3.5.1", "3.5.2"}
"""Its maintainers advise against these: data of one server may differ from the others' after a kill."""


@dataclass(frozen=True, slots=True)
class _Server:
    """What one of them says of itself."""

    at: str
    version: str
    cluster: str
    leader: str
    itself: str
    term: str
    size: int
    quota: int | None
    learner: bool
    troubles: tuple[str, ...]


def examined(place: Place, gateway: Gateway, clock: TheirClock, limit_s: float) -> list[Finding]:
    """Raises `StoreUnavailable` where nothing can be read."""
    told = _answers(place, gateway)
    seen = [_asked(endpoint, place, gateway.said, limit_s) for endpoint in place.hosts]
    servers = [each for each in seen if isinstance(each, _Server)]
    found = [each for each in seen if isinstance(each, Finding)]
    found += [*told, clock_of(clock, "the servers'", "theirs"), *_versions(servers), *_agreed(servers)]
    found += [finding for server in servers for finding in _room(server)]
    return [*found, *_cluster(place, gateway), *_safety(place, gateway)]


def _asked(endpoint: Endpoint, place: Place, headers: Mapping[str, str], limit_s: float) -> _Server | Finding:
    """What one server tells of itself, or why it does not."""
    try:
        return _told(endpoint, place, headers, limit_s)
    except (StoreUnavailable, ValueError, TypeError, AttributeError) as error:
        at = f"{endpoint[0]}:{endpoint[1]}"
        return Finding("server", "warning", f"{at} does not tell of itself: {error}", {"at": at})


def _told(endpoint: Endpoint, place: Place, headers: Mapping[str, str], limit_s: float) -> _Server:
    with closing(Http("etcd", [endpoint], limit_s=limit_s, secure=place.secure, options=place.options)) as http:
        status = http.call("POST", STATUS, {}, writes=False, headers=headers)
        said: Document = status.json()
        if status.status != 200:
            raise StoreUnavailable(str(said.get("message") or status.status))
        shown = http.call("GET", "/version", writes=False)
        version = shown.json() if shown.status == 200 else {}
        quota = None
        with suppress(StoreUnavailable, ValueError):
            metrics = http.call("GET", "/metrics", writes=False).body
            quota = next(
                (int(float(line[len(QUOTA) :])) for line in metrics.splitlines() if line.startswith(QUOTA)), None
            )
    header = said.get("header") or {}
    return _Server(
        at=f"{endpoint[0]}:{endpoint[1]}",
        version=str(version.get("etcdserver") or said.get("version") or "unknown"),
        cluster=str(header.get("cluster_id", "")),
        leader=str(said.get("leader", "")),
        itself=str(header.get("member_id", "")),
        term=str(said.get("raftTerm", "")),
        size=int(said.get("dbSize", 0)),
        quota=int(said.get("dbSizeQuota", 0)) or quota,
        learner=said.get("isLearner") is True,
        troubles=tuple(map(str, said.get("errors") or ())),
    )


def _answers(place: Place, gateway: Gateway) -> list[Finding]:
    key = coded(f"{place.folder}/doctor")
    idle = {
        "compare": [{"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": NEVER}],
        "success": [{"request_put": {"key": key}}, {"request_delete_range": below(f"{place.folder}/doctor")}],
        "failure": [{"request_range": {"key": key}}],
    }
    said = answers(
        f"etcd at {place.shown}",
        lambda: gateway.ask(RANGE, {**below(place.folder), "count_only": True}),
        lambda: gateway.ask(TXN, idle, writes=True),
    )
    if said.level != "ok":
        return [said]
    whose = f"user {place.user}" if place.user and gateway.has_users else "every client"
    return [said, Finding("rights", "ok", f"{whose} may read and write below {place.folder}/")]


def _versions(servers: list[_Server]) -> list[Finding]:
    versions = sorted({server.version for server in servers})
    if not versions:
        return []
    if forgetful := FORGETFUL.intersection(versions):
        sentence = (
            f"etcd {', '.join(sorted(forgetful))} may disagree with itself after a server was killed under load (mended in 3.5.3): "
            "upgrade it"
        )
        return [Finding("server", "warning", sentence, {"version": versions[-1]})]
    return [Finding("server", "ok", f"etcd {', '.join(versions)}", {"version": versions[-1]})]


def _agreed(servers: list[_Server]) -> list[Finding]:
    """Whether they are one cluster with one leader."""
    found = []
    clusters = sorted({server.cluster for server in servers if server.cluster})
    if len(clusters) > 1:
        sentence = (
            f"these servers are of {len(clusters)} clusters ({', '.join(clusters)}): two members may lead at once"
        )
        found.append(Finding("quorum", "problem", sentence, {"clusters": clusters}))
    leaders = {(server.leader, server.term) for server in servers}
    if any(not leader or leader == "0" for leader, _ in leaders):
        without = ", ".join(server.at for server in servers if server.leader in {"", "0"})
        found.append(Finding("quorum", "problem", f"{without} has no leader: nothing can be read or written there"))
    elif len(leaders) > 1 and len(clusters) == 1:
        found.append(
            Finding(
                "quorum",
                "warning",
                "the servers do not agree on the leader and its term: an election goes on, or one is cut off",
            )
        )
    elif len(clusters) == 1:
        leads = next(
            (server.at for server in servers if server.itself == server.leader), "a server that the URL does not name"
        )
        term = servers[0].term
        found.append(
            Finding("quorum", "ok", f"there is a quorum; {leads} leads in raft term {term}", {"raft_term": term})
        )
    found += [
        Finding(
            "server", "warning", f"{server.at} is a learner, which takes no part in votes and answers no such reads"
        )
        for server in servers
        if server.learner
    ]
    return found


def _room(server: _Server) -> list[Finding]:
    found = [
        Finding("space", "problem", f"{server.at} reports {trouble}", {"at": server.at}) for trouble in server.troubles
    ]
    if server.quota:
        used, facts = server.size / server.quota, {"at": server.at, "size": server.size, "quota": server.quota}
        sentence = f"the database of {server.at} takes {used:.0%} of its quota ({server.quota // 2**20} MiB)"
        if used > FULL:
            sentence += "; compact and defragment it: when it is full, nobody can lead"
        found.append(Finding("space", "warning" if used > FULL else "ok", sentence, facts))
    return found


def _cluster(place: Place, gateway: Gateway) -> list[Finding]:
    """What can forget a write."""
    try:
        members: list[Any] = gateway.ask(MEMBERS, {}).get("members") or []
    except StoreUnavailable as error:
        return [Finding("durability", "note", f"how many servers the cluster has could not be seen: {error}")]
    voters = [each for each in members if isinstance(each, dict) and each.get("isLearner") is not True]
    found = []
    if len(voters) == 1:
        sentence = "a cluster of one server: with its disk it forgets who led, and while it is away nobody can lead; have three"
        found.append(Finding("durability", "warning", sentence, {"servers": 1}))
    elif len(voters) % 2 == 0:
        sentence = f"a cluster of {len(voters)} servers bears no more failures than one of {len(voters) - 1}"
        found.append(Finding("durability", "note", sentence, {"servers": len(voters)}))
    else:
        sentence = f"a write is confirmed when most of {len(voters)} servers have it on disk"
        found.append(Finding("durability", "ok", sentence, {"servers": len(voters)}))
    if len(voters) > 1 and len(place.hosts) == 1:
        found.append(
            Finding(
                "server", "note", "the URL names one server of several: name all, so that members can go on without it"
            )
        )
    found += [
        Finding(
            "durability", "note",
            "whether a server runs with --unsafe-no-fsync, and so forgets by a power cut, cannot be seen from here",
        ),
        Finding(
            "history", "ok",
            f"the history is named after the cluster ({gateway.cluster}); restore a snapshot with a new --initial-cluster-token "
            "only, so that it gets another name and every member waits a whole lease",
            {"history": gateway.cluster},
        ),
    ]  # fmt: skip
    return found


def _safety(place: Place, gateway: Gateway) -> list[Finding]:
    found = []
    if not gateway.has_users:
        sentence = "authentication is off: whoever reaches etcd can change who leads"
        found.append(Finding("rights", "note" if "cert" in place.options else "warning", sentence, {"users": False}))
    return [*found, *way_there(place, "passwords and tokens")]
