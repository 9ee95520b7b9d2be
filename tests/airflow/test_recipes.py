"""The recipe for celery beat in docs/recipes.md, with the celery that is in Airflow's environment."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lab.airflow.environment import ensure
from tests.process.stage import wait_until
from tests.process.test_recipes import LIMIT_S, block, several_hosts

APP = """
from celery import Celery
app = Celery("proj", broker="filesystem://", broker_transport_options={"data_folder_in": "q", "data_folder_out": "q"})
app.conf.beat_schedule = {"tick": {"task": "proj.tick", "schedule": 0.5}}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_beat_is_followed_by_its_preloaded_heir(tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text(APP, "utf-8")
    (tmp_path / "q").mkdir()
    words = shlex.split(block("celery beat", "sh"))
    assert "--preload" in words and words[words.index("-S") + 1] == "django"
    # django-celery-beat is not there: a file that both of these hosts have takes its place.
    words[words.index("-S") : words.index("-S") + 2] = ["--schedule", "store", "-l", "info"]
    with several_hosts(tmp_path) as hosts:
        hosts.programs["celery"] = ensure("3.3").program("celery")

        def sends(host: str) -> bool:
            return re.search("Sending due task tick", hosts.log(host)) is not None

        first = hosts.start("ada", words)
        wait_until(lambda: sends("ada"), hosts.log("ada"), LIMIT_S)
        second = hosts.start("ben", words)
        hosts.wait_until_joined(2)
        assert not sends("ben")
        first.kill()
        wait_until(lambda: sends("ben"), hosts.log("ben"), LIMIT_S)
        second.terminate()
        assert second.wait(30) == 0, hosts.log("ben")
        assert not (tmp_path / "celerybeat.pid").exists()
