"""Which losses a run of havoc has, and how they are judged; the cluster itself is played in tests/airflow/test_havoc.py."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from heirflow.clock import boottime
from heirflow.demo.stage import Stage
from heirflow.election.record import Event, What
from lab.airflow.chaos import Files
from lab.airflow.line import Installation
from lab.airflow.seated import Seats
from lab.cluster import havoc, people, picture, settings
from lab.cluster.cluster import PARTS
from lab.cluster.havoc import Loss
from lab.cluster.losses import KINDS, plan
from lab.rig.written import Start

FIRST = 1_700_000_000.0


def test_every_kind_comes_as_often_as_the_others() -> None:
    singles = [kinds[0].name for kinds in plan(7, 30, PARTS) if len(kinds) == 1]
    counted = Counter(singles)
    assert set(counted) == {kind.name for kind in KINDS}
    assert max(counted.values()) - min(counted.values()) <= 1
    assert plan(7, 30, PARTS) == plan(7, 30, PARTS)
    assert plan(7, 30, PARTS) != plan(8, 30, PARTS)


def test_two_at_once_are_never_two_of_what_there_are_two_of() -> None:
    pairs = [kinds for seed in range(50) for kinds in plan(seed, 30, PARTS) if len(kinds) == 2]
    assert pairs
    assert all(not one.takes & other.takes for one, other in pairs)


def test_what_is_there_once_is_not_lost() -> None:
    names = {kind.name for kinds in plan(7, 40, ("seats",)) for kind in kinds}
    assert names == {"scheduler's seat", "seat and guard", "people's entry"}


def test_only_some() -> None:
    assert {kind.name for (kind,) in plan(7, 4, PARTS, only="primary")} == {"primary killed", "primary frozen"}
    assert plan(7, 4, PARTS, only="nothing") == []


def _files(folder: Path, *starts: float) -> Files:
    files = Files(folder / "tasks.jsonl", folder / "schedulers.txt")
    told = {"what": "began", "dag": "many", "run": "r", "task": "t", "attempt": 1, "host": "ada"}
    lines = [json.dumps({**told, "at": FIRST + at, "pid": number}) for number, at in enumerate(starts)]
    files.tasks.write_text("\n".join(lines))
    return files


class _Probes(havoc.Prober):
    def __init__(self, *answers: tuple[float, bool]) -> None:
        self.answers = [(FIRST + at, answered) for at, answered in answers]


def _measured(folder: Path, *starts: float, probes: tuple[tuple[float, bool], ...] = ()) -> Loss:
    loss = Loss(("API server",), "ada's API server", 5.0, FIRST + 10, back_at=FIRST + 25, whole_at=FIRST + 30)
    havoc.measure(loss, _files(folder, *starts), _Probes(*probes), FIRST)
    return loss


def test_a_pause_counts_from_the_loss(tmp_path: Path) -> None:
    loss = _measured(tmp_path, 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 26, 28, 31)
    assert (loss.usual_s, loss.again_s, loss.pause_s, loss.return_pause_s) == (2.0, 4.0, 4.0, 3.0)
    assert loss.broken == []


def test_a_pause_over_the_limit_is_red(tmp_path: Path) -> None:
    loss = _measured(tmp_path, 1, 3, 5, 7, 9, 19, 21, 23, 25, 27, 29)
    assert loss.pause_s == 9.0
    assert [sentence for sentence in loss.broken if sentence.startswith("tasks did not start for 9.0 s")]


def test_one_start_alone_does_not_end_a_pause(tmp_path: Path) -> None:
    loss = _measured(tmp_path, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 18.5, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29)
    assert (loss.again_s, loss.pause_s) == (8.5, 5.5)
    assert [sentence for sentence in loss.broken if sentence.startswith("tasks did not start for 8.5 s")]


def test_a_pause_before_the_loss_excuses_nothing(tmp_path: Path) -> None:
    """A start after the loss ends no pause of the time before it."""
    loss = _measured(tmp_path, 1, 3, 5, 7, 9, 29)
    assert loss.usual_s == 2.0
    assert loss.broken


def test_no_start_at_all_is_red(tmp_path: Path) -> None:
    assert _measured(tmp_path, 1, 2, 3, 4, 5, 6, 7, 8, 9).broken


def test_an_address_that_does_not_answer_is_red(tmp_path: Path) -> None:
    probes = tuple((at / 4, not 44 <= at < 80) for at in range(30 * 4))
    loss = _measured(tmp_path, *range(31), probes=probes)
    assert loss.ui_s == pytest.approx(9.0)
    assert [sentence for sentence in loss.broken if "did not answer for 9.0 s" in sentence]


def test_a_cluster_that_stays_broken_is_red(tmp_path: Path) -> None:
    loss = _measured(tmp_path, *range(31))
    assert loss.broken == []
    loss.whole_at, loss.unwell = None, ["ada's etcd does not run"]
    assert loss.broken == ["the cluster was not whole again: ada's etcd does not run"]


def test_the_picture_names_each_loss(tmp_path: Path) -> None:
    loss = _measured(tmp_path, *range(31))
    drawn = picture.draw([loss], _files(tmp_path, *range(31)), [(FIRST + 12, "ben's page had ended <&>")])
    assert "ada&#x27;s API server" in drawn
    assert "ended &lt;&amp;&gt;" in drawn


def test_people_get_what_is_proved_here() -> None:
    """`python -m lab.cluster.people` writes them anew."""
    for name, text in people.files().items():
        assert (people.FOLDER / name).read_text("utf-8") == text


def test_people_get_the_same_patroni() -> None:
    from lab.servers import patroni

    text = (people.FOLDER / "patroni.yml").read_text("utf-8")
    said = dict(re.findall(r"^ +(\w+): \"?(\w+)\"?$", text, re.MULTILINE))
    assert (int(said["ttl"]), int(said["loop_wait"]), int(said["retry_timeout"])) == (
        patroni.TTL_S, patroni.LOOP_WAIT_S, patroni.RETRY_TIMEOUT_S,
    )  # fmt: skip
    proved = {name: value for name, value in patroni.SETTINGS.items() if name in said}
    assert len(proved) >= 8
    assert {name: said[name] for name in proved} == proved


def test_who_led_two_seats_in_terms_of_one_number_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two schedulers for two seats would be taken for two in one."""
    line = Seats(cast("Installation", None), cast("Stage", None), "scheduler", ("ada",), 2)
    now, up = time.time(), boottime()
    events = [Event(What.TOOK_CHARGE, 2, "ben-1", "", at=now - ago, seat=seat) for ago, seat in ((60, 1), (20, 2))]
    monkeypatch.setattr(line, "_events", lambda: events)
    starts = [Start(2, "ben-1", 7, up - ago, up, Path()) for ago in (59, 19)]
    assert [line.seat_of(start) for start in starts] == [1, 2]


def test_what_people_set_is_read() -> None:
    given = settings.for_people()
    assert "HEIRFLOW_TTL" not in given
    assert settings.for_people(lines_in_database=True)["HEIRFLOW_TTL"] == "35s"
    assert given["AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS"].startswith("celery_quorum.")
    assert "AIRFLOW__CORE__FERNET_KEY" not in given
