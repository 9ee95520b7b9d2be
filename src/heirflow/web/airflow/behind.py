"""What stands behind the page in Airflow: which database has the lines, and one desk for each process that serves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from airflow.configuration import conf

from heirflow.config.resolve import Config, resolve
from heirflow.errors import ConfigError
from heirflow.programs.airflow.installation import ORIGIN
from heirflow.web.airflow.jobs import JobRows
from heirflow.web.desk import Desk

BEGIN = "heirflow run -- airflow scheduler"


class Behind:
    """The desk, and what Airflow's own table tells. Made in the process that serves, so after a fork."""

    def __init__(self, config: Config) -> None:
        self.desk = Desk([config])
        self.jobs = JobRows(_asked, url(), schema())
        self._lock = threading.Lock()
        self._started = False

    @classmethod
    def of_airflow(cls) -> Behind:
        """As this process's environment and Airflow's configuration say. Raises `HeirflowError`."""
        return cls(placed(resolve({})))

    def start(self) -> None:
        """Begin to read, once: somebody looks who may."""
        with self._lock:
            if not self._started:
                self._started = True
                self.desk.start()


def placed(config: Config) -> Config:
    """The settings with Airflow's own database, where HeirFlow's name none: the one that its members use there."""
    if not config.db_url_is_default:
        return config
    return config.placed(url(), ORIGIN, connect_args=connect_args(), schema=schema(), ask=url)


def url() -> str:
    """Of Airflow's database. Raises `ConfigError`."""
    found = str(conf.get("database", "sql_alchemy_conn", fallback="") or "").strip()
    if not found:
        raise ConfigError("Airflow's configuration names no database")
    return found


def schema() -> str | None:
    """Where Airflow's tables are, if not where a connection looks by itself."""
    return str(conf.get("database", "sql_alchemy_schema", fallback="") or "").strip() or None


def connect_args() -> dict[str, Any]:
    """What Airflow gives to its driver beside the URL."""
    named = conf.get("database", "sql_alchemy_connect_args", fallback="") or ""
    return dict(conf.getimport("database", "sql_alchemy_connect_args")) if named else {}


def _asked(statement: Any) -> Sequence[Any]:
    """Rows from Airflow's database, by its own connections."""
    from airflow.utils.session import create_session

    with create_session() as session:
        return list(session.execute(statement))
