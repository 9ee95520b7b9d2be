"""The page over HTTP: what Starlette and FastAPI serve alike.

Each address can be had in three ways: as a page, as its main part (header ``X-Heirflow-Part``), and as a stream of main parts
(server-sent events). What is rendered is shared by all who look at the same address.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from heirflow.status.seen import Seen, Shown
from heirflow.web import answers, pages
from heirflow.web.desk import Desk
from heirflow.web.views import BEGIN, Asked, NotThere

STREAMS = 200
"""So many pages are kept live at once; others ask again and again by themselves."""
TICK_S = 2.0
"""A page whose store stands still is drawn anew so often, for its age."""
SAME_S = 4.0
"""A page that has not changed is told so after this, in seconds: it knows then that its server is there."""
FOR_GOOD_S = float("inf")
AGAIN_MS = 1000
"""So long a browser waits before it asks for another stream where each ends by itself, in milliseconds."""
ORDER_LIMIT = 4096
"""Bytes of an order."""
BODY_LIMIT_S = 5.0


class Denied(Exception):
    """Somebody may not give orders. The sentence says why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Orders:
    """Who may give orders, and whether that is offered."""

    offered: Callable[[Request], Awaitable[bool]]
    """Whether the page shows its buttons."""
    who: Callable[[Request], Awaitable[str]]
    """Who asks, for the history. Raises `Denied`."""
    wants_token: bool = False


async def _no(_request: Request) -> bool:
    return False


async def _nobody(_request: Request) -> str:
    raise Denied(HTTPStatus.FORBIDDEN, "this page is for reading only")


READ_ONLY = Orders(_no, _nobody)


class Pages:
    """The endpoints. One object for all who look.

    `live`: how a page stays so, as `pages.whole` has it. `beside`: what another source tells of an election; called in a thread.
    `begin`: as `view_of` has it. `lasts_s`: a stream ends after so long, and the browser asks for another one: whoever may not look
    any more is found out then. `stopping`: whether the server wants to end, which waits for every open answer.
    """

    def __init__(
        self,
        desk: Desk,
        orders: Orders = READ_ONLY,
        *,
        live: str = "stream",
        beside: answers.Besides | None = None,
        begin: str = BEGIN,
        lasts_s: float = FOR_GOOD_S,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._lasts_s, self._stopping = lasts_s, stopping
        self._desk, self._orders, self._live, self._beside, self._begin = desk, orders, live, beside, begin
        self._drawn: dict[tuple[Asked, bool], tuple[object, float, str]] = {}
        self._drawing: dict[tuple[Asked, bool], asyncio.Future[str]] = {}
        self._streams = 0
        self._ending = False

    def table(self) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
        """Method, path and endpoint of each."""
        return [
            ("GET", "/", self.all_page),
            ("GET", "/election", self.election_page),
            ("GET", "/member", self.member_page),
            ("GET", "/static/{name}", self.static),
            ("GET", "/healthz", self.healthz),
            ("GET", "/metrics", self.metrics),
            ("GET", "/api/elections", self.elections),
            ("GET", "/api/check", self.check),
            ("GET", "/api/history", self.history),
            ("GET", "/api/timeline", self.timeline),
            ("POST", "/api/order", self.order),
        ]

    def end(self) -> None:
        """Let the streams end, so that the server can."""
        self._ending = True

    # Pages

    async def all_page(self, request: Request) -> Response:
        """Every election."""
        return await self._page(request, "all")

    async def election_page(self, request: Request) -> Response:
        """One election."""
        return await self._page(request, "election")

    async def member_page(self, request: Request) -> Response:
        """One member."""
        return await self._page(request, "member")

    async def _page(self, request: Request, kind: str) -> Response:
        """A page, its main part, or a stream of it."""
        try:
            asked = answers.asked_by(kind, request.query_params)
        except answers.Unclear as error:
            return self._lost(HTTPStatus.BAD_REQUEST, "Not understood", str(error))
        may_order = await self._orders.offered(request)
        if self._live == "stream" and "text/event-stream" in request.headers.get("accept", ""):
            if self._streams >= STREAMS:
                return _text(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open; ask again and again\n")
            return StreamingResponse(
                self._stream(asked, may_order=may_order),
                media_type="text/event-stream",
                headers={**pages.HEADERS, "X-Accel-Buffering": "no"},
            )
        try:
            if "x-heirflow-part" in request.headers:
                return _html(await self._part(asked, may_order=may_order), {"X-Heirflow-Part": "main"})
            values = await self._values(asked, may_order=may_order)
        except NotThere as error:
            if "x-heirflow-part" in request.headers:
                return _html(pages.gone(str(error)), {"X-Heirflow-Part": "main"})
            return self._lost(HTTPStatus.NOT_FOUND, "Not there", str(error))
        whole = partial(pages.whole, live=self._live, wants_token=self._orders.wants_token)
        return _html(await run_in_threadpool(whole, values))

    async def _values(self, asked: Asked, *, may_order: bool) -> dict[str, Any]:
        """Raises `NotThere`."""
        seen = await self._desk.seen_soon(asked.key)
        view = partial(answers.view_by, may_order=may_order, beside=self._beside, begin=self._begin)
        return await run_in_threadpool(view, self._desk, asked, seen)

    async def _part(self, asked: Asked, *, may_order: bool) -> str:
        """Drawn once for each reading and second, for all who look at it. Raises `NotThere`."""
        seen, now, which = await self._desk.seen_soon(asked.key), time.monotonic(), (asked, may_order)
        before = self._drawn.get(which)
        if before is not None and before[0] is seen and now - before[1] < TICK_S:
            return before[2]
        drawing = self._drawing.get(which)
        if drawing is None:
            drawing = self._drawing[which] = asyncio.ensure_future(self._draw(asked, seen, may_order=may_order))
            drawing.add_done_callback(lambda done: self._finished(which, done))
        return await asyncio.shield(drawing)

    async def _draw(self, asked: Asked, seen: Seen | None, *, may_order: bool) -> str:
        part = await run_in_threadpool(pages.main_part, await self._values(asked, may_order=may_order))
        now = time.monotonic()
        self._drawn = {which: drawn for which, drawn in self._drawn.items() if now - drawn[1] < TICK_S}
        self._drawn[asked, may_order] = seen, now, part
        return part

    def _finished(self, which: tuple[Asked, bool], done: asyncio.Future[str]) -> None:
        self._drawing.pop(which, None)
        if not done.cancelled():
            done.exception()  # whoever waits has it; where nobody does any more, it is no secret of the loop's

    async def _stream(self, asked: Asked, *, may_order: bool) -> AsyncIterator[str]:
        self._streams += 1
        last, told_at = "", time.monotonic()
        ends_at = told_at + self._lasts_s
        try:
            if self._lasts_s < FOR_GOOD_S:
                yield f"retry: {AGAIN_MS}\n\n"
            while not (self._ending or self._stopping() or time.monotonic() > ends_at):
                self._desk.look(asked.key)
                try:
                    part = await self._part(asked, may_order=may_order)
                except NotThere as error:
                    part = pages.gone(str(error))
                now = time.monotonic()
                if part != last:
                    yield "event: main\n" + "".join(f"data: {line}\n" for line in part.splitlines()) + "\n"
                    last, told_at = part, now
                elif now - told_at > SAME_S:
                    yield "event: same\ndata:\n\n"
                    told_at = now
                await self._desk.wait(TICK_S)
        finally:
            self._streams -= 1

    async def static(self, request: Request) -> Response:
        """A file of the page. Its address has the version in it."""
        found = pages.static_file(request.path_params["name"])
        if found is None:
            return self._lost(HTTPStatus.NOT_FOUND, "Not there", "There is no such file.")
        return Response(found[0], media_type=found[1], headers=pages.FILE_HEADERS)

    # For programs

    async def healthz(self, _request: Request) -> Response:
        """Whether this server works; the body says whether its stores answer, which is no fault of its."""
        if self._desk.broken is not None:
            return _json({"status": "broken", "sentence": str(self._desk.broken)}, HTTPStatus.INTERNAL_SERVER_ERROR)
        return _json(answers.health_of(await self._desk.seen_soon()))

    async def metrics(self, _request: Request) -> Response:
        """All elections, as `heirflow metrics` writes them."""
        seen = await self._desk.seen_soon()
        text = await run_in_threadpool(answers.metrics_of, self._desk, seen)
        if text is None:
            return _text(HTTPStatus.NOT_IMPLEMENTED, "this server has no prometheus-client\n")
        return Response(text, media_type=answers.METRICS, headers=pages.HEADERS)

    async def elections(self, _request: Request) -> Response:
        """As `heirflow status --json`."""
        seen = await self._desk.seen_soon()
        result = answers.elections_of(seen)
        return _json(result, HTTPStatus.SERVICE_UNAVAILABLE if result["trouble"] else HTTPStatus.OK)

    async def check(self, _request: Request) -> Response:
        """As `heirflow status --check --json`."""
        result = answers.check_of(await self._desk.seen_soon())
        return _json(result, HTTPStatus.SERVICE_UNAVAILABLE if result["code"] >= 2 else HTTPStatus.OK)

    async def history(self, request: Request) -> Response:
        """As `heirflow history --json`."""
        return await self._of_one(request, answers.history_of)

    async def timeline(self, request: Request) -> Response:
        """Who led when."""
        return await self._of_one(request, answers.timeline_of_one)

    async def _of_one(self, request: Request, answer: Callable[[Shown, Any, Asked], dict[str, Any]]) -> Response:
        try:
            asked = answers.asked_by("election", request.query_params)
        except answers.Unclear as error:
            return _json({"sentence": str(error)}, HTTPStatus.BAD_REQUEST)
        seen = await self._desk.seen_soon(asked.key)
        shown = seen.of(asked.key) if seen is not None else None
        if shown is None:
            return _json(*_missing(asked, seen))
        events, trouble = await run_in_threadpool(self._desk.history, shown)
        if trouble:
            return _json({"sentence": trouble}, HTTPStatus.SERVICE_UNAVAILABLE)
        return _json(await run_in_threadpool(answer, shown, events, asked))

    # Orders

    async def order(self, request: Request) -> Response:
        """Give one."""
        try:
            if "x-heirflow-order" not in request.headers:
                raise Denied(
                    HTTPStatus.FORBIDDEN, "an order needs the header X-Heirflow-Order, which no other site can send"
                )
            who = await self._orders.who(request)
            wish = answers.wish_of(await _body(request), who)
        except Denied as error:
            return _json({"sentence": str(error)}, error.status)
        except ValueError as error:
            return _json({"sentence": f"the order was not understood: {error}"}, HTTPStatus.BAD_REQUEST)
        return _json(*await run_in_threadpool(answers.given, self._desk, wish))

    def _lost(self, status: int, title: str, said: str) -> Response:
        return Response(pages.lost(title, said), status, media_type=pages.HTML, headers=pages.HEADERS)


def _missing(asked: Asked, seen: Seen | None) -> tuple[dict[str, Any], int]:
    if seen is None or (asked.key is not None and seen.is_away(asked.key[0])):
        return {"sentence": "the store does not answer"}, HTTPStatus.SERVICE_UNAVAILABLE
    return {"sentence": f"there is no election {asked.key[1] if asked.key else ''}"}, HTTPStatus.NOT_FOUND


async def _body(request: Request) -> bytes:
    """Raises `ValueError` where it is too long, or does not come."""

    async def read() -> bytes:
        whole = b""
        async for piece in request.stream():
            whole += piece
            if len(whole) > ORDER_LIMIT:
                raise ValueError("it is too long")
        return whole

    try:
        return await asyncio.wait_for(read(), BODY_LIMIT_S)
    except asyncio.TimeoutError:
        raise ValueError(f"it did not come within {BODY_LIMIT_S:g} s") from None


def _html(text: str, more: dict[str, str] | None = None) -> Response:
    return Response(text, media_type=pages.HTML, headers={**pages.HEADERS, "Vary": "Accept", **(more or {})})


def _json(result: dict[str, Any], status: int = HTTPStatus.OK) -> Response:
    return JSONResponse(answers.plain(result), status, headers=pages.HEADERS)


def _text(status: int, text: str) -> Response:
    return Response(text, status, media_type="text/plain; charset=utf-8", headers=pages.HEADERS)
