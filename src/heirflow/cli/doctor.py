"""`heirflow doctor` and `heirflow init`: what a person does before the first election."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, cast

import click

from heirflow.cli.common import WHERE, everywhere, json_option, opened, output, settings, settled, write_json
from heirflow.config.resolve import Config
from heirflow.election.record import Exchange, Reading
from heirflow.errors import ConfigError, HeirflowError
from heirflow.member.door import mode_of
from heirflow.ownership import OTHERS_WRITE
from heirflow.status import Snapshot, counted, not_promised, one_seat_only
from heirflow.steering.places import place, store_for_people
from heirflow.stores import Finding, Store, is_coordinator, kind_of
from heirflow.terminal import tables
from heirflow.text import masked

if TYPE_CHECKING:
    from heirflow.programs.program import Seen
    from heirflow.stores.sql.store import SqlStore

TRIPS_TO_TAKE = 22
"""Round trips of an exchange that takes charge on PostgreSQL, with old sessions to end and Airflow's tasks to adopt, about."""
TRIPS_BESIDE = 33
"""The same in the program's own database where the record is in a coordinator, over a connection that is made for it."""
STYLES = {"ok": "green", "note": "", "warning": "yellow", "problem": "bold red"}


@click.command()
@json_option
@settings("name", *WHERE, "ttl", "check-in", "margin", "run-dir")
def doctor(*, as_json: bool, **flags: Any) -> int:
    """Look for anything that could break the promises of an election. Exit code 1 when there is a problem.

    It changes nothing. It looks at the settings, the folder for probes and the database: whether a pooler stands in between,
    how far its clock is from ours, which rights we have there, and whether a failover of the database could lose writes. In
    Airflow's database it also looks for components that run without HeirFlow. Run it as the user and the database role of the
    members: rights that another role lacks are only a warning.

    \b
    heirflow doctor
    heirflow doctor --json | jq '.findings[] | select(.level=="problem")'
    """
    findings = list(examined(settled(flags)))
    if as_json:
        write_json(
            {
                "findings": [
                    {"topic": each.topic, "level": each.level, "sentence": masked(each.sentence), "facts": each.facts}
                    for each in findings
                ]
            }
        )
    else:
        rows = [[each.level, each.topic, masked(each.sentence)] for each in findings]
        if tables.on_terminal():
            head = ("", "topic", "finding")
            tables.show(tables.rich_table(head, rows, [STYLES.get(each.level, "") for each in findings]))
        else:
            click.echo(tables.plain_table(("level", "topic", "finding"), rows, limit=tables.WHOLE))
    return int(any(each.level == "problem" for each in findings))


def examined(config: Config) -> list[Finding]:
    """Settings, host and store, each with what there is to say. Where an old default file hides a program's lines, both stores."""
    return [_settings(config), _run_dir(config), *(found for each in everywhere(config) for found in _store(each))]


def _settings(config: Config) -> Finding:
    try:
        timings = config.timings()
    except HeirflowError as error:
        return Finding("settings", "problem", str(error))
    sentence = (
        f"ttl {timings.ttl_s:g} s, check-in every {timings.check_in_s:g} s, margin {timings.margin_s:g} s: "
        f"clocks may differ in rate by {100 * timings.margin_s / timings.ttl_s:.0f} %"
    )
    return Finding("settings", "ok", sentence)


def _run_dir(config: Config) -> Finding:
    folder = Path(config["run-dir"])
    above = next((parent for parent in folder.parents if os.access(parent, os.F_OK)), folder)
    try:
        mode = mode_of(folder)
        if mode is None and not os.access(above, os.W_OK | os.X_OK):
            raise HeirflowError(f"cannot make the folder for probes {folder}: {above} may not be written")
    except HeirflowError as error:
        return Finding("probes", "warning", f"{error}; `heirflow probe` gets no answer without it")
    if mode is not None and mode & OTHERS_WRITE:
        return Finding(
            "probes", "note", f"other users may write to {folder}; the next member on this host removes that right"
        )
    made = ", which the first one creates" if mode is None else ""
    return Finding("probes", "ok", f"members on this host answer probes in {folder}{made}")


def _store(config: Config) -> list[Finding]:
    try:
        store = store_for_people(config, "doctor")
        try:
            found = list(store.examine())
            lines = _lines(store)
            found += [*_told_of([line for line, _ in lines], config), *_beside(lines, config, store)]
        finally:
            store.close()
    except HeirflowError as error:
        return [Finding("store", "problem", f"{error} ({place(config)})")]
    return found + [more for finding in found if (more := reach(config, finding.facts.get("latency_s", 0.0)))]


def _lines(store: Store) -> list[tuple[Snapshot, Reading]]:
    """All that stand there; none where there are no tables yet, or none that can be read, as other findings say."""
    with suppress(HeirflowError):
        store.open(create=False)
        read = [(name, store.exchange(name, Exchange())) for name in store.elections()]
        return [(Snapshot.of(name, reading), reading) for name, reading in read]
    return []


def _told_of(lines: Sequence[Snapshot], config: Config) -> list[Finding]:
    """What its members say of each election: a command beyond reach, a version too old for its seats, and differences."""
    meant = [line for line in lines if config["name"] in (None, line.election)]
    kills = [
        Finding("kills", "warning", f"{line.election}{said}")
        for line in meant
        if (said := not_promised(line.succession))
    ]
    old = [
        Finding(
            "members",
            "problem",
            f"{line.election} has {counted(line.seats)}, and {who}: when an older one than 0.3 leads, it ends the sessions of the "
            f"other seats' leaders; upgrade it, or run `heirflow seats {quote(line.election)} 1`",
        )
        for line in meant
        if line.seats > 1 and (who := one_seat_only(line.succession))
    ]
    return [*kills, *old] + [
        Finding("members", "note", f"{line.election}: {each}") for line in meant for each in line.differences
    ]


def _beside(lines: Sequence[tuple[Snapshot, Reading]], config: Config, store: Store) -> list[Finding]:
    """What runs without HeirFlow of the programs that it knows."""
    from heirflow.programs.program import concerned, examined, located

    seen = [each for line, reading in lines for each in _seen(line, reading)]
    if not is_coordinator(config.db_url):
        return examined(config, os.environ, seen, cast("SqlStore", store))
    try:
        there = located(config, os.environ) if concerned(config["name"], seen) else config
    except ConfigError as error:
        said = error.args[0].partition(";")[0]
        return [Finding("airflow", "warning", f"what runs without HeirFlow is not seen: {said}")]
    if there is config:
        return []
    own = store_for_people(there, "doctor")
    try:
        found = examined(there, os.environ, seen, cast("SqlStore", own))
        with suppress(HeirflowError):  # told by `examined`
            latency_s = max(each.facts.get("latency_s", 0.0) for each in own.examine())
            found += [far] if (far := reach_beside(there, latency_s)) else []
        return found
    finally:
        own.close()


def _seen(line: Snapshot, reading: Reading) -> list[Seen]:
    """Who is heard, and who leads any of its seats; of a leader without a row, what its record says."""
    from heirflow.programs.program import Seen

    said = {place.record.leader: place.record.note for place in reading.places if place.record is not None}
    notes = {leader: said[leader] for leader in reading.leaders}
    return [
        Seen(
            election=line.election,
            member=row.member,
            host=row.host,
            leads=row.member in notes,
            note=row.note or notes.get(row.member, ""),
            command=str(row.settings.get("command", "")),
            seats=reading.seats,
            started_for=row.settings.get("seats", 1 if row.settings else reading.seats),
        )
        for row in line.succession
        if row.member in notes or not row.silent
    ]


def reach(config: Config, latency_s: float) -> Finding | None:
    """Whether a member so far from its store could take charge in the time it has; None where it could."""
    with suppress(HeirflowError):  # told by `_settings`
        timings = config.timings()
        limit_s = timings.patient_limit_s
        if (need_s := TRIPS_TO_TAKE * latency_s) > limit_s:
            sentence = (
                f"taking charge costs up to {TRIPS_TO_TAKE} round trips, {need_s:.2f} s from here, and a check-in every "
                f"{timings.check_in_s:g} s leaves {limit_s:.2f} s: a member here may never manage to take charge; raise --ttl, "
                "or --check-in if you gave it"
            )
            level = "warning" if need_s < 2 * limit_s else "problem"
            return Finding("distance", level, sentence, {"need_s": need_s, "limit_s": limit_s})
    return None


def reach_beside(config: Config, latency_s: float) -> Finding | None:
    """Whether who takes charge could end and adopt what was left, so far from the program's own database; None where it could."""
    from heirflow.stores.sql.beside import BUDGET

    with suppress(HeirflowError):  # told by `_settings`
        limit_s = BUDGET * config.timings().call_limit_s
        if (need_s := TRIPS_BESIDE * latency_s) > limit_s:
            sentence = (
                f"whoever takes charge ends and adopts what was left in {place(config)}: that costs up to {TRIPS_BESIDE} round "
                f"trips, {need_s:.2f} s from here, and has {limit_s:.2f} s; it leads without it, and what was left waits; "
                "raise --ttl, or --check-in if you gave it"
            )
            return Finding("distance", "warning", sentence, {"need_s": need_s, "limit_s": limit_s})
    return None


@click.command()
@json_option
@settings("name", *WHERE)
def init(*, as_json: bool, **flags: Any) -> int:
    """Create HeirFlow's tables, for members that may not do it themselves.

    Run it once with a role that may create tables. It is safe to run again. Other roles then need the GRANTs of
    docs/security.md.

    \b
    HEIRFLOW_DB_URL_FILE=owner-url heirflow init
    """
    config = settled(flags)
    with opened(config, create=True):
        pass
    shown = place(config)
    if is_coordinator(config.db_url):
        sentence = f"{shown} answers, and needs no preparation: members write their keys there"
        return output(sentence, {"database": shown, "sentence": sentence}, as_json=as_json)
    # Who owns the tables may use them; others meet "permission denied" at their first check-in. SQLite has no roles.
    grants = "" if kind_of(config.db_url) == "sqlite" else "; every other role needs the GRANTs of docs/security.md"
    sentence = f"HeirFlow's tables are in {shown}{grants}"
    return output(sentence, {"database": shown, "sentence": sentence}, as_json=as_json)
