"""Each line that is lost from the guard, its helpers or the SQL makes the named test red, on real processes and databases.

The mutants of the simulation take lines from the rules and from *models* of guard, will and store; what runs in earnest are
the guard's own file and the stores' own statements. A test that stays green with its fault planted is broken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.servers.servers import mariadb_missing
from lab.sim.hunting import DoesNotApply
from tests.contract.drivers import MYSQL, POSTGRES
from tests.planted.faults import FAULTS
from tests.planted.planting import Fault, Run, run, unnoticed

AT_ONCE = 3
"""Most of them wait for something that does not come."""
HEALTHY = {fault.test.partition("::")[0]: fault for fault in reversed(FAULTS)}
"""One test of each file of tests."""


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, database_url: Callable[[str], str]
) -> Iterator[dict[Fault, Future[Run]]]:
    """All chosen faults, some at once, from the first test that asks."""
    given = (getattr(item, "callspec", None) for item in request.session.items)
    chosen = dict.fromkeys(fault for spec in given if spec and isinstance(fault := spec.params.get("fault"), Fault))
    folder = tmp_path_factory.mktemp("planted")
    pool = ThreadPoolExecutor(AT_ONCE)
    found = {}
    for number, fault in enumerate(chosen):
        env = {}
        for driver, name in ((POSTGRES[0], "POSTGRES"), (MYSQL[0], "MYSQL")):
            if fault.test.endswith(f"-{driver}]") and not absent(fault):
                env[f"HEIRFLOW_TEST_{name}_URL"] = database_url(driver)  # no need of one more server
        found[fault] = pool.submit(run, folder / str(number), [fault.test], fault=fault, env=env)
    yield found
    pool.shutdown(cancel_futures=True)


def absent(fault: Fault) -> str | None:
    """What keeps this fault's test from running here."""
    return mariadb_missing() if fault.test.endswith(f"-{MYSQL[0]}]") else None


@pytest.mark.slow
def test_a_healthy_copy_is_green_and_is_what_runs(tmp_path: Path) -> None:
    files = {fault.file for fault in HEALTHY.values()}
    done = run(tmp_path / "copy", [fault.test for fault in HEALTHY.values()], ask=files)
    assert [told["outcome"] for told in done.told] == ["passed"] * 3 * len(HEALTHY), done.output
    for fault in HEALTHY.values():
        told = [facts for facts in done.told if facts["test"] == f"tests/{fault.test}"]
        assert unnoticed(fault, dataclasses.replace(done, told=told)).endswith(f"nobody would notice that {fault.name}")


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_noticed(fault: Fault, runs: dict[Fault, Future[Run]]) -> None:
    if missing := absent(fault):
        pytest.skip(missing)  # in CI a skip is a failure
    if why := unnoticed(fault, runs[fault].result()):
        pytest.fail(why, pytrace=False)


def test_red_for_another_reason_is_not_noticed(tmp_path: Path) -> None:
    fault = next(fault for fault in FAULTS if fault.file == "alone/will_helper.py")
    broken = run(tmp_path / "copy", [fault.test], fault=dataclasses.replace(fault, new="no_such_name != b'go'"))
    assert "says nothing of" in unnoticed(fault, broken)
    assert unnoticed(dataclasses.replace(fault, says="=="), broken) == ""
    [call] = [told for told in broken.told if told["when"] == "call"]
    for change, words in (
        ({"kind": "NameError"}, "not by an assertion"),
        ({"kind": "Skipped", "outcome": "skipped"}, "not by an assertion"),
        ({"where": str(broken.package / "alone" / "will_helper.py")}, "not by an assertion"),
        ({"when": "setup"}, "not one test ran on the copy"),
        ({"package": "elsewhere"}, "not one test ran on the copy"),
    ):
        changed = dataclasses.replace(broken, told=[{**call, **change}])
        assert words in unnoticed(dataclasses.replace(fault, says=""), changed)
    own = dataclasses.replace(broken, loaded={(fault.file, call["pid"])})
    assert "nobody ran the changed" in unnoticed(fault, own)


@pytest.mark.parametrize(("words", "times"), [("no such words", 0), ("self.kill", None)])
def test_a_fault_whose_words_are_gone_fails_loudly(words: str, times: int | None, tmp_path: Path) -> None:
    fault = dataclasses.replace(FAULTS[0], old=words)
    with pytest.raises(DoesNotApply, match=r"\d\d times" if times is None else f"{times} times"):
        run(tmp_path / "copy", [fault.test], fault=fault)
    assert not (tmp_path / "copy").exists()


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
