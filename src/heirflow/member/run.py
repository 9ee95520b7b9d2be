"""`heirflow run` without its command line: a member that keeps a program, told what to do by signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from heirflow.election.record import Keep
from heirflow.election.state import Policy
from heirflow.election.timings import Timings
from heirflow.election.told import Named
from heirflow.errors import HeirflowError
from heirflow.member.charge import ChargeNote
from heirflow.member.door import LocalDoor
from heirflow.member.guard_link import GuardLink
from heirflow.member.health import Lookout
from heirflow.member.journal import Journal
from heirflow.member.keeper import Keeper
from heirflow.member.listeners import Hooks, Listener, ServiceManager
from heirflow.member.loop import Identity, Member
from heirflow.member.once import Once
from heirflow.member.partition import OnePartition, Partition
from heirflow.member.shell import end_all
from heirflow.member.signals import handle_signals, waking
from heirflow.stores.base import Address, Register

if TYPE_CHECKING:
    from heirflow.member.statsd import Where
    from heirflow.member.tally import Tally


def run_member(
    *,
    election: str,
    argv: list[str],
    cwd: str,
    store_factory: Callable[[], Register],
    timings: Timings,
    identity: Identity,
    on_exit: str = "handover",
    on_loss: str = "rejoin",
    run_dir: Path | None = None,
    journal: Journal,
    again_s: float | None = None,
    standby_argv: Sequence[str] | None = None,
    start_timeout_s: float = 30.0,
    lookout: Lookout | None = None,
    children: set[int] | None = None,
    hooks: Mapping[str, str] | None = None,
    allow_sudo: bool = False,
    stop_signal: int = signal.SIGTERM,
    address: Address | None = None,
    keep: Keep | None = None,
    seats: int | None = None,
    once: Once | None = None,
    partition: Partition | None = None,
    environment: Mapping[str, str] | None = None,
    http: str | None = None,
    statsd: Where | None = None,
) -> int:
    """Stand for `election` with the program `argv` until a signal ends it; returns the exit code of `heirflow run`.

    `argv[0]` is the path that was checked to be runnable. `cwd`: where every command is started, also when the folder has gone
    since; then that is told. `again_s`: in an orderly stop, when to send a second SIGTERM.
    `standby_argv`: the program that waits at a gate instead of being started cold. `children`: processes of this one that are
    not the guard's, as `lookout` may start them. `hooks`: see `listeners.Hooks`; its programs stand in `children` too.
    `allow_sudo`: the command may become another user's, though it could then perhaps not be killed. `stop_signal`: what asks the
    command to end in order. `address`: the URL of the stores, where it can change. `keep`: how much history
    stays. `once`: what runs once per due time. `partition`: the part of the work that the program is for, if its work has parts.
    `environment`: what the command and its standby find there, beside what this process has. `http`: ``HOST:PORT`` where it
    answers HTTP, too. `statsd`: to whom it sends its metrics. Raises `ConfigError` where nobody can listen at `http`.
    """
    children = set() if children is None else children
    listeners: list[Listener] = []
    tallies: list[Tally] = []
    if http is not None:
        from heirflow.member.http_door import HttpDoor

        listeners.append(shown := HttpDoor(http, election, timings))
        tallies.append(shown.tally)
    if statsd is not None:
        from heirflow.member.statsd import Statsd

        listeners.append(sends := Statsd(statsd, election, identity.host, timings))
        tallies.append(sends.tally)
    door = None
    if run_dir is not None:
        try:
            door = LocalDoor(run_dir, election, member=identity.id)
        except HeirflowError as error:
            sentence = f"{error}; neither probes nor `heirflow release` will find this member"
            journal.warn(sentence, event=Named.DOOR_CLOSED)

    def guard() -> Keeper:
        made = GuardLink(
            argv=argv,
            cwd=cwd,
            guard_limit_s=timings.guard_limit_s,
            strike_after_s=timings.strike_after_s,
            gain_privileges=allow_sudo,
            stop_signal=stop_signal,
            name=election,
        )
        made.spare, made.collects = children, True
        return made if once is None else once.keeper(made)

    one = None if partition is None else OnePartition(identity.id, partition, ttl_s=timings.ttl_s)
    if partition is not None:
        identity = replace(identity, partition=partition.told)

    def store() -> Register:
        made = store_factory() if one is None else one.store(store_factory())
        made = made if once is None else once.store(made)
        for tally in tallies:
            made = tally.store(made)
        return made

    if (manager := ServiceManager.of(os.environ)) is not None:
        listeners.append(manager)
    if run_dir is not None and door is not None:
        listeners.append(ChargeNote(run_dir, election, identity.id, journal))
    if hooks:
        names = {"HEIRFLOW_ELECTION": election, "HEIRFLOW_MEMBER": identity.id}
        listeners.append(Hooks(hooks, names, children, journal))
    member = Member(
        election=election,
        identity=identity,
        keeper_factory=guard,
        store_factory=store,
        timings=timings,
        policy=Policy(
            exit_with_command=on_exit == "exit",
            exit_on_loss=on_loss == "exit",
            start_timeout_s=start_timeout_s,
            seats=seats,
        ),
        journal=journal,
        again_s=again_s,
        standby_argv=standby_argv,
        door=door,
        lookout=lookout,
        listeners=listeners,
        address=address,
        keep=keep,
        environment=environment,
    )
    if once is not None:
        once.stop = member.stop
    if one is not None:
        one.stop = member.stop
    handle_signals(member)
    try:
        with waking(member.fileno()):
            code = member.run()
        return code if one is None else one.exit_code(code)
    finally:
        end_all(children)
