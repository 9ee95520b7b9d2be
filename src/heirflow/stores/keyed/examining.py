"""What `heirflow doctor` asks of every coordinator in the same way: how long an answer takes, the clock, the way there."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from statistics import median

from heirflow.stores.base import Finding, StoreRefuses, StoreUnavailable
from heirflow.stores.keyed.clock import TheirClock
from heirflow.stores.keyed.place import Place

TIMES = 5
CLOCK_LIMIT_S = 1.0


def took(question: Callable[[], object], times: int = TIMES) -> float:
    """How long its answer takes, in seconds: the median of so many."""
    taken = []
    for _ in range(times):
        asked_at = time.monotonic()
        question()
        taken.append(time.monotonic() - asked_at)
    return median(taken)


def answers(where: str, read: Callable[[], object], write: Callable[[], object]) -> Finding:
    """How long a reading takes and a write that cannot come about, or why one of them is not to be had.

    Raises `StoreUnavailable` where nothing can be read.
    """
    read_s = None
    try:
        read_s = took(read)
        write_s = took(write)
    except StoreRefuses as error:
        return Finding("rights", "problem", str(error))
    except StoreUnavailable as error:
        if read_s is None:
            raise
        return Finding("store", "problem", f"it can be read, but not written: {error}", {"median_s": read_s})
    return Finding(
        "store", "ok",
        f"{where} answers a read within {1000 * read_s:.1f} ms and a transaction within {1000 * write_s:.1f} ms "
        f"(medians of {TIMES})",
        {"median_s": read_s, "write_median_s": write_s},
    )  # fmt: skip


def clock_of(clock: TheirClock, whose: str, theirs: str) -> Finding:
    """How far their clock is from ours. `whose`: ``the server's``; `theirs`: ``its``."""
    offset_s = clock.now() - time.time()
    if abs(offset_s) < CLOCK_LIMIT_S:
        return Finding("clock", "ok", f"{whose} clock agrees with ours to the second", {"offset_s": offset_s})
    where = "ahead of" if offset_s > 0 else "behind"
    sentence = f"{whose} clock is {abs(offset_s):.1f} s {where} ours: times that people read are {theirs}"
    return Finding("clock", "note", sentence, {"offset_s": offset_s})


def way_there(place: Place, secrets: str) -> list[Finding]:
    """A warning where what goes over a network is not encrypted. `secrets`: what can be read there."""
    far = sorted(host for host, _ in place.hosts if not _is_loopback(host))
    if not far or place.secure:
        return []
    sentence = f"no TLS to {', '.join(far)}: {secrets} can be read on the way, and answers forged; use {place.kind}s://"
    return [Finding("session", "warning", sentence, {"tls": False})]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
