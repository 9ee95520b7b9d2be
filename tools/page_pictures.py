"""Draw the pictures of the page for the documentation: a real server, a real browser, and a line with a story.

python tools/page_pictures.py [FOLDER]        docs/pictures by default
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from lab.servers.servers import free_port
from lab.stage import Stage

ROOT = Path(__file__).resolve().parents[1]
HOUR = 3600.0


def story(stage: Stage) -> None:
    """An afternoon of Airflow, and of its neighbours."""
    a, b, c = "airflow-a-41c09d", "airflow-b-7e22f1", "airflow-c-b80a55"
    stage.line("airflow-scheduler", a, b, c, ago_s=55 * 60)
    stage.takeover("airflow-scheduler", b, gap_s=0.05, ago_s=41 * 60, leaves=False)
    for host, ago_s, gap_s, because in (
        (c, 33 * 60, 11.4, f"{b} was silent for 10.0 s"),
        (a, 9 * 60, 1.2, f"switchover from {c} to {a}, ordered by ana@desk-3"),
    ):
        stage.takeover("airflow-scheduler", host, gap_s=gap_s, ago_s=ago_s, leaves=False, because=because)
    stage.line("celery-beat", "airflow-b-90ab31", "airflow-c-5571de", ago_s=30 * HOUR)
    stage.line("price-feed", "edge-1-0a5f31", ago_s=8 * HOUR)
    stage.line("ingest", *(f"node-{place}-{place:06x}" for place in range(1, 6)), leads=3, seats=3, ago_s=26 * HOUR)


def main() -> None:
    """Into the folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures"
    with tempfile.TemporaryDirectory() as home:
        url, port = f"sqlite:///{home}/line.db", free_port()
        with Stage(url) as stage:
            story(stage)
            server = subprocess.Popen(
                [sys.executable, "-m", "heirflow", "serve", "--db-url", url, "--http", f"127.0.0.1:{port}"]
            )
            time.sleep(4)
            try:
                with sync_playwright() as found:
                    browser = found.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                    for name, path, width, height, scheme in (
                        ("page-all", "", 1180, 560, "light"),
                        ("page-election", "election?name=airflow-scheduler", 1180, 860, "light"),
                        ("page-phone", "election?name=airflow-scheduler", 390, 844, "dark"),
                    ):
                        size = {"width": width, "height": height}
                        page = browser.new_context(viewport=size, color_scheme=scheme).new_page()  # type: ignore[arg-type]
                        page.goto(f"http://127.0.0.1:{port}/{path}")
                        page.wait_for_timeout(2500)
                        page.screenshot(path=folder / f"{name}.png")
                    browser.close()
            finally:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    main()
