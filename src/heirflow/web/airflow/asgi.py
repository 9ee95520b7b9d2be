"""The page in Airflow's API server: the same endpoints as `heirflow serve`, behind Airflow's own authorization.

Airflow asks nobody for a login before an application that a plugin mounts. So every endpoint here, files of the page included,
depends on Airflow's own check. That is done for routes and not for what is mounted: nothing is mounted.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from heirflow.errors import HeirflowError
from heirflow.web.airflow.rights import ORDERS_NEED, may_order, name_of

log = logging.getLogger(__name__)
STREAM_S = 60.0
"""After so long a stream ends, and the browser's next one passes Airflow's check anew."""

GUARDS: list[Any]
"""What every request must pass."""


def _nobody() -> None:
    raise HTTPException(HTTPStatus.FORBIDDEN, "HeirFlow does not know how to ask this Airflow who may see the page")


try:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view

    async def _known(request: Request, user: GetUserDep) -> None:
        """Keep who asks: what gives orders has the request only."""
        request.state.heirflow_user = user

    GUARDS = [Depends(requires_access_view(AccessView.PLUGINS)), Depends(_known)]
except Exception:  # whatever is not where it was, nobody gets in
    log.exception("nobody may see HeirFlow's page: Airflow's authorization cannot be used")
    GUARDS = [Depends(_nobody)]


def app_of() -> tuple[FastAPI, bool]:
    """The application, and whether it is for good; where it is not, it only says why there is no page."""
    try:
        return _page(), True
    except (HeirflowError, ImportError) as error:
        log.warning("HeirFlow's page cannot be shown: %s", error)
        return _excuse(str(error)), False


def _page() -> FastAPI:
    """Raises `HeirflowError`, and `ImportError` where something is not installed."""
    from heirflow.web.airflow.behind import BEGIN, Behind
    from heirflow.web.routes import Denied, Orders, Pages

    behind = Behind.of_airflow()

    async def started() -> None:
        behind.start()

    async def offered(request: Request) -> bool:
        return await run_in_threadpool(may_order, get_auth_manager(), request.state.heirflow_user)

    async def who(request: Request) -> str:
        if not await offered(request):
            raise Denied(HTTPStatus.FORBIDDEN, ORDERS_NEED)
        return name_of(request.state.heirflow_user)

    stopping = _stopping()
    app = _guarded(Depends(started))
    shown = Pages(
        behind.desk,
        Orders(offered, who),
        live="poll" if stopping is None else "stream",
        beside=behind.jobs,
        begin=BEGIN,
        lasts_s=STREAM_S,
        stopping=stopping or (lambda: False),
    )
    for method, path, endpoint in shown.table():
        app.add_api_route(path, endpoint, methods=[method], include_in_schema=False, response_model=None)
    return app


def _stopping() -> Callable[[], bool] | None:
    """Tells whether this server has been asked to end; None: that cannot be known here, and a stream would hold it up.

    uvicorn waits for open answers before it tells its applications, so they must look at what its own signal handler sets.
    """
    server: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not isinstance(getattr(server, "should_exit", None), bool):
        return None
    return lambda: bool(server.should_exit)


def _excuse(why: str) -> FastAPI:
    async def excuse(_request: Request) -> Response:
        return PlainTextResponse(f"HeirFlow's page cannot be shown: {why}\n", HTTPStatus.SERVICE_UNAVAILABLE)

    app = _guarded()
    app.add_api_route("/{path:path}", excuse, methods=["GET", "POST"], include_in_schema=False, response_model=None)
    return app


def _guarded(*more: Any) -> FastAPI:
    return FastAPI(title="HeirFlow", dependencies=[*GUARDS, *more], docs_url=None, redoc_url=None, openapi_url=None)
