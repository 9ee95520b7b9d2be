"""The one table of settings. Flags, environment variables, ``heirflow.toml``, defaults and docs/configuration.md come from it.

Values arrive as text (flags, environment) or as TOML values, and leave `Option.read` typed and checked.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heirflow.config.readers import (
    one_of,
    read_count,
    read_duration,
    read_label,
    read_listening,
    read_modules,
    read_name,
    read_prefix,
    read_receiver,
    read_seats,
    read_signal,
    read_switch,
    read_text,
    read_url,
)
from heirflow.errors import ConfigError

ENVIRONMENT_PREFIX = "HEIRFLOW_"
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Option:
    """One setting, in all its forms."""

    name: str
    """As in ``--name`` and in heirflow.toml."""
    reads: Callable[[Any], Any]
    """From text or a TOML value to the typed value. Raises `ValueError` with the end of a sentence: "must be …"."""
    help: str
    shown_default: str
    """The default as a person reads it."""
    default: Any = None
    metavar: str = "TEXT"
    short: str = ""
    in_file: bool = True
    """Whether it may stand in heirflow.toml."""
    secret: bool = False
    """Whether the value may hold a password: masked wherever it is shown."""

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def environment(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper().replace("-", "_")

    @property
    def key(self) -> str:
        """The name that Python gives it."""
        return self.name.replace("-", "_")

    @property
    def parameter(self) -> str:
        """The parameter of `heirflow.Election`, where it has one."""
        return f"{self.key}_s" if self.reads is read_duration else self.key

    @property
    def is_switch(self) -> bool:
        return self.reads is read_switch

    def read(self, raw: object, origin: object, *, called: bool = False) -> Any:
        """The typed value. Raises `ConfigError` that names the origin. `called`: it is an argument of a Python call."""
        name = self.parameter if called else self.name
        if isinstance(raw, int) and not -LARGEST <= raw <= LARGEST:
            raise ConfigError(f"{name} must be a smaller number ({origin})")
        try:
            return self.reads(raw)
        except ValueError as error:
            must = "must be a number of seconds, 0 or more" if called and self.reads is read_duration else error
            shown = "the value given" if self.secret else repr(raw)
            raise ConfigError(f"{name} {must}, not {shown} ({origin})") from None


OPTIONS: tuple[Option, ...] = (
    Option(
        "config",
        read_text,
        "The configuration file.",
        "the first of `./heirflow.toml`, `~/.config/heirflow/heirflow.toml`, `/etc/heirflow/heirflow.toml`",
        metavar="FILE",
        in_file=False,
    ),
    Option(
        "name",
        read_name,
        "The name of the election.",
        "with `run`: the program's own name, for Airflow `airflow-<component>` (and `/<partition>` behind it where the command is "
        "for one), and none for Python, shells and others that only run programs; with other commands: the only election in the "
        "database",
        metavar="NAME",
    ),
    Option(
        "db-url",
        read_text,
        "The database of the election, as a SQLAlchemy URL, or a coordinator (`zookeeper://`, `etcd://`, `consul://`). If it holds "
        "a password, use --db-url-file or the environment: everybody on the host can read flags with ps.",
        "for Airflow its own database; otherwise an SQLite file in `$XDG_STATE_HOME/heirflow` (`~/.local/state/heirflow`), which "
        "only members on the same host see",
        metavar="URL",
        secret=True,
    ),
    Option(
        "db-url-file",
        read_text,
        "A file that holds the URL of the database. Only its owner should be able to read it.",
        "none",
        metavar="FILE",
    ),
    Option(
        "ttl",
        read_duration,
        "The lease: an heir takes charge when the leader has been silent for this long.",
        "10s",
        default=10.0,
        metavar="DURATION",
    ),
    Option(
        "check-in", read_duration, "How often a member checks in with the store.", "a fifth of ttl", metavar="DURATION"
    ),
    Option(
        "margin",
        read_duration,
        "How long before the end of its lease a leader stops relying on it. Covers clocks that run at different speeds.",
        "a tenth of ttl",
        metavar="DURATION",
    ),
    Option(
        "stop-timeout",
        read_duration,
        "How long the command may take to end after TERM. Then it gets KILL. The lease is renewed meanwhile.",
        "30s",
        default=30.0,
        metavar="DURATION",
    ),
    Option(
        "stop-signal",
        read_signal,
        "The signal that asks the command to end, in an orderly stop and before its lease ends.",
        "TERM",
        default=signal.SIGTERM,
        metavar="SIGNAL",
    ),
    Option(
        "allow-sudo",
        read_switch,
        "Let the command become another user (sudo, set-uid programs), although this member may then be unable to kill it. Without "
        "it, an ordinary user's command has no-new-privileges, unless it runs in a cgroup of its own.",
        "false",
        default=False,
        metavar="",
    ),
    Option(
        "cold",
        read_switch,
        "Keep no warm standby: start the command only when this member takes charge. An Airflow component then also has no "
        "adoption and no health check by Airflow's `job` table.",
        "false: heirs of Airflow's components are warm, and so are those of other commands with --preload",
        default=False,
        metavar="",
    ),
    Option(
        "preload",
        read_modules,
        "Python modules that a standby imports before it waits to take charge. For a command `python -m PROGRAM`, or a "
        "script of Python's like celery; `heirflow preload` finds them.",
        "none",
        metavar="MODULE[,MODULE…]",
    ),
    Option(
        "no-adopt",
        read_switch,
        "Do not mark the predecessor's row in Airflow's `job` table as failed. Its queued tasks then wait up to 5 minutes.",
        "false",
        default=False,
        metavar="",
    ),
    Option(
        "no-health",
        read_switch,
        "Do not check the health of the command.",
        "false",
        default=False,
        metavar="",
    ),
    Option(
        "health",
        one_of("progress", "progress=act"),
        "For Airflow: look, beside all else, whether the component moves what waits for it: tasks that could be queued, DAGs to "
        "parse, triggers to take. When nothing moved for `progress-timeout`, that is told in the journal and by `heirflow status`. "
        "With `progress=act` the component is stopped too, as for any other check.",
        "not looked at",
        metavar="progress|progress=act",
    ),
    Option(
        "progress-timeout",
        read_duration,
        "How long nothing may move with `--health progress`. For the dag-processor at least three times Airflow's "
        "`min_file_process_interval`.",
        "10m",
        default=600.0,
        metavar="DURATION",
    ),
    Option(
        "health-cmd",
        read_text,
        "A shell command that exits with 0 while the command is healthy. It runs on the leader's host. Put no secret in it: "
        "everybody on the host can read flags with ps, and `heirflow config` shows it.",
        "for Airflow components with a warm standby, their own row in Airflow's `job` table; for others, no check",
        metavar="TEXT",
    ),
    Option(
        "health-url",
        read_url,
        "An address that answers a GET with a status below 400 while the command is healthy. It is asked without a proxy, and "
        "a redirect is not followed.",
        "none",
        metavar="URL",
        secret=True,
    ),
    Option(
        "health-file",
        read_text,
        "A file that the command writes to or touches, again and again, while it is healthy. It is unhealthy when the file was not "
        "changed for as long as `health-timeout`. No clock is compared with the file's.",
        "none",
        metavar="FILE",
    ),
    Option(
        "health-timeout",
        read_duration,
        "A command that has not been found healthy for this long is stopped, and an heir takes charge. It is checked four times in "
        "this time, and at least every 15 s.",
        "60s",
        default=60.0,
        metavar="DURATION",
    ),
    Option(
        "health-start",
        read_duration,
        "How long a command may take until it is found healthy for the first time.",
        "120s",
        default=120.0,
        metavar="DURATION",
    ),
    Option("host", read_label, "The host name that others see.", "the name of this host", metavar="NAME"),
    Option("label", read_label, "A text of your own that is shown beside this member.", "none", metavar="TEXT"),
    Option(
        "on-exit",
        one_of("handover", "exit"),
        "When the command exits by itself: hand over to a ready heir, or exit with the command's exit code.",
        "handover",
        default="handover",
        metavar="handover|exit",
    ),
    Option(
        "on-loss",
        one_of("rejoin", "exit"),
        "When this member loses the lead: join the line again, or exit with code 75.",
        "rejoin",
        default="rejoin",
        metavar="rejoin|exit",
    ),
    Option(
        "start-timeout",
        read_duration,
        "How long a new member waits for the database's first answer before it gives up with exit code 69. After the first answer "
        "it never gives up.",
        "30s",
        default=30.0,
        metavar="DURATION",
    ),
    Option(
        "seats",
        read_seats,
        "How many members of the election may lead at once. It counts when the election is made; `heirflow seats` changes it "
        "later, and a member that was started with another number says so.",
        "1",
        metavar="NUMBER",
    ),
    Option(
        "history-keep",
        read_duration,
        "How long the history keeps what happened. The leader deletes what is older, if its role may; each member's "
        "newest `took charge` stays, as fencing needs it. 0 keeps all, whatever its age.",
        "90d",
        default=90 * 86400.0,
        metavar="DURATION",
    ),
    Option(
        "history-most",
        read_count,
        "How many events the history keeps. Beyond them the leader deletes the oldest, as for `history-keep`. 0 keeps all.",
        "10000",
        default=10_000,
        metavar="NUMBER",
    ),
    Option(
        "on-promote",
        read_text,
        "A shell command to run on the leader's host once the command has started in a new term.",
        "none",
    ),
    Option(
        "on-demote",
        read_text,
        "A shell command to run on the same host once that term is over and the command is gone.",
        "none",
    ),
    Option(
        "on-event",
        read_text,
        "A shell command to run at both moments, and on every member when the leader changes. `HEIRFLOW_EVENT` is `promote`, "
        "`demote` or `leader`. All three also get `HEIRFLOW_TERM`, `HEIRFLOW_SEAT`, `HEIRFLOW_LEADER` and `HEIRFLOW_BECAUSE`. "
        "HeirFlow does not wait for them.",
        "none",
    ),
    Option(
        "run-dir",
        read_text,
        "The folder of the sockets through which `heirflow probe` asks a member. Only its owner may enter it.",
        "`$XDG_RUNTIME_DIR/heirflow`, or `heirflow-<uid>` in the folder for temporary files",
        metavar="FOLDER",
    ),
    Option(
        "http",
        read_listening,
        "Where this member answers HTTP, like `127.0.0.1:9180`: `/live`, `/ready`, `/able`, `/leader` (200 yes, 503 no), `/status` "
        "and `/metrics`. There is no password: whoever reaches the port may read, and nobody can change anything. Each member on a "
        "host needs a port of its own.",
        "none: it does not listen",
        metavar="HOST:PORT",
    ),
    Option(
        "statsd",
        read_receiver,
        "Where this member sends its metrics by StatsD (UDP) after each check-in, like `127.0.0.1:8125`. `off`: nowhere.",
        "for Airflow, where its own go, with `[metrics] statsd_on`; otherwise nowhere",
        metavar="HOST:PORT|off",
    ),
    Option(
        "statsd-prefix",
        read_prefix,
        "What the names of these metrics begin with.",
        "`heirflow`; beside Airflow's own, `[metrics] statsd_prefix` and `.heirflow`",
        metavar="TEXT",
    ),
    Option(
        "log-format",
        one_of("text", "json"),
        "The format of the lines that a member writes to standard error.",
        "text",
        default="text",
        metavar="text|json",
    ),
    Option("quiet", read_switch, "Write only what failed or was lost.", "false", default=False, metavar="", short="-q"),
)
BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}

NOT_SETTINGS = frozenset(
    f"HEIRFLOW_{name}" for name in ("ELECTION", "MEMBER", "TERM", "GATE", "EVENT", "LEADER", "BECAUSE")
)
"""Variables that HeirFlow gives to the command and to hooks; one that calls heirflow hands them on."""


def reference() -> str:
    """The table of docs/configuration.md."""
    rows = ["| flag | environment | heirflow.toml | meaning | default |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        value = f" {option.metavar}" if option.metavar else ""
        flag = f"`{option.flag}{value}`".replace("|", "\\|")
        short = f", `{option.short}`" if option.short else ""
        key = f"`{option.name}`" if option.in_file else "–"
        rows.append(f"| {flag}{short} | `{option.environment}` | {key} | {option.help} | {option.shown_default} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(reference())  # noqa: T201  this is what it is for
