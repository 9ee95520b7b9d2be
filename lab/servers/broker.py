"""A real RabbitMQ for tests and demonstrations: Debian's, private, on loopback, in a folder of its own, gone afterwards.

    with rabbitmq_server() as broker:
        celery_broker_url = broker.url

It has its own name server (epmd), cookie, configuration and user, so that it neither meets nor disturbs a RabbitMQ that the
system may run. It does not like to run as root, so root's runs as an unprivileged user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.servers.server import NAME, ServerTrouble, identity
from lab.servers.servers import free_port, own, private_folder

START_LIMIT_S = 90.0
STOP_LIMIT_S = 20.0
PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin", "/opt/rabbitmq/sbin")
"""Where the real script lies: what is on the PATH of a Debian changes user and folder first, and serves root only."""
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Broker:
    """One running RabbitMQ."""

    port: int
    password: str = field(repr=False)
    log: Path

    @property
    def url(self) -> str:
        """For Celery: ``[celery] broker_url``."""
        return f"amqp://{NAME}:{self.password}@127.0.0.1:{self.port}//"


def rabbitmq_missing() -> str | None:
    """What keeps `rabbitmq_server` from working here, as a sentence; None when it works."""
    if _script() is None or _program("epmd") is None:
        return (
            "no RabbitMQ is installed here; on Debian and Ubuntu: `apt-get install --no-install-recommends rabbitmq-server` "
            "(its own service is not needed)"
        )
    return None


@contextmanager
def rabbitmq_server() -> Iterator[Broker]:
    """A RabbitMQ with one user who may do everything. Raises `ServerTrouble`."""
    if (missing := rabbitmq_missing()) is not None:
        raise ServerTrouble(missing)
    with private_folder("heirflow-rabbitmq-") as (folder, user), ExitStack() as undo:
        names_port, between_port, port = (free_port() for _ in range(3))
        broker = Broker(port, secrets.token_urlsafe(12), folder / "log")
        environment = _environment(folder, user, broker, names_port, between_port)
        # Its own name server, in the foreground: the one that RabbitMQ would start leaves its folder and stays for good.
        epmd = [str(_program("epmd")), "-port", str(names_port), "-address", "127.0.0.1"]
        undo.enter_context(_running(epmd, folder, user, environment))
        server = undo.enter_context(_running([str(_script()), "-noinput"], folder, user, environment))
        limit = time.monotonic() + START_LIMIT_S
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > limit:
                why = f"within {START_LIMIT_S:.0f} s" if server.poll() is None else f"(exit code {server.returncode})"
                raise ServerTrouble(f"RabbitMQ did not start {why}:\n{_log_end(broker.log)}")
            time.sleep(0.05)
        yield broker


def _environment(folder: Path, user: str | None, broker: Broker, names_port: int, between_port: int) -> dict[str, str]:
    """Everything that RabbitMQ would otherwise look for in places of the system."""
    settings = f"""\
listeners.tcp.1 = 127.0.0.1:{broker.port}
default_user = {NAME}
default_pass = {broker.password}
log.console = true
log.console.level = warning
log.file = false
disk_free_limit.absolute = 50MB
"""
    files = {
        ".erlang.cookie": secrets.token_hex(16),
        "rabbitmq.conf": settings,
        "plugins": "[].\n",
        "environment": "",
    }
    for name, text in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        path.chmod(0o400)
        own(path, user)
    return {
        "PATH": SYSTEM_PATH,
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names_port),
        "RABBITMQ_DIST_PORT": str(between_port),
        "RABBITMQ_NODENAME": f"{NAME}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "temporary"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "temporary"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "environment"),
        "RABBITMQ_PID_FILE": str(folder / "temporary" / "pid"),
        "RABBITMQ_ALLOW_INPUT": "1",  # the script then becomes the server, instead of waiting for it
        # Several brokers and Airflows share a small machine: waiting threads must not burn it.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
        "+sbwt none +sbwtdcpu none +sbwtdio none",
    }


@contextmanager
def _running(
    command: list[str], folder: Path, user: str | None, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    # It works in its folder: that is how the folder's keeper knows whom to end when we are gone.
    with (folder / "log").open("ab") as log:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            **identity(user),
        )  # type: ignore[call-overload]  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    """Whether it speaks: an unknown version of the protocol is answered with the known one."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5) as link:
        link.settimeout(2.0)
        link.sendall(b"AMQP\x00\x00\x00\x00")
        return link.recv(4) == b"AMQP"
    return False


def _script() -> str | None:
    return shutil.which("rabbitmq-server", path=os.pathsep.join(PLACES))


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), SYSTEM_PATH]))


def _log_end(log: Path, lines: int = 20) -> str:
    with suppress(OSError):
        return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])
    return ""
