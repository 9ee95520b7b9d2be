"""A web application on several hosts whose scheduled jobs run on one of them: FastAPI's lifespan and APScheduler 3.

    pip install heirflow[postgres] fastapi uvicorn "apscheduler<4"
    HEIRFLOW_DB_URL=postgresql://… uvicorn fastapi_jobs:app

Every host answers requests. The one that leads runs the jobs. SIGTERM ends uvicorn, which ends the lifespan: the jobs are
stopped, the record is released, and the jobs run on the next host at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI

from heirflow import Lead, aio


async def tell(lead: Lead) -> None:
    print(f"term {lead.term}: the job runs in process {os.getpid()}", flush=True)


async def run_jobs(lead: Lead) -> None:
    """While this host leads. It is cancelled when that is over."""
    scheduler = AsyncIOScheduler()
    scheduler.add_job(tell, "interval", seconds=0.2, args=[lead])
    scheduler.start()
    try:
        await asyncio.Event().wait()
    finally:
        scheduler.shutdown()
        await asyncio.sleep(0)  # APScheduler 3 shuts down in the loop's next round


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aio.Election("jobs").member(run_jobs) as member:
        app.state.member = member
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def leads() -> dict[str, int | None]:
    """The term that this host leads, if it does."""
    return {"term": app.state.member.state.term}
