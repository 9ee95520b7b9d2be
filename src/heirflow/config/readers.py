"""How each kind of value is read, from text or from TOML. Each raises `ValueError` with the end of a sentence: "must be …"."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from heirflow.election.record import MOST_SEATS

_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|m|min|h|d|)\s*", re.IGNORECASE)
OFF = "off"
"""Instead of a place: none, whatever the program has."""
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def read_duration(raw: object) -> float:
    """Seconds from ``10``, ``10s``, ``500ms``, ``1.5m``, ``1h`` or ``7d``; also from a TOML number."""
    match = _DURATION.fullmatch(raw) if isinstance(raw, str) else None
    if match:
        seconds = round(float(match[1]) * _UNITS[match[2].lower()], 6)
    elif isinstance(raw, (int, float)) and not isinstance(raw, bool):
        seconds = float(raw)
    else:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError("must be a duration like 10s, 500ms or 1m")
    return seconds


def written(seconds: float) -> str:
    """A duration as it may be given."""
    for unit, factor in (("d", 86400.0), ("h", 3600.0)):
        if seconds and seconds % factor == 0:
            return f"{seconds / factor:g}{unit}"
    return f"{seconds:g}s"


def read_count(raw: object) -> int:
    """A whole number, from 0 on."""
    text = str(raw).strip() if isinstance(raw, (str, int)) and not isinstance(raw, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError("must be a whole number from 0 to 999999999")
    return int(text)


def read_seats(raw: object) -> int:
    """How many members may lead at once."""
    with suppress(ValueError):
        if 1 <= (seats := read_count(raw)) <= MOST_SEATS:
            return seats
    raise ValueError(f"must be a whole number from 1 to {MOST_SEATS}")


def read_text(raw: object) -> str:
    """Text that is not empty and holds no NUL or line break."""
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("must be text that is not empty")
    if any(character in raw for character in "\0\n\r"):
        raise ValueError("must be one line")
    return raw.strip()


def read_name(raw: object) -> str:
    """The name of an election: at most 100 characters, because it is a key in the store's tables."""
    text = read_text(raw)
    if len(text) > 100:
        raise ValueError("must be at most 100 characters")
    if not text.isprintable():
        raise ValueError("must be printable")
    if re.search(r"#[0-9]+$", text):
        raise ValueError("must not end in # and a number, as the records of further seats do")
    return text


def read_label(raw: object) -> str:
    """What others see beside a member: at most 200 characters."""
    text = read_text(raw)
    if len(text) > 200:
        raise ValueError("must be at most 200 characters")
    return text


def read_modules(raw: object) -> str:
    """Names of Python modules, separated by commas."""
    text = read_text(raw)
    names = [name.strip() for name in text.split(",")]
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError("must be names of modules, separated by commas")
    return ",".join(names)


def read_url(raw: object) -> str:
    """An address of the web."""
    text = read_text(raw)
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    place = text.split("/")[2].partition("?")[0]
    if "@" in place:
        raise ValueError("must not hold a user's name or password")
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+)(:\d{1,5})?", place) or not text.isprintable() or " " in text:
        raise ValueError("must be like http://host:port/path")
    return text


def read_listening(raw: object) -> str:
    """Where to listen: a host or an address, and a port."""
    text = read_text(raw)
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+", host) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError("must be HOST:PORT, like 127.0.0.1:9180 or [::1]:9180")
    if not 1 <= int(port) <= 65535:
        raise ValueError("must have a port from 1 to 65535")
    return text


def read_receiver(raw: object) -> str:
    """To whom to send: a host or an address, and a port; or ``off``."""
    text = read_text(raw)
    if text.lower() == OFF:
        return OFF
    try:
        return read_listening(text)
    except ValueError as error:
        raise ValueError(f"{str(error).replace('9180', '8125')}; or {OFF}") from None


def read_prefix(raw: object) -> str:
    """What names of metrics begin with: at most 50 of the characters that every collector of StatsD takes."""
    text = read_text(raw)
    if not re.fullmatch(r"[A-Za-z0-9_/-]+(\.[A-Za-z0-9_/-]+)*", text) or len(text) > 50:
        raise ValueError("must be at most 50 letters, digits, _, / and -, with single dots between them")
    return text


def read_signal(raw: object) -> signal.Signals:
    """A signal by its name, with or without SIG, or by its number. Not one that nobody can handle."""
    text = str(raw).strip().upper() if isinstance(raw, (str, int)) and not isinstance(raw, bool) else ""
    name = text if text.startswith("SIG") else f"SIG{text}"
    try:
        found = signal.Signals(int(text)) if text.isdigit() else signal.Signals[name]
    except (KeyError, ValueError):
        raise ValueError("must be the name of a signal, like TERM or SIGQUIT") from None
    if found in {signal.SIGKILL, signal.SIGSTOP}:
        raise ValueError("must be a signal that a program can handle")
    return found


def read_switch(raw: object) -> bool:
    """True or false, in the usual spellings."""
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else None
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("must be true or false")


def one_of(*words: str) -> Callable[[Any], str]:
    """A reader that takes one of these words."""

    def read_word(raw: object) -> str:
        if isinstance(raw, str) and raw.strip().lower() in words:
            return raw.strip().lower()
        raise ValueError(f"must be {' or '.join(words)}")

    return read_word
