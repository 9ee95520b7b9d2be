"""`heirflow serve`: the page by itself, and whom it obeys."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from heirflow.config.resolve import Config
from heirflow.errors import ConfigError
from heirflow.listening import listener
from heirflow.web import pages
from heirflow.web.desk import Desk
from heirflow.web.hosts import NamedOnly
from heirflow.web.routes import READ_ONLY, Denied, Orders, Pages

LEAST_TOKEN = 16
"""Characters of a token: a shorter one could be guessed."""
BACKLOG = 128
END_S = 3
"""So long open answers may still take after the order to end, in seconds."""


def token_in(path: Path) -> str:
    """The token in a file, read anew each time it is needed. Raises `ConfigError`."""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"cannot read the token in {path}: {reason}") from None
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"the token in {path} must be one word of at least {LEAST_TOKEN} ASCII characters")
    return token


def by_token(path: Path) -> Orders:
    """Orders from whoever has the token."""

    async def offered(_request: Request) -> bool:
        return True

    async def who(request: Request) -> str:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            wanted = token_in(path)
        except ConfigError as error:
            raise Denied(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), wanted.encode()):
            raise Denied(HTTPStatus.UNAUTHORIZED, "the token is not right")
        return f"the page, from {request.client.host if request.client is not None else 'somewhere'}"

    return Orders(offered, who, wants_token=True)


def app_of(shown: Pages) -> Starlette:
    """The page as an ASGI application of its own."""

    async def lost(_request: Request, _error: Exception) -> Response:
        text = pages.lost("Not there", "There is no such page.")
        return Response(text, HTTPStatus.NOT_FOUND, media_type="text/html; charset=utf-8", headers=pages.HEADERS)

    routes = [Route(path, endpoint, methods=[method]) for method, path, endpoint in shown.table()]
    return Starlette(routes=routes, exception_handlers={HTTPStatus.NOT_FOUND: lost})


def address_of(listening: socket.socket) -> str:
    """What to open in a browser on this host."""
    host, port = listening.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104  everywhere, so also by the host's name
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class _Server(uvicorn.Server):
    """Ends its streams when it is asked to stop, and itself when the reading has broken."""

    def __init__(self, config: uvicorn.Config, desk: Desk, shown: Pages) -> None:
        super().__init__(config)
        self._desk, self._shown = desk, shown

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Whoever asks it to end gets exit code 0; uvicorn would end by that signal instead."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self.should_exit or self._desk.broken is not None:
            self._shown.end()
            self.should_exit = True
        return await super().on_tick(counter)


def serve(
    configs: Sequence[Config],
    place: str,
    token_file: Path | None,
    every_s: float,
    tell: Callable[[str], None],
    *,
    names: Iterable[str] = (),
) -> None:
    """Serve at ``HOST:PORT`` until a signal. Raises `ConfigError` where nobody can listen there; and what broke the reading.

    `tell` is given the address of the page as soon as it can be opened. `names`: by which it may be asked for, beside the host in
    `place` and this machine's own names.
    """
    if token_file is not None:
        token_in(token_file)
    listening = listener(place, BACKLOG)
    desk = Desk(configs, every_s=every_s)
    shown = Pages(desk, READ_ONLY if token_file is None else by_token(token_file))
    config = uvicorn.Config(
        NamedOnly(app_of(shown), [place.rpartition(":")[0], *names]),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_S,
        limit_concurrency=1000,
        lifespan="off",
    )
    desk.start()
    tell(address_of(listening))
    try:
        _Server(config, desk, shown).run(sockets=[listening])
    finally:
        listening.close()
        desk.stop()
    if desk.broken is not None:
        raise desk.broken
