"""Draw the picture of the page inside Airflow for the documentation: real Airflow, its two lines, and a takeover.

python tools/airflow_page_picture.py [FILE]        docs/pictures/airflow-page.png by default
"""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from heirflow.demo.screen import Screen
from heirflow.demo.stage import Stage, Trouble
from lab.airflow.site import Site

ROOT = Path(__file__).resolve().parents[1]
HOSTS = ("airflow-a", "airflow-b", "airflow-c")
LIMIT_S = 120.0


def until(site: Site, statement: str) -> None:
    """Wait for the first value of a query to come true."""
    ends_at = time.monotonic() + LIMIT_S
    while not site.ask(statement)[0][0]:
        if time.monotonic() > ends_at:
            raise Trouble(f"it did not come true within {LIMIT_S:.0f} s: {statement}")
        time.sleep(0.2)


def ready(site: Site, number: int) -> None:
    """Wait until so many members could lead."""
    until(site, f"SELECT count(*) >= {number} FROM heirflow_member WHERE ready")


def main() -> None:
    """Into the file."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures" / "airflow-page.png"
    with Stage() as stage, Screen(Console(stderr=True)) as screen, ExitStack() as undo:
        site = Site(stage, screen, undo)
        site.start_api()
        first = site.start_member(HOSTS[0], "scheduler")
        until(site, "SELECT to_regclass('heirflow_member') IS NOT NULL")
        ready(site, 1)
        for number, host in enumerate(HOSTS[1:], 2):
            site.start_member(host, "scheduler")
            ready(site, number)
        for number, host in enumerate(HOSTS[:2], 4):
            site.start_member(host, "dag-processor")
            ready(site, number)
        stage.signal(first, signal.SIGTERM)
        until(
            site,
            "SELECT count(*) > 1 FROM heirflow_event WHERE what = 'took charge' AND election = 'airflow-scheduler'",
        )
        site.start_member(HOSTS[0], "scheduler", name="again")
        ready(site, 5)
        time.sleep(25)
        base, password = (
            f"http://127.0.0.1:{site.ui_port}",
            json.loads((site.home / "passwords.json").read_text())["admin"],
        )
        with sync_playwright() as found:
            browser = found.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
            page.goto(f"{base}/auth/login")
            page.locator("input[name=username]").fill("admin")
            page.locator("input[name=password]").fill(password)
            page.locator("button[type=submit]").click()
            page.wait_for_url(lambda address: "/auth/" not in address)
            page.goto(f"{base}/plugin/heirflow/heirflow/election?name=airflow-scheduler")
            page.frame_locator("iframe").locator("tr.place-leader").wait_for()
            page.wait_for_timeout(4000)
            page.screenshot(path=file)
            browser.close()


if __name__ == "__main__":
    main()
