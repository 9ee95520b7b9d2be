"""Consul: tokens, what they may, and what doctor tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heirflow.election.record import Exchange
from heirflow.stores import Finding, StoreRefuses, StoreUnavailable, open_store
from heirflow.testing.store_tools import charge, join, new_election
from lab.servers.consul_double import ConsulDouble, consul_double
from tests.coordinators.of_consul import LIMIT_S, opened

ALL = {"heirflow/": "write"}


@pytest.fixture
def consul(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsulDouble]:
    """With access control: `writer` may write, `reader` read, `other` nothing here."""
    for name in ("CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with consul_double() as double:
        double.state.rights.tokens = {"writer": ALL, "reader": {"heirflow/": "read"}, "other": {"app/": "write"}}
        yield double


def with_token(consul: ConsulDouble, token: str) -> str:
    return consul.url.replace("://", f"://:{token}@")


def test_who_may_write_leads_and_who_may_read_looks(consul: ConsulDouble) -> None:
    election = new_election()
    with (
        closing(opened(with_token(consul, "writer"))) as writer,
        closing(opened(with_token(consul, "reader"))) as reader,
    ):
        assert writer.exchange(election, charge("a", 1)).swapped
        seen = reader.exchange(election, Exchange())
        assert seen.record is not None and seen.record.leader == "a"
        assert reader.elections() == (election,) and len(reader.events(election, 5)) == 1
        with pytest.raises(StoreRefuses, match="key_prefix 'heirflow/' = write"):
            reader.exchange(election, charge("b", 2))
        with pytest.raises(StoreRefuses):
            reader.forget(election, seen)
        with pytest.raises(StoreRefuses):
            reader.drain(election, "a", True) or join(reader, election, "b")


@pytest.mark.parametrize("token", ["", "nobody's", "other"])
def test_who_may_not_read_is_told_and_shown_no_empty_election(consul: ConsulDouble, token: str) -> None:
    url = with_token(consul, token) if token else consul.url
    with pytest.raises(StoreRefuses) as raised:
        opened(url)
    assert not token or token not in str(raised.value)
    with closing(open_store(url, call_limit_s=LIMIT_S)) as store:  # not opened: the reading itself must see it
        for ask in (
            lambda: store.exchange(new_election(), Exchange()),
            store.elections,
            lambda: store.events(new_election(), 5),
        ):
            with pytest.raises(StoreRefuses):
                ask()


def test_rights_that_end_while_it_runs(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(with_token(consul, "writer"))) as store:
        assert store.exchange(election, charge("a", 1)).swapped
        assert consul.state.rights.tokens is not None
        consul.state.rights.tokens["writer"] = {}
        for request in (Exchange(), charge("a", 2)):
            with pytest.raises(StoreRefuses):
                store.exchange(election, request)
        consul.state.rights.tokens["writer"] = {**ALL, f"heirflow/elections/{election}/record": "deny"}
        with pytest.raises(StoreRefuses, match="a part only"):
            store.exchange(election, Exchange())
        del consul.state.rights.tokens["writer"]
        with pytest.raises(StoreRefuses, match="ACL not found"):
            store.exchange(election, charge("a", 2))
        consul.state.rights.tokens["writer"] = ALL
        assert store.exchange(election, charge("a", 2)).swapped


def test_a_token_file_is_read_anew(consul: ConsulDouble, tmp_path: Path) -> None:
    election, file = new_election(), tmp_path / "token"
    file.write_text("writer\n")
    with closing(opened(f"{consul.url}?token-file={file}")) as store:
        assert store.exchange(election, charge("a", 1)).swapped
        assert consul.state.rights.tokens is not None
        consul.state.rights.tokens["newer"] = consul.state.rights.tokens.pop("writer")
        with pytest.raises(StoreRefuses):
            store.exchange(election, Exchange())
        file.write_text("newer\n")
        assert store.exchange(election, charge("a", 2)).swapped
        file.unlink()
        with pytest.raises(StoreRefuses, match="cannot read"):
            store.exchange(election, Exchange())


class Changing:
    """An address whose token is asked for when it was refused."""

    def __init__(self, known: str, later: str) -> None:
        self.known, self.later = known, later
        self.accepted_times = 0

    def now(self) -> str:
        return self.known

    def refused(self, url: str) -> bool:
        self.known = self.later
        return url != self.known

    def accepted(self) -> None:
        self.accepted_times += 1


def test_another_token_is_asked_for_once_where_one_is_refused(consul: ConsulDouble) -> None:
    election = new_election()
    address = Changing(with_token(consul, "gone"), with_token(consul, "writer"))
    with closing(open_store(address, call_limit_s=LIMIT_S)) as store:
        store.open()
        assert address.accepted_times == 1
        join(store, election, "a")
        assert store.exchange(election, charge("a", 1)).swapped
        assert consul.state.rights.tokens is not None
        consul.state.rights.tokens["newer"] = consul.state.rights.tokens.pop("writer")
        address.later = with_token(consul, "newer")
        writes = sum(asked.method == "PUT" for asked in consul.asked)
        with pytest.raises(StoreRefuses):
            store.exchange(election, charge("a", 2))
        assert sum(asked.method == "PUT" for asked in consul.asked) == writes + 1, "a write is never sent twice"
        assert store.exchange(election, charge("a", 2)).swapped


def test_the_environment_counts_only_where_the_url_has_no_token(
    consul: ConsulDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "writer")
    opened(consul.url).close()
    with pytest.raises(StoreRefuses):
        opened(with_token(consul, "other"))
    (tmp_path / "token").write_text("other")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(StoreRefuses):
        opened(consul.url)
    (tmp_path / "token").unlink()
    with pytest.raises(StoreRefuses, match="cannot read the token"):
        opened(consul.url)
    opened(with_token(consul, "writer")).close()


# What doctor tells


def found(url: str) -> dict[str, list[Finding]]:
    """By topic."""
    topics: dict[str, list[Finding]] = {}
    with closing(open_store(url, call_limit_s=LIMIT_S)) as store:
        for finding in store.examine():
            topics.setdefault(finding.topic, []).append(finding)
    return topics


def test_doctor_of_a_good_one(consul: ConsulDouble) -> None:
    before = dict(consul.state.rows), consul.state.index
    topics = found(with_token(consul, "writer"))
    assert (dict(consul.state.rows), consul.state.index) == before, "doctor changed something"
    assert {finding.level for several in topics.values() for finding in several} == {"ok", "note"}
    assert topics["server"][0].facts == {"version": "1.21.5", "dc": "dc1"}
    assert topics["quorum"][0].facts == {"leader": "127.0.0.1:8300", "servers": 3}
    assert topics["durability"][0].facts == {"servers": 3}
    assert 0 < topics["store"][0].facts["median_s"] < 1 and 0 < topics["store"][0].facts["write_median_s"] < 1
    assert abs(topics["clock"][0].facts["offset_s"]) < 1
    assert topics["history"][0].level == "note" and "snapshot" in topics["history"][0].sentence
    assert "?consistent" in topics["consistency"][0].sentence
    assert "session" not in topics


def test_doctor_of_a_poor_one(consul: ConsulDouble) -> None:
    consul.state.rights.tokens = None
    consul.peers, consul.agent_may_be_read = consul.peers[:1], False
    # This name means loopback, too, and does not look like it.
    topics = found(consul.url.replace("127.0.0.1", "127.1"))
    assert topics["server"][0].level == "note" and "agent:read" in topics["server"][0].sentence
    assert topics["durability"][0].level == "warning" and "one server" in topics["durability"][0].sentence
    assert [each.level for each in topics["rights"]] == ["ok", "warning"]
    assert "no token" in topics["rights"][1].sentence
    assert topics["session"][0].level == "warning" and "no TLS to 127.1" in topics["session"][0].sentence
    consul.peers = ["a", "b"]
    assert found(consul.url)["durability"][0].level == "note"


def test_doctor_of_rights(consul: ConsulDouble) -> None:
    [problem] = found(with_token(consul, "reader"))["rights"]
    assert problem.level == "problem" and "may not write" in problem.sentence
    assert found(with_token(consul, "other"))["rights"][0].level == "problem"


def test_doctor_without_a_leader_or_a_write(consul: ConsulDouble) -> None:
    url = with_token(consul, "writer")
    consul.leads = False
    with pytest.raises(StoreUnavailable, match="No cluster leader"):
        found(url)
    consul.leads = True
    consul.fail(500, "rpc error", of="PUT", times=9)
    [store] = found(url)["store"]
    assert store.level == "problem" and "not written" in store.sentence


def test_doctor_of_several_agents(consul: ConsulDouble) -> None:
    with consul_double() as other:
        other.state = consul.state
        both = f"consul://:writer@{consul.endpoint},{other.endpoint}/heirflow"
        assert found(both)["quorum"][0].level == "ok"
        other.peers = ["10.0.0.1:8300"]
        assert "different servers" in found(both)["quorum"][1].sentence
        other.stop()
        dead = [each for each in found(both)["server"] if each.level == "warning"]
        assert len(dead) == 1 and other.endpoint in dead[0].sentence
