"""Every scheduler writes down, outside Airflow, that its process lives: a line each 20 ms from the moment its job is built.

For Airflow's own plugin folder. A thread does it, so the lines stop with the process and not before. A warm standby's job is
built when its gate opens: this listener is called after the one that waits there. The form is that of `testing/reigns.py`.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

TICKS = os.environ.get("MANY_TICKS", "")
begun: list[threading.Thread] = []


def tick() -> None:
    member = os.environ.get("HEIRFLOW_MEMBER", "native")
    tail = f" {os.getpid()} {os.environ.get('HEIRFLOW_TERM', '0')} {member}/{os.getpid()}\n"
    file = os.open(TICKS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    while True:
        os.write(file, f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME)}{tail}".encode())
        time.sleep(0.02)


@hookimpl
def on_starting(component) -> None:
    # A task calls the hook too, with a mark of its own, and with LocalExecutor it is a child of the scheduler's.
    if TICKS and "scheduler" in sys.argv and type(component).__name__ == "Job" and not begun:
        begun.append(threading.Thread(target=tick, daemon=True))
        begun[0].start()


class Ticks(AirflowPlugin):
    name = "ticks"
    listeners = [sys.modules[__name__]]  # noqa: RUF012  (Airflow's form)
