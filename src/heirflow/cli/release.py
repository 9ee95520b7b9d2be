"""`heirflow release`: release in the place of a member that a service manager killed with its whole group.

It rests on a proof of its own: the kernel says that nobody lives in the member's cgroup but this process and those that started
it. What it releases is exactly the noted member's noted term, by the swap that leaders use.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import click

from heirflow.cli.common import json_option, opened, settings, settled, write_json
from heirflow.election.record import Event, Exchange, Swap, What
from heirflow.errors import HeirflowError
from heirflow.member.charge import Charge, noted
from heirflow.member.door import mode_of
from heirflow.member.group import why_not_gone
from heirflow.ownership import OTHERS_WRITE
from heirflow.stores import Store
from heirflow.text import printable

TRIES = 10


class Outcome(str, Enum):
    """What became of one note."""

    RELEASED = "released"
    MOVED_ON = "moved on"
    """The record does not name this member and term any more."""
    REFUSED = "refused"
    """It is not proved that nothing of this member is left."""


@click.command()
@json_option
@settings("name", "run-dir", "config", "db-url", "db-url-file")
def release(*, as_json: bool, **flags: Any) -> int:
    """Release the record in the place of a member that was killed with its whole group, so that the heir need not wait.

    It is for a service manager, after it has killed everything in a unit: ExecStopPost= of systemd. It reads what the leading
    member noted in its run-dir, and asks the kernel who lives in that member's cgroup. If anybody does but this command and
    the processes that started it, it changes nothing. Give it the settings of the member, and run it as the same user.

    Exit code 0: nothing is left to release (it was released now, or nobody had noted anything). 1: not released, because it is
    not proved that nothing is left; the heir waits for the lease. 69: the database does not answer. 78: a wrong setting.

    \b
    heirflow release
    heirflow release --name airflow-scheduler --json
    ExecStopPost=/opt/heirflow/bin/heirflow release
    """
    settled_here = settled(flags, elsewhere=False)
    name, run_dir = settled_here["name"], Path(settled_here["run-dir"])
    mode = mode_of(run_dir)
    if mode is not None and mode & OTHERS_WRITE:
        raise HeirflowError(f"other users may write to {run_dir}, so no note in it is believed; run chmod go-w on it")
    results = []
    for path, charge in noted(run_dir):
        if name in {None, charge.election}:
            results.append(_answer(path, charge, {**flags, "name": charge.election}))
    refused = any(result["outcome"] is Outcome.REFUSED for result in results)
    if as_json:
        write_json({"notes": [{**result, "outcome": result["outcome"].value} for result in results]})
    else:
        for result in results:
            click.echo(
                printable(f"{result['election']}: {result['sentence']}"), err=result["outcome"] is Outcome.REFUSED
            )
        if not results:
            click.echo(printable(f"nothing to release: no member has noted in {run_dir} that it leads"))
    return int(refused)


def _answer(path: Path, charge: Charge, flags: dict[str, Any]) -> dict[str, Any]:
    """Prove, release, and take the note away."""
    told = {"election": charge.election, "member": charge.member, "term": charge.term}
    if why := why_not_gone(charge):
        sentence = f"term {charge.term} of {charge.member} is not released: {why}; the heir waits for the lease"
        return {**told, "outcome": Outcome.REFUSED, "sentence": sentence}
    with opened(settled(flags)) as store:
        done = _release(store, charge)
    path.unlink(missing_ok=True)
    if done:
        return {**told, "outcome": Outcome.RELEASED, "sentence": f"term {charge.term} of {charge.member} is released"}
    sentence = f"{charge.member} does not lead in term {charge.term} any more; nothing to release"
    return {**told, "outcome": Outcome.MOVED_ON, "sentence": sentence}


def _release(store: Store, charge: Charge) -> bool:
    """Make the record vacant if it names exactly this member and term; False when it does not."""
    because = f"{charge.member} was killed with its whole group by the service manager, and its cgroup is empty"
    for _ in range(TRIES):
        reading = store.exchange(charge.election, Exchange())
        record = reading.record_of(charge.seat)
        if record is None or (record.leader, record.term) != (charge.member, charge.term):
            return False
        vacant = replace(record, version=record.version + 1, leader=None, because=because)
        seat, term = charge.seat, record.term
        event = Event(What.RELEASED, term, charge.member, because, seat=seat)
        swap = Swap(record.version, vacant, event, news=True, under=reading.history, expected_term=term, seat=seat)
        if store.exchange(charge.election, Exchange(swap=swap)).swapped:
            return True
    raise HeirflowError(f"the record of {charge.election} changed {TRIES} times while it was to be released; try again")
