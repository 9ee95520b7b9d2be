"""Every number of an election, and the sums that must hold between them.

    |<------------------------------ ttl --------------------------------->|
    asked_at        term_at          kill_at       trusted_until        heir moves
       |---- trust, minus what dying takes ---|-------- margin -------------|

A leader trusts itself until ``asked_at + ttl - margin``. Inside that trust the command first gets a TERM, then
``loss_grace`` to finish, then a KILL early enough (``kill_lead``) that the last process is gone when trust ends. The
margin pays for clocks that run at different rates. An heir moves no earlier than ``seen + ttl``.
"""

from __future__ import annotations

from dataclasses import dataclass

from heirflow.election.record import LONGEST_TTL_S, SHORTEST_TTL_S
from heirflow.errors import ConfigError

BACKSTOP_S = 0.1
"""How long after a deadline the backstop strikes, when neither guard nor member does (`guard.backstop.LATE_S`, twice)."""
START_LIMIT_S = 10.0
CALL_SHARE = 0.75
"""The longest time a store call may take, as a share of the time between two check-ins."""
DYING_S = 0.02
"""What a killed tree takes to be gone, on a host that is not overloaded."""


class UnsafeTimings(ConfigError, ValueError):
    """These numbers cannot keep the promises; the message shows the sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """All in seconds. Build one with `Timings.of`, which fills in and checks."""

    ttl_s: float = 10.0
    check_in_s: float = 2.0
    margin_s: float = 1.0
    loss_grace_s: float = 1.0
    """From TERM to KILL when the lease runs out."""
    kill_lead_s: float = 0.2
    """How long before the end of trust the KILL is sent."""
    call_limit_s: float = 1.5
    """Longest time a store call may take; always below `check_in_s`, but for `patient_limit_s`."""
    stop_timeout_s: float = 30.0
    """From TERM to KILL in an orderly stop; the lease is renewed meanwhile."""
    guard_limit_s: float = 2.5
    """A guard that has not answered for this long counts as frozen."""

    @classmethod
    def of(
        cls,
        ttl_s: float = 10.0,
        *,
        check_in_s: float | None = None,
        margin_s: float | None = None,
        stop_timeout_s: float = 30.0,
        flags: bool = False,
    ) -> Timings:
        """Fill in from the ttl what was not given, and check. Raises `UnsafeTimings`; `flags`: in words of the command line."""
        check_in = ttl_s / 5 if check_in_s is None else check_in_s
        margin = ttl_s / 10 if margin_s is None else margin_s
        timings = cls(
            ttl_s=ttl_s,
            check_in_s=check_in,
            margin_s=margin,
            loss_grace_s=ttl_s / 10,
            kill_lead_s=min(0.25, margin / 3),
            call_limit_s=CALL_SHARE * check_in,
            stop_timeout_s=stop_timeout_s,
            guard_limit_s=ttl_s / 4,
        )
        timings.check(flags=flags)
        return timings

    @property
    def trust_s(self) -> float:
        """How long a confirmed renewal is believed, counted from before it was asked."""
        return self.ttl_s - self.margin_s

    @property
    def patient_limit_s(self) -> float:
        """The same for those whom haste would keep from ever getting there: `asking.patience_s` says who."""
        return 2 * self.call_limit_s

    @property
    def strike_after_s(self) -> float:
        """A guard that is still silent so long after its deadline is frozen, and its member strikes: well inside the trust."""
        return self.kill_lead_s / 4

    @property
    def start_limit_s(self) -> float:
        """How long a guard may take to say that the command runs, or that it does not; a busy host starts a guard slowly."""
        return max(START_LIMIT_S, self.ttl_s)

    @property
    def turn_s(self) -> float:
        """How long each more senior member is given before the next may try."""
        return self.check_in_s

    @property
    def fresh_s(self) -> float:
        """A member whose check-in is older than this does not count in the line."""
        return fresh_s(self.check_in_s)

    def moments(self, trusted_until: float) -> tuple[float, float]:
        """When the guard sends TERM, and when KILL, so that nothing is left at the end of trust."""
        kill_at = trusted_until - self.kill_lead_s
        return kill_at - self.loss_grace_s, kill_at

    def check(self, *, flags: bool = False) -> None:
        """Raise `UnsafeTimings` with the sum when one does not hold."""
        ttl, check_in, margin = ("ttl", "check-in", "margin") if flags else ("ttl_s", "check_in_s", "margin_s")
        by = "--" if flags else ""
        for name, value in ((ttl, self.ttl_s), (check_in, self.check_in_s), (margin, self.margin_s)):
            if not value > 0:
                raise UnsafeTimings(f"{name} must be more than 0 s, not {value:g} s")
        if not SHORTEST_TTL_S <= self.ttl_s <= LONGEST_TTL_S:
            bounds = f"{SHORTEST_TTL_S:g} s and {LONGEST_TTL_S:g} s"
            raise UnsafeTimings(f"{ttl} must be between {bounds}, not {self.ttl_s:g} s")
        if not self.stop_timeout_s >= 0:
            raise UnsafeTimings(
                f"{'stop-timeout' if flags else 'stop_timeout_s'} must not be negative, not {self.stop_timeout_s:g} s"
            )
        if self.margin_s < 0.02 * self.ttl_s:
            raise UnsafeTimings(
                f"{margin} {self.margin_s:g} s is below 2 % of {ttl} {self.ttl_s:g} s (= {0.02 * self.ttl_s:g} s): clocks of two "
                f"hosts may differ by more; raise {by}{margin}"
            )
        if self.kill_lead_s + self.margin_s < BACKSTOP_S + DYING_S:
            raise UnsafeTimings(
                f"{margin} {self.margin_s:g} s is too short: a frozen guard whose member is dead too is struck {BACKSTOP_S:g} s "
                f"after its deadline, and dying takes {DYING_S:g} s; an heir moves {self.kill_lead_s:.2g} s (kill) + "
                f"{self.margin_s:g} s (margin) after it; raise {by}{margin}"
            )
        need = self.fresh_s + self.loss_grace_s + self.kill_lead_s + self.margin_s
        if need > self.ttl_s:
            raise UnsafeTimings(
                f"{ttl} {self.ttl_s:g} s is too short: 2 check-ins {2 * self.check_in_s:g} + one slow call "
                f"{self.call_limit_s:g} + grace {self.loss_grace_s:g} + kill {self.kill_lead_s:.2g} + margin "
                f"{self.margin_s:g} = {need:.4g} s; raise {by}{ttl} or lower {by}{check_in}"
            )


def fresh_s(check_in_s: float) -> float:
    """The oldest check-in of a healthy member that checks in so often, in seconds: one may be missed, and one may be slow."""
    return (2 + CALL_SHARE) * check_in_s


def back_off_s(failures: int, limit_s: float) -> float:
    """How long to wait after so many failures in a row: nothing, then 1 s, 2 s, 4 s and so on, at most `limit_s`."""
    return min(limit_s, 2.0 ** min(failures - 1, 16)) if failures else 0.0
