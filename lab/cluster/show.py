"""``make cluster ARGS=--ha``: the whole cluster, what of it may be lost now, and then it stays until Ctrl-C.

Whoever looks may kill what he likes meanwhile: what ended is started again after a second, and this says when one more part may go.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from heirflow.demo.screen import Screen
from heirflow.demo.stage import Stage, Trouble
from heirflow.demo.story import deaf, listen
from lab.airflow.play import FOR_THE_CLUSTER
from lab.airflow.site import EXAMPLES
from lab.campaign.ground import processes_in
from lab.cluster.cluster import Cluster
from lab.rig.memory import memory_mb

LOOK_EVERY_S = 5.0
COSTS = {
    "etcd": "nothing, while two live",
    "PostgreSQL": "up to 25 s for the primary",
    "RabbitMQ": "up to 15 s for its leader",
    "HAProxy": "a second; the address moves",
    "keepalived": "a second; the address moves",
    "API server": "a second; the other answers",
    "worker": "what it ran is tried again",
    "scheduler": "a second; its heir is warm",
    "dag-processor": "a second; its heir is warm",
    "triggerer": "a second; its heir is warm",
    "page": "nothing",
}
"""What is lost with one of each kind."""
SEATED = "nothing: the other seat works on"
"""With a scheduler, where another one works beside it."""


def show(console: Console, parts: Collection[str], lines: str, *, folder: Path | None, stay_s: float | None) -> int:
    """From nothing until Ctrl-C, or for so long. Leaves nothing behind. Raises `Trouble`."""
    listen()
    with ExitStack() as undo:
        screen = undo.enter_context(Screen(console))
        stage = undo.enter_context(Stage(folder))
        cluster = None
        try:
            screen.say(
                f"HeirFlow: a whole Airflow on three hosts, of which any one part may be lost. Files: {stage.folder}"
            )
            dags = stage.folder / "dags"
            dags.mkdir()
            for file in (*EXAMPLES.glob("*.py"), *FOR_THE_CLUSTER.glob("*.py")):
                shutil.copy(file, dags)
            began = time.monotonic()
            cluster = Cluster(stage, screen, undo, dags=dags, parts=parts, lines=lines)
            screen.say(
                f"It stands after {time.monotonic() - began:.0f} s and takes {memory_gb(cluster):.1f} GB of memory."
            )
            console.print(table(cluster))
            screen.say(f"Airflow's user interface: {cluster.ui}   user admin   password {cluster.password}")
            screen.say(f"HeirFlow's page:          {cluster.page}")
            screen.say(
                "Kill what you like: what ended is started again after a second. Ctrl-C stops all of it in order."
            )
            look_on(cluster, screen, stay_s)
        except KeyboardInterrupt:
            screen.say("Interrupted: all of it is being stopped.")
        except Trouble:
            stage.keep()
            raise
        finally:
            deaf()
            if cluster is not None:
                cluster.stop()
    return 0


def look_on(cluster: Cluster, screen: Screen, stay_s: float | None) -> None:
    """Say what ends and comes back, and when one more part may be lost."""
    until = None if stay_s is None else time.monotonic() + stay_s
    told, well = 0, True
    while until is None or time.monotonic() < until:
        for _, sentence in cluster.notes[told:]:
            screen.say(sentence)
        told = len(cluster.notes)
        unwell = cluster.unwell()
        if bool(unwell) is well:
            well = not unwell
            screen.say("Whole again: one more part may be lost." if well else f"Not whole: {'; '.join(unwell)}.")
        time.sleep(LOOK_EVERY_S if until is None else min(LOOK_EVERY_S, max(0.0, until - time.monotonic())))


def table(cluster: Cluster) -> Table:
    """What may be lost now, and what that costs."""
    shown = Table(title="What may be lost now")
    for head in ("part", "on", "may be lost", "what that costs"):
        shown.add_column(head)
    for kind in dict.fromkeys(part.kind for part in cluster.all_parts()):
        hosts = cluster.having(kind)
        one = len(hosts) > 1
        cost = SEATED if kind == "scheduler" and cluster.seats > 1 else COSTS[kind]
        shown.add_row(kind, ", ".join(hosts), "one" if one else "no, the only one", cost if one else "")
    if cluster.spare_host:
        shown.add_row("a host with all of it", ", ".join(cluster.hosts), "one", "the largest of these")
    return shown


def memory_gb(cluster: Cluster) -> float:
    """Of all hosts together; what processes share is counted once."""
    total = 0.0
    for host in cluster.hosts:
        for pid in processes_in(cluster.ground.space(host)):
            with suppress(OSError):
                total += memory_mb(pid, "Pss")
    return total / 1024
