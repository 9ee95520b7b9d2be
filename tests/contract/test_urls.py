"""Which store a URL means, and what is said when it means none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from heirflow.errors import ConfigError
from heirflow.stores import StoreMisfit, StoreUnavailable, open_store
from tests.contract.drivers import POSTGRES, SERVERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLACE = "//me:s3cret@db:1234/place"


def drivername(url: str) -> str:
    return open_store(url, call_limit_s=1.5)._link.url.drivername


@pytest.mark.parametrize("name", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+nobody"])
def test_any_postgres_url_finds_a_driver(name: str) -> None:
    assert drivername(f"{name}:{PLACE}") == f"postgresql+{POSTGRES[0]}"


@pytest.mark.parametrize("driver", POSTGRES)
def test_the_driver_that_is_named_is_taken(driver: str) -> None:
    assert drivername(f"postgresql+{driver}:{PLACE}") == f"postgresql+{driver}"


@pytest.mark.parametrize("name", ["mysql", "mariadb", "mysql+pymysql", "mysql+aiomysql", "mariadb+mariadbconnector"])
def test_any_mysql_url_finds_a_driver(name: str) -> None:
    assert drivername(f"{name}:{PLACE}") == "mysql+pymysql"


@pytest.mark.parametrize("name", ["sqlite", "sqlite+aiosqlite"])
def test_any_sqlite_url_finds_a_driver(name: str) -> None:
    assert drivername(f"{name}:////tmp/x.db") == "sqlite+pysqlite"


@pytest.mark.parametrize(("kind", "extra"), [("postgresql", "postgres"), ("mysql", "mysql")])
def test_a_missing_driver_is_told_with_what_the_extra_has(
    kind: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the name of the extra: no package index has a HeirFlow yet, and the driver alone works beside any."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    (driver,) = project["optional-dependencies"][extra]
    with pytest.raises(StoreMisfit) as told:
        open_store(f"{kind}:{PLACE}", call_limit_s=1.5)
    assert f"no driver for {kind} is installed here; install one beside HeirFlow: `pip install '{driver}'`" in str(
        told.value
    )


def test_a_python_without_sqlite_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StoreMisfit, match="no driver for sqlite is installed here; install a Python that has sqlite3"):
        open_store("sqlite:////tmp/x.db", call_limit_s=1.5)


def test_an_absent_driver_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "psycopg" else real(name))
    assert drivername(f"postgresql+psycopg:{PLACE}") == "postgresql+psycopg2"


@pytest.mark.parametrize(
    "url",
    [
        "", "me", "oracle://me:s3cret@db/x", "postgresql:me:s3cret@db", "postgresql+psycopg", "mysql://me:s3cret@db:port/x",
        "sqlite://", "sqlite:///:memory:", "s3cret", "redis://me:s3cret@db", "etcd://me:s3cret@@db",
    ],
)  # fmt: skip
def test_what_is_no_database_is_told_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url, call_limit_s=1.5)
    assert "s3cret" not in str(caught.value)


def test_unsafe_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="more than 0 s"):
        open_store("sqlite:////tmp/x.db", call_limit_s=0)
    with pytest.raises(ConfigError, match="SQLite has no schemas"):
        open_store("sqlite:////tmp/x.db", call_limit_s=1, schema="x")


def test_knowing_stores_does_not_load_them() -> None:
    code = "import heirflow.stores, sys; print([name for name in sys.modules if name in ('sqlalchemy', 'sqlite3', 'psycopg')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("url", ["sqlite:///line.db", "sqlite:///./x/line.db", "sqlite:///file:line.db?uri=true"])
def test_a_relative_sqlite_file_is_refused_with_the_whole_path(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members started in two folders would be two lines, each with a leader."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"relative path.*sqlite:///{tmp_path}/(x/)?line\.db"):
        open_store(url, call_limit_s=1.5)


@pytest.mark.parametrize("password", ["s3@cret", "s3@cret/x", "s3#cr@et/x", "s3/cr@et:5", "s3@cret?x=1", "s3?x@cret@y"])
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_an_at_sign_in_a_password_is_refused_before_its_tail_is_a_host(kind: str, password: str) -> None:
    """What comes after it would be the name of a host, which is looked up, connected to and shown."""
    with pytest.raises(ConfigError, match="%40") as caught:
        open_store(f"{kind}://me:{password}@db:1234/place", call_limit_s=1.5)
    assert "cret" not in str(caught.value) and "s3" not in str(caught.value)


@pytest.mark.parametrize("password", ["s3/cret", "s3#cret", "s3:cret", "s3;cret", "s3%40cret"])
@pytest.mark.parametrize("driver", SERVERS)
def test_what_a_driver_says_shows_nothing_of_a_password(driver: str, password: str) -> None:
    kind = "mysql" if "mysql" in driver else "postgresql"
    for url in (f"me:{password}@127.0.0.1:1/x", f"127.0.0.1:1/x?user=me&password={password}"):
        store = open_store(f"{kind}+{driver}://{url}", call_limit_s=1.5)
        with pytest.raises(StoreUnavailable) as caught:
            store.open()
        assert "cret" not in str(caught.value) and "127.0.0.1:1/x" in str(caught.value)
