"""Every scheduler writes down, outside Airflow, that its process lives: a line each 20 ms from the moment its job is built.

For Airflow's own plugin folder. A thread does it, so the lines stop with the process and not before. A warm standby's job is
built when its gate opens: this listener is called after the one that waits there. Whoever copies this file into a plugin folder
lays the laboratory's ticker beside it (lab/rig/ticker.py), because Airflow's environment need not know the laboratory.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

sys.path.append(str(Path(__file__).parent))

from ticker import opened, tick_for_ever

TICKS = os.environ.get("MANY_TICKS", "")
begun: list[threading.Thread] = []


@hookimpl
def on_starting(component) -> None:
    # A task calls the hook too, with a mark of its own, and with LocalExecutor it is a child of the scheduler's.
    if TICKS and "scheduler" in sys.argv and type(component).__name__ == "Job" and not begun:
        begun.append(threading.Thread(target=lambda: tick_for_ever(opened(TICKS), 0.02), daemon=True))
        begun[0].start()


class Ticks(AirflowPlugin):
    name = "ticks"
    listeners = [sys.modules[__name__]]  # noqa: RUF012  (Airflow's form)
