"""What Airflow finds by its entry point. Every process of Airflow's imports this file: it is small, and it never raises.

It brings no listener and no hook: a member's Airflow works the same with it and without it.
"""

from __future__ import annotations

import logging
import threading
from typing import Any
from urllib.parse import urlsplit

from airflow import __version__ as airflow_version
from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/heirflow"
NAME = "HeirFlow"
SECTION, SWITCH = "heirflow", "page"
"""In Airflow's own configuration: ``[heirflow] page = False`` turns the page off."""


def wanted() -> bool:
    """Whether the page is wanted; a value that is none does not take it away from anybody."""
    try:
        return bool(conf.getboolean(SECTION, SWITCH, fallback=True))
    except Exception:  # noqa: BLE001  whatever it is, no process of Airflow's is to end by it
        return True


def href() -> str:
    """Where a browser finds the page: below the path of ``[api] base_url``, and with a slash, as its links are relative."""
    try:
        path = urlsplit(str(conf.get("api", "base_url", fallback="") or "")).path.rstrip("/")
    except Exception:  # noqa: BLE001  as above
        path = ""
    return f"{path}{PREFIX}/"


class LatePage:
    """An ASGI application that is built at its first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        app = self._app
        if app is None:
            import asyncio

            app = await asyncio.to_thread(self._built)
        await app(scope, receive, send)

    def _built(self) -> Any:
        from heirflow.web.airflow.asgi import app_of

        with self._lock:
            if self._app is not None:
                return self._app
            app, for_good = app_of()
            self._app = app if for_good else None
            return app


def _views() -> list[dict[str, Any]]:
    """For the webserver of Airflow 2; empty where they cannot be made."""
    try:
        from heirflow.web.airflow.flask_view import Succession

        return [{"name": NAME, "category": "Browse", "view": Succession()}]
    except Exception:
        logging.getLogger(__name__).exception("HeirFlow's page cannot be shown")
        return []


class HeirflowPlugin(AirflowPlugin):
    """The page. With Airflow 3.0 it has an address and no entry in the menu."""

    name = "heirflow"
    fastapi_apps: list[dict[str, Any]] = []  # noqa: RUF012  Airflow reads lists
    external_views: list[dict[str, Any]] = []  # noqa: RUF012
    if wanted() and not airflow_version.startswith("2."):
        fastapi_apps = [{"app": LatePage(), "url_prefix": PREFIX, "name": NAME}]
        external_views = [
            {"name": NAME, "href": href(), "destination": "nav", "category": "browse", "url_route": "heirflow"}
        ]

    @property
    def appbuilder_views(self) -> list[dict[str, Any]]:
        """Read by the webserver only."""
        return _views() if wanted() and airflow_version.startswith("2.") else []
