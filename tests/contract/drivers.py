"""The drivers that the stores are tested with. Nothing is skipped: what cannot exist is not in the list."""

from __future__ import annotations

import importlib.util
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sqlalchemy

POSTGRES = ["psycopg", "psycopg2"] if not sqlalchemy.__version__.startswith("1.") else ["psycopg2"]
"""SQLAlchemy 1.4 does not know psycopg 3."""
MYSQL = ["pymysql", *(["mysqldb"] if importlib.util.find_spec("MySQLdb") else [])]
SERVERS = [*POSTGRES, *MYSQL]
ALL = ["sqlite", *SERVERS]
