"""How soon news is heeded: the first few at once, then one exchange in a fifth of a second.

Whoever may connect to the database may send notifications, and each could cost an exchange. News only makes things faster, so
leaving some of it for later is always safe: what it tells is in the record, and every check-in reads that.
"""

from __future__ import annotations

from dataclasses import replace

from heirflow.election.state import State

NEWS_GAP_S = 0.2
"""In the long run, news causes one exchange in this time."""
NEWS_BURST_S = 2 * NEWS_GAP_S
"""After a quiet time three exchanges follow news at once: a switchover alone brings an order, a release and a new leader."""


def heeded(state: State, now: float) -> State:
    """The same member when news has come and no exchange is under way: its next one is due soon, never later than before."""
    due = max(now, state.news_paid_s - NEWS_BURST_S)
    if due >= state.ask_at:
        return state
    return replace(state, ask_at=due, news_paid_s=max(due, state.news_paid_s) + NEWS_GAP_S)
