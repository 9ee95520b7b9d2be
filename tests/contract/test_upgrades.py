"""Tables that are newer than a member, swaps that come late, and rows that a database hides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from heirflow.election.record import Exchange
from heirflow.stores import Store, StoreMisfit, open_store
from heirflow.stores.sql import schema
from heirflow.stores.sql.sqlite import Sqlite
from heirflow.testing.store_tools import charge, ids, join, take, who
from lab.servers.servers import Server
from tests.contract.drivers import ALL, POSTGRES

NewDatabase = Callable[[str], str]


def says(store: Store, **values: str) -> None:
    """Write down versions of the tables, as another HeirFlow does."""
    with store._transaction(writes=True) as conn:
        for name, value in values.items():
            named = {"name": name.replace("_", " "), "value": value}
            conn.execute(sa.text("DELETE FROM heirflow_meta WHERE name = :name"), named)
            conn.execute(sa.text("INSERT INTO heirflow_meta (name, value) VALUES (:name, :value)"), named)


@pytest.mark.parametrize("driver", ALL)
def test_a_member_goes_on_with_newer_tables_that_it_can_read(driver: str, new_database: NewDatabase) -> None:
    url = new_database(driver)
    old = open_store(url, call_limit_s=1.5)
    join(old, "e", "a")
    says(old, schema="9", readable_from="1")
    for create in (True, False):
        later = open_store(url, call_limit_s=1.5)
        later.open(create=create)
        assert ids(later.exchange("e", Exchange(who("a")))) == ["a"]
        assert [each.level for each in later.examine() if each.topic == "tables"] in ([], ["note"])
        later.close()
    with old._transaction(writes=False) as conn:
        assert conn.execute(sa.text("SELECT value FROM heirflow_meta WHERE name = 'schema'")).scalar() == "9"
    says(old, schema="9", readable_from="2")
    with pytest.raises(
        StoreMisfit, match="too old: the tables are of version 9, which members from version 2 on can use"
    ):
        old.open()
    old.close()


@pytest.mark.parametrize("driver", ALL)
@pytest.mark.parametrize("value", ["soon", "", "1e3"])
def test_a_version_that_is_no_number_is_a_sentence(driver: str, value: str, new_database: NewDatabase) -> None:
    store = open_store(new_database(driver), call_limit_s=1.5)
    store.open()
    says(store, schema=value)
    with pytest.raises(StoreMisfit, match=f"heirflow_meta says that the tables are of version '{value}'"):
        store.open()
    assert [each.level for each in store.examine() if each.topic == "tables"] == ["problem"]
    store.close()


@pytest.mark.parametrize("driver", ALL)
def test_an_upgrade_says_who_can_still_read(
    driver: str, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database(driver)
    store = open_store(url, call_limit_s=1.5)
    store.open()
    with monkeypatch.context() as newer:
        newer.setattr(schema, "VERSION", 2)
        newer.setattr(
            schema, "UPGRADES", {1: ("ALTER TABLE heirflow_member ADD COLUMN mood INTEGER DEFAULT 0 NOT NULL",)}
        )
        upgraded = open_store(url, call_limit_s=1.5)
        upgraded.open()
        upgraded.close()
    later = open_store(url, call_limit_s=1.5)
    assert ids(join(later, "e", "a")) == ["a"], "a member of the version before joins the new tables"
    assert later.exchange("e", charge("a", 1)).swapped
    later.close()
    store.close()


def test_who_may_not_upgrade_the_tables_is_told_that_and_not_that_there_are_none(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database("sqlite")
    store = open_store(url, call_limit_s=1.5)
    store.open()
    store.close()
    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setattr(schema, "UPGRADES", {1: ("ALTER TABLE heirflow_member ADD COLUMN mood INTEGER",)})
    monkeypatch.setattr(Sqlite, "refuses", lambda self, error: True)

    def refused(*args: object) -> None:
        raise sa.exc.ProgrammingError("ALTER TABLE", {}, Exception("permission denied"))

    monkeypatch.setattr(schema, "make", refused)
    newer = open_store(url, call_limit_s=1.5)
    with pytest.raises(
        StoreMisfit, match="are of version 1, this HeirFlow needs 2, and this role may not upgrade them; run"
    ):
        newer.open()
    newer.close()


@pytest.mark.parametrize("driver", ALL)
def test_a_swap_names_the_term_too(driver: str, new_database: NewDatabase) -> None:
    """After a restore a version can come again, in another term: a swap that comes late must not match it."""
    store = open_store(new_database(driver), call_limit_s=1.5)
    store.exchange("e", charge("a", 1))
    late = replace(take("a", 5, 2, expected=1), expected_term=5)
    assert store.exchange("e", Exchange(who("a"), swap=late)).swapped is False
    assert store.exchange("e", Exchange(who("a"), swap=replace(late, expected_term=1))).swapped is True
    store.close()


@pytest.mark.parametrize("driver", POSTGRES)
def test_rows_that_the_database_hides_are_told_as_that(
    driver: str, new_database: NewDatabase, postgres: Server
) -> None:
    url = new_database(driver)
    database, role = url.rpartition("/")[2], f"seeing_{driver}"
    owner = open_store(url, call_limit_s=1.5)
    join(owner, "e", "a")
    owner.exchange("e", charge("a", 1))
    postgres.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD '{postgres.password}';"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        database=database,
    )
    member = open_store(postgres.url(driver, user=role, database=database), call_limit_s=1.5)
    assert member.exchange("e", Exchange()).odd == ()
    postgres.sql("ALTER TABLE heirflow_election ENABLE ROW LEVEL SECURITY", database=database)
    hidden = "row-level security is switched on for heirflow_election"
    seen = member.exchange("e", Exchange(who("b"), join=True))
    assert seen.record is None
    assert hidden in seen.odd[0]
    postgres.sql("ALTER TABLE heirflow_member ENABLE ROW LEVEL SECURITY", database=database)
    with pytest.raises(
        StoreMisfit, match="row-level security is switched on for heirflow_election and heirflow_member"
    ):
        member.elections()
    assert any(hidden in each.sentence and each.level == "warning" for each in member.examine())
    assert owner.exchange("e", Exchange()).odd == (), "the owner sees all"
    assert owner.elections() == ("e",)
    member.close()
    owner.close()
