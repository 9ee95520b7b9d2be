"""`heirflow probe`: ask the member on this host, without database, tables or Airflow, in a fraction of a second."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from heirflow.cli.common import duration_option, settings, settled
from heirflow.errors import HeirflowError
from heirflow.member.door import ask, everybody
from heirflow.text import printable

QUESTIONS = ("live", "ready", "able", "leader")


@click.command()
@click.argument("question", type=click.Choice(QUESTIONS), required=False)
@click.option("--list", "every", is_flag=True, help="Show every member that listens here, instead of a question.")
@click.option("--pid", type=click.IntRange(1), help="The member with this process id, where several run on this host.")
@click.option(
    "--member", metavar="ID", help="The member with this id, also one in another container with the same folder."
)
@duration_option("--timeout", "timeout_s", default="1s", help="How long to wait for its answer.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: everything that the member says about itself.")
@settings("name", "run-dir", "config")
def probe(
    question: str | None,
    *,
    every: bool,
    pid: int | None,
    member: str | None,
    timeout_s: float,
    as_json: bool,
    **flags: Any,
) -> int:
    """Ask the member on this host. Exit code 0 means yes, 1 no, 2 that it is not clear which member is meant.

    \b
    live     its loop answers: a frozen or hanging member does not
    ready    it has joined the line and reaches the database, and does not hold the lead without
             running the command; true also for a member that is drained, or whose standby has
             not started yet
    able     ready, and it leads or could take charge now: a rolling restart waits for this
             (with the member's own --run-dir, where it has one)
    leader   it leads now, its lease has not ended, and its command runs

    \b
    heirflow probe live
    heirflow probe ready --name airflow-scheduler
    until heirflow probe able --name airflow-scheduler; do sleep 1; done
    heirflow probe leader --json
    heirflow probe --list
    """
    if every == (question is not None) or (every and (pid or member)):
        raise click.UsageError(f"give one question ({', '.join(QUESTIONS)}), or --list without --pid and --member")
    config = settled(flags, elsewhere=False)
    if every:
        return _show(everybody(Path(config["run-dir"]), config["name"], timeout_s), config["run-dir"], as_json=as_json)
    assert question is not None
    try:
        facts = ask(Path(config["run-dir"]), config["name"], timeout_s, pid=pid, member=member)
    except HeirflowError as error:
        if as_json:
            click.echo(json.dumps({question: False, "sentence": str(error)}))
            return error.exit_code
        raise
    yes = bool(facts.get(question))
    who = f"{facts.get('election')}: {facts.get('member')} {facts.get('sentence') or facts.get('state')}"
    with suppress(OSError):  # the exit code is the answer: nobody is to be restarted because an output is full
        click.echo(json.dumps(facts) if as_json else printable(f"{'yes' if yes else 'no'}, {who}"))
    return 0 if yes else 1


def _show(members: list[dict[str, Any]], run_dir: str, *, as_json: bool) -> int:
    """One line for each member; 1 where there is none."""
    if as_json:
        click.echo(json.dumps({"members": members}))
    else:
        for facts in members:
            whose = f"{facts['election']}: " if "election" in facts else ""
            click.echo(printable(f"{whose}{facts.get('member')} {facts.get('sentence') or facts.get('state')}"))
        if not members:
            click.echo(printable(f"no member listens in {run_dir}"), err=True)
    return 0 if members else 1
