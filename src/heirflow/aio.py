"""The same line of succession for a coroutine: it runs in one process at a time, and is cancelled when its lead is over.

    from heirflow import aio

    async def work(lead):
        while True:
            await look_for_messages()

    asyncio.run(aio.Election("bot", db_url="postgresql://…").run(work))

The member lives in a thread of its own, so a busy event loop does not cost the lead. What `heirflow.embed` says of a callable
holds here too: a coroutine that swallows its cancellation, or that does not let the event loop go on, ends its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

from heirflow.embed.election import Base, Standing
from heirflow.embed.lead import Lead
from heirflow.errors import ConfigError
from heirflow.member.signals import hear_signals, stop_on_signals

Work = Callable[[Lead], Awaitable[object]]


class Election(Base):
    """`heirflow.Election` for asyncio, with the same arguments and errors."""

    async def run(self, work: Work, *, once: bool = False) -> None:
        """Stand for this election and run `work` as a task whenever it is won, until an orderly stop. See `heirflow.Election.run`.

        An orderly stop is SIGTERM or Ctrl-C in the main thread, unless the program handles them, and the cancellation of this
        call. `work` is then cancelled, and has `stop_timeout_s` for its own end. Meanwhile the lease goes on. asyncio itself
        handles Ctrl-C from Python 3.11 on: it cancels, and raises `KeyboardInterrupt` afterwards, as in any program.
        """
        async with self._standing(work, once=once) as (standing, ended):
            with stop_on_signals(standing.engine):
                await ended.wait()

    @contextlib.asynccontextmanager
    async def member(self, work: Work, *, once: bool = False) -> AsyncIterator[Standing]:
        """The same beside the block, as for the lifespan of a web application; leaving the block is an orderly stop.

        Signals are the program's. What `run` would raise is raised when the block is left.
        """
        async with self._standing(work, once=once) as (standing, _):
            yield standing

    @contextlib.asynccontextmanager
    async def _standing(self, work: Work, *, once: bool) -> AsyncIterator[tuple[Standing, asyncio.Event]]:
        if not callable(work):
            raise ConfigError(f"work must be a coroutine function that takes the lead, not {work!r}")
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        standing = self.stand(_in_loop(work, loop), once=once)

        def live() -> None:
            standing.run()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=live, name=f"heirflow-{self.name}", daemon=True).start()
        with hear_signals() as standing.heard:
            try:
                yield standing, ended
            finally:
                standing.leave()
                await _outlast(ended)
        standing.check()


async def _outlast(ended: asyncio.Event) -> None:
    """Wait, also when cancelled meanwhile: the work must end, and the record be released. It takes `stop_timeout_s` at most."""
    cancelled: asyncio.CancelledError | None = None
    while not ended.is_set():
        try:
            await ended.wait()
        except asyncio.CancelledError as error:  # noqa: PERF203
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _in_loop(work: Work, loop: asyncio.AbstractEventLoop) -> Callable[[Lead], None]:
    """A callable for the keeper's thread: it runs `work` as a task of `loop`, cancels it when asked to stop, and outlasts it."""
    context = contextvars.copy_context()

    async def call(lead: Lead) -> None:
        await work(lead)

    def led(lead: Lead) -> None:
        tasks: list[asyncio.Task[None]] = []
        ended = threading.Event()

        def done(_task: asyncio.Task[None]) -> None:
            ended.set()
            lead.stopping.set()  # it ended by itself: wakes the thread below

        def begin() -> None:
            tasks.append(context.copy().run(loop.create_task, call(lead)))
            tasks[0].add_done_callback(done)

        def cancel() -> None:
            tasks[0].cancel()

        loop.call_soon_threadsafe(begin)
        lead.stopping.wait()
        if asked := not ended.is_set():
            loop.call_soon_threadsafe(cancel)
            ended.wait()
        if not tasks[0].cancelled():
            error = tasks[0].exception()
        else:
            error = None if asked else asyncio.CancelledError("something else than the end of the lead cancelled it")
        if error is not None:
            raise error

    return led
