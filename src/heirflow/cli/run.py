"""`heirflow run`: the member. Imports no tables and no Rich: what it imports, it pays for in every heir."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from heirflow.cli.common import settings, settled, warn
from heirflow.config.options import OPTIONS
from heirflow.config.readers import OFF
from heirflow.config.resolve import Config
from heirflow.election.record import Keep
from heirflow.errors import ConfigError
from heirflow.steering.places import store_of

if TYPE_CHECKING:
    from heirflow.member.loop import Identity
    from heirflow.member.once import Once
    from heirflow.member.statsd import Where
    from heirflow.programs.program import Handling, Program
    from heirflow.stores.base import Store
    from heirflow.stores.sql.store import SqlStore

SIDE_LIMIT_S = 5.0
"""Longest time that a look beside the line may take at the database."""
EVENTS = ("promote", "demote", "event")
ALL = tuple(option.name for option in OPTIONS)


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]…")
@settings(*ALL)
def run(*, command: tuple[str, ...], **flags: Any) -> int:
    """Join an election, and run COMMAND while leading.

    Start it on two or more hosts. The oldest healthy member runs the command. When that member is gone, its heir runs it. The
    command is started as given, without a shell, and its input and output are not touched. SIGTERM stops it in order.

    \b
    heirflow run -- airflow scheduler
    heirflow run --name poller --ttl 5s -- python poller.py --fast
    heirflow run --name beat --db-url-file /etc/heirflow/db-url -- celery -A app beat -S django
    """
    from heirflow.programs.program import recognise

    program = recognise(command, os.environ)
    config = settled(flags, fallback_name=program.election, elsewhere=False, warned=False)
    return joined(command, config, program, identity_of(config, command))


def receiver(config: Config, handling: Handling) -> Where | None:
    """Who is told by StatsD: who was named, or who the program tells its own metrics."""
    place: str | None = config["statsd"]
    if place == OFF or (place is None and handling.statsd is None):
        return None
    from heirflow.member.statsd import Where

    if place is not None:
        return Where(place, config["statsd-prefix"] or "heirflow")
    assert handling.statsd is not None
    there, prefix = handling.statsd
    return Where(there, config["statsd-prefix"] or f"{prefix}.heirflow")


def member_store(handling: Handling, call_limit_s: float, member: str) -> Store:
    """Where the record is; with the program's own database beside it, where that is another place. Not open yet."""
    name, hook = f"member/{member}", handling.on_taken
    if handling.beside is None:
        return store_of(handling.config, call_limit_s=call_limit_s, application_name=name, on_taken=hook)
    from heirflow.stores.sql.beside import BUDGET, Database

    limit_s = BUDGET * call_limit_s
    database = store_of(handling.beside, call_limit_s=limit_s, application_name=name)
    beside = Database(cast("SqlStore", database), on_taken=hook, limit_s=limit_s)
    return store_of(handling.config, call_limit_s=call_limit_s, application_name=name, beside=beside)


def identity_of(config: Config, command: tuple[str, ...]) -> Identity:
    """Who this incarnation is."""
    from heirflow.member.loop import Identity

    return Identity.new(config["host"], config["label"] or "", command)


def joined(
    command: tuple[str, ...], config: Config, program: Program, identity: Identity, *, once: Once | None = None
) -> int:
    """Be a member of the line until it is left; returns the exit code. `once`: it is left when the command has ended."""
    from heirflow.election.told import Named
    from heirflow.member.journal import Journal
    from heirflow.member.run import run_member
    from heirflow.programs.runnable import check_runnable

    journal = Journal(config["name"], identity.id, form=config["log-format"], quiet=config["quiet"])

    def doubt(sentence: str) -> None:  # nothing of ours but JSON comes where somebody reads JSON
        if config["log-format"] == "json":
            journal.warn(sentence, event=Named.SETTINGS_DOUBTFUL)
        else:
            warn(sentence)

    for sentence in config.warnings:
        doubt(sentence)
    timings = config.timings()
    try:
        cwd = os.getcwd()
    except OSError:
        raise ConfigError("the working directory does not exist any more; change to another one") from None
    check_runnable(command, cwd, os.environ)
    for sentence in program.check(config):
        doubt(sentence)

    def side_store(where: Config) -> Any:
        store = store_of(where, call_limit_s=SIDE_LIMIT_S, application_name=f"look/{identity.id}")
        store.limit_answers(2 * SIDE_LIMIT_S)
        return store

    handling = program.handling(config, side_store)
    if config.file is not None:
        file = str(config.file.absolute())
        journal.log(f"reads its settings from {file}", event=Named.SETTINGS_READ, file=file)
    for sentence in handling.warnings:
        journal.warn(sentence, event=Named.SETTINGS_DOUBTFUL)
    if handling.told:
        journal.log(handling.told, event=Named.SETTINGS_GIVEN, environment=dict(handling.environment))
    statsd = None if once is not None else receiver(config, handling)
    if statsd is not None and config["statsd"] is None:
        journal.log(
            f"sends its metrics by StatsD to {statsd.place}, as Airflow does, by names that begin with {statsd.prefix}; "
            "--statsd off keeps them",
            event=Named.METRICS_SENT,
        )
    return run_member(
        election=config["name"],
        argv=list(command),
        cwd=cwd,
        store_factory=lambda: member_store(handling, timings.call_limit_s, identity.id),
        timings=timings,
        identity=identity,
        on_exit=config["on-exit"] if once is None else "exit",
        on_loss=config["on-loss"] if once is None else "rejoin",
        start_timeout_s=config["start-timeout"],
        allow_sudo=config["allow-sudo"],
        stop_signal=config["stop-signal"],
        hooks={event: config[f"on-{event}"] for event in EVENTS if config[f"on-{event}"]},
        run_dir=Path(config["run-dir"]),
        journal=journal,
        again_s=handling.again_s,
        standby_argv=handling.standby_argv if once is None else None,
        lookout=handling.lookout,
        children=handling.children,
        address=handling.config.address,
        keep=Keep(config["history-keep"], config["history-most"]),
        seats=config["seats"] if once is None else None,
        once=once,
        partition=handling.partition,
        environment=handling.environment,
        http=config["http"] if once is None else None,
        statsd=statsd,
    )
