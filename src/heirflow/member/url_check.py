"""A health check that asks an address: one GET, with one deadline around all of it.

The deadline holds whatever the other side does, also when it sends one byte at a time: a timer cuts the connection. The address
is asked itself, never a proxy that the environment names, and a redirect is an answer and is not followed.
"""

from __future__ import annotations

import socket
import threading
from contextlib import closing, suppress
from urllib.parse import SplitResult, urlsplit

from heirflow.clock import boottime
from heirflow.text import masked_url


class UrlCheck:
    """An address that answers a GET with a status below 400 while all is well."""

    def __init__(self, url: str) -> None:
        self._url, self._shown = url, masked_url(url)

    def look(self, note: str, limit_s: float) -> str:
        import http.client  # some megabytes, which most members never need

        ends_at = boottime() + limit_s
        try:
            status = _status_of(urlsplit(self._url), ends_at)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if boottime() >= ends_at:
                return f"{self._shown} did not answer within {limit_s:g} s"
            if isinstance(error, http.client.HTTPException):
                return f"{self._shown} did not answer as HTTP does: {type(error).__name__}"
            return f"{self._shown} did not answer: {getattr(error, 'reason', error)}"
        return "" if status < 400 else f"{self._shown} answered {status}"


def _status_of(url: SplitResult, ends_at: float) -> int:
    """Raises `OSError` when the time is over, and like `http.client`."""
    import http.client

    if not url.hostname:
        raise ValueError("it names no host")
    secure = url.scheme == "https"
    asked = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = asked(url.hostname, url.port)
    link = _connected(url.hostname, connection.port, ends_at)
    with closing(connection), link, link.dup() as cut:
        timer = threading.Timer(max(0.0, ends_at - boottime()), _cut, [cut])
        timer.daemon = True
        timer.start()
        try:
            connection.sock = _secured(link, url.hostname) if secure else link
            connection.request("GET", _target(url), headers={"User-Agent": "heirflow", "Connection": "close"})
            with connection.getresponse() as response:
                status = response.status
        finally:
            timer.cancel()
            timer.join()
        if boottime() >= ends_at:
            raise TimeoutError("the time is over")  # what came before the cut is not a whole answer
        return status


def _connected(host: str, port: int, ends_at: float) -> socket.socket:
    """A link to the first of the host's addresses that takes one; each has its share of the time."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    refused = OSError("it has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        link = socket.socket(family, kind, protocol)
        link.settimeout(max(0.001, (ends_at - boottime()) / (len(addresses) - number)))
        try:
            link.connect(address)
        except OSError as error:
            link.close()
            refused = error
        else:
            link.settimeout(max(0.001, ends_at - boottime()))
            return link
    raise refused


def _secured(link: socket.socket, host: str) -> socket.socket:
    import ssl

    return ssl.create_default_context().wrap_socket(link, server_hostname=host)


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _cut(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
