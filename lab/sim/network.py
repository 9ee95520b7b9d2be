"""The way to the store and back: late, lost, doubled in time, cut in one direction, or answered by a store that cannot."""

from __future__ import annotations

from heirflow.election.state import Ask
from heirflow.election.steps import Answered, Failed, News, StateEvent
from heirflow.member.report import noted, settings_of
from lab.sim.surroundings import Inhabitant, Surroundings

WILL_LIMIT_S = 3.0
WILL_RETRY_S = 0.2
"""As `guard.will_sender` and `alone.will_helper` have it."""


class Network:
    """Carries questions and answers, each with its own luck."""

    def __init__(self, world: Surroundings) -> None:
        self.world = world
        self.news_lost = 0.0
        """The share of news that never arrives."""
        self.late_limit_s = 0.0
        """The longest that a lost question may wander before the store carries it out."""
        self.severed: set[tuple[str, int]] = set()
        """Questions that were lost with their session."""

    def send(self, member: Inhabitant, ask: Ask) -> None:
        """A question leaves its member."""
        world, rng, host = self.world, self.world.rng, member.host
        delay = 0.0005 + 0.004 * rng.random()
        if host.slow:
            delay += member.timings.call_limit_s * rng.random() * 1.2
        if host.out_cut:
            if rng.random() < 0.3:
                self._answer(member, Failed(ask.serial, "connection refused"))
            elif self.late_limit_s and rng.random() < 0.3:
                world.agenda.after(rng.random() * self.late_limit_s, None, self._arrive, member, ask)
            return
        if host.lossy:
            luck = rng.random()
            if luck < 0.2:
                return
            if luck < 0.5:
                delay = rng.random() * self.late_limit_s
        world.agenda.after(delay, None, self._arrive, member, ask)

    def _arrive(self, member: Inhabitant, ask: Ask) -> None:
        world, rng, store = self.world, self.world.rng, self.world.store
        if (member.id, ask.serial) in self.severed:
            return
        if store.down:
            if rng.random() < 0.5:
                self._answer(member, Failed(ask.serial, "the store is down"))
            return
        if store.read_only:
            self._answer(member, Failed(ask.serial, "the store is read-only"))
            return
        asked_s = member.host.true(ask.asked_at)
        world.judge.speaking(member, ask)
        asked = noted(ask.exchange, settings_of(member.timings, ()))
        reading, news = store.exchange(asked, world.agenda.now, asked_s)
        self._answer(member, Answered(ask.serial, reading))
        if news:
            self.news()

    def _answer(self, member: Inhabitant, event: StateEvent) -> None:
        rng, host = self.world.rng, member.host
        if host.in_cut or (host.lossy and rng.random() < 0.3):
            return
        delay = 0.0005 + 0.004 * rng.random()
        if host.slow:
            delay += member.timings.call_limit_s * rng.random() * 1.2
        self.world.agenda.after(delay + member.late_s(), member, member.happen, event)

    def lose_sessions(self) -> None:
        """The store ends every session: whether what was under way is carried out, nobody can know."""
        for member in self.world.members.values():
            if (ask := member.state.ask) is not None:
                if self.world.rng.random() < 0.5:
                    self.severed.add((member.id, ask.serial))
                self._answer(member, Failed(ask.serial, "the store ended the session"))

    def news(self) -> None:
        """Leadership or orders changed: tell everybody who can hear it."""
        for member in self.world.members.values():
            if not member.host.in_cut and self.world.rng.random() >= self.news_lost:
                member.post(News())

    def will(self, member: Inhabitant, term: int) -> None:
        """The helper that releases a killed member's term; it tries for a while."""
        self._try_will(member, term, self.world.agenda.now + WILL_LIMIT_S)

    def _try_will(self, member: Inhabitant, term: int, give_up_at: float) -> None:
        world, rng, host = self.world, self.world.rng, member.host
        if host.out_cut or host.frozen or (host.lossy and rng.random() < 0.3):
            self._again(member, term, give_up_at)
            return
        wandering = rng.random() * self.late_limit_s if host.slow or host.lossy else 0.0
        delay = 0.02 + 0.1 * rng.random() + wandering
        world.agenda.after(delay, None, self._will_arrives, member, term, give_up_at)

    def _again(self, member: Inhabitant, term: int, give_up_at: float) -> None:
        if self.world.agenda.now + WILL_RETRY_S <= give_up_at:
            self.world.agenda.after(WILL_RETRY_S, None, self._try_will, member, term, give_up_at)

    def _will_arrives(self, member: Inhabitant, term: int, give_up_at: float) -> None:
        store = self.world.store
        if store.down or store.read_only:
            self._again(member, term, give_up_at)
        elif store.will(member.id, term):
            self.world.say(member.id, f"its will released term {term}")
            self.news()
