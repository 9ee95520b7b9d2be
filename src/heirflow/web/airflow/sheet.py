"""What the views for Flask answer: the same pages and words as `routes`, for threads that may wait."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Response, request

from heirflow.web import answers, pages
from heirflow.web.airflow.behind import BEGIN, Behind
from heirflow.web.desk import NoAnswer
from heirflow.web.views import Asked, NotThere, view_of

HTML = "text/html; charset=utf-8"


class Sheet:
    """One for each process that serves. Raises `HeirflowError` where the settings do not name a store."""

    def __init__(self) -> None:
        self._behind = Behind.of_airflow()
        self._desk = self._behind.desk
        self._behind.start()

    def page(self, kind: str, *, may_order: bool) -> Response:
        """A page, or its main part for who asks with the header for that."""
        try:
            asked = answers.asked_by(kind, request.args)
        except answers.Unclear as error:
            return _lost(HTTPStatus.BAD_REQUEST, "Not understood", str(error))
        part = "X-Heirflow-Part" in request.headers
        try:
            values = self._values(asked, may_order=may_order)
        except NotThere as error:
            if part:
                return _html(pages.gone(str(error)), part=True)
            return _lost(HTTPStatus.NOT_FOUND, "Not there", str(error))
        text = pages.main_part(values) if part else pages.whole(values, live="poll", wants_token=False)
        return _html(text, part=part)

    def _values(self, asked: Asked, *, may_order: bool) -> dict[str, Any]:
        seen = self._desk.seen(asked.key)
        if self._desk.broken is not None:
            raise RuntimeError("the stores are not read any more") from self._desk.broken
        shown = seen.of(asked.key) if seen is not None else None
        events, trouble = self._desk.history(shown) if shown is not None else ((), "")
        beside = self._behind.jobs(shown) if shown is not None else None
        return view_of(asked, seen, events, trouble, may_order=may_order, beside=beside, begin=BEGIN)

    def file(self, name: str) -> Response:
        """A file of the page."""
        found = pages.static_file(name)
        if found is None:
            return _lost(HTTPStatus.NOT_FOUND, "Not there", "There is no such file.")
        headers = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
        return Response(found[0], content_type=found[1], headers=headers)

    def metrics(self) -> Response:
        """In the text format of Prometheus."""
        text = answers.metrics_of(self._desk, self._desk.seen())
        if text is None:
            return Response("this server has no prometheus-client\n", HTTPStatus.NOT_IMPLEMENTED, pages.HEADERS)
        return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8", headers=pages.HEADERS)

    def elections(self) -> Response:
        """As `heirflow status --json`."""
        result = answers.elections_of(self._desk.seen())
        return self.json(result, HTTPStatus.SERVICE_UNAVAILABLE if result["trouble"] else HTTPStatus.OK)

    def order(self, body: bytes, who: str) -> Response:
        """Give one."""
        try:
            wish = answers.wish_of(body, who)
        except ValueError as error:
            return self.json({"sentence": f"the order was not understood: {error}"}, HTTPStatus.BAD_REQUEST)
        try:
            said = self._desk.give(wish)
        except NoAnswer as error:
            return self.json({"sentence": str(error)}, HTTPStatus.GATEWAY_TIMEOUT)
        return self.json({"sentence": said.sentence}, answers.STATUS[said.given])

    @staticmethod
    def json(result: dict[str, Any], status: int) -> Response:
        """An answer for programs."""
        text = json.dumps(answers.plain(result))
        return Response(text, status, content_type="application/json", headers=pages.HEADERS)


def _html(text: str, *, part: bool) -> Response:
    headers = {**pages.HEADERS, "Vary": "X-Heirflow-Part", **({"X-Heirflow-Part": "main"} if part else {})}
    return Response(text, content_type=HTML, headers=headers)


def _lost(status: int, title: str, said: str) -> Response:
    return Response(pages.lost(title, said), status, content_type=HTML, headers=pages.HEADERS)
