"""What the views for Flask answer: the same pages and words as `routes`, for threads that may wait."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Response, request

from heirflow.web import answers, pages
from heirflow.web.airflow.behind import BEGIN, Behind
from heirflow.web.views import NotThere


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
            seen = self._desk.seen(asked.key)
            values = answers.view_by(
                self._desk, asked, seen, may_order=may_order, beside=self._behind.jobs, begin=BEGIN
            )
        except NotThere as error:
            if part:
                return _html(pages.gone(str(error)), part=True)
            return _lost(HTTPStatus.NOT_FOUND, "Not there", str(error))
        text = pages.main_part(values) if part else pages.whole(values, live="poll", wants_token=False)
        return _html(text, part=part)

    def file(self, name: str) -> Response:
        """A file of the page."""
        found = pages.static_file(name)
        if found is None:
            return _lost(HTTPStatus.NOT_FOUND, "Not there", "There is no such file.")
        return Response(found[0], content_type=found[1], headers=pages.FILE_HEADERS)

    def metrics(self) -> Response:
        """In the text format of Prometheus."""
        text = answers.metrics_of(self._desk, self._desk.seen())
        if text is None:
            return Response("this server has no prometheus-client\n", HTTPStatus.NOT_IMPLEMENTED, pages.HEADERS)
        return Response(text, content_type=answers.METRICS, headers=pages.HEADERS)

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
        return self.json(*answers.given(self._desk, wish))

    @staticmethod
    def json(result: dict[str, Any], status: int) -> Response:
        """An answer for programs."""
        text = json.dumps(answers.plain(result))
        return Response(text, status, content_type="application/json", headers=pages.HEADERS)


def _html(text: str, *, part: bool) -> Response:
    headers = {**pages.HEADERS, "Vary": "X-Heirflow-Part", **({"X-Heirflow-Part": "main"} if part else {})}
    return Response(text, content_type=pages.HTML, headers=headers)


def _lost(status: int, title: str, said: str) -> Response:
    return Response(pages.lost(title, said), status, content_type=pages.HTML, headers=pages.HEADERS)
