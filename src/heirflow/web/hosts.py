"""By which names the page may be asked for.

Another site can make its own name lead to this server's address, and its script would then read the page as its own (DNS
rebinding). What that script cannot do is to send another name than its site's in the Host header. An address there is no site's
name.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from heirflow.text import brief
from heirflow.web import pages


class NamedOnly:
    """An ASGI application that is only for requests by an address, by this host's own names, or by one of `names`."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = {"localhost", _plain(socket.gethostname()), *map(_plain, names)}
        self._whole_known = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See above. A request that names no host comes from no browser."""
        name = _named(Request(scope).headers.get("host", "")) if scope["type"] == "http" else ""
        if not name or await self._is_ours(name):
            await self._app(scope, receive, send)
            return
        said = f"this page is not known as {brief(ascii(name))}; if it should be, start it with --allow-host and that name\n"
        await PlainTextResponse(said, HTTPStatus.MISDIRECTED_REQUEST, pages.HEADERS)(scope, receive, send)

    async def _is_ours(self, name: str) -> bool:
        if name not in self._names and not self._whole_known:
            self._names.add(_plain(await run_in_threadpool(socket.getfqdn)))  # it may have to ask for it
            self._whole_known = True
        return name in self._names


def _named(host: str) -> str:
    """The name in a Host header; empty where there is an address, or nothing."""
    before, colon, port = host.rpartition(":")
    name = before if colon and (port.isdecimal() or not port) and not before.endswith(":") else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return _plain(name)
    return ""


def _plain(name: str) -> str:
    return name.strip().lower().rstrip(".")
