"""What text must go through before people see it: passwords masked, control characters made visible.

Names, labels and foreign sentences come from other hosts and other people. Printed as they are, an escape sequence in one
of them could clear a terminal, forge a line of a log or turn text around.
"""

from __future__ import annotations

import re
import unicodedata

_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s<>]+")
_SECRET_KEY = re.compile(
    r"([?&;](?!(?:password|token)-file=)[\w.-]*(?:pass|pwd|secret|token)[\w.-]*=)[^&\s]*", re.IGNORECASE
)
"""Not where a file is named that holds the secret, as in the URL of a coordinator: its path is none."""
_LONG = re.compile(r"(?<!\w)'[^']{200,}'(?!\w)|\S{200,}")
_PORT = re.compile(r"[^:/]*:\d+/")
_DANGEROUS = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}
"""Unicode's control, format (turns text around), surrogate, line and paragraph separator, private and unassigned."""
_JOINERS = {"\u200c", "\u200d"}
"""Format characters that ordinary words and emoji need."""


def masked_url(url: str) -> str:
    """The URL with ``***`` in place of a password, in front of the host or among the parameters.

    A password may hold anything that should be encoded: where its end is not clear, the last ``@`` is taken for it. Then more
    may be hidden than a password, and never less.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    start = scheme + separator
    head, question, query = rest.partition("?")
    parameters = _SECRET_KEY.sub(r"\1***", question + query)
    user, at, place = head.rpartition("@")
    if scheme.startswith("sqlite"):
        return start + head + parameters  # a path, in which both may stand
    # In parameters an @ is plain; behind what could be a password it ends that, unless a port stands there.
    open_end = "@" in parameters if ":" in user else "@" in query and ":" in place and not _PORT.match(place)
    if open_end:
        return start + rest.partition(":")[0] + ":***@" + _SECRET_KEY.sub(r"\1***", rest.rpartition("@")[2])
    if ":" in user:
        user = user.partition(":")[0] + ":***"
    return start + user + at + place + parameters


def masked(text: str) -> str:
    """Any sentence, with the passwords of all URLs in it masked."""
    return _URL.sub(lambda match: masked_url(match[0]), text)


def brief(text: str) -> str:
    """A sentence of ours, with the passwords masked, in which a value of any length hides nothing of what is said about it."""
    return _LONG.sub(lambda match: f"{match[0][:60]}… ({len(match[0])} characters)", masked(text))


def printable(text: str, limit: int = 1000) -> str:
    """The text on one line with nothing in it that a terminal would obey; what is longer than `limit` is cut off."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _DANGEROUS or character in _JOINERS:
        return character
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
