"""A unit of systemd: for one line, or a template for several lines of a host."""

from __future__ import annotations

from heirflow.generate.plan import Plan
from heirflow.generate.words import Raw, for_unit, for_unit_command, label

CREDENTIAL = Raw("%d/db-url")
"""Where the unit finds its copy of the file with the URL."""
SETTINGS_OF_INSTANCE = "/etc/heirflow/%i.env"
COMMAND_OF_INSTANCE = Raw("$COMMAND")
"""The command of a template: a variable of the file above, which systemd divides into words."""

NO_MOUNTS = (
    "# It finds the copy of the URL if this unit has no mounts of its own (PrivateTmp=, ProtectSystem=, …): with those, use "
    "--no-credential."
)


def unit(
    plan: Plan,
    *,
    user: str | None,
    group: str | None,
    directory: str | None,
    environment_file: str | None,
    run_dir: str | None,
    config: str | None,
    credential: bool,
    instance: bool,
) -> str:
    """The text of the unit. `instance`: it is a template, and ``%i`` in its words is the instance.

    `credential`: systemd hands over a copy of the file with the URL, so that the user need not be able to read it. systemd promises
    the copy to what starts, and not to what runs after a stop. It is there all the same while the unit sees the host's own mounts.
    """

    def words(*several: str) -> str:
        return " ".join(for_unit_command(word, instance=instance) for word in several)

    def text(value: str) -> str:
        return for_unit(value, instance=instance)

    handed_over = credential and plan.db_url_file is not None
    database = CREDENTIAL if handed_over else plan.db_url_file
    release = ["release", "--name", plan.name]
    release += [] if database is None else ["--db-url-file", database]
    release += [] if config is None else ["--config", config]
    folder = f"heirflow-{text(plan.name) if instance else label(plan.name, dots=True)}"
    file = f"{folder.replace('-%i', '').replace('%i', '')}@" if instance else folder
    lines = [
        *plan.head(
            "#",
            f"Install the same unit on every host of the line, as /etc/systemd/system/{file}.service, and then:",
            f"    systemctl daemon-reload && systemctl enable --now {file}{'INSTANCE' if instance else ''}",
            "The first member leads; the others stand in line behind it.",
        ),
        "[Unit]",
        f"Description=HeirFlow: {text(plan.name)} (exactly one in the line runs)",
        "After=network-online.target",
        "Wants=network-online.target",
        f"# A member whose database does not answer exits with 69 after {plan.start_timeout_s:g} s. It is started again, for ever.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "# Started means: the member stands in the line, as heir or as leader. `systemctl status` shows its place.",
        "Type=notify",
        f"TimeoutStartSec={plan.start_wait_s}",
        "# A member whose loop has stopped is killed and started again.",
        "WatchdogSec=30",
        *([f"User={text(user)}"] if user else []),
        *([f"Group={text(group)}"] if group else []),
        *([f"WorkingDirectory={text(directory)}"] if directory else []),
    ]
    if environment_file:
        lines.append(f"EnvironmentFile={text(environment_file)}")
    if handed_over and plan.db_url_file is not None:
        lines += [
            "# systemd reads the file as root, and the unit gets a copy when it starts. After a change of password, restart it.",
            f"LoadCredential=db-url:{text(plan.db_url_file)}",
        ]
    if run_dir is None:
        lines += [
            "# For `heirflow probe`, and for what `heirflow release` needs to know. Each line has a folder of its own.",
            f"RuntimeDirectory={folder}",
            "RuntimeDirectoryMode=0700",
            f"Environment=HEIRFLOW_RUN_DIR=%t/{folder}",
        ]
    else:
        lines.append(f"Environment={words(f'HEIRFLOW_RUN_DIR={run_dir}').replace('$$', '$')}")
    lines += [
        f"ExecStart={words(*plan.heirflow, *plan.run(database))}",
        "# If the member dies, systemd kills everything in the unit, and nobody is left who could release. This does it then.",
        *([NO_MOUNTS] if handed_over else []),
        f"ExecStopPost={words(*plan.heirflow, *release)}",
        "# TERM goes to the member alone, and as a last resort KILL to everything in the unit.",
        "KillMode=mixed",
        f"# Above --stop-timeout ({plan.stop_timeout_s:g} s), with time to kill, to prove that all is gone, and to release.",
        f"TimeoutStopSec={plan.stop_wait_s}",
        "Restart=always",
        "RestartSec=5",
        "# A command that does not exist will not exist at the next try either.",
        "RestartPreventExitStatus=126 127",
        "# HeirFlow may make a cgroup of its own here, and kill the command's tree through it.",
        "Delegate=yes",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"
