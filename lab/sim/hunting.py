"""How a mutant is made, and how worlds are played until one of them catches it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lab.sim import acts
from lab.sim.promises import Promise
from lab.sim.world import Verdict, World


class DoesNotApply(AssertionError):
    """The words that a mutant replaces are not in the function any more."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace words, which must stand there exactly once, in the source of one function or method."""

    module: ModuleType
    name: str
    """``function`` or ``Class.method``."""
    old: str
    new: str

    def apply(self) -> Callable[[], None]:
        """Put the changed function in its place. Returns what undoes it. Raises `DoesNotApply`."""
        holder: Any = self.module
        *outer, last = self.name.split(".")
        for name in outer:
            holder = getattr(holder, name)
        healthy = inspect.getattr_static(holder, last)
        source = textwrap.dedent(inspect.getsource(healthy))
        if source.count(self.old) != 1:
            raise DoesNotApply(f"{self.module.__name__}.{self.name} has {self.old!r} {source.count(self.old)} times")
        changed = source.replace(self.old, self.new)
        tree = ast.parse(changed)
        made: dict[str, Any] = {}
        exec(compile(tree, f"<mutant of {self.name}>", "exec", flags=_ANNOTATIONS), self.module.__dict__, made)
        setattr(holder, last, made[last])

        def undo() -> None:
            setattr(holder, last, healthy)

        return undo


_ANNOTATIONS = 0x1000000
"""``from __future__ import annotations``, which the patched modules are written under."""


def _as_it_is(world: World) -> None:
    """Change nothing about a world."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One safety line, taken away."""

    name: str
    breaks: Promise | tuple[Promise, ...]
    """The promise that the line keeps, or several where the loss shows in either. A world that goes red for anything else has
    not caught the mutant: a rule that is broken loudly would hide a judge that sees nothing."""
    patches: tuple[Patch, ...]
    only: tuple[str, ...] = ()
    """Kinds of fault to play; empty: what each seed wishes."""
    without: tuple[Patch, ...] = ()
    """Other layers taken away with it, because they would hide the loss."""
    prepare: Callable[[World], None] = _as_it_is
    scene: Callable[[int], Verdict] | None = None
    """Play this instead of a world with faults."""
    seats: int = 1
    """How many may lead at once."""

    def play(self, seed: int) -> Verdict:
        """One world, with whatever is patched now."""
        if self.scene is not None:
            return self.scene(seed)
        world = World(seed, only=self.only, seats=self.seats)
        self.prepare(world)
        return acts.run(world)


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """Have these patches in place for a while."""
    undo: list[Callable[[], None]] = []
    try:
        undo.extend(patch.apply() for patch in patches)
        yield
    finally:
        for back in reversed(undo):
            back()


@dataclass(frozen=True, slots=True)
class Hunt:
    """What came of a hunt."""

    worlds: int
    caught: Verdict | None
    """The world that broke what the mutant is expected to break; None: it survived."""
    instead: tuple[Verdict, ...]
    """Worlds that went red for something else, on the way."""

    def __str__(self) -> str:
        told = [f"survived {self.worlds} worlds"]
        if self.caught is not None:
            told = [f"caught in world {self.worlds}: {self.caught.promise}: {self.caught.sentence}"]
        for promise, count in Counter(verdict.promise for verdict in self.instead).items():
            first = next(verdict for verdict in self.instead if verdict.promise == promise)
            told.append(f"{count} broke {promise!r} instead, the first with seed {first.seed}: {first.sentence}")
        return "; ".join(told)


def hunt(mutant: Mutant, worlds: int = 300) -> Hunt:
    """Play worlds until a mutant breaks what it is expected to break.

    Raises `AssertionError` when the world that caught it is red without the mutant too.
    """
    expected = (mutant.breaks,) if isinstance(mutant.breaks, str) else mutant.breaks
    instead: list[Verdict] = []
    for count in range(1, worlds + 1):
        seed = 1000 + count
        with patched((*mutant.without, *mutant.patches)):
            verdict = mutant.play(seed)
        if verdict.promise in expected:
            with patched(mutant.without):
                healthy = mutant.play(seed)
            assert healthy.promise is None, f"seed {seed} is red without {mutant.name!r} too: {healthy}"
            return Hunt(count, verdict, tuple(instead))
        if verdict.promise is not None:
            instead.append(verdict)
    return Hunt(worlds, None, tuple(instead))
