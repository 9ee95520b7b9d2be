"""Which part of Airflow's work a command line is for, and the line that it gets of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from heirflow.config.resolve import Config, resolve
from heirflow.errors import ConfigError
from heirflow.programs import program
from heirflow.programs.airflow import component

LONG = [f"bundle-with-a-long-name-{number}" for number in range(20)]


def recognised(*words: str) -> component.Component:
    found = component.recognise(["airflow", *words], {"PATH": ""})
    assert isinstance(found, component.Component)
    return found


def named(found: component.Component, name: str | None, **env: str) -> Config:
    return resolve({"name": name}, {"HOME": "/nowhere", **env}, fallback_name=found.election, folder=Path("/nowhere"))


@pytest.mark.parametrize(
    ("words", "name", "told"),
    [
        # Airflow 3.3: the bundles of a dag-processor.
        (["dag-processor", "-B", "a"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "-Ba"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "-B=a"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "-vB", "a"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "--bundle-name", "a"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "--bundle-name=a", "-n", "5"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "--bundle", "a"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "-B", "b", "-B", "a", "-B", "b"], "airflow-dag-processor/a,b", "--bundle-name a --bundle-name b"),
        (["dag-processor", "-B", "a,b"], "airflow-dag-processor/a%2Cb", "--bundle-name a,b"),
        (["dag-processor", "-B", "team a/x#2"], "airflow-dag-processor/team%20a%2Fx%232", "--bundle-name 'team a/x#2'"),
        (["dag-processor", "--pid", "-B", "a"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "--pid", "x", "--newer-flag", "y", "-B", "a"], "airflow-dag-processor/a", "--bundle-name a"),
        (["dag-processor", "--log-file", "-B"], "airflow-dag-processor", None),
        (["dag-processor"], "airflow-dag-processor", ""),
        (["dag-processor", "--num-runs", "3", "-v"], "airflow-dag-processor", ""),
        # Airflow 2.11: its folder.
        (["dag-processor", "-S", "/opt/dags/a"], "airflow-dag-processor/opt/dags/a", "--subdir /opt/dags/a"),
        (["dag-processor", "--subdir", "/opt/dags//a/"], "airflow-dag-processor/opt/dags/a", "--subdir /opt/dags/a"),
        (["dag-processor", "-S", "DAGS_FOLDER/a"], "airflow-dag-processor/DAGS_FOLDER/a", "--subdir DAGS_FOLDER/a"),
        # The queues and the team of a triggerer.
        (["triggerer", "--queues", "q"], "airflow-triggerer/q", "--queues q"),
        (["triggerer", "--queues", " q2, q1,q2"], "airflow-triggerer/q1,q2", "--queues q1,q2"),
        (["triggerer", "--queues=q", "--capacity", "5"], "airflow-triggerer/q", "--queues q"),
        (["triggerer", "--team-name", "ml"], "airflow-triggerer/team:ml", "--team-name ml"),
        (["triggerer", "--queues", "team:ml"], "airflow-triggerer/team%3Aml", "--queues team:ml"),
        (["triggerer", "--team-name", "ml", "--queues", "b,a"], "airflow-triggerer/team:ml/a,b", "--team-name ml --queues a,b"),
        (["triggerer", "--team-name", ""], "airflow-triggerer", ""),
        (["triggerer"], "airflow-triggerer", ""),
        # A scheduler has none: its folder in 2.11 is not what exactly one scheduler is wanted for.
        (["scheduler", "-S", "/opt/dags"], "airflow-scheduler", None),
        (["scheduler"], "airflow-scheduler", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_a_partition_has_a_line_of_its_own(words: Sequence[str], name: str, told: str | None) -> None:
    if told is None and words[0] == "dag-processor":
        with pytest.raises(ConfigError, match="airflow dag-processor: argument -l/--log-file: expected one argument"):
            recognised(*words)
        return
    found = recognised(*words)
    assert found.election == name
    partition = found.partition
    assert (None if partition is None else partition.told) == told
    if partition is not None:
        assert (partition.line, partition.earlier) == (name, f"airflow-{words[0]}")
    assert found.check(named(found, None)) == []
    assert program.is_known(name)


def test_a_long_name_stays_within_what_a_store_can_hold() -> None:
    several = [word for name in LONG for word in ("-B", name)]
    found, same = recognised("dag-processor", *several), recognised("dag-processor", *several)
    fewer = recognised("dag-processor", *several[:-2])
    assert len(found.election) == 100 and found.election.startswith("airflow-dag-processor/bundle-with-a-long-name-0,")
    assert found == same and found.election != fewer.election
    assert found.partition is not None and fewer.partition is not None
    assert len(found.partition.told) <= 200 and found.partition.told != fewer.partition.told
    assert named(found, None)["name"] == found.election


def test_words_that_airflow_would_refuse_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="airflow dag-processor: argument -B/--bundle-name: expected one argument"):
        recognised("dag-processor", "-B")


@pytest.mark.parametrize(
    ("words", "name", "sentence"),
    [
        ("dag-processor -B a", "airflow-dag-processor/b", "another partition, and this dag-processor (--bundle-name a) would"),
        ("dag-processor -B a", "airflow-dag-processor/b", "leave the name out to get airflow-dag-processor/a"),
        ("dag-processor", "airflow-dag-processor/b", "leave the name out to get airflow-dag-processor"),
        ("triggerer --queues a", "airflow-dag-processor/a", "is the election of another Airflow component"),
        ("scheduler", "airflow-triggerer/a", "is the election of another Airflow component"),
        ("scheduler", "airflow-scheduler/a", "is the line of another partition"),
    ],
)  # fmt: skip
def test_the_name_of_another_partitions_line_is_refused(words: str, name: str, sentence: str) -> None:
    found = recognised(*words.split())
    with pytest.raises(ConfigError) as caught:
        found.check(named(found, name))
    assert sentence in str(caught.value)


def test_a_name_of_ones_own_is_taken_as_it_is() -> None:
    found = recognised("dag-processor", "-B", "a")
    assert found.check(named(found, "dags")) == []
    assert found.check(named(found, "airflow-dag-processor")) == [], "as lines of an older version are called"
    [told] = found.check(named(found, None, HEIRFLOW_NAME="dags"))
    assert "shares this election" in told
