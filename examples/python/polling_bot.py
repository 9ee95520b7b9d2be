"""A bot that asks a server for its next messages: two copies would answer everything twice, or be refused.

    pip install heirflow[postgres]
    HEIRFLOW_DB_URL=postgresql://… python polling_bot.py

With aiogram 3, the body of `poll` is ``await dispatcher.start_polling(bot, handle_signals=False)``: signals are HeirFlow's here,
and polling ends when it is cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator

from heirflow import Lead, aio


async def updates() -> AsyncIterator[int]:
    """What a long poll of a chat server gives: one message after the other, as they come."""
    for number in itertools.count():
        await asyncio.sleep(0.1)
        yield number


async def poll(lead: Lead) -> None:
    """While this host leads. It is cancelled when that is over."""
    try:
        async for number in updates():
            print(f"term {lead.term}: message {number} is answered by process {os.getpid()}", flush=True)
    finally:
        print(f"term {lead.term}: the session is closed", flush=True)


if __name__ == "__main__":
    asyncio.run(aio.Election("bot").run(poll))
