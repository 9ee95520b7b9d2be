"""A program of supervisord."""

from __future__ import annotations

from heirflow.generate.plan import Plan
from heirflow.generate.words import for_supervisord, label


def program(plan: Plan, *, user: str | None, directory: str | None) -> str:
    """The text of its section."""
    command = " ".join(map(for_supervisord, [*plan.heirflow, *plan.run(plan.db_url_file)]))
    lines = [
        *plan.head(
            ";",
            "Install the same file on every host of the line, where supervisord's [include] finds it. Then: supervisorctl update",
        ),
        f"[program:{label(plan.name, dots=True)}]",
        f"command={command}",
        *([f"user={user.replace('%', '%%')}"] if user else []),
        *([f"directory={directory.replace('%', '%%')}"] if directory else []),
        "autostart=true",
        f"; A member whose database does not answer exits with 69 after {plan.start_timeout_s:g} s. It is started again, for ever.",
        "; A command that does not exist ends at once, and is given up after some tries.",
        "autorestart=true",
        "startsecs=1",
        "startretries=10",
        "; TERM goes to the member alone: it stops the command in order, proves that all is gone, and releases.",
        "stopsignal=TERM",
        "stopasgroup=false",
        "; As a last resort KILL: then the member's guard, which has a group of its own, kills the command and releases.",
        "killasgroup=true",
        f"; Above --stop-timeout ({plan.stop_timeout_s:g} s), with time to kill, to prove that all is gone, and to release.",
        f"stopwaitsecs={plan.stop_wait_s}",
    ]
    return "\n".join(lines) + "\n"
