"""`heirflow run`: the member. Imports no tables and no Rich: what it imports, it pays for in every heir."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from heirflow.cli.common import settings, settled, store_of, warn
from heirflow.config.options import OPTIONS
from heirflow.config.resolve import OF_THE_COMMAND, Config
from heirflow.errors import ConfigError
from heirflow.programs.airflow.detect import ELECTIONS, Component, find_database, hidden, recognise

SIDE_LIMIT_S = 5.0
"""Longest time that a look beside the line may take at the database."""
EVENTS = ("promote", "demote", "event")
ALL = tuple(option.name for option in OPTIONS)
RUNS_OTHERS = re.compile(
    r"(python|pypy|perl|ruby|php|lua)[0-9.]*|node|deno|bun|java|mono|dotnet|(|ba|da|k|z|fi|a)sh|busybox"
    r"|env|nice|ionice|chrt|taskset|nohup|setsid|stdbuf|timeout|sudo|su|runuser|setpriv|flock|tini|dumb-init"
    r"|uv|uvx|pipx|poetry|pipenv|nodejs|npm|npx|bundle|docker|podman|gosu|su-exec|airflow|celery|manage\.py"
)
"""Programs whose name says nothing about what they run: a line named after one would be shared by all of that."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]…")
@settings(*ALL)
def run(*, command: tuple[str, ...], **flags: Any) -> int:
    """Stand in line, and run COMMAND while leading.

    Start it on two or more hosts. The oldest healthy member runs the command; when it ends, the heir runs it. The command is
    started as it stands, without a shell, and its input and output pass through untouched. TERM means an orderly stop.

    \b
    heirflow run -- airflow scheduler
    heirflow run --name poller --ttl 5s -- python poller.py --fast
    heirflow run --name beat --db-url-file /etc/heirflow/db-url -- celery -A app beat
    """
    component = recognise(command, os.environ)
    name = component.election if component else Path(command[0]).name
    config = settled(flags, fallback_name=name, ask_airflow=False)
    timings = config.timings()

    from heirflow.programs.plain import check_runnable

    try:
        cwd = os.getcwd()
    except OSError:
        raise ConfigError("the working directory is gone; change to another one") from None
    check_runnable(command, cwd, os.environ)
    found, unseen = None, hidden(command)
    if component is None and unseen and config.db_url_is_default:
        raise ConfigError(
            f"this looks like Airflow's {unseen} behind {Path(command[0]).name}, so Airflow cannot be asked for its database, and "
            f"every host would lead; name airflow itself (heirflow run -- airflow {unseen}), or give --name and --db-url-file"
        )
    _check_name(config, component)
    if component and config.db_url_is_default:
        found = find_database(component, os.environ)
        config = config.placed(found.url, found.origin, connect_args=found.connect_args, schema=found.schema)

    from heirflow.cli.extras import extras_for
    from heirflow.member.journal import Journal
    from heirflow.member.loop import Identity
    from heirflow.member.run import run_member

    identity = Identity.new(config["host"], config["label"] or "")
    journal = Journal(config["name"], identity.id, form=config["log-format"], quiet=config["quiet"])

    def side_store() -> Any:
        store = store_of(config, call_limit_s=SIDE_LIMIT_S, application_name=f"look/{identity.id}")
        store.limit_answers(2 * SIDE_LIMIT_S)
        return store

    extras = extras_for(command, component, found, config, side_store)
    if config.db_url_is_default:
        journal.warn(
            f"nobody said where the record lives, so it is in {config.settings['db-url'].shown}, which only members on this host "
            "see; elsewhere another member leads too. For several hosts name a database with --db-url-file or HEIRFLOW_DB_URL"
        )
    for sentence in extras.sentences:
        journal.warn(sentence)
    return run_member(
        election=config["name"],
        argv=list(command),
        cwd=cwd,
        store_factory=lambda: store_of(
            config,
            call_limit_s=timings.call_limit_s,
            application_name=f"member/{identity.id}",
            on_taken=extras.on_taken,
        ),
        timings=timings,
        identity=identity,
        on_exit=config["on-exit"],
        on_loss=config["on-loss"],
        start_timeout_s=config["start-timeout"],
        hooks={event: config[f"on-{event}"] for event in EVENTS if config[f"on-{event}"]},
        run_dir=Path(config["run-dir"]),
        journal=journal,
        again_s=component.again_s(timings.stop_timeout_s) if component else None,
        standby_argv=extras.standby_argv,
        lookout=extras.lookout,
        children=extras.children,
    )


def _check_name(config: Config, component: Component | None) -> None:
    """Raises `ConfigError` where different programs would stand in one line: one of them would never run."""
    name, origin = config["name"], config.settings["name"].origin
    if component is None and origin == OF_THE_COMMAND and RUNS_OTHERS.fullmatch(name):
        raise ConfigError(
            f"a line called {name!r} would be shared by all that {name} runs, and one command stands for all in a line; name it "
            "after what it does, with --name"
        )
    if component is not None and name in ELECTIONS - {component.election}:
        raise ConfigError(
            f"{name} is the line of another of Airflow's components, in which {component.name} would be its heir ({origin}); "
            f"leave the name away, then it is {component.election}"
        )
    if component is not None and name != component.election and not origin.startswith("flag"):
        warn(
            f"the line of this {component.name} is called {name!r} ({origin}); all that is started with the same setting stands in "
            "this one line, and only one of it runs"
        )
