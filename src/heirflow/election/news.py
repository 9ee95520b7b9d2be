"""How soon news is heeded: the first few at once, then one exchange in a fifth of a second.

Whoever may connect to the database may send notifications, and each could cost an exchange. News only makes things faster, so
leaving some of it for later is always safe: what it tells is in the record, and every check-in reads that.

Most news is that a leader is gone. Then the first in line acts, and who comes after it looks a little later, so that the two do not
ask for the same rows and the same processors at the very moment at which nobody leads.
"""

from __future__ import annotations

from dataclasses import replace

from heirflow.election import line
from heirflow.election.state import State
from heirflow.election.timings import Timings

NEWS_GAP_S = 0.2
"""In the long run, news causes one exchange in this time."""
NEWS_BURST_S = 2 * NEWS_GAP_S
"""After a quiet time three exchanges follow news at once: a switchover alone brings an order, a release and a new leader."""


BEHIND_S = 0.1
"""So much later those look who are neither the first in line nor lead."""


def heeded(state: State, now: float, timings: Timings) -> State:
    """The same member when news has come and no exchange is under way: its next one is due soon, never later than before."""
    due = max(now, state.news_paid_s - NEWS_BURST_S)
    if state.term is None and not _is_first(state, now, timings):
        due += BEHIND_S
    if due >= state.ask_at:
        return state
    return replace(state, ask_at=due, news_paid_s=max(due, state.news_paid_s) + NEWS_GAP_S)


def _is_first(state: State, now: float, timings: Timings) -> bool:
    """Whether this member is the one to take charge, as far as it knows."""
    first = next(iter(line.line(state, now, timings)), None)
    return first is None or first.id == state.me
