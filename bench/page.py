"""Whether people who look disturb members: how long check-ins take with nobody at the page, and with a hundred open pages.

    python bench/page.py [--viewers 100] [--seconds 15] [--rounds 4] [--json]

Check-ins go to a real PostgreSQL twenty times a second, in turn: nobody looks; that many pages are open, each live, and one in five
asks for a week of a line that has changed its leader 5,000 times; and as before, while the server of the page is killed again and
again. All of it is on this machine, so what the pages' own processes take of its processors is in the figures too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from heirflow.election.record import CheckIn, Event, Exchange, Record, Swap, What
from heirflow.stores import Store, open_store
from lab.rig.rig import store_url
from lab.servers.servers import free_port

PACE_S = 0.05
WEEK_S = 7 * 86400
CHANGES = 5000


def flap(store: Store, election: str) -> None:
    """A week in which the leader changed again and again."""
    for first in range(1, CHANGES, 500):
        terms = range(first, first + 500)
        events = tuple(
            Event(
                What.TOOK_CHARGE, term, f"host-{'ab'[term % 2]}-{term:06x}", "it flaps", 1.0, ago_s=WEEK_S - 120 * term
            )
            for term in terms
        )
        store.exchange(election, Exchange(notes=events))
    record = Record(1, CHANGES, f"host-a-{CHANGES:06x}", 3600.0, "it flaps")
    store.exchange(election, Exchange(swap=Swap(None, record)))


def watch(port: int, viewers: int) -> None:
    """So many pages that live, in a process of their own."""
    os.nice(5)

    def one(number: int) -> None:
        path = "/election?name=flaps&stretch=week" if number % 5 == 0 else "/election?name=line"
        while True:
            with (
                suppress(OSError, http.client.HTTPException),
                closing(http.client.HTTPConnection("127.0.0.1", port)) as link,
            ):
                link.request("GET", path, headers={"Accept": "text/event-stream"})
                answer = link.getresponse()
                while answer.read1(65536):
                    pass
            time.sleep(1)

    for number in range(viewers):
        threading.Thread(target=one, args=(number,), daemon=True).start()
    threading.Event().wait()


def page(url: str, port: int) -> subprocess.Popen[bytes]:
    """The server, ready."""
    command = [sys.executable, "-m", "heirflow", "serve", "--db-url", url, "--http", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.readline()
    return process


def check_ins(store: Store, seconds: float) -> list[float]:
    """Milliseconds of each."""
    times, ends_at = [], time.monotonic() + seconds
    while time.monotonic() < ends_at:
        began = time.perf_counter()
        store.exchange("line", Exchange(check_in=CheckIn("a", "host-a", 1, ready=True)))
        times.append(1000 * (time.perf_counter() - began))
        time.sleep(PACE_S)
    return times


def measured(url: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """The times of each kind, of all rounds together."""
    found: dict[str, list[float]] = {"nobody looks": [], f"{options.viewers} pages": [], "the page is killed": []}
    quiet, busy, killed = found
    with closing(open_store(url, call_limit_s=10.0)) as store:
        store.open()
        for name in "abc":
            store.exchange("line", Exchange(check_in=CheckIn(name, f"host-{name}", 1, ready=True), join=True))
        flap(store, "flaps")
        for _ in range(options.rounds):
            found[quiet] += check_ins(store, options.seconds)
            port = free_port()
            server = page(url, port)
            viewers = multiprocessing.Process(target=watch, args=(port, options.viewers), daemon=True)
            viewers.start()
            time.sleep(3)
            found[busy] += check_ins(store, options.seconds)
            for _ in range(3):
                server.send_signal(signal.SIGKILL)
                server.wait()
                server = page(url, port)
                found[killed] += check_ins(store, options.seconds / 3)
            viewers.kill()
            server.kill()
            server.wait()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, store_url("postgres", Path(folder)) as url:
        found = measured(url, options)
    figures = {
        what: {
            "calls": len(times),
            "median_ms": round(statistics.median(times), 2),
            "p99_ms": round(statistics.quantiles(times, n=100)[98], 2),
            "longest_ms": round(max(times), 2),
        }
        for what, times in found.items()
    }
    if options.json:
        print(json.dumps(figures))
        return
    for what, each in figures.items():
        told = f"median {each['median_ms']} ms, p99 {each['p99_ms']} ms, longest {each['longest_ms']} ms"
        print(f"{what:<20} {each['calls']:>5} check-ins: {told}")


if __name__ == "__main__":
    main()
