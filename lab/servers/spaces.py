"""Work in another network namespace of this machine, where a server or a host of the fault laboratory stands. Root only."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000


def inside(space: Path | None, work: Callable[[], T]) -> T:
    """What this comes to in that namespace, and what it raises; None: here.

    A thread goes there, works and ends. What it starts, threads and processes, is there too.
    """
    if space is None:
        return work()
    results: list[T] = []
    troubles: list[BaseException] = []

    def there() -> None:
        try:
            _enter(space)
            results.append(work())
        except BaseException as trouble:  # noqa: BLE001  raised again below
            troubles.append(trouble)

    thread = threading.Thread(target=there, name=f"in {space.name}", daemon=True)
    thread.start()
    thread.join()
    if troubles:
        raise troubles[0]
    return results[0]


def _enter(space: Path) -> None:
    """This thread only. Raises OSError."""
    descriptor = os.open(space, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns", str(space))
    finally:
        os.close(descriptor)
