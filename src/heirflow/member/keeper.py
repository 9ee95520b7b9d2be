"""What keeps a command: `guard_link.GuardLink` for a program, `embed.keeper.ThreadKeeper` for a Python callable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from heirflow.member.guard_events import GuardEvent


class Keeper(Protocol):
    """Orders never block and never fail: what a dead keeper cannot do, `poll` tells. Moments are of the deciding clock."""

    def spawn(self) -> None:
        """Get ready to keep a command. Raises `HeirflowError` when that cannot be had just now."""

    def fileno(self) -> int:
        """What becomes readable when `poll` has something; -1 when there is nothing to wait on."""

    def standby(self, *, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Run this program up to its gate."""

    def start(self, *, env: Mapping[str, str], term_at: float, kill_at: float) -> None:
        """Run the command, or open the gate of the standby. TERM at `term_at` and KILL at `kill_at`, unless extended."""

    def lease(self, *, term_at: float, kill_at: float) -> None:
        """Extend these moments."""

    def stop(self, *, grace_s: float, again_s: float | None = None) -> None:
        """TERM now, once more after `again_s`, KILL after `grace_s`."""

    def kill(self) -> None:
        """KILL the whole tree now."""

    def signal(self, number: int) -> None:
        """Pass a signal on to the command."""

    def will(self, payload: dict[str, Any] | None) -> None:
        """What is to be done at the store if this process dies; None: nothing."""

    def poll(self, now: float) -> list[GuardEvent]:
        """What has happened since the last call."""

    def wake_at(self) -> float:
        """When `poll` wants to be called again, at the latest."""

    def close(self) -> None:
        """End the command without the will. Nothing is left afterwards."""
