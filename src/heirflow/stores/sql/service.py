"""The hosts of a service: libpq's ``service=`` and PGSERVICE name a section of a file, in which several hosts may stand.

libpq would try them one after the other, for two seconds or more each. What the file says beside the hosts is left to it.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

from heirflow.stores.sql.connecting import HOST_WORDS, Arguments


def hosts_of(arguments: Arguments) -> Mapping[str, str] | None:
    """The words of the service that these arguments or the environment name that tell hosts; none of them without a service.

    None where libpq alone finds the service: in a file whose place was compiled into it, or at an LDAP server.
    """
    if not (name := arguments.get("service") or os.environ.get("PGSERVICE")):
        return {}
    own = arguments.get("servicefile") or os.environ.get("PGSERVICEFILE")
    files = [Path(own) if own else Path(os.environ.get("HOME", "/"), ".pg_service.conf")]
    if system := os.environ.get("PGSYSCONFDIR"):
        files.append(Path(system) / "pg_service.conf")
    for file in files:
        known = configparser.ConfigParser(
            interpolation=None, delimiters=("=",), comment_prefixes=("#",), strict=False, allow_no_value=True,
            default_section="",
        )  # fmt: skip
        try:
            known.read_string("\n".join(map(str.strip, file.read_text("utf-8").splitlines())))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, configparser.Error):
            return None
        if known.has_section(name):
            words = known[name]
            if any(word.startswith("ldap") for word in words):
                return None
            return {word: text for word in HOST_WORDS if (text := words.get(word))}
    return None
