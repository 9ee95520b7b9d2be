"""Numbers and ages as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def duration(seconds: float | None) -> str:
    """An age that a person reads at a glance: 0.4 s, 12 s, 3 min 20 s, 5 h 02 min, 3 d 4 h."""
    if seconds is None:
        return "–"
    if seconds < 0.0995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60:02} s"
    if not days:
        return f"{hours} h {minutes % 60:02} min"
    return f"{days} d {hours % 24} h"


def listed(names: Sequence[str]) -> str:
    """a, a and b, a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def age(now: float, since: float | None) -> float | None:
    """Of a moment by the store's clock; None where that is not known."""
    return rounded(max(0.0, now - since)) if since and now else None


def rounded(seconds: float | None) -> float | None:
    """To milliseconds: nobody reads more, and JSON stays short."""
    return None if seconds is None else round(seconds, 3)
