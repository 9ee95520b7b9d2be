"""What a PostgreSQL database can hold, by its encoding: free text loses the other letters, so that it never fails an exchange."""

from __future__ import annotations

ANY_TEXT = {"UTF8", "SQL_ASCII"}
"""SQL_ASCII keeps whatever bytes come, and ours are UTF-8."""

TELLS_ANY_PAYLOAD = {"UTF8", "LATIN1"}
"""Encodings of which every text that the server takes can be put into UTF-8."""

CODECS = {
    **dict(zip([f"LATIN{number}" for number in range(1, 11)], (1, 2, 3, 4, 9, 10, 13, 14, 15, 16), strict=True)),
    **{f"ISO_8859_{number}": number for number in range(5, 9)},
}
"""ISO 8859's part of each encoding that is one."""


def codec_of(encoding: str) -> str | None:
    """Python's codec for what this encoding of a server can hold; None: any text.

    Where two tables could differ (the encodings of several bytes) only ASCII is sure.
    """
    if encoding in ANY_TEXT:
        return None
    if encoding in CODECS:
        return f"iso8859_{CODECS[encoding]}"
    if encoding.startswith("WIN"):
        return f"cp{encoding.removeprefix('WIN')}"
    return {"KOI8R": "koi8_r", "KOI8U": "koi8_u"}.get(encoding, "ascii")
