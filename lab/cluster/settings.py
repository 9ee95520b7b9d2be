"""Airflow's settings for a cluster of which any part may be lost: what differs from a single host, with the reasons.

``airflow.env`` and ``heirflow.env`` in ``deploy/ha`` are for people; `for_people` reads them, so that what is proved here is
what they are given.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from lab.airflow.environment import CHECKOUT

FOR_PEOPLE = tuple(CHECKOUT / "deploy" / "ha" / name for name in ("airflow.env", "heirflow.env"))
CELERY_MODULE = CHECKOUT / "deploy" / "ha" / "airflow" / "celery_quorum.py"
HOST_MODULE = "import os\n\n\ndef address() -> str:\n    return os.environ['CLUSTER_ADDRESS']\n"
"""By which a host is found: nothing here resolves names."""
ENTRY, DATABASE_PORT, API_PORT, PAGE_PORT = 8080, 5000, 8081, 8471
PAGE_ENTRY = 8470


def for_people(*, lines_in_database: bool = False) -> dict[str, str]:
    """What they set, without what only their reader can know (``<…>``). `lines_in_database`: also what is set for that (``#…``)."""
    mark = "#?" if lines_in_database else ""
    found = re.compile(rf"^{mark}([A-Z_]+)=(.*)$", re.MULTILINE)
    lines = [line for file in FOR_PEOPLE for line in found.findall(file.read_text("utf-8"))]
    return {name: value for name, value in lines if "<" not in value}


def prepare(home: Path) -> str:
    """Lay what all hosts have alike into a folder; returns the password of the user interface."""
    config = home / "config"
    config.mkdir(parents=True)
    (config / "cluster_host.py").write_text(HOST_MODULE)
    shutil.copy(CELERY_MODULE, config)
    password = secrets.token_urlsafe(9)
    (home / "passwords.json").write_text(json.dumps({"admin": password}))
    return password


def airflow(home: Path, dags: Path, *, brokers: str | None, floating: str, lines: str) -> dict[str, str]:
    """What all hosts have alike. `brokers`: their URL; None: without Celery. `lines`: where they are."""
    settings = {
        "CORE__EXECUTOR": "CeleryExecutor" if brokers else "LocalExecutor",
        "CORE__PARALLELISM": "8",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{ENTRY}/execution/",
        "CORE__HOSTNAME_CALLABLE": "cluster_host.address",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "API__HOST": "0.0.0.0",
        "API__PORT": str(API_PORT),
        "API__BASE_URL": f"http://{floating}:{ENTRY}",
        "API__SECRET_KEY": secrets.token_urlsafe(24),
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
        "SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
    }
    if brokers:
        settings |= {
            "CELERY__BROKER_URL": brokers,
            "CELERY__WORKER_CONCURRENCY": "4",
        }
    return {
        **for_people(lines_in_database=lines == "database"),
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }


def database(user: str, password: str, name: str, proxies: Sequence[str]) -> dict[str, str]:
    """The way to the database, by the HAProxy of the own host; the others are asked while that one is away."""
    hosts = "&".join(f"host={address}:{DATABASE_PORT}" for address in proxies)
    url = f"postgresql+psycopg2://{user}:{password}@/{name}?{hosts}"
    return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url, "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{url}"}
