"""What `heirflow doctor` asks a database, and what it makes of the answers. Nothing here decides anything.

A question that this role may not ask is answered with "could not be seen", never taken for a good sign.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import sqlalchemy as sa

from heirflow.stores.base import Finding, StoreMisfit
from heirflow.stores.sql.encodings import TELLS_ANY_PAYLOAD
from heirflow.stores.sql.flavour import Flavour
from heirflow.stores.sql.rights import ask, rights
from heirflow.stores.sql.schema import Tables, has_later, version_of

READS = 5
CLOCK_LIMIT_S = 1.0
"""A wall clock that is off by more is worth a word; no rule depends on it."""
SLOW_S = 0.1
NETWORK_FILE_SYSTEMS = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "fuse",
    "ceph",
    "lustre",
    "gluster",
    "beegfs",
    "afs",
    "gfs2",
    "ocfs2",
)


def examine(conn: sa.engine.Connection, flavour: Flavour, here: Tables, where: str) -> list[Finding]:
    """Everything there is to say about this store. Leaves its transaction to the caller."""
    flavour.begin(conn, writes=False)
    conn.execute(sa.select(flavour.now)).scalar()  # so that connecting and beginning are not measured
    took: list[float] = []
    offsets: list[tuple[float, float]] = []
    for _ in range(READS):
        wall, start = time.time(), time.monotonic()
        theirs = float(conn.execute(sa.select(flavour.now)).scalar_one())
        took.append(time.monotonic() - start)
        offsets.append((took[-1] / 2, theirs - (wall + took[-1] / 2)))
    median_s = statistics.median(took)
    uncertainty_s, offset_s = min(offsets)
    level = "ok" if median_s < SLOW_S else "warning"
    found = [
        Finding(
            "store",
            level,
            f"{where} answers a read within {1000 * median_s:.1f} ms (median of {READS})",
            {"latency_s": median_s},
        ),
        Finding(
            "clock",
            "ok" if abs(offset_s) < CLOCK_LIMIT_S + uncertainty_s else "note",
            f"the store's clock is {abs(offset_s):.3f} s {'ahead of' if offset_s > 0 else 'behind'} ours, give or take "
            f"{uncertainty_s:.3f} s; no decision depends on it",
            {"offset_s": offset_s, "uncertainty_s": uncertainty_s},
        ),
    ]
    found += [*flavour.examine(conn, here), _history(conn, flavour, here), flavour.fenced(conn, here)]
    writable = not any(each.topic == "server" and each.level == "problem" for each in found)
    # The server limits how long a transaction may take, and over a slow link all these questions add up.
    conn.rollback()
    flavour.begin(conn, writes=False)
    return found + rights(conn, flavour, here, writable=writable)


def _history(conn: sa.engine.Connection, flavour: Flavour, here: Tables) -> Finding:
    """Whether a fail-over that forgets can be noticed: the server needs a name for its history, and the record a place for it."""
    named = None
    if flavour.history is not None:
        named = conn.execute(sa.select(sa.literal_column(flavour.history, sa.String()))).scalar()
    if not named:
        sentence = "this server does not name its history: after a failover that forgets writes, two may lead for up to a lease"
        return Finding("history", "note", sentence)
    try:
        with conn.begin_nested():
            lacking = version_of(conn, here) is not None and "history" not in has_later(conn, here)
    except (sa.exc.DBAPIError, sa.exc.NoSuchTableError, StoreMisfit) as error:
        if getattr(error, "connection_invalidated", False):
            raise
        lacking = False  # this role may not look, or the version is odd: the finding about the tables says so
    if lacking:
        sentence = (
            "the tables have no place for the history of the database, so a failover that forgets writes is seen only by members "
            "that were there before it; run `heirflow init` as the owner of the tables"
        )
        return Finding("history", "note", sentence, {"history": named})
    sentence = f"this server's history is {named}: after a failover every member waits a whole lease where writes may be forgotten"
    return Finding("history", "ok", sentence, {"history": named})


def examine_postgres(
    conn: sa.engine.Connection, *, direct: bool, settings: dict[str, str], encoding: str
) -> list[Finding]:
    """Version, session, and whether a failover can forget a confirmed write."""
    row = conn.exec_driver_sql(
        "SELECT current_setting('server_version'), current_user, pg_is_in_recovery(), current_setting('transaction_read_only'), "
        "current_setting('synchronous_standby_names'), current_setting('synchronous_commit'), current_setting('fsync')"
    ).one()
    version, role, recovery, read_only, names, commit, fsync = row
    found = [Finding("server", "ok", f"PostgreSQL {version}", {"version": version})]
    if recovery:
        found.append(Finding("server", "problem", "this server is a standby and read-only; connect to the primary"))
    elif read_only == "on":
        found.append(Finding("server", "problem", f"transactions of role {role} are read-only here"))
    lost = []
    for name, value in settings.items():
        real = conn.execute(sa.select(sa.func.current_setting(name))).scalar_one()
        lost += [name] if milliseconds(str(real)) != milliseconds(value) else []
    if not direct:
        sentence = (
            "the connection goes through a pooler, which passes on no push notifications: a change is noticed at the next "
            "check-in; connect directly"
        )
        found.append(Finding("session", "warning", sentence, {"direct": False}))
    elif encoding not in TELLS_ANY_PAYLOAD:
        sentence = (
            f"this database is {encoding}, in which a notification could end our session: a change is noticed at the next "
            "check-in; a UTF8 database is better"
        )
        found.append(Finding("session", "note", sentence, {"direct": True, "encoding": encoding}))
    elif lost:
        found.append(Finding("session", "warning", f"settings of the session do not stick: {', '.join(sorted(lost))}"))
    else:
        found.append(
            Finding("session", "ok", "the connection is direct: a change is noticed at once", {"direct": True})
        )

    replicas = ask(conn, "SELECT count(*) FROM pg_stat_replication")
    count = int(replicas[0]) if replicas else 0
    if fsync == "off":
        found.append(_forgets("fsync is off: a crash of this server's machine can forget confirmed writes"))
    if commit in {"off", "local"}:
        found.append(_forgets(f"synchronous_commit is {commit}: a confirmed write can be forgotten"))
    if names:
        sentence = f"confirmed writes are on a synchronous standby too ({names})"
        found.append(Finding("durability", "ok", sentence, {"standbys": count}))
    elif count:
        found.append(
            _forgets(
                f"{count} standby{'s' if count > 1 else ''} without synchronous_standby_names: a failover of the database "
                "can forget the last writes; nobody then leads for up to a lease, and the command's own data may be older"
            )
        )
    else:
        found.append(
            Finding("durability", "ok", "no standby is connected, so no failover can forget a confirmed write")
        )
    return found


def examine_mysql(conn: sa.engine.Connection) -> list[Finding]:
    """Version, and whether a crash or a failover can forget a confirmed write."""
    version = str(conn.exec_driver_sql("SELECT VERSION()").scalar_one())
    maria = "mariadb" in version.lower()
    found = [Finding("server", "ok", f"{'MariaDB' if maria else 'MySQL'} {version}", {"version": version})]
    if int(conn.exec_driver_sql("SELECT @@global.read_only").scalar_one()):
        found.append(Finding("server", "problem", "this server is read-only; connect to the one that takes writes"))
    found.append(
        Finding("session", "note", "no push notifications on this database: a change is noticed at the next check-in")
    )
    flush = int(conn.exec_driver_sql("SELECT @@innodb_flush_log_at_trx_commit").scalar_one())
    if flush != 1:
        found.append(_forgets(f"innodb_flush_log_at_trx_commit is {flush}, not 1: a crash can forget confirmed writes"))
    binlog = ask(conn, "SELECT @@log_bin, @@sync_binlog")
    if binlog and int(binlog[0]) and int(binlog[1]) != 1:
        found.append(
            _forgets(f"sync_binlog is {binlog[1]}, not 1: after a crash a replica may know less than was confirmed")
        )
    galera = ask(conn, "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'")
    semi = ask(conn, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%%r_status'")
    if galera and int(galera[1] or 0) > 0:
        found.append(
            Finding(
                "durability", "warning",
                f"a Galera cluster of {galera[1]} nodes: where several take writes, one may undo what another has confirmed; let "
                "all members connect to one and the same node, and to another one only when that is gone; set wsrep_sync_wait to 7",
            )
        )  # fmt: skip
    elif binlog and int(binlog[0]):
        if semi and str(semi[1]).upper() == "ON":
            found.append(
                Finding(
                    "durability", "ok",
                    "replication is semi-synchronous: a replica has what was confirmed, unless none answered within its time-out",
                )
            )  # fmt: skip
        else:
            found.append(
                _forgets(
                    "the binary log is on without semi-synchronous replication: if there is a replica, a failover to it can "
                    "forget the last writes; nobody then leads for up to a lease, and the command's own data may be older"
                )
            )
    else:
        found.append(Finding("durability", "ok", "no binary log, so no replica that a failover could go to"))
    return found


def examine_sqlite(conn: sa.engine.Connection, path: Path) -> list[Finding]:
    """Version, and whether the file is where SQLite's locks hold."""
    version = str(conn.exec_driver_sql("SELECT sqlite_version()").scalar_one())
    found = [
        Finding("server", "ok", f"SQLite {version}", {"version": version}),
        Finding(
            "session", "note", "SQLite serves members on one host only; a change is noticed within a tenth of a second"
        ),
    ]
    kind = file_system(path)
    if kind.startswith(NETWORK_FILE_SYSTEMS):
        sentence = (
            f"{path} is on a network file system ({kind}), where SQLite's locks cannot be relied on; use a local disk"
        )
        found.append(Finding("durability", "problem", sentence, {"file_system": kind}))
    elif kind in {"tmpfs", "ramfs"}:
        found.append(_forgets(f"{path} is in memory ({kind}): a restart of this host forgets the terms"))
    if (mode := conn.exec_driver_sql("PRAGMA journal_mode").scalar_one()) != "wal":
        found.append(
            Finding(
                "durability", "warning", f"the journal mode is {mode}, not wal: readers and writers block each other"
            )
        )
    if path.stat().st_mode & 0o022:
        found.append(Finding("rights", "warning", f"other users of this host may write {path}"))
    return found


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of file system that a path is on; empty where that cannot be seen."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    real = path.resolve()
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        if len(point) >= len(best) and real.is_relative_to(point):
            best, kind = point, after.split()[0]
    return kind


def milliseconds(setting: str) -> str:
    """PostgreSQL shows times with the largest unit that fits; other settings are words and stay what they are."""
    for unit, factor in (("ms", 1), ("min", 60_000), ("s", 1000), ("h", 3_600_000), ("d", 86_400_000)):
        if setting.endswith(unit) and setting.removesuffix(unit).isdigit():
            return str(int(setting.removesuffix(unit)) * factor)
    return setting


def _forgets(sentence: str) -> Finding:
    return Finding("durability", "warning", sentence)
