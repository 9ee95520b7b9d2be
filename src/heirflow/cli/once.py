"""`heirflow once`: from each host's own cron or timer, so that one host runs a command per due time."""

from __future__ import annotations

from typing import Any

import click

from heirflow.cli.common import duration_option, settings, settled
from heirflow.cli.run import ALL, identity_of, joined
from heirflow.errors import ConfigError

NOT_HERE = {"preload", "cold", "no-adopt", "on-exit", "on-loss", "quiet", "seats", "http", "statsd", "statsd-prefix"}
"""Settings of `heirflow run` that make no sense for a command that runs once."""
LEAST_EVERY_S = 2.0


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]…")
@duration_option(
    "--every",
    "every_s",
    help="How often it is due, like 24h: calls of other hosts within half of this belong to the same due time.",
)
@click.option(
    "--conflict-exit-code",
    "conflict",
    type=click.IntRange(0, 255),
    default=0,
    show_default=True,
    metavar="CODE",
    help="The exit code where another host has run it.",
)
@click.option("--verbose", "-v", is_flag=True, help="Write every step to standard error, and not only what failed.")
@settings(*[name for name in ALL if name not in NOT_HERE])
def once(*, command: tuple[str, ...], every_s: float | None, conflict: int, verbose: bool, **flags: Any) -> int:
    """Run COMMAND on one host per due time. Call it on each host, from its own cron or timer.

    One host runs it, the others wait in line. If that host dies, the next one runs it for the same due time. When it is done, all
    of them end. Never two run at once: the lease kills the command as in `heirflow run`.

    Exit code: the command's own where it ran; --conflict-exit-code where another host has run it; 75 where this one was asked to
    stop before it was done; 69 without an answer of the database; 78 for a wrong setting.

    \b
    heirflow once --name nightly --every 24h -- ./backup.sh
    0 2 * * *  heirflow once --name nightly --every 24h -- /opt/backup/run     (in each host's crontab)
    """
    from heirflow.member.once import Once
    from heirflow.programs.plain import Plain

    if every_s is not None and every_s < LEAST_EVERY_S:
        raise ConfigError(f"--every must be at least {LEAST_EVERY_S:g} s")
    program = Plain(command)
    config = settled({**flags, "quiet": not verbose}, fallback_name=program.election, elsewhere=False, warned=False)
    identity = identity_of(config, command)
    call = Once(identity.id, every_s)
    return call.exit_code(joined(command, config, program, identity, once=call), conflict)
