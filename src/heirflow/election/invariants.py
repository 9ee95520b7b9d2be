"""What no state may be, where the types cannot say it. `decide` looks at each state that it returns.

A broken one is an error of ours, or of a guard that contradicts itself. The assertion ends the member, and its guard then
kills the command.
"""

from __future__ import annotations

from heirflow.election.state import Doubting, Following, Idle, Leading, State, Then

RELEASES = {Then.HAND_OVER, Then.SWITCH_OVER, Then.LEAVE}
"""What can be left to do when the command is gone; the other two are decided at that moment."""


def check(state: State) -> None:
    """Raise `AssertionError` with a sentence when a member is what it cannot be."""
    seat, lead, command, leaving = state.seat, state.seat.lead, state.command, state.leaving
    record, stop = seat.record, state.stop

    # What it holds.
    if isinstance(lead, Following):
        assert state.idle or state.losing, "what runs without a lead is being killed"
    else:
        assert record is not None and record.leader == state.me, "a leader is named by the record that it read last"
        assert record.term == lead.term, "a leader is named for its own term"
        assert lead.term <= seat.highest_term, "terms only grow"
    if isinstance(lead, Doubting):
        assert state.losing, "what runs when trust has ended is being killed"
    assert record is None or state.known, "a record that is known was read"
    assert record is None or record.term <= seat.highest_term, "the highest term is the highest"

    numbers = [each.number for each in state.all_seats]
    assert len(numbers) == len(set(numbers)), "each seat is known once"
    assert all(isinstance(each.lead, Following) for each in state.others), "a member holds one seat at most"

    # What runs.
    if isinstance(command, Idle) and command.after is not None:
        assert isinstance(lead, Leading), "only a leader has something to release"
        assert command.after.then in RELEASES, (
            "what follows an unhealthy command, or a lost lead, is decided when it is gone"
        )
    if stop is not None and stop.then is Then.LEAVE:
        assert leaving is not None, "only a member that leaves stops its command for leaving"
    if leaving is not None:
        assert not state.working, "a member that leaves stops its command"
    if state.done:
        assert state.idle, "a member that has ended leaves nothing running"

    assert not state.withstands or not state.idle, "what is proved gone withstands no more"

    # Its place in the line, and its questions.
    assert state.joined or not state.drained, "only a member that stands in the line is drained"
    assert state.ask is None or state.ask.serial == state.serial, "the last question is the one that is under way"
    assert state.ask is not None or not state.news, "news that came between two questions is asked after at once"
