"""What commands beside the line are told where there are several seats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heirflow.election.record import Record
from heirflow.election.state import Seat, State
from heirflow.member.listeners import Hooks


class Silent:
    def log(self, *_: object, **__: object) -> None: ...

    def warn(self, *_: object, **__: object) -> None: ...


def test_a_new_leader_of_any_seat_is_told_once_whichever_seat_the_member_looks_at(tmp_path: Path) -> None:
    """An heir looks now at the one seat, now at the other: that is no change of leadership."""
    told = tmp_path / "told"
    command = f'echo "$HEIRFLOW_SEAT $HEIRFLOW_TERM $HEIRFLOW_LEADER $HEIRFLOW_BECAUSE" >> {told}'
    hooks = Hooks({"leader": command}, {}, set(), Silent())  # type: ignore[arg-type]
    first = Seat(number=1, record=Record(9, 7, "a", 10.0, "it was so"), highest_term=7)
    second = Seat(number=2, record=Record(3, 2, "c", 10.0, "so too"), highest_term=2)
    state = State(me="b", host="hb", pid=1, born_at=0.0, seat=first, others=(second,), seats=2)
    for _ in range(3):
        hooks.look(state, dict)
        hooks.look(replace(state, seat=second, others=(first,)), dict)
    taken = replace(second, record=Record(4, 3, "d", 10.0, "c is gone"))
    hooks.look(replace(state, others=(taken,)), dict)
    hooks.close()
    assert told.read_text().splitlines() == ["1 7 a it was so", "2 2 c so too", "2 3 d c is gone"]
