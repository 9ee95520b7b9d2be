"""A health check that asks an address: its deadline, and what it does not do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from heirflow.member.url_check import UrlCheck

Serve = Callable[[Callable[[socket.socket], object]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that does something with each link; `serve` returns its port."""
    servers: list[socket.socket] = []

    def start(answer: Callable[[socket.socket], object]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def each() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link, suppress(OSError):
                    answer(link)

        threading.Thread(target=each, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for server in servers:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def drip(begin: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def answer(link: socket.socket) -> None:
        link.sendall(begin)
        while True:
            time.sleep(0.1)
            link.sendall(piece)

    return answer


DRIPS = {
    "before the status": ("http", drip(b"HTTP/1.1 200 ", b"O")),
    "with many interim answers": ("http", drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "within the headers": ("http", drip(b"HTTP/1.1 200 OK\r\n", b"a")),
    "while encryption begins": ("https", drip(b"\x16\x03\x03\x40\x00\x02", b"\0")),
    "nothing at all": ("http", lambda link: link.recv(1 << 16) and time.sleep(5)),
}


@pytest.mark.parametrize("where", DRIPS)
def test_one_deadline_holds_whatever_the_other_side_does(serve: Serve, where: str) -> None:
    scheme, answer = DRIPS[where]
    check = UrlCheck(f"{scheme}://127.0.0.1:{serve(answer)}/health?token=hunter2")
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(check.look("", 0.5)), daemon=True)
    began = time.monotonic()
    asking.start()
    asking.join(2.0)
    assert found, "it waits beyond its deadline"
    assert time.monotonic() - began < 1.5
    assert "did not answer within 0.5 s" in found[0] and "hunter2" not in found[0]


STATUSES = [200, 204, 301, 302, 399, 400, 503]


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_below_400_is_well_and_no_redirect_is_followed(serve: Serve, status: int) -> None:
    well = status < 400
    elsewhere: list[int] = []
    other = serve(lambda link: elsewhere.append(1))

    def answer(link: socket.socket) -> None:
        link.recv(1 << 16)
        link.sendall(b"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % (status, other))

    unwell = UrlCheck(f"http://127.0.0.1:{serve(answer)}").look("", 5.0)
    assert (unwell == "") is well, unwell
    assert well or f"answered {status}" in unwell
    assert not elsewhere


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_no_proxy_of_the_environment_is_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    def say(status: int) -> Callable[[socket.socket], object]:
        return lambda link: link.recv(1 << 16) and link.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)

    monkeypatch.setenv(name, f"http://127.0.0.1:{serve(say(200))}")
    assert "answered 500" in UrlCheck(f"http://127.0.0.1:{serve(say(500))}/").look("", 5.0)


def test_the_address_is_asked_as_it_stands(serve: Serve) -> None:
    asked: list[bytes] = []

    def answer(link: socket.socket) -> None:
        asked.append(link.recv(1 << 16))
        link.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    port = serve(answer)
    assert UrlCheck(f"http://localhost:{port}/a/b?c=d#e").look("", 5.0) == ""
    assert asked[0].startswith(b"GET /a/b?c=d HTTP/1.1\r\n") and b"Host: localhost:%d\r\n" % port in asked[0]


def test_where_nobody_listens_or_no_host_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "did not answer: " in UrlCheck(f"http://127.0.0.1:{port}/").look("", 5.0)
    assert "did not answer: it names no host" in UrlCheck("http:///x").look("", 5.0)
