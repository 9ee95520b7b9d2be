"""How a word is written in each kind of file, so that the command gets it back exactly as it was given; and what is never written.

Each function is the inverse of what the reader of that file does. The tests read every file back with the reader's own rules.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
import zlib

from heirflow.errors import ConfigError
from heirflow.text import masked

_CALLED = r"[\w-]*(?:password|passwd|pwd|secret|token|(?:secret|api|access|private|fernet|signing)[-_]?key)"
_SECRET = re.compile(rf"{_CALLED}(=|\s+)(?!\s)['\"]?(?![$/@'\"-])\S", re.IGNORECASE)
_SECRET_FLAG = re.compile(rf"--?{_CALLED}", re.IGNORECASE)
_BARE = re.compile(r"[A-Za-z0-9_@+=:,./%$-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROLS = {"Cc", "Zl", "Zp"}


class Raw(str):
    """A word that is meant as the reader's own: a specifier or a variable, and not what stands there."""

    __slots__ = ()


def check_command(words: tuple[str, ...]) -> None:
    """Raises `ConfigError` for a word of the command that no file can hold, or that looks like a secret."""
    for number, word in enumerate(words):
        check_word(word, f"word {number + 1} of the command")
        before = words[number - 1] if number else ""
        if _SECRET_FLAG.fullmatch(before) and word and not word.startswith(("$", "/", "@", "-")):
            raise ConfigError(_refused(f"what follows {before}"))


def check_word(word: str, called: str) -> None:
    """The same for one text. The message has what it is `called`, and never the text."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{called} is not UTF-8 text, and the file would not be either") from None
    if masked(word) != word or _is_assigned(word):
        raise ConfigError(_refused(called))


def _refused(called: str) -> str:
    return (
        f"{called} looks like a secret, and many may read a generated file, and flags with ps; "
        "let the program read it from a file or from its environment"
    )


def _is_assigned(word: str) -> bool:
    """Whether a secret stands behind its name, as in ``TOKEN=abc`` or ``sh -c 'x --password abc'``."""
    return any(match[1] == "=" or match[0].startswith("-") for match in _SECRET.finditer(word))


def label(name: str, *, dots: bool = False) -> str:
    """The name of an election as a name of files, services and labels. Two elections never get the same one."""
    kept = re.sub(r"[^A-Za-z0-9_.-]" if dots else r"[^a-z0-9-]", "-", name if dots else name.lower()).strip("-.")[:40]
    if kept == name:
        return kept
    return f"{kept.rstrip('-.') or 'line'}-{zlib.crc32(name.encode()):08x}"


def for_yaml(text: str) -> str:
    """A double-quoted scalar of YAML."""
    return f'"{"".join(_escaped(character) for character in text)}"'


def for_yaml_list(words: list[str]) -> str:
    """A list on one line."""
    return f"[{', '.join(map(for_yaml, words))}]"


def for_unit(text: str, *, instance: bool) -> str:
    """Text of a systemd unit that is not divided into words. `instance`: ``%i`` is the instance of a template."""
    if instance:
        return "%i".join(part.replace("%", "%%") for part in text.split("%i"))
    return text.replace("%", "%%")


def for_unit_command(word: str, *, instance: bool) -> str:
    """One word of a command line in a systemd unit."""
    if isinstance(word, Raw):
        return word
    text = "".join(_escaped(character) for character in for_unit(word, instance=instance).replace("$", "$$"))
    return text if _BARE.fullmatch(text) else f'"{text}"'


def for_supervisord(word: str) -> str:
    """One word of a command line in supervisord's file. Raises `ConfigError` for a line break, which it cannot hold.

    A semicolon or a number sign after a space would begin a comment, also within quotes, so the quotes are closed before it.
    """
    if any(unicodedata.category(character) in _CONTROLS for character in word):
        raise ConfigError("supervisord's file cannot hold a line break or control character in a command; use a script")
    return re.sub(r"(\s)(?=[;#])", r"\1''", shlex.quote(word)).replace("%", "%%")


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
