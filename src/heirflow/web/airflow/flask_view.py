"""The page in the webserver of Airflow 2: views of Flask AppBuilder, which ask the same desk from their threads.

``/heirflow/`` shows the page within Airflow's own frame, ``/heirflow/page/`` is the page itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from pathlib import Path
from typing import Any

from airflow.auth.managers.models.resource_details import AccessView
from airflow.configuration import conf
from airflow.www.app import csrf
from airflow.www.auth import has_access_view
from airflow.www.extensions.init_auth_manager import get_auth_manager
from flask import Response, redirect, request
from flask_appbuilder import BaseView, expose

from heirflow.errors import HeirflowError
from heirflow.web.airflow.rights import ORDERS_NEED, may_order, name_of

log = logging.getLogger(__name__)
LOOK = AccessView.JOBS
"""Who may see Airflow's own list of jobs may see whose they are. With FAB, only Op and Admin have the right to see plugins."""
TEMPLATES = Path(__file__).parent / "templates"
ORDER_LIMIT = 4096
"""Bytes of an order."""
Answer = Callable[..., Any]


def _may_look() -> bool:
    return bool(get_auth_manager().is_authorized_view(access_view=LOOK))


def _may_order() -> bool:
    manager = get_auth_manager()
    return bool(manager.is_logged_in()) and may_order(manager, manager.get_user())


def guarded(answer: Answer) -> Answer:
    """For who may look: others are sent to the login, and those who have logged in get 403."""

    @wraps(answer)
    def checked(self: Any, *args: Any, **named: Any) -> Any:
        manager = get_auth_manager()
        if manager.is_logged_in() and not _may_look():
            return _text(HTTPStatus.FORBIDDEN, "to see this page, Airflow's right to see jobs is needed\n")
        return has_access_view(LOOK)(answer)(self, *args, **named)

    return checked


class Succession(BaseView):
    """See above."""

    route_base = "/heirflow"
    default_view = "frame"
    template_folder = str(TEMPLATES)

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._sheet: Any = None

    @expose("/")
    @guarded
    def frame(self) -> Any:
        """The page within Airflow's own."""
        if not conf.getboolean("webserver", "x_frame_enabled", fallback=True):
            return redirect("page/")  # nothing of this webserver may be shown in a frame
        return self.render_template("heirflow_frame.html", title="HeirFlow")

    @expose("/page/")
    @guarded
    def all_page(self) -> Any:
        """Every election."""
        return self._answer(lambda sheet: sheet.page("all", may_order=_may_order()))

    @expose("/page/election")
    @guarded
    def election_page(self) -> Any:
        """One election."""
        return self._answer(lambda sheet: sheet.page("election", may_order=_may_order()))

    @expose("/page/member")
    @guarded
    def member_page(self) -> Any:
        """One member."""
        return self._answer(lambda sheet: sheet.page("member", may_order=_may_order()))

    @expose("/page/static/<name>")
    @guarded
    def file(self, name: str) -> Any:
        """A file of the page. Its address has the version in it."""
        return self._answer(lambda sheet: sheet.file(name))

    @expose("/page/metrics")
    @guarded
    def metrics(self) -> Any:
        """All elections, as `heirflow metrics` writes them."""
        return self._answer(lambda sheet: sheet.metrics())

    @expose("/page/api/elections")
    @guarded
    def elections(self) -> Any:
        """As `heirflow status --json`."""
        return self._answer(lambda sheet: sheet.elections())

    @expose("/page/api/order", methods=("POST",))
    @csrf.exempt  # it needs a header instead that no form of another site can send
    @guarded
    def order(self) -> Any:
        """Give one."""

        def given(sheet: Any) -> Any:
            if "X-Heirflow-Order" not in request.headers:
                why = "an order needs the header X-Heirflow-Order, which no other site can send"
                return sheet.json({"sentence": why}, HTTPStatus.FORBIDDEN)
            if not _may_order():
                return sheet.json({"sentence": ORDERS_NEED}, HTTPStatus.FORBIDDEN)
            if (request.content_length or ORDER_LIMIT + 1) > ORDER_LIMIT:
                return sheet.json({"sentence": "the order was not understood: it is too long"}, HTTPStatus.BAD_REQUEST)
            return sheet.order(request.get_data(), name_of(get_auth_manager().get_user()))

        return self._answer(given)

    def _answer(self, answer: Callable[[Any], Any]) -> Any:
        """Made at the first request of somebody who may look, so after a fork, or a sentence why it cannot be made."""
        try:
            with self._lock:
                if self._sheet is None:
                    from heirflow.web.airflow.sheet import Sheet

                    self._sheet = Sheet()
        except (HeirflowError, ImportError) as error:
            log.warning("HeirFlow's page cannot be shown: %s", error)
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, f"HeirFlow's page cannot be shown: {error}\n")
        return answer(self._sheet)


def _text(status: int, text: str) -> Response:
    return Response(text, status, content_type="text/plain; charset=utf-8")
