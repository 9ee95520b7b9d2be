"""The templates, and what they need: the page as HTML."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from heirflow import __version__
from heirflow.status import duration
from heirflow.text import masked, printable

HERE = Path(__file__).parent
LONGEST = 10_000
"""Characters of one value. An address has nine for a letter that is not ASCII."""
STATIC = HERE / "static"
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer but the static files: nothing comes from another host, and no other site shows the page in a frame."""

FILE_HEADERS = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
"""Of these."""
HTML = "text/html; charset=utf-8"


def whole(values: dict[str, Any], *, live: str, wants_token: bool) -> str:
    """The page. `live`: how it stays so: ``stream``, ``poll`` or ``no``."""
    return (
        _templates().get_template("base.html").render(values, live=live, wants_token=wants_token, version=__version__)
    )


def main_part(values: dict[str, Any]) -> str:
    """What of it changes."""
    return _templates().get_template("main.html").render(values, version=__version__)


def gone(said: str) -> str:
    """The same where what was shown is not there any more."""
    return _templates().get_template("gone.html").render(said=said)


def lost(title: str, said: str) -> str:
    """A page that says why there is none."""
    return _templates().get_template("lost.html").render(title=title, said=said, version=__version__)


def static_file(name: str) -> tuple[bytes, str] | None:
    """A file and its type; None: there is none of that name."""
    path = STATIC / name
    if path.suffix not in KINDS or path.parent != STATIC or not path.is_file():
        return None
    return path.read_bytes(), KINDS[path.suffix]


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
    )
    found.filters |= {
        "duration": duration,
        "iso": lambda at: _moment(at).isoformat().replace("+00:00", "Z"),
        "utc": lambda at: _moment(at).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "seconds": lambda seconds: f"{seconds:.1f} s" if seconds < 100 else duration(seconds),
        "id": lambda text: re.sub(r"[^A-Za-z0-9.-]", lambda found: f"_{ord(found[0]):x}_", str(text)),
        "word": lambda text: re.sub(r"[^A-Za-z0-9]+", "-", str(text)),
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}",
    }
    return found


def _moment(at: float) -> datetime:
    try:
        return datetime.fromtimestamp(round(at, 3), timezone.utc)
    except (ValueError, OverflowError, OSError):  # somebody else wrote into the tables
        return datetime.fromtimestamp(0, timezone.utc)


def _shown(value: Any) -> Any:
    """Whatever stands in the tables, no password and nothing that turns text around gets into the page."""
    return printable(masked(value), LONGEST) if isinstance(value, str) and not isinstance(value, Markup) else value
