"""How long a check-in and a renewal take in each store, with few and many members in the line.

    python bench/check_in.py [--store postgres --store etcd3 …] [--members 3 --members 30] [--calls 300] [--json]

One client after another on this machine, against real servers on this machine: what is measured is the way there and back, and
what the server does. It grows with the line, as every answer shows all of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from heirflow.election.record import Exchange
from heirflow.stores import open_store
from heirflow.testing.store_tools import new_election, take, who
from lab.rig.rig import STORES, store_url


def measure(url: str, members: int, calls: int) -> dict[str, list[float]]:
    """Milliseconds of each call."""
    times: dict[str, list[float]] = {"check-in": [], "renewal": []}
    election, version = new_election(), 1
    with closing(open_store(url, call_limit_s=10.0)) as leader, closing(open_store(url, call_limit_s=10.0)) as heir:
        for store in (leader, heir):
            store.open()
        for number in range(members):
            leader.exchange(election, Exchange(who(f"m{number}"), join=True))
        leader.exchange(election, Exchange(who("m0"), swap=take("m0", 1, version, expected=None)))
        for _ in range(calls):
            renewal = replace(take("m0", 1, version + 1, expected=version, news=False), event=None)
            for kind, store, request in (
                ("renewal", leader, Exchange(who("m0"), swap=renewal)),
                ("check-in", heir, Exchange(who("m1"))),
            ):
                began = time.perf_counter()
                reading = store.exchange(election, request)
                times[kind].append(1000 * (time.perf_counter() - began))
                assert len(reading.members) == members
            version += 1
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=STORES, action="append")
    parser.add_argument("--members", type=int, action="append", help="in the line (default 3 and 30)")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, dict[int, dict[str, float]]] = {}
    for kind in options.store or STORES:
        with tempfile.TemporaryDirectory() as folder, store_url(kind, Path(folder)) as url:
            for members in options.members or (3, 30):
                times = measure(url, members, options.calls)
                found.setdefault(kind, {})[members] = {what: statistics.median(each) for what, each in times.items()}
                if not options.json:
                    said = ", ".join(f"{what} {value:.2f} ms" for what, value in found[kind][members].items())
                    print(f"{kind:<12} {members:>3} members: {said} (medians of {options.calls})", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
