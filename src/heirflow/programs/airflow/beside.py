"""What runs beside the lines: components of Airflow's that nobody started with HeirFlow. For `heirflow doctor`.

Airflow writes a row into its `job` table for each component that runs, with its host and its heartbeat. A member whose component
was warm tells the number of its row; every other fresh row is of a component that HeirFlow did not start, or of a cold one, whose
member does not know the row. It is asked in the database of the lines, and reads only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from heirflow.config.resolve import Config, Source
from heirflow.errors import ConfigError, HeirflowError
from heirflow.programs.airflow import installation
from heirflow.programs.airflow.adopt import job_of, job_table, now_in
from heirflow.programs.airflow.lateness import INTERVAL, THRESHOLD, doubts, patience_s, seconds
from heirflow.programs.program import Seen
from heirflow.stores import Finding, kind_of
from heirflow.stores.sql.store import SqlStore

SCHEDULER = "scheduler"
COMPONENTS = {"SchedulerJob": SCHEDULER, "DagProcessorJob": "dag-processor", "TriggererJob": "triggerer"}
"""What Airflow writes into its table -> what people call it."""
FRESH_S = 30.0
"""A heartbeat that is older is of a component that Airflow takes for dead, too."""
MOST = 100
"""Rows that are looked at, those with the latest heartbeat first."""
TOPIC = "airflow"


@dataclass(frozen=True, slots=True)
class Running:
    """A component that Airflow's table shows at work."""

    number: int
    kind: str
    host: str
    age_s: float
    """Of its heartbeat."""

    @property
    def component(self) -> str:
        return COMPONENTS[self.kind]

    @property
    def words(self) -> str:
        return f"(job {self.number}, last heartbeat {max(0.0, self.age_s):.0f} s ago)"

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "component": self.component,
            "host": self.host,
            "job_id": self.number,
            "age_s": round(max(0.0, self.age_s), 1),
        }


def examine(config: Config, environ: Mapping[str, str], seen: Sequence[Seen], store: SqlStore) -> list[Finding]:
    """See `Known.examine`."""
    wanted = _wanted(config["name"], seen)
    if not wanted:
        return []
    located = config.settings["db-url"].origin.source is Source.PROGRAM
    try:
        every = _running(store, config)
    except (HeirflowError, ValueError) as error:  # the second: a moment that is none
        sentence = f"Airflow's job table cannot be read, so what runs without HeirFlow is not seen: {error}"
        return [Finding(TOPIC, "warning", sentence)] if located else []
    found = [_judged(row, config["name"], seen) for row in _unexplained(every, seen) if row.component in wanted]
    found += [_may_be(row, leader) for row, leader in _cold(every, seen) if row.component in wanted]
    if not found:
        found = [Finding(TOPIC, "ok", f"no {_listed([*wanted], 'or')} runs without HeirFlow")]
    here = _here(config, environ, located=located) if SCHEDULER in wanted else None
    if here is not None:
        schedulers = [row for row in every if row.component == SCHEDULER]
        found += _of_the_late(here, config, schedulers, seen) if here.row_locks else [_without_row_locks(schedulers)]
    return found


def _wanted(name: str | None, seen: Sequence[Seen]) -> tuple[str, ...]:
    """Which components somebody asks about, who has named this election or none."""
    every = tuple(COMPONENTS.values())
    if name is None:
        return every
    own = {_component(each) for each in seen if each.election == name} | {_named(name)}
    return tuple(component for component in every if component in own)


def _named(election: str) -> str | None:
    """The component whose lines have this name where nobody gave one."""
    component = election.partition("/")[0].removeprefix("airflow-")
    return component if election.startswith("airflow-") and component in COMPONENTS.values() else None


def _component(each: Seen) -> str | None:
    """Of which component this member's line is, as far as that is known."""
    job = job_of(each.note)
    return _named(each.election) if job is None else COMPONENTS[job[1]]


def _running(store: SqlStore, config: Config) -> list[Running]:
    """What is at work now, by the database's clock."""
    job = job_table(config.schema)
    latest = job.c.latest_heartbeat
    asked = [job.c.id, job.c.job_type, job.c.hostname, latest, now_in(kind_of(config.db_url)).label("now")]
    at_work = sa.and_(job.c.state == "running", job.c.job_type.in_(tuple(COMPONENTS)), latest.is_not(None))
    rows = store.ask(sa.select(*asked).where(at_work).order_by(latest.desc()).limit(MOST))
    found = [Running(int(row[0]), row[1], row[2] or "an unknown host", age_s(row[3], row[4])) for row in rows]
    return sorted((each for each in found if each.age_s <= FRESH_S), key=lambda each: each.number)


def age_s(moment: datetime, now: datetime) -> float:
    """Both are of one session, so that they are in one zone where they name none."""
    known = [each if each.tzinfo is not None else each.replace(tzinfo=timezone.utc) for each in (moment, now)]
    return (known[1] - known[0]).total_seconds()


def _unknown(every: Sequence[Running], seen: Sequence[Seen]) -> list[Running]:
    """Rows that no member has told as its own."""
    told = {job for each in seen if (job := job_of(each.note)) is not None}
    return [row for row in every if (row.number, row.kind) not in told]


def _cold(every: Sequence[Running], seen: Sequence[Seen]) -> list[tuple[Running, Seen]]:
    """Rows that may be those of leaders who do not know their own, each with the leader: those on its own host first."""
    silent = [each for each in seen if each.leads and _may_run_airflow(each) and job_of(each.note) is None]
    left, found = _unknown(every, seen), []
    for same_host in (True, False):
        for leader in list(silent):
            for row in list(left):
                fits = _component(leader) in {None, row.component} and (
                    not same_host or _short(row.host) == _short(leader.host)
                )
                if fits:
                    found.append((row, leader))
                    left.remove(row)
                    silent.remove(leader)
                    break
    return found


def _may_run_airflow(leader: Seen) -> bool:
    program = leader.command.partition("#")[0]
    return _named(leader.election) is not None or program == "airflow" or program.startswith(("python", "pypy"))


def _unexplained(every: Sequence[Running], seen: Sequence[Seen]) -> list[Running]:
    cold = {row for row, _ in _cold(every, seen)}
    return [row for row in _unknown(every, seen) if row not in cold]


def _short(host: str) -> str:
    return host.partition(".")[0].lower()


def _judged(row: Running, name: str | None, seen: Sequence[Seen]) -> Finding:
    said = f"a {row.component} runs on {row.host} without HeirFlow {row.words}"
    lines = sorted(
        {each.election for each in seen if _component(each) == row.component and name in {None, each.election}}
    )
    if lines:
        where = f"beside the {'line' if len(lines) == 1 else 'lines'} {', '.join(lines)}"
        return Finding(TOPIC, "problem", f"{said}, {where}: stop it there, and start it with `heirflow run`", row.facts)
    if name is not None:
        return Finding(TOPIC, "problem", f"{said}: stop it there before the first member of {name} starts", row.facts)
    return Finding(TOPIC, "note", f"{said}, and there is no line for it here", row.facts)


def _may_be(row: Running, leader: Seen) -> Finding:
    sentence = (
        f"a {row.component} runs on {row.host} {row.words}; it may be the command of {leader.member}, which does not say which "
        "row is its own, as it started cold"
    )
    return Finding(TOPIC, "note", sentence, row.facts)


def _here(config: Config, environ: Mapping[str, str], *, located: bool) -> installation.Database | None:
    """What the Airflow of this database says, if it is on the PATH here."""
    try:
        found = installation.on_path(environ)
    except ConfigError:
        return None
    return found if found is not None and (located or _place(found.url) == _place(config.db_url)) else None


def _place(url: str) -> tuple[Any, ...]:
    """Which database a URL means, whatever driver and user it names."""
    try:
        parsed = sa.engine.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return (url,)
    return parsed.get_backend_name(), parsed.host, parsed.port, parsed.database


def _without_row_locks(schedulers: Sequence[Running]) -> Finding:
    sentence = "[scheduler] use_row_level_locking is off on this host, so only one scheduler may run"
    facts = {"row_level_locking": False}
    if len(schedulers) > 1:
        hosts = ", ".join(row.host for row in schedulers)
        return Finding(TOPIC, "problem", f"{sentence}, and {len(schedulers)} run: on {hosts}", facts)
    return Finding(TOPIC, "note", f"{sentence}: let all of them stand in one line", facts)


def _of_the_late(
    here: installation.Database, config: Config, schedulers: Sequence[Running], seen: Sequence[Seen]
) -> list[Finding]:
    """What becomes of one that is only late, where several run or may run."""
    lines = [each for each in seen if _component(each) == SCHEDULER]
    several = max((each.seats for each in lines), default=1) > 1
    if not several and len(schedulers) <= 1:
        return []
    # Members with seats set what nobody has set. Other schedulers guess as Airflow does.
    # A number that was changed later is known to no scheduler that runs already: its settings are those of its member's start.
    all_set = several and all(each.started_for > 1 for each in lines)
    told = doubts(here.given, patience_s(config), sets_the_rest=all_set)
    keys = ((THRESHOLD, "late_after_s"), (INTERVAL, "looks_every_s"))
    values = ((name, seconds(here.given[key])) for key, name in keys if key in here.given)
    facts = {name: value for name, value in values if value is not None}
    return [Finding(TOPIC, "warning", f"{sentence} (as configured on this host)", facts) for sentence in told]


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
