"""Consul: the contract on the double, and on a real one where ``CONSUL_HTTP_ADDR`` names it; and what goes wrong with requests."""

from __future__ import annotations

import dataclasses
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from heirflow.election.record import Event, Exchange, What
from heirflow.errors import ConfigError
from heirflow.stores import StoreRefuses, StoreUnavailable, open_store
from heirflow.stores.keyed.consul import Consul
from heirflow.stores.keyed.consul_agent import TooOften, spelt, unspelt
from heirflow.stores.keyed.keys import Write, quoted
from heirflow.stores.keyed.place import Where
from heirflow.stores.keyed.will import carry_out
from heirflow.testing import seats_contract, store_contract
from heirflow.testing.store_tools import HOSTILE, charge, ids, join, new_election, take, who
from lab.servers.consul_double import ConsulDouble, consul_double
from tests.coordinators import of_coordinators
from tests.coordinators.of_consul import LIMIT_S, opened

GIVEN = "CONSUL_HTTP_ADDR"


def given_url() -> str | None:
    """Of the real one; its token is in the variable that Consul's programs read."""
    address = os.environ.get(GIVEN)
    if not address:
        return None
    parts = urlsplit(address if "//" in address else f"http://{address}")
    secure = parts.scheme == "https" or os.environ.get("CONSUL_HTTP_SSL") == "true"
    return f"consul{'s' if secure else ''}://{parts.netloc}/heirflow-test-{os.getpid()}"


@pytest.fixture(scope="module", params=["double", *(["real"] if given_url() else [])])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a server that everybody uses and nobody troubles."""
    if request.param == "real":
        found = given_url()
        assert found is not None
        yield found
        return
    with consul_double() as consul:
        yield consul.url


@pytest.fixture
def consul() -> Iterator[ConsulDouble]:
    """One of its own for a test."""
    with consul_double() as double:
        yield double


@pytest.mark.parametrize(
    "check", [*store_contract.CHECKS, *seats_contract.CHECKS, *of_coordinators.CHECKS], ids=store_contract.name
)
def test_the_contract(check: store_contract.Check, url: str) -> None:
    check(lambda: open_store(url, call_limit_s=LIMIT_S))


def test_a_will_releases_exactly_this_members_term(url: str) -> None:
    election = new_election()
    with closing(opened(url)) as store:
        for member in ("a", "b"):
            join(store, election, member)
        assert store.exchange(election, charge("a", 1)).swapped
        will = dataclasses.asdict(store.will(election, "a", 1, "a was killed, says {prover}"))
        assert carry_out({**will, "term": 2}, lambda: True) is False
        assert carry_out(will, lambda: True) is True
        seen = store.exchange(election, Exchange())
        assert ids(seen) == ["b"]
        assert seen.record is not None and seen.record.leader is None
        assert seen.record.because == "a was killed, says its guard"


# Answers that are lost, and those that say nothing


@pytest.mark.parametrize("acts", [True, False], ids=["written", "not written"])
@pytest.mark.parametrize("how", ["drop", "500", "503"])
def test_an_answer_that_is_lost_is_not_known_and_the_write_is_sent_once(
    consul: ConsulDouble, how: str, acts: bool
) -> None:
    election = new_election()
    with closing(opened(consul.url)) as store:
        assert store.exchange(election, charge("a", 1)).swapped
        before = sum(asked.method == "PUT" for asked in consul.asked)
        if how == "drop":
            consul.drop(of="PUT", acts=acts)
        else:
            consul.fail(int(how), "rpc error", of="PUT", acts=acts)
        with pytest.raises(StoreUnavailable, match="not known"):
            store.exchange(election, charge("a", 2))
        assert sum(asked.method == "PUT" for asked in consul.asked) == before + 1
        record = store.exchange(election, Exchange()).record
        assert record is not None and record.term == (2 if acts else 1)
        assert store.exchange(election, charge("a", 2)).swapped is not acts


@pytest.mark.parametrize("how", ["500", "429", "drop", "no leader known"])
def test_a_failed_reading_goes_to_the_next_server(consul: ConsulDouble, how: str) -> None:
    with consul_double() as other:
        other.state = consul.state
        both = f"consul://{consul.endpoint},{other.endpoint}/heirflow"
        with closing(opened(both)) as store:
            if how == "drop":
                consul.drop(acts=False)
            elif how == "no leader known":
                consul.known_leader = False
                with pytest.raises(StoreUnavailable):
                    store.exchange(new_election(), Exchange())
            else:
                consul.fail(int(how), "no", Retry_After="1")
            asked, swap = len(consul.asked), take("a", 1, 1, expected=None)
            assert store.exchange(new_election(), Exchange(swap=swap)).swapped
            assert len(consul.asked) == asked + (how != "no leader known"), "it is asked last from then on"


def test_a_dead_or_frozen_first_server_is_left(consul: ConsulDouble) -> None:
    election = new_election()
    with consul_double() as other:
        other.state = consul.state
        both = f"consul://{consul.endpoint},{other.endpoint}/heirflow"
        with closing(opened(both)) as store:
            assert store.exchange(election, charge("a", 1)).swapped
            consul.freeze()
            begun = time.monotonic()
            assert store.exchange(new_election(), Exchange()).record is None
            assert time.monotonic() - begun < LIMIT_S
            consul.thaw()
        consul.stop()
        with closing(opened(both)) as store:
            assert store.exchange(election, charge("a", 2)).swapped


def test_without_a_leader_nothing_is_concluded(consul: ConsulDouble) -> None:
    with closing(opened(consul.url)) as store:
        consul.leads = False
        for request in (Exchange(), charge("a", 1)):
            with pytest.raises(StoreUnavailable, match="No cluster leader"):
                store.exchange(new_election(), request)
        consul.leads = True
        assert store.exchange(new_election(), charge("a", 1)).swapped


def test_whoever_asks_too_often_is_told(consul: ConsulDouble) -> None:
    with closing(opened(consul.url)) as store:
        consul.fail(429, "Too Many Requests", Retry_After="7")
        with pytest.raises(TooOften, match="rate limit") as raised:
            store.exchange(new_election(), Exchange())
        assert raised.value.wait_s == 7
        consul.fail(429, "Too Many Requests", of="PUT")
        with pytest.raises(StoreUnavailable):
            store.exchange(new_election(), charge("a", 1))


def test_a_server_that_stands_still_costs_the_limit_and_no_more(consul: ConsulDouble) -> None:
    with closing(opened(consul.url)) as store:
        consul.freeze()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="in time"):
            store.exchange(new_election(), Exchange())
        assert LIMIT_S - 0.1 < time.monotonic() - begun < LIMIT_S + 0.5
        ended = threading.Timer(0.2, store.sever)
        ended.start()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.exchange(new_election(), Exchange())
        assert time.monotonic() - begun < 1.0
        consul.thaw()


def test_a_server_that_was_started_again_has_all(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as store:
        assert store.exchange(election, charge("a", 1)).swapped
        consul.stop()
        with pytest.raises(StoreUnavailable, match="refuses the connection"):
            store.exchange(election, charge("a", 2))
        consul.start()
        assert store.exchange(election, charge("a", 2)).swapped


@pytest.mark.parametrize(
    ("set_up", "words"),
    [
        (lambda consul: setattr(consul, "known_leader", False), "knows no leader"),
        (lambda consul: setattr(consul, "last_contact_ms", 40), "proxy or a cache"),
        (lambda consul: consul.fail(200, "[]"), "another program"),
        (lambda consul: consul.fail(404, "not found"), "another program"),
        (lambda consul: consul.fail(200, "<html>", X_Consul_KnownLeader="true"), "no JSON"),
        (lambda consul: consul.fail(200, "null", X_Consul_KnownLeader="true"), "cannot be understood"),
        (lambda consul: consul.fail(200, '[{"Key": 1}]', X_Consul_KnownLeader="true"), "cannot be understood"),
        (lambda consul: consul.fail(301, "", Location="/"), "301"),
    ],
    ids=["no leader", "a follower", "no headers", "404 of a proxy", "HTML", "null", "odd keys", "elsewhere"],
)
def test_an_answer_that_may_be_old_or_of_somebody_else_is_none(consul: ConsulDouble, set_up, words: str) -> None:
    with closing(opened(consul.url)) as store:
        set_up(consul)
        with pytest.raises(StoreUnavailable, match=words):
            store.exchange(new_election(), Exchange())


@pytest.mark.parametrize("body", ["", "{}", '{"Errors": []}', '{"Errors": [{"OpIndex": 0}]}', "[]"])
def test_a_rolled_back_transaction_without_a_reason_is_no_lost_swap(consul: ConsulDouble, body: str) -> None:
    with closing(opened(consul.url)) as store:
        consul.fail(409, body, of="PUT")
        with pytest.raises(StoreUnavailable):
            store.exchange(new_election(), charge("a", 1))


def test_a_transaction_that_fails_for_another_reason_is_no_lost_swap(consul: ConsulDouble) -> None:
    with closing(opened(consul.url)) as store:
        # The last operation only looks: it guards nothing.
        consul.fail(409, '{"Results": null, "Errors": [{"OpIndex": 9, "What": "failed kvs lookup"}]}', of="PUT")
        with pytest.raises(StoreUnavailable, match="failed kvs lookup"):
            store.exchange(new_election(), charge("a", 1))


@pytest.mark.parametrize("shows", ["nothing", "the folder as it was"])
def test_a_transaction_that_does_not_show_what_it_wrote_is_read_after(consul: ConsulDouble, shows: str) -> None:
    """That its last operation sees what the others did is not documented."""
    election = new_election()
    with closing(opened(consul.url)) as store:
        join(store, election, "a")
        old = [{"KV": row.shown()} for row in consul.state.tree(f"heirflow/elections/{election}/")[1]]
        results = old if shows == "the folder as it was" else None
        consul.fail(200, json.dumps({"Results": results, "Errors": None}), of="PUT", acts=True)
        reading = store.exchange(election, charge("a", 1))
        assert reading.swapped and reading.record is not None and reading.record.leader == "a"
        consul.fail(200, json.dumps({"Results": old, "Errors": None}), of="PUT", acts=True)
        assert store.exchange(election, Exchange(who("a"), leave=True)).members == ()


def test_a_write_that_a_proxy_sends_twice_is_no_lost_swap(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as store:
        join(store, election, "a")
        consul.double()
        with pytest.raises(StoreUnavailable, match="proxy"):
            store.exchange(election, charge("a", 1))
        record = store.exchange(election, Exchange()).record
        assert record is not None and record.leader == "a"
        assert store.exchange(election, charge("a", 2)).swapped


def test_whoever_wrote_the_same_by_chance_is_no_proxy(consul: ConsulDouble) -> None:
    """A number in the line is the same whoever takes it: the event that goes with it tells."""
    election, note = new_election(), Event(What.LOST, 1, "a", "a tells of something")
    with closing(opened(consul.url)) as a, closing(opened(consul.url)) as b:
        for store in (a, b, a, b):
            store.exchange(election, Exchange(notes=(note,)))
        assert len(a.events(election, 9)) == 4


def test_a_call_with_several_requests_has_one_limit(consul: ConsulDouble) -> None:
    with closing(Consul(Where(consul.url), call_limit_s=0.6)) as keys:
        _, seen = keys.commit("elections/x", Write(puts={"elections/x/a": b"1"}))
        keys.commit("elections/x", Write(puts={"elections/x/a": b"2"}))
        consul.slow_s = 0.4
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="in time"):  # lost, and what is there cannot be read any more
            keys.commit("elections/x", Write({"elections/x/a": seen.number("elections/x/a")}, {"elections/x/a": b"3"}))
        assert time.monotonic() - begun < 0.8
        consul.slow_s = 0.0
        assert keys.read("elections/x").entries["elections/x/a"].value == b"2"


# What is asked


def test_every_reading_is_consistent_and_says_where(consul: ConsulDouble) -> None:
    election = new_election()
    where = f"{consul.url}?namespace=team&partition=east&dc=paris"
    with closing(opened(where)) as store:
        join(store, election, "a")
        store.exchange(election, charge("a", 1))
        store.events(election, 5)
    for asked in consul.asked:
        assert (asked.query["ns"], asked.query["partition"], asked.query["dc"]) == ("team", "east", "paris")
        if asked.path != "/v1/txn" or b'"get-tree"' not in asked.body or b"cas" not in asked.body:
            assert "consistent" in asked.query and "stale" not in asked.query, asked
    assert any(b'"Namespace": "team"' in asked.body and b'"Partition": "east"' in asked.body for asked in consul.asked)


def test_names_are_spelt_in_letters_that_every_consul_takes() -> None:
    for name in (HOSTILE, "a.json", ".", "..", "ä:#%~,c", "%2C", "x" * 200):
        key = f"elections/{quoted(name)}/m:{quoted(name)}"
        assert set(spelt(key)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,-_/")
        assert unspelt(spelt(key)) == key
    assert unspelt("m:a") is None


def test_keys_of_others_are_not_taken_for_ours(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as store:
        join(store, election, "a")
        for key in ("", "m:b", "deep/er", "empty"):
            consul.state.put(f"heirflow/elections/{election}/{key}", b"")
        for request in (Exchange(who("a")), Exchange()):
            assert ids(store.exchange(election, request)) == ["a"]
        assert set(store.elections()) == {election}


def test_a_guarded_deletion_fails_where_the_key_is_gone_already(consul: ConsulDouble) -> None:
    with closing(Consul(Where(consul.url), call_limit_s=LIMIT_S)) as keys:
        _, seen = keys.commit("elections/x", Write(puts={"elections/x/a": b"1", "elections/x/b": b"1"}))
        guards = {key: seen.number(key) for key in ("elections/x/a", "elections/x/b")}
        keys.commit("elections/x", Write(deletes=["elections/x/b"]))
        done, seen = keys.commit("elections/x", Write(guards, deletes=[*guards]))
        assert not done and [*seen.entries] == ["elections/x/a"]
        only = {"elections/x/a": guards["elections/x/a"]}
        done, seen = keys.commit("elections/x", Write(only, deletes=[*only]))
        assert done and not seen.entries


def test_more_than_a_transaction_takes(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as store:
        everybody = [f"m{number}" for number in range(90)]
        for member in everybody:
            join(store, election, member)
        with pytest.raises(StoreRefuses, match="so much at once"):
            store.forget(election, store.exchange(election, Exchange()))
        gone = store.exchange(election, Exchange(who("m0"), forget=tuple(everybody[20:])))
        assert ids(gone) == everybody[:20]
        assert store.forget(election, store.exchange(election, Exchange()))
        assert store.elections() == ()


def test_a_value_that_is_too_large_is_refused(consul: ConsulDouble) -> None:
    with (
        closing(Consul(Where(consul.url), call_limit_s=LIMIT_S)) as keys,
        pytest.raises(StoreRefuses, match="so much at once"),
    ):
        keys.commit("elections/x", Write(puts={"elections/x/a": b"x" * 600_000}))


# Connections


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = "-keyout key.pem -out cert.pem -days 2 -subj /CN=consul -addext subjectAltName=IP:127.0.0.1"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes {named}"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("cert.pem", "key.pem")
    with consul_double(context) as consul:
        assert consul.url.startswith("consuls://")
        with closing(opened(f"{consul.url}?ca={tmp_path}/cert.pem")) as store:
            assert store.exchange(new_election(), charge("a", 1)).swapped
        with pytest.raises(StoreUnavailable, match="certificate that is not trusted"):
            opened(consul.url)
        with pytest.raises(StoreUnavailable):
            opened(consul.url.replace("consuls", "consul"))


def test_a_user_without_a_token_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="consul://:TOKEN@") as raised:
        open_store("consul://secret@h1/heirflow", call_limit_s=1)
    assert "secret" not in str(raised.value)


def test_orders_are_lost_to_whoever_was_faster(consul: ConsulDouble) -> None:
    election = new_election()
    with closing(opened(consul.url)) as a, closing(opened(consul.url)) as b:
        a.exchange(election, charge("a", 1))
        b.exchange(election, Exchange())
        a.exchange(election, Exchange(swap=take("a", 1, 2, expected=1)))
        lost = b.exchange(election, Exchange(swap=take("b", 2, 2, expected=1)))
        assert lost.swapped is False and lost.record is not None and lost.record.version == 2
