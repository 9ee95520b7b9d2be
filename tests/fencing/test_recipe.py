"""The recipe in docs/fencing.md for programs that fence by themselves, carried out."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from tests.contract.drivers import POSTGRES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def test_the_guarded_update_lets_no_old_term_write(
    new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tables,), (recipe,) = blocks("fencing.md", "sql"), blocks("fencing.md", "python")
    names: dict[str, Callable[[psycopg.Cursor], None]] = {}
    exec(recipe, names)  # type: ignore[arg-type]
    begin = names["begin"]
    url = sa.engine.make_url(new_database(POSTGRES[0])).set(drivername="postgresql")
    address = url.render_as_string(hide_password=False)
    with psycopg.connect(address) as old, psycopg.connect(address) as new:
        old.execute(tables)  # type: ignore[arg-type]
        old.execute("CREATE TABLE written (term bigint)")
        old.commit()

        def write(link: psycopg.Connection, term: int) -> None:
            monkeypatch.setenv("HEIRFLOW_TERM", str(term))
            begin(link.cursor())
            link.execute("INSERT INTO written VALUES (%s)", (term,))

        write(old, 7)  # within its transaction, when the new leader comes
        heir = threading.Thread(target=write, args=(new, 8))
        heir.start()
        heir.join(0.3)
        assert heir.is_alive(), "the new term waits until the old one's transaction has ended"
        old.commit()
        heir.join(10)
        new.commit()
        with pytest.raises(SystemExit, match="term 7 is over"):
            write(old, 7)
        old.rollback()
        write(new, 8)
        new.commit()
        assert [term for (term,) in old.execute("SELECT term FROM written").fetchall()] == [7, 8, 8]
