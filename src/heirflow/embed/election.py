"""`Election`: what a Python program calls."""

from __future__ import annotations

import contextlib
import inspect
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from heirflow import descriptors
from heirflow.config.resolve import resolve
from heirflow.election.record import Keep
from heirflow.election.state import Policy
from heirflow.election.steps import EXIT_STORE_UNAVAILABLE
from heirflow.election.told import Named
from heirflow.embed.keeper import Overrun, ThreadKeeper
from heirflow.embed.lead import Lead
from heirflow.errors import ConfigError
from heirflow.member.loop import Identity, Member
from heirflow.member.signals import hear_signals, stop_on_signals, stopped_by, waking
from heirflow.stores import Store, StoreMisfit, StoreUnavailable, open_store
from heirflow.text import masked

LOG = logging.getLogger("heirflow")


class Base:
    """What every kind of `Election` has: an election by its name, in the store at `db_url`.

    What is not given comes from where `heirflow run` takes it: ``HEIRFLOW_*``, then ``heirflow.toml``, then the defaults.

    Raises `ConfigError` for a value that cannot be right, `UnsafeTimings` (one too) when the numbers cannot keep the promises, and
    `StoreMisfit` when there is no driver for the database. Every error of HeirFlow is a `HeirflowError`.
    """

    def __init__(
        self,
        name: str,
        *,
        db_url: str | None = None,
        db_url_file: str | None = None,
        ttl_s: float | None = None,
        check_in_s: float | None = None,
        margin_s: float | None = None,
        stop_timeout_s: float | None = None,
        start_timeout_s: float | None = None,
        host: str | None = None,
        label: str | None = None,
        overrun: Overrun = "exit",
        seats: int | None = None,
    ) -> None:
        if overrun not in {"exit", "warn"}:
            raise ConfigError(f"overrun must be 'exit' or 'warn', not {overrun!r}")
        arguments = {
            "name": name, "db-url": db_url, "db-url-file": db_url_file, "ttl": ttl_s, "check-in": check_in_s,
            "margin": margin_s, "stop-timeout": stop_timeout_s, "start-timeout": start_timeout_s, "host": host, "label": label,
            "seats": seats,
        }  # fmt: skip
        self._config = resolve(arguments=arguments)
        if self._config["name"] is None:
            raise ConfigError("an election needs a name: give the argument name, or set HEIRFLOW_NAME")
        self._timings = self._config.timings()
        self._overrun: Overrun = overrun
        try:
            # Whatever is wrong with the URL or the driver is told here; it does not connect.
            self._store("member").close()
        except ConfigError as error:
            raise ConfigError(f"{error} ({self._config.settings['db-url'].origin})") from None

    @property
    def name(self) -> str:
        """The name of the election."""
        name: str = self._config["name"]
        return name

    def stand(self, work: Callable[[Lead], object], *, once: bool) -> Standing:
        """A new member and the keeper of `work`; nothing runs yet."""
        if not callable(work):
            raise ConfigError(f"work must be a callable that takes the lead, not {work!r}")
        if inspect.iscoroutinefunction(work):
            raise ConfigError("work is a coroutine function; use heirflow.aio.Election")
        for warning in (*self._config.warnings, *self._config.not_shared):
            LOG.warning("%s: %s", self.name, masked(warning))
        descriptors.fill()  # what the callable starts inherits these three
        identity = Identity.new(self._config["host"], self._config["label"] or "")

        def leave(because: str) -> None:
            if member.state.leaving is None:  # asked twice, it would be killed
                member.stop(because)

        keeper = ThreadKeeper(work, self._overrun, once=once, leave=leave)
        journal = LogJournal(self.name, identity.id)
        member = Member(
            election=self.name,
            identity=identity,
            keeper_factory=lambda: keeper,
            store_factory=lambda: self._store(f"member/{identity.id}"),
            timings=self._timings,
            policy=Policy(
                exit_with_command=once, start_timeout_s=self._config["start-timeout"], seats=self._config["seats"]
            ),
            journal=journal,
            address=self._config.address,
            keep=Keep(self._config["history-keep"], self._config["history-most"]),
        )
        return Standing(self.name, member, keeper, journal)

    def _store(self, application_name: str) -> Store:
        return open_store(
            self._config.address or self._config.db_url,
            call_limit_s=self._timings.call_limit_s,
            application_name=application_name,
        )


class Election(Base):
    """An election by its name, for a callable. Arguments and errors are those of `Base`."""

    def run(self, work: Callable[[Lead], object], *, once: bool = False) -> None:
        """Stand for this election and run `work` whenever it is won, until an orderly stop.

        In the main thread, SIGTERM and SIGINT (Ctrl-C) are an orderly stop, unless the program handles them itself:
        `Lead.stopping` is set, `work` has `stop_timeout_s` to return, and the record is released.

        A `work` that returns by itself hands over to a ready heir, or is called again; with ``once=True`` the member then
        leaves. An exception in `work` is shown by `sys.excepthook` and counts as a crash: an heir takes charge, or `work` is called
        again later. With ``once=True`` it is raised from here. `SystemExit` and `KeyboardInterrupt` in `work` always are.

        Raises `StoreUnavailable` when the store has not answered for `start_timeout_s` since the start, and `StoreMisfit` when it
        cannot be used.
        """
        standing = self.stand(work, once=once)
        with stop_on_signals(standing.engine), waking(standing.engine.fileno()):
            standing.run()
        standing.check()

    @contextlib.contextmanager
    def member(self, work: Callable[[Lead], object], *, once: bool = False) -> Iterator[Standing]:
        """The same in a thread of its own; leaving the block is an orderly stop, and raises what `run` would.

        Signals are the program's.
        """
        standing = self.stand(work, once=once)
        thread = threading.Thread(target=standing.run, name=f"heirflow-{self.name}", daemon=True)
        thread.start()
        with hear_signals() as standing.heard:
            try:
                yield standing
            except KeyboardInterrupt:
                standing.leave(stopped_by(signal.SIGINT))
                raise
            finally:
                standing.leave()
                thread.join()
        standing.check()


@dataclass(slots=True)
class Standing:
    """One member of this program, from joining to leaving: what `Election.member` gives."""

    election: str
    """The name of the election."""
    engine: Member
    """Its internals, which may change."""
    keeper: ThreadKeeper
    journal: LogJournal
    left: threading.Event = field(default_factory=threading.Event)
    """Set when it is not in the line any more, be it that it gave up: leaving the block then raises why."""
    failed: BaseException | None = None
    code: int = 0
    heard: Callable[[], str] = str
    """Says which signal the program has heard; nothing where there was none."""
    told_to_leave: bool = False

    @property
    def member(self) -> str:
        """The name of this member, as `heirflow status` shows it."""
        return self.engine.state.me

    @property
    def joined(self) -> bool:
        """Whether it stands in the line."""
        return self.engine.state.joined and not self.left.is_set()

    @property
    def term(self) -> int | None:
        """The term that this process leads; None while it does not."""
        return None if self.left.is_set() else self.engine.state.term

    def leave(self, because: str = "") -> None:
        """Ask for an orderly stop; returns at once. `because`: what the history says, if not which signal stopped the program."""
        if self.told_to_leave or self.engine.state.leaving is not None:  # asked twice, the callable would be killed
            return
        self.told_to_leave = True
        self.engine.stop(because or self.heard() or "the program leaves the line")

    def run(self) -> None:
        """Stay in the line until told to leave. Raises nothing but what breaks off the main thread: `check` does."""
        try:
            self.code = self.engine.run()
        except Exception as error:
            LOG.exception("%s: the member ended", self.election)
            self.failed = error
        if self.keeper.raised is not None:
            self.failed = self.keeper.raised
        elif self.code in {EXIT_STORE_UNAVAILABLE, StoreMisfit.exit_code}:
            kind = StoreUnavailable if self.code == EXIT_STORE_UNAVAILABLE else StoreMisfit
            self.failed = kind(f"{self.election}: {self.journal.warned}")
        self.left.set()

    def check(self) -> None:
        """Raise why it ended, if that was not an orderly stop."""
        if self.failed is not None:
            raise self.failed


class LogJournal:
    """Tells each sentence to the logger ``heirflow``; the log record's `heirflow` has what `heirflow run` writes beside in JSON."""

    def __init__(self, election: str, member: str) -> None:
        self._member = member
        self.warned = ""
        """The last warning."""
        self._election = election

    def log(self, sentence: str, *, event: Named, **facts: Any) -> None:
        LOG.info("%s: %s", self._election, sentence, extra=self._beside(event, facts))

    def warn(self, sentence: str, *, event: Named, **facts: Any) -> None:
        self.warned = sentence
        level = logging.ERROR if event is Named.GAVE_UP else logging.WARNING
        LOG.log(level, "%s: %s", self._election, sentence, extra=self._beside(event, facts))

    def _beside(self, event: Named, facts: dict[str, Any]) -> dict[str, Any]:
        return {
            "heirflow": {
                "event": event.value,
                "election": self._election,
                "member": self._member,
                "term": None,
                **facts,
            }
        }
