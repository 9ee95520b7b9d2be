"""The command line.

Each command is a module of its own that is imported only when it is asked for: a probe that Kubernetes runs every few
seconds must not pay for tables and databases.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from heirflow import __version__, descriptors
from heirflow.errors import HeirflowError
from heirflow.text import brief, printable

INTERRUPTED = 130
BROKEN_PIPE = 141
NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
"""What the system says of an output that is full or gone."""

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Join an election, and run a command while leading."),
    "once": ("once", "Run a command on one host per due time, from each host's own cron or timer."),
    "status": ("status", "Show who leads, who is heir, and how fast the heir would take charge."),
    "watch": ("watch", "Watch the elections on a page that lives, and steer them by keys."),
    "serve": ("serve", "Serve a page with every election, live, for browsers and monitors."),
    "history": ("history", "Show every change of leadership, with its cause and duration."),
    "metrics": ("metrics", "Write metrics for Prometheus, of one election or all."),
    "switchover": ("switchover", "Let another member take charge."),
    "drill": ("drill", "Lose the leader on purpose, in order, and report."),
    "pause": ("orders", "Stop all changes of leadership until `resume`."),
    "resume": ("orders", "End a `pause`."),
    "drain": ("orders", "Keep one member from leading, or undo that."),
    "seats": ("seats", "Show how many members of an election may lead at once, or change it."),
    "forget": ("forget", "Take an election that nobody needs any more out of the store."),
    "release": ("release", "Release for a member that the service manager killed with its whole group."),
    "probe": ("probe", "Ask the member on this host: is it live, ready, able to lead, leader?"),
    "doctor": ("doctor", "Look for anything that could break the promises of an election."),
    "fence": ("fence", "Keep members that led before out of a PostgreSQL database."),
    "init": ("doctor", "Create HeirFlow's tables, for members that may not do it themselves."),
    "preload": ("preload", "Find the Python modules that a warm standby of a program should import ahead."),
    "generate": (
        "generate",
        "Write a systemd unit, a compose file, a Kubernetes Deployment, or a supervisord program.",
    ),
    "config": ("settings", "Show every setting and where it comes from."),
    "demo": ("demo", "See it at work: three members, a plain program, and the leader dies."),
}
"""Name -> the module in this folder that has it, and what it does in one sentence."""


MANNERS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""How every command line of ours behaves."""


class LazyGroup(click.Group):
    """Knows its commands by name and sentence, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"heirflow.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-"):
            from heirflow.config.resolve import nearest

            close = nearest(name, COMMANDS)
            ctx.fail(f"there is no command {name!r}{f'; did you mean {close!r}?' if close else ''}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings=MANNERS,
    epilog="Settings: flag, then HEIRFLOW_* in the environment, then heirflow.toml; see `heirflow config`.",
)
@click.version_option(__version__, message="heirflow %(version)s")
def group() -> None:
    """A line of succession for programs of which exactly one copy may run.

    \b
    heirflow run -- airflow scheduler     on two or more hosts: one leads, the others stand in line
    heirflow status                       who leads, who is heir, and how fast it would take charge
    heirflow watch                        the same as a page that lives, with orders by keys
    heirflow serve                        the same for a browser
    heirflow switchover                   let the heir take charge now
    """


def main(args: Sequence[str] | None = None) -> int:
    """Answer one command line and return the exit code. What a person can act on is one sentence on standard error."""
    descriptors.fill()
    given = sys.argv[1:] if args is None else list(args)
    if given[:1] in (["run"], ["once"]):
        from heirflow.guard.processes import close_to_others

        close_to_others()
    return answer(group, given or ["--help"], "heirflow")


def answer(command: click.Command, args: Sequence[str], called: str) -> int:
    """The same for any command of Click's; `called`: what a person types to start it."""
    out = sys.stdout
    try:
        result = command.main(args=list(args), prog_name=called, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = f" (see `{context.command_path} --help`)" if context else ""
        return complain(f"{error.format_message()}{where}", error.exit_code)
    except HeirflowError as error:
        return complain(str(error), error.exit_code)
    except click.Abort:  # Click has ended the line in which Ctrl-C was typed
        return INTERRUPTED
    except KeyboardInterrupt:
        with suppress(OSError):
            sys.stderr.write("\n")
        return INTERRUPTED
    except SystemExit as end:
        if sys.stdout is not out:  # Click has put another in its place, as nobody reads any more
            sys.stdout = out
            give_up_output()
            return BROKEN_PIPE
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:  # whoever read our output has had enough
        give_up_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.filename is None and error.errno in NOT_WRITTEN:
            give_up_output()
            return complain(f"cannot write the answer to standard output: {error.strerror}", 1)
        where = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else ""
        return complain(f"{error.strerror or error}{where}", 1)


def give_up_output() -> None:
    """What is left of it goes nowhere, or Python would complain when it exits, with a code of its own."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(sentence: str, code: int) -> int:
    """Tell one sentence on standard error and return the code."""
    with suppress(OSError, ValueError):
        if not descriptors.takes(sys.stderr.fileno()):
            return code
        sys.stderr.write(f"heirflow: {printable(brief(' '.join(sentence.split())))}\n")
        sys.stderr.flush()
    return code
