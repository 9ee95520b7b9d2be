"""`heirflow generate`: the file that a service manager needs, from the settings that are given here and from nothing else."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from heirflow.cli.common import settings, warn
from heirflow.cli.generated import CARRIED, INSTANCE, matches, one_line, plan_of, whole_path
from heirflow.errors import ConfigError, HeirflowError
from heirflow.text import printable

Function = TypeVar("Function", bound=Callable[..., Any])

HOST_FILE, COMPOSE_FILE = "/etc/heirflow/db-url", "./db-url"
"""Where the URL of the database is looked for when nobody said, on a host and beside a compose file."""
IMAGE_USER, AIRFLOW_USER = "10001", "50000:0"
"""Whom the images of deploy/docker run as."""
PLAIN_USER = re.compile(r"[A-Za-z0-9_%][A-Za-z0-9_.%-]*\$?")
CONTAINER_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
NUMBERS = re.compile(r"\d{1,9}(:\d{1,9})?")
KUBERNETES_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
TEMPLATE_NAME = re.compile(r"[A-Za-z0-9_.-]*%i[A-Za-z0-9_.-]*")


@click.group()
def generate() -> None:
    """Write the file that a service manager needs to run a member, to standard output or to a file.

    Only what is given on this command line is written into it: HEIRFLOW_* and heirflow.toml of this host are not read. The URL of
    the database never stands in it, only the name of the file or Secret that holds it.

    \b
    heirflow generate systemd --name poller --user poller -- /opt/poller/bin/poller
    heirflow generate kubernetes --name poller --image registry.example/poller:1 -- poller
    """


def options_of_all(function: Function) -> Function:
    """What every kind of file takes."""
    decorations = [
        click.option("--output", metavar="FILE", help="Write to this file, which must not exist yet."),
        click.option("--force", is_flag=True, help="Replace the file of --output."),
        click.option("--heirflow", metavar="WORDS", help="How HeirFlow is started there, in words as in a shell."),
        click.option("--directory", metavar="FOLDER", help="The working directory of the command."),
        click.option("--db-url-file", metavar="FILE", help="The file there that holds the URL of the database."),
        settings(*[name for name in CARRIED if name != "db-url-file"], environment=False),
    ]
    for decorate in reversed(decorations):
        function = decorate(function)
    return function


def command_argument(*, required: bool = True) -> Callable[[Function], Function]:
    """What the file is to run."""
    return click.argument(
        "command", nargs=-1, required=required, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]…"
    )


AS_RUN: dict[str, Any] = {"allow_interspersed_args": False}


@generate.command(context_settings=AS_RUN)
@command_argument(required=False)
@click.option("--user", metavar="NAME", help="The user that member and command run as.")
@click.option("--group", metavar="NAME", help="Their group, if not the user's own.")
@click.option("--environment-file", metavar="FILE", help="A file of NAME=VALUE lines for member and command.")
@click.option(
    "--no-credential",
    is_flag=True,
    help="Let the user read --db-url-file itself, so that a changed password counts at once, instead of a copy of systemd's.",
)
@click.option("--template", is_flag=True, help="Write a template for several lines of a host: %i is the instance.")
@options_of_all
def systemd(
    *,
    command: tuple[str, ...],
    user: str | None,
    group: str | None,
    environment_file: str | None,
    no_credential: bool,
    template: bool,
    output: str | None,
    force: bool,
    **given: Any,
) -> int:
    """Write a unit of systemd.

    The database is the one whose URL stands in --db-url-file, by default /etc/heirflow/db-url. It is Airflow's own for a component
    of Airflow, and up to the settings with --config or --environment-file.

    With --template, the instance names the line. Without a COMMAND, /etc/heirflow/INSTANCE.env holds it as COMMAND=…, beside any
    HEIRFLOW_* setting.

    \b
    heirflow generate systemd --name poller --user poller -- /opt/poller/bin/poller --fast
    heirflow generate systemd --user airflow --environment-file /etc/airflow/environment -- airflow scheduler
    heirflow generate systemd --template --user heirflow --output /etc/systemd/system/heirflow@.service
    """
    from heirflow.generate import systemd as kind

    own = {
        "user": user,
        "group": group,
        "environment-file": environment_file,
        "no-credential": no_credential,
        "template": template,
    }
    if not command and not template:
        raise click.UsageError("give a command behind --, or --template")
    by_instance = template and not command
    environment_file = environment_file or (kind.SETTINGS_OF_INSTANCE if by_instance else None)
    if template:
        given["name"] = given["name"] or INSTANCE
        if not TEMPLATE_NAME.fullmatch(given["name"]):
            raise ConfigError(
                f"the name of a template must hold %i, letters, digits, and '.', '_' or '-', not {given['name']!r}"
            )
    for flag, value in (("--user", user), ("--group", group)):
        matches(flag, value, PLAIN_USER, "the name or number of one")
    whole_path("--environment-file", environment_file)
    plan = plan_of(
        "systemd",
        command or (kind.COMMAND_OF_INSTANCE,),
        given,
        own,
        default_file=None if own["environment-file"] else HOST_FILE,
        known=not template,
    )
    whole_path("--db-url-file", plan.db_url_file)
    if not plan.heirflow[0].startswith("/") or "$" in plan.heirflow[0]:
        raise ConfigError("--heirflow must begin with a whole path for systemd, without a $")
    if user is None:
        warn("no --user is given, so member and command run as root")
    if command and "/" not in command[0] and environment_file is None:
        warn(f"systemd's PATH is short; give the whole path of {command[0]}, or a PATH in --environment-file")
    text = kind.unit(
        plan,
        user=user,
        group=group,
        directory=given["directory"],
        environment_file=environment_file,
        run_dir=given["run_dir"],
        config=given["config"],
        credential=not no_credential,
        instance=template,
    )
    return _deliver(text, output, force=force)


@generate.command(context_settings=AS_RUN)
@command_argument()
@click.option("--user", metavar="NAME", help="The user that member and command run as.")
@options_of_all
def supervisord(*, command: tuple[str, ...], user: str | None, output: str | None, force: bool, **given: Any) -> int:
    """Write a program of supervisord.

    The database is the one whose URL stands in --db-url-file, by default /etc/heirflow/db-url; it is Airflow's own for a component
    of Airflow. The user must be able to read that file.

    \b
    heirflow generate supervisord --name poller --user poller -- /opt/poller/bin/poller --fast
    heirflow generate supervisord --name poller --output /etc/supervisor/conf.d/poller.conf -- /opt/poller/bin/poller
    """
    from heirflow.generate.supervisord import program

    matches("--user", user, PLAIN_USER, "the name or number of one")
    if re.search(r"\s[;#]", given["directory"] or ""):
        raise ConfigError("supervisord's file cannot hold a folder with a ; or # after a space")
    plan = plan_of("supervisord", command, given, {"user": user}, default_file=HOST_FILE, run_dir=True)
    whole_path("--db-url-file", plan.db_url_file)
    if user is None:
        warn("no --user is given, so member and command run as supervisord's own user")
    return _deliver(program(plan, user=user, directory=given["directory"]), output, force=force)


@generate.command(context_settings=AS_RUN)
@command_argument()
@click.option("--image", metavar="IMAGE", required=True, help="The image with HeirFlow and the program in it.")
@click.option("--user", metavar="USER[:GROUP]", help="The user in the container, if not the image's own.")
@click.option("--environment-file", metavar="FILE", help="A file of NAME=VALUE lines for member and command.")
@options_of_all
def compose(
    *,
    command: tuple[str, ...],
    image: str,
    user: str | None,
    environment_file: str | None,
    output: str | None,
    force: bool,
    **given: Any,
) -> int:
    """Write a compose file with one service. Use it on each host of the line.

    The database is the one whose URL stands in --db-url-file on the host, by default ./db-url beside the compose file. It is
    Airflow's own for a component of Airflow, and up to the settings with --config or --environment-file.

    \b
    heirflow generate compose --name poller --image registry.example/poller:1 -- poller --fast
    heirflow generate compose --image registry.example/airflow-heirflow:3.3.2 --environment-file airflow.env -- airflow scheduler
    """
    from heirflow.generate.containers import compose as text_of

    matches("--user", user, CONTAINER_USER, "USER or USER:GROUP")
    own = {"image": image, "user": user, "environment-file": environment_file}
    plan = plan_of(
        "compose",
        command,
        given,
        own,
        default_file=None if environment_file else COMPOSE_FILE,
        run_dir=True,
        in_image=True,
    )
    text = text_of(
        plan,
        image=one_line("--image", image),
        user=user,
        environment_file=one_line("--environment-file", environment_file),
        directory=given["directory"],
    )
    return _deliver(text, output, force=force)


@generate.command(context_settings=AS_RUN)
@command_argument()
@click.option("--image", metavar="IMAGE", required=True, help="The image with HeirFlow and the program in it.")
@click.option("--replicas", type=click.IntRange(1, 100), default=2, show_default=True, help="How many members.")
@click.option("--user", metavar="UID[:GID]", help="Whom the container runs as.  [default: 10001; for Airflow 50000:0]")
@click.option("--secret", metavar="NAME", help="The Secret that holds the URL of the database under the key db-url.")
@click.option("--environment-secret", metavar="NAME", help="A Secret of variables for member and command.")
@options_of_all
def kubernetes(
    *,
    command: tuple[str, ...],
    image: str,
    replicas: int,
    user: str | None,
    secret: str | None,
    environment_secret: str | None,
    output: str | None,
    force: bool,
    **given: Any,
) -> int:
    """Write a Deployment of Kubernetes.

    A budget for disruptions is with it: while nodes are drained, the members leave one after the other.

    The database is the one whose URL stands in a Secret, by default NAME-db. It is Airflow's own for a component of Airflow, and up
    to the settings with --config or --environment-secret.

    \b
    heirflow generate kubernetes --name poller --image registry.example/poller:1 -- poller --fast | kubectl apply -f -
    heirflow generate kubernetes --name poller --image registry.example/poller:1 --secret pg --replicas 3 -- poller
    """
    from heirflow.generate.containers import kubernetes as text_of
    from heirflow.generate.words import label

    if given["db_url_file"] is not None:
        raise ConfigError("--db-url-file is not for kubernetes: put that file into a Secret, and name it with --secret")
    matches("--user", user, NUMBERS, "UID or UID:GID, in numbers")
    for flag, value in (("--secret", secret), ("--environment-secret", environment_secret)):
        matches(flag, value, KUBERNETES_NAME, "the name of a Secret, in small letters, digits, '-' and '.'")
    own = {
        "image": image,
        "replicas": None if replicas == 2 else str(replicas),
        "user": user,
        "secret": secret,
        "environment-secret": environment_secret,
    }
    plan = plan_of(
        "kubernetes",
        command,
        given,
        own,
        default_file=secret or (None if environment_secret else "default"),
        run_dir=True,
        in_image=True,
    )
    uid, _, gid = (user or (AIRFLOW_USER if plan.of_airflow else IMAGE_USER)).partition(":")
    text = text_of(
        plan,
        image=one_line("--image", image),
        user=int(uid),
        group=int(gid or uid),
        replicas=replicas,
        secret=(secret or f"{label(plan.name)}-db") if plan.db_url_file or secret else None,
        environment_secret=environment_secret,
        directory=given["directory"],
        privileges=bool(given["allow_sudo"]),
    )
    return _deliver(text, output, force=force)


def _deliver(text: str, output: str | None, *, force: bool) -> int:
    """To standard output, or to a file that must not exist yet, unless `force`."""
    if output is None:
        if force:
            raise click.UsageError("--force is for --output")
        click.echo(text, nl=False)
        return 0
    path = Path(os.path.realpath(one_line("--output", output)))  # what a link names is written, and not the link
    if path.exists() and not path.is_file():
        raise HeirflowError(f"{output} is no ordinary file, and is not replaced")
    try:
        if force:
            _replace(path, text)
        else:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError:
        raise HeirflowError(f"{output} exists already; --force replaces it") from None
    except OSError as error:
        raise HeirflowError(f"cannot write {output}: {error.strerror}") from None
    click.echo(printable(f"wrote {output}"))
    return 0


def _replace(path: Path, text: str) -> None:
    """The file is the old one or the new one, whole, at every moment."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(draft).unlink()
        raise
