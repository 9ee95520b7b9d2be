"""What keys do to the page: they choose, ask, and wish. An order is a wish only after its question was answered with y."""

from __future__ import annotations

from dataclasses import dataclass

from heirflow.status import Seat
from heirflow.status.seen import Key, Seen, Shown, Standing, line_of
from heirflow.steering.wishes import Kind, Wish

KEYS = (
    ("up, down, k, j", "choose an election, or a member of the one that is shown whole"),
    ("page up, page down", "ten at a time"),
    ("home, end, g, G", "the first, the last"),
    ("Enter, right, l", "show the chosen election whole"),
    ("Esc, left, h", "back to all elections"),
    ("s", "switchover: to the chosen member, or to the next in line if a leader is chosen"),
    ("p", "pause the election, or resume it"),
    ("d", "drain the chosen member, or take that back"),
    ("?", "these keys"),
    ("q, Ctrl-C", "leave"),
    ("Ctrl-Z", "stop for a while; fg goes on"),
)
STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}
FIRST, LAST = {"home", "g"}, {"end", "G"}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before an order is given, and what a yes means."""

    text: str
    wish: Wish


@dataclass(slots=True)
class Page:
    """What is seen and chosen."""

    every_s: float = 2.0
    seen: Seen | None = None
    whole: bool = False
    """Whether one election is shown, and its members are chosen from."""
    helps: bool = False
    question: Question | None = None
    said: str = ""
    """What came of the last key."""
    well: bool = True
    """Whether that was a success."""
    _key: Key | None = None
    _name: str = ""
    """Of the row that is chosen in the whole view (`Standing.name`)."""

    @property
    def chosen(self) -> Shown | None:
        """The election that is chosen: the first one where that is gone."""
        if self.seen is None or not self.seen.elections:
            return None
        return self.seen.of(self._key) or self.seen.elections[0]

    @property
    def standing(self) -> Standing | None:
        """The row that is chosen in the whole view."""
        shown = self.chosen
        rows = line_of(shown.snapshot) if shown is not None else []
        return next((row for row in rows if row.name == self._name), rows[0] if rows else None)

    def look(self, seen: Seen) -> None:
        """A new reading. What was chosen stays chosen, wherever it stands now."""
        self.seen = seen
        if self.whole and self._key is not None and seen.of(self._key) is None:
            self._open(None)
            self.tell("the election that was shown is no more", well=False)
        if self._key is None and self.chosen is not None:
            self._key = self.chosen.key
            if len(seen.elections) == 1:
                self._open(self.chosen)

    def tell(self, sentence: str, *, well: bool = True) -> None:
        """What is to be read below."""
        self.said, self.well = sentence, well

    def press(self, key: str) -> Wish | None:
        """One key; returns what is wished now."""
        if self.question is not None:
            return self._answer(key)
        self.said = ""
        if self.helps:
            self.helps = False
            if key in {"?", "escape"}:
                return None
        if key == "q":
            return Wish(Kind.LEAVE)
        if key == "?":
            self.helps = True
        elif key in STEPS or key in FIRST or key in LAST:
            self._move(key)
        elif key in {"enter", "right", "l"} and not self.whole:
            self._open(self.chosen)
        elif key in {"escape", "left", "h"} and self.whole:
            self._open(None)
        elif key in ASKED:
            self._ask(key)
        return None

    def _answer(self, key: str) -> Wish | None:
        question, self.question = self.question, None
        assert question is not None
        if key == "y":
            self.tell("the order is being given …")
            return question.wish
        self.tell("no order was given")
        return None

    def _open(self, shown: Shown | None) -> None:
        self.whole = shown is not None
        if shown is not None:
            self._key, self._name = shown.key, ""
        rows = line_of(shown.snapshot) if shown is not None else []
        if rows:
            self._name = rows[0].name

    def _move(self, key: str) -> None:
        if self.seen is None or self.chosen is None:
            return
        if self.whole:
            names = [row.name for row in line_of(self.chosen.snapshot)]
            standing = self.standing
            if names and standing is not None:
                self._name = names[_moved(names.index(standing.name), len(names), key)]
            return
        keys = [shown.key for shown in self.seen.elections]
        self._key = keys[_moved(keys.index(self.chosen.key), len(keys), key)]

    def _ask(self, key: str) -> None:
        shown = self.chosen
        if shown is None or self.seen is None:
            self.tell("there is no election here", well=False)
            return
        if self.seen.is_away(shown.store):
            self.tell("what is shown is out of date: an order can be given when the store answers again", well=False)
            return
        self._key = shown.key  # no other one takes its place while the question stands
        asked = ASKED[key](self, shown)
        if isinstance(asked, str):
            self.tell(asked, well=False)
        else:
            self.question = asked

    def _pause(self, shown: Shown) -> Question:
        name = shown.snapshot.election
        if shown.snapshot.paused:
            return Question(f"Resume {name}?", Wish(Kind.RESUME, shown.key))
        text = f"Pause {name}? Nobody changes place until it is resumed, also when the leader is gone."
        return Question(text, Wish(Kind.PAUSE, shown.key))

    def _drain(self, shown: Shown) -> Question | str:
        if not self.whole:
            self._open(shown)
            return "choose the member, then d drains it"
        row = self.standing.row if self.standing is not None else None
        if row is None:
            return "nobody stands there who could be drained"
        if row.drained:
            return Question(f"Let {row.member} lead again?", Wish(Kind.UNDRAIN, shown.key, row.member))
        hands_over = " It leads, and hands over as soon as another member is ready." if row.rank == 1 else ""
        text = f"Drain {row.member}? It does not take charge until that is taken back.{hands_over}"
        return Question(text, Wish(Kind.DRAIN, shown.key, row.member))

    def _switchover(self, shown: Shown) -> Question | str:
        snapshot = shown.snapshot
        if not self.whole and snapshot.several:
            self._open(shown)
            return "there are several seats: choose the leader that hands over, then s"
        standing = self.standing if self.whole else None
        seat = standing.seat if standing is not None else None
        target = standing.member if standing is not None and seat is None else None
        if seat is None:
            if snapshot.several:
                return "there are several seats: choose the leader that hands over; `heirflow switchover` takes --to and --from"
            seat = snapshot.by_seat[0]
        return _handed_over(shown, seat, target)


def _handed_over(shown: Shown, seat: Seat, target: str | None) -> Question | str:
    if seat.last_leader is None:
        return (
            f"seat {seat.seat} is vacant, so nobody can hand over"
            if shown.snapshot.several
            else "nobody leads now, so nobody can hand over"
        )
    whom = target or (f"the next in line ({shown.snapshot.heir})" if shown.snapshot.heir else "the next in line")
    where = f"seat {seat.seat} of {shown.snapshot.election}" if shown.snapshot.several else shown.snapshot.election
    text = f"Switchover of {where}: {seat.last_leader} hands over to {whom}?"
    return Question(text, Wish(Kind.SWITCHOVER, shown.key, target, seat.last_leader))


def _moved(at: int, count: int, key: str) -> int:
    if key in FIRST:
        return 0
    return count - 1 if key in LAST else min(max(at + STEPS[key], 0), count - 1)


ASKED = {"s": Page._switchover, "p": Page._pause, "d": Page._drain}
