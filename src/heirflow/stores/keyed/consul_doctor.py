"""What `heirflow doctor` tells of Consul. Nothing is changed: the write that tries our rights cannot come about."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from heirflow.stores.base import Finding, StoreRefuses, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.consul_agent import DENIED, Agent, token_of
from heirflow.stores.keyed.examining import answers, clock_of, way_there
from heirflow.stores.keyed.http import Http
from heirflow.stores.keyed.line import Endpoint
from heirflow.stores.keyed.place import Place

NEVER = 2**63 - 1
"""A number that no key ever has."""
SELF, LEADER, PEERS = "/v1/agent/self", "/v1/status/leader", "/v1/status/peers"


def examined(agent: Agent, clock: TheirClock, limit_s: float) -> list[Finding]:
    """Raises `StoreUnavailable` where nothing can be read."""
    place = agent.place
    found = [*_answers(agent), clock_of(clock, "the server's", "its"), *_version(agent), *_quorum(agent)]
    if len(place.hosts) > 1:
        found += _each(place, limit_s)
    return [*found, *_memory(), *_safety(place)]


def _answers(agent: Agent) -> list[Finding]:
    place, denied = agent.place, list[str]()
    key = agent.key("elections/doctor")
    idle: list[dict[str, Any]] = [{"Verb": "check-index", "Key": key, "Index": NEVER}, {"Verb": "delete", "Key": key}]

    def read() -> None:
        agent.get("elections/doctor")

    def write() -> None:
        told = agent.transact(idle, writes=True).json()
        whats = [str(each.get("What")) for each in (told.get("Errors") or ()) if isinstance(each, dict)]
        denied.extend(what for what in whats if DENIED.search(what))

    said = answers(agent.title, read, write)
    if said.level != "ok":
        return [said]
    who = "the token" if token_of(place) else "who comes without a token"
    if denied:
        sentence = (
            f"{who} may not write below {place.folder}/: {denied[0]}; give it a policy with key_prefix = write there"
        )
        return [said, Finding("rights", "problem", sentence)]
    return [said, Finding("rights", "ok", f"{who} may read and write below {place.folder}/")]


def _version(agent: Agent) -> list[Finding]:
    try:
        config = agent.told(SELF).json()["Config"]
        version, center = str(config["Version"]), str(config.get("Datacenter", ""))
    except (StoreUnavailable, KeyError, TypeError, AttributeError) as error:
        why = "it needs agent:read" if isinstance(error, StoreRefuses) else str(error)
        return [Finding("server", "note", f"the version of Consul could not be seen: {why}")]
    return [Finding("server", "ok", f"Consul {version}", {"version": version, "dc": center})]


def _quorum(agent: Agent) -> list[Finding]:
    try:
        leader: Any = agent.told(LEADER).json()
        peers: Any = agent.told(PEERS).json()
    except StoreUnavailable as error:
        return [Finding("quorum", "note", f"the servers behind it could not be seen: {error}")]
    count = len(peers) if isinstance(peers, list) else 0
    if not leader:
        return [
            Finding(
                "quorum", "problem", "the servers have no leader: nothing can be read or written", {"servers": count}
            )
        ]
    found = [
        Finding("quorum", "ok", f"there is a quorum; {leader} leads the servers", {"leader": leader, "servers": count})
    ]
    if count == 1:
        sentence = (
            "Consul of one server: with its disk it forgets who led, and while it is away nobody can lead; have three"
        )
        found.append(Finding("durability", "warning", sentence, {"servers": 1}))
    elif count and count % 2 == 0:
        sentence = f"{count} servers bear no more failures than {count - 1}"
        found.append(Finding("durability", "note", sentence, {"servers": count}))
    elif count:
        sentence = f"a write is confirmed when most of {count} servers have it"
        found.append(Finding("durability", "ok", sentence, {"servers": count}))
    return found


def _each(place: Place, limit_s: float) -> list[Finding]:
    """Whether all that the URL names answer, and belong to the same servers."""
    found, peers = list[Finding](), list[frozenset[str]]()
    for endpoint in place.hosts:
        answer = _peers(endpoint, place, limit_s)
        if isinstance(answer, Finding):
            found.append(answer)
        else:
            peers.append(answer)
    if peers and not frozenset.intersection(*peers):
        sentence = "the agents that the URL names belong to different servers: two members may lead at once"
        found.append(Finding("quorum", "problem", sentence, {"servers": [sorted(each) for each in peers]}))
    return found


def _peers(endpoint: Endpoint, place: Place, limit_s: float) -> frozenset[str] | Finding:
    """The servers that one agent names."""
    sentence = f"{endpoint[0]}:{endpoint[1]} does not tell which servers there are"
    try:
        with closing(Http("Consul", [endpoint], limit_s=limit_s, secure=place.secure, options=place.options)) as http:
            said = http.call("GET", PEERS, writes=False).json()
        if isinstance(said, list):
            return frozenset(map(str, said))
    except StoreUnavailable as error:
        sentence = str(error)
    return Finding("server", "warning", sentence, {"at": f"{endpoint[0]}:{endpoint[1]}"})


def _memory() -> list[Finding]:
    """What can forget a write."""
    return [
        Finding("consistency", "ok", "every reading is ?consistent: the default mode can show an old record, and is not used"),
        Finding(
            "history", "note",
            "Consul has no name for its history: a snapshot that is restored takes terms back, and no member can know; stop all "
            "members of all elections before one is restored, and for a whole lease after it",
            {"history": None},
        ),
    ]  # fmt: skip


def _safety(place: Place) -> list[Finding]:
    found = []
    if not token_of(place):
        sentence = (
            "there is no token (the anonymous one is used): whoever reaches Consul can change who leads; make a token that "
            f"alone may write below {place.folder}/"
        )
        found.append(Finding("rights", "warning", sentence, {"token": False}))
    return [*found, *way_there(place, "tokens")]
