"""A whole host is frozen past its lease and thawed while its command writes as fast as it can."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from heirflow.stores.sql import fence_login
from heirflow.stores.sql.schema import tables
from lab.rig.thaw import ThawScene
from lab.servers.servers import Server
from tests.contract.drivers import MYSQL, POSTGRES
from tests.promises import broken

TRIES = 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_the_fence_nothing_is_written_late(
    new_database: Callable[[str], str], postgres: Server, tmp_path: Path
) -> None:
    url = new_database(POSTGRES[0])
    boss = sa.create_engine(sa.engine.make_url(url).set(username="postgres", password=postgres.password), future=True)
    with ThawScene(url, tmp_path) as scene:
        scene.rig.wait_for_line(2, 40)
        with boss.begin() as conn:
            fence_login.install(conn, tables(None))
        try:
            tries = [scene.once(random.Random(number), alone=number % 2 == 0) for number in range(TRIES)]
        finally:
            with boss.begin() as conn:
                fence_login.remove(conn)
            boss.dispose()
    assert [each.late_rows for each in tries] == [0] * TRIES, broken(tries)
    assert all(each.rows for each in tries)
    # The guard mostly comes first. Where it could not, it was the fence: the command was there, and was refused.
    assert all(each.failures >= 2 for each in tries[::2]), tries


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("holds", [True, False], ids=["holds", "lease only"])
def test_on_mariadb_nothing_is_written_late_by_who_holds(
    holds: bool, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    """Nobody ends sessions there: the command goes on until its guard has looked at the clock, and only `Lead.hold` stops it."""
    with ThawScene(new_database(MYSQL[0]), tmp_path, holds=holds) as scene:
        tries = [scene.once(random.Random(number), alone=number % 2 == 0) for number in range(6 if holds else 1)]
    late = [each.late_rows for each in tries]
    assert all(each.rows for each in tries)
    if holds:
        assert late == [0] * len(tries), broken(tries)
        assert all(each.failures >= 2 for each in tries[::2]), tries
    else:
        assert late[0] > 0, "a scene in which nothing can be late shows nothing"
