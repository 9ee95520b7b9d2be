"""The environment of everything that a member starts: its command, the command's standby, hooks and health checks."""

from __future__ import annotations

from collections.abc import Mapping

PRIVATE = frozenset({"NOTIFY_SOCKET", "HEIRFLOW_DB_URL"})
"""Ours alone: a command that answers the service manager in our place breaks the unit; the address holds a secret."""
PRIVATE_PREFIXES = ("WATCHDOG_",)


def command_environment(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of the command: `base` without what is private to the member, then `extra`."""
    kept = {
        name: value for name, value in base.items() if name not in PRIVATE and not name.startswith(PRIVATE_PREFIXES)
    }
    return {**kept, **extra}
