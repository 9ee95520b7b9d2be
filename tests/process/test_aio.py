"""`heirflow.aio.Election`: a coroutine in the line, cancelled when its lead is over."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from heirflow import ConfigError, Lead, aio


def election(folder: Path, **options) -> aio.Election:
    return aio.Election("aio", db_url=f"sqlite:///{folder / 'line.db'}", ttl_s=2, **options)


def released(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "line.db")) as conn:
        return conn.execute("SELECT leader FROM heirflow_election").fetchall() == [(None,)]


async def until(condition, limit_s: float = 15.0) -> None:
    ends_at = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends_at, "waited in vain"
        await asyncio.sleep(0.01)


class Work:
    def __init__(self, clean_up_s: float = 0) -> None:
        self.story: list[str] = []
        self._clean_up_s = clean_up_s

    async def __call__(self, lead: Lead) -> None:
        self.story.append(f"leads {lead.term}")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(self._clean_up_s)
            self.story.append("cleaned up")
            raise


def test_leaving_the_block_cancels_the_work_and_releases_after_its_end(tmp_path):
    async def program() -> None:
        work = Work(clean_up_s=3)  # longer than the lease
        heirs = Work()
        async with election(tmp_path, host="b").member(heirs):
            await until(lambda: heirs.story)
            async with election(tmp_path, host="a").member(work) as member:
                await until(lambda: member.state.joined)
                assert work.story == []
        assert heirs.story == ["leads 1", "cleaned up"]
        async with election(tmp_path, host="a").member(work):
            await until(lambda: work.story)
        assert work.story == ["leads 2", "cleaned up"]

    asyncio.run(program())
    assert released(tmp_path)


def test_a_run_that_is_cancelled_is_an_orderly_stop(tmp_path):
    work = Work(clean_up_s=0.2)

    async def program() -> None:
        running = asyncio.create_task(election(tmp_path).run(work))
        await until(lambda: work.story)
        running.cancel()
        await asyncio.sleep(0.05)
        running.cancel()  # also one who is impatient gets it in order
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(program())
    assert work.story == ["leads 1", "cleaned up"]
    assert released(tmp_path)


def test_once_it_returns_the_run_is_over_and_an_exception_is_raised_from_it(tmp_path):
    async def returns(_lead: Lead) -> None: ...

    async def fails(_lead: Lead) -> None:
        raise ValueError("no such report")

    asyncio.run(election(tmp_path).run(returns, once=True))
    with pytest.raises(ValueError, match="no such report"):
        asyncio.run(election(tmp_path).run(fails, once=True))
    assert released(tmp_path)


def test_after_an_exception_it_is_called_again(tmp_path, capsys):
    terms = []

    async def fails_first(lead: Lead) -> None:
        terms.append(lead.term)
        if len(terms) == 1:
            raise ValueError("no such report")
        await asyncio.Event().wait()

    async def program() -> None:
        async with election(tmp_path).member(fails_first):
            await until(lambda: len(terms) == 2)

    asyncio.run(program())
    assert "no such report" in capsys.readouterr().err


def test_an_exit_of_the_work_is_the_programs(tmp_path):
    async def leaves(_lead: Lead) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as raised:
        asyncio.run(election(tmp_path).run(leaves))
    assert raised.value.code == 3
    assert released(tmp_path)


def test_the_work_has_the_context_of_its_caller(tmp_path):
    word = contextvars.ContextVar("word", default="none")
    seen = []

    async def work(_lead: Lead) -> None:
        seen.append(word.get())

    async def program() -> None:
        word.set("mine")
        await election(tmp_path).run(work, once=True)

    asyncio.run(program())
    assert seen == ["mine"]


def test_what_is_no_coroutine_function_is_an_error(tmp_path):
    with pytest.raises(ConfigError):
        asyncio.run(election(tmp_path).run(None))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        asyncio.run(election(tmp_path).run(lambda _lead: 3, once=True))  # type: ignore[arg-type,return-value]


def test_a_busy_loop_does_not_cost_the_lead(tmp_path):
    terms = []

    async def busy(lead: Lead) -> None:
        time.sleep(1.2)  # noqa: ASYNC251  more than half a lease
        terms.append((lead.term, lead.stopping.is_set()))

    asyncio.run(election(tmp_path).run(busy, once=True))
    assert terms == [(1, False)]
