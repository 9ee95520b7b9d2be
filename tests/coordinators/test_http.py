"""The HTTP below coordinators: one deadline for all servers, no second sending, and nothing that a client does by itself."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from heirflow.stores import StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.http import LARGEST, Http
from lab.servers.servers import free_port

LIMIT_S = 0.8
Talk = Callable[[socket.socket], None]


class Fake:
    """A server that does with every request as it is told."""

    def __init__(self, talk: Talk, host: str = "127.0.0.1") -> None:
        self.talk = talk
        self.asked: list[bytes] = []
        self._door = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.endpoint = (host, self._door.getsockname()[1])
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._one, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _one(self, client: socket.socket) -> None:
        client.settimeout(10)
        with client, suppress(OSError):
            while request := client.recv(65536):
                while b"\r\n\r\n" not in request:
                    request += client.recv(65536)
                self.asked.append(request)
                self.talk(client)

    def close(self) -> None:
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for thread in self._threads:
            thread.join(5)


def says(body: object, status: str = "200 OK", more: str = "") -> Talk:
    text = json.dumps(body)
    answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n{more}\r\n{text}".encode()
    return lambda client: client.sendall(answer)


def drips(client: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
        client.sendall(bytes([byte]))
        time.sleep(0.02)


def drips_its_body(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(500):
        client.sendall(b" ")
        time.sleep(0.02)


def says_nothing(client: socket.socket) -> None:
    with suppress(TimeoutError):
        client.recv(1)


def hangs_up(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def fake() -> Iterator[Callable[[Talk], Fake]]:
    made: list[Fake] = []

    def make(talk: Talk) -> Fake:
        made.append(Fake(talk))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("talk", [drips, drips_its_body, says_nothing], ids=lambda talk: talk.__name__)
@pytest.mark.parametrize("writes", [False, True], ids=["reading", "write"])
def test_one_deadline_for_the_whole_call(talk: Talk, writes: bool, fake: Callable[[Talk], Fake]) -> None:
    endpoints = [fake(talk).endpoint for _ in range(3)]
    with closing(Http("it", endpoints, limit_s=LIMIT_S)) as http:
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer in time"):
            http.call("POST", "/", {}, writes=writes)
        assert LIMIT_S - 0.05 < time.monotonic() - start < LIMIT_S + 0.3


@pytest.mark.parametrize(
    "talk", [drips, says_nothing, hangs_up, says({}, "503 No")], ids=["drips", "silent", "hangs up", "503"]
)
def test_a_reading_goes_on_to_the_next_server_which_is_asked_first_from_then_on(
    talk: Talk, fake: Callable[[Talk], Fake]
) -> None:
    bad, good = fake(talk), fake(says({"is": "good"}))
    with closing(Http("it", [bad.endpoint, good.endpoint], limit_s=LIMIT_S)) as http:
        for _ in range(3):
            assert http.call("GET", "/", writes=False).json() == {"is": "good"}
        assert len(bad.asked) == 1


@pytest.mark.parametrize("talk", [drips, says_nothing, hangs_up], ids=["drips", "silent", "hangs up"])
def test_a_write_that_was_sent_is_sent_to_nobody_else(talk: Talk, fake: Callable[[Talk], Fake]) -> None:
    bad, good = fake(talk), fake(says({"is": "good"}))
    with closing(Http("it", [bad.endpoint, good.endpoint], limit_s=LIMIT_S)) as http:
        with pytest.raises(StoreUnavailable, match="whether it was written is not known"):
            http.call("PUT", "/", {}, writes=True)
        assert (len(bad.asked), len(good.asked)) == (1, 0)
        assert http.call("PUT", "/", {}, writes=True).json() == {"is": "good"}, "the next one goes elsewhere"


def test_a_write_goes_on_where_there_was_no_connection(fake: Callable[[Talk], Fake]) -> None:
    good = fake(says({"is": "good"}))
    with closing(Http("it", [("127.0.0.1", free_port()), good.endpoint], limit_s=LIMIT_S)) as http:
        assert http.call("PUT", "/", {}, writes=True).json() == {"is": "good"}
    with closing(Http("it", [("127.0.0.1", free_port())], limit_s=LIMIT_S)) as http:
        with pytest.raises(StoreUnavailable, match="refuses the connection") as failure:
            http.call("PUT", "/", {}, writes=True)
        assert "not known" not in str(failure.value)


def test_an_answer_to_a_write_is_an_answer_of_whatever_status(fake: Callable[[Talk], Fake]) -> None:
    bad, good = fake(says({"no": 1}, "500 No")), fake(says({}))
    with closing(Http("it", [bad.endpoint, good.endpoint], limit_s=LIMIT_S)) as http:
        assert http.call("PUT", "/", {}, writes=True).status == 500
        assert not good.asked


def test_one_connection_serves_all_calls_and_a_new_one_when_the_server_has_ended_it(
    fake: Callable[[Talk], Fake],
) -> None:
    served = fake(says({}))
    with closing(Http("it", [served.endpoint], limit_s=LIMIT_S)) as http:
        for _ in range(3):
            http.call("PUT", "/", {}, writes=True)
        assert len(served._threads) == 2
        served.talk = lambda client: (says({})(client), hangs_up(client))[0]
        http.call("PUT", "/", {}, writes=True)
        served.talk = says({})
        time.sleep(0.05)
        assert not http.is_open
        for _ in range(2):
            http.call("PUT", "/", {}, writes=True)
        assert http.is_open
        assert len(served._threads) == 3
        assert len(served.asked) == 6


def test_an_address_with_colons() -> None:
    with closing(Fake(says({}), "::1")) as served, closing(Http("it", [served.endpoint], limit_s=LIMIT_S)) as http:
        assert http.call("GET", "/", writes=False).status == 200
        assert f"Host: [::1]:{served.endpoint[1]}\r\n".encode() in served.asked[0]


def test_a_name_of_two_addresses_of_which_one_is_dead(
    monkeypatch: pytest.MonkeyPatch, fake: Callable[[Talk], Fake]
) -> None:
    served, looked_up = fake(says({})), socket.getaddrinfo

    def two(host: str, *rest: Any, **more: Any) -> Any:
        hosts = ["127.0.0.2", "127.0.0.1"] if host == "two.example" else [host]
        return [found for each in hosts for found in looked_up(each, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with closing(Http("it", [("two.example", served.endpoint[1])], limit_s=LIMIT_S)) as http:
        assert http.call("PUT", "/", {}, writes=True).status == 200
        assert f"Host: two.example:{served.endpoint[1]}\r\n".encode() in served.asked[0]


def test_no_redirect_no_proxy_and_no_second_try(monkeypatch: pytest.MonkeyPatch, fake: Callable[[Talk], Fake]) -> None:
    other = fake(says({}))
    there = f"http://{other.endpoint[0]}:{other.endpoint[1]}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, there)
    served = fake(says({}, "307 Elsewhere", f"Location: {there}/\r\n"))
    with closing(Http("it", [served.endpoint], limit_s=LIMIT_S)) as http:
        assert http.call("GET", "/", writes=False).status == 307
    assert not other.asked
    assert len(served.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 100_000])
def test_what_is_no_json_is_a_sentence(body: bytes, fake: Callable[[Talk], Fake]) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    served = fake(lambda client: client.sendall(head + body))
    with closing(Http("it", [served.endpoint], limit_s=LIMIT_S)) as http:
        answer = http.call("GET", "/", writes=False)
        with pytest.raises(StoreUnavailable, match="and no JSON"):
            answer.json()


@pytest.mark.parametrize(
    "head", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_what_is_no_http_or_half_of_it_is_unavailable(head: bytes, fake: Callable[[Talk], Fake]) -> None:
    served = fake(lambda client: (client.sendall(head), hangs_up(client))[0])
    with closing(Http("it", [served.endpoint], limit_s=LIMIT_S)) as http, pytest.raises(StoreUnavailable):
        http.call("GET", "/", writes=False)


def test_an_answer_without_end_is_cut(fake: Callable[[Talk], Fake]) -> None:
    def endless(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(LARGEST // 65536 + 10):
            client.sendall(b" " * 65536)

    served = fake(endless)
    with closing(Http("it", [served.endpoint], limit_s=20.0)) as http, pytest.raises(StoreUnavailable):
        http.call("GET", "/", writes=False)


def test_the_clock_is_learnt_of_each_answer(fake: Callable[[Talk], Fake]) -> None:
    clock = TheirClock()
    served = fake(says({}, more="Date: Tue, 01 Jan 2030 00:00:00 GMT\r\n"))
    with closing(Http("it", [served.endpoint], limit_s=LIMIT_S, clock=clock)) as http:
        http.call("GET", "/", writes=False)
    assert abs(clock.now() - 1893456000) < 2


def test_a_call_that_hangs_ends_when_it_is_severed_and_the_next_goes_on(fake: Callable[[Talk], Fake]) -> None:
    served = fake(says_nothing)
    other = fake(says({}))
    with closing(Http("it", [served.endpoint, other.endpoint], limit_s=30.0)) as http:
        done = threading.Event()

        def again() -> None:
            while not done.wait(0.1):  # it ends only what hangs already
                http.sever()

        thread = threading.Thread(target=again)
        thread.start()
        with pytest.raises(StoreUnavailable):
            http.call("GET", "/", writes=False)
        done.set()
        thread.join()
        assert not other.asked
        http.sever()  # nothing hangs: it does no harm
        assert http.call("GET", "/", writes=False).status == 200


def test_a_name_that_nobody_knows_is_said(fake: Callable[[Talk], Fake]) -> None:
    with (
        closing(Http("it", [("no.such.name.invalid", 1)], limit_s=5)) as http,
        pytest.raises(StoreUnavailable, match="has a name that cannot be looked up"),
    ):
        http.call("GET", "/", writes=False)
