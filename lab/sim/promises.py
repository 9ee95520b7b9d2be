"""The promises that a simulated world is judged by. A red world tells the name of the one that was broken."""

from __future__ import annotations

from typing import Final, Literal, get_args

Promise = Literal[
    # ---- never two, never an orphan ----
    "never two",
    "one seat each",
    "dead by the end of trust",
    "thawed late, it is killed at once",
    "release only when gone",
    "take only when the own command is gone",
    "a deposed leader kills at once",
    "never an orphan",
    # ---- who may take charge, and when ----
    "a silent leader has its whole lease",
    "after an outage the leader has its chance first",
    "who may be forgotten has its whole lease",
    "a leader's end comes first",
    "terms only grow",
    "legal records",
    # ---- the line and orders ----
    "paused: nobody changes place",
    "orders are an operator's",
    "no preemption without an order",
    "silence loses seniority",
    "who does not work is succeeded",
    "the oldest ready takes charge",
    "a switchover reaches the named member",
    "an order outlives its leader",
    "a seat with an heir is not vacated",
    "no more lead than there are seats",
    # ---- always one, soon ----
    "always one, soon",
    "the leader stays",
    "an heir stands",
    "one view",
    # ---- nearly free, and explained ----
    "nearly free",
    "no hot loop",
    "a crash loop does not spin",
    "explains itself",
    # ---- caught by no judge ----
    "time passes",
    "no broken rule",
]
"""The last two are told by an assertion: of the agenda when everything happens at one instant, and of the rules themselves."""

PROMISES: Final[tuple[Promise, ...]] = get_args(Promise)
