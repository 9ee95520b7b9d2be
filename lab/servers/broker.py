"""A real RabbitMQ for tests and demonstrations: Debian's, private, in a folder of its own, gone afterwards.

    with rabbitmq_server() as broker:
        celery_broker_url = broker.url

It has its own name server (epmd), cookie, configuration and user, so that it neither meets nor disturbs a RabbitMQ that the
system may run. It does not like to run as root, so root's runs as an unprivileged user. `brokers` makes several into a cluster.
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

from lab.servers.server import NAME, Place, Server, ServerTrouble, entrance
from lab.servers.server import _wait as wait
from lab.servers.servers import free_port, own, private_folder
from lab.servers.spaces import inside

START_LIMIT_S = 90.0
CTL_LIMIT_S = 30.0
LOOPBACK = "127.0.0.1"
NAMES_PORT = 4370
"""Of the name servers in network namespaces: a node looks for all others' at the port of its own."""
PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin", "/opt/rabbitmq/sbin")
"""Where the real scripts lie: what is on the PATH of a Debian changes user and folder first, and serves root only."""
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
    if script("rabbitmq-server") is None or _program("epmd") is None:
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
        node = BrokerNode(folder, user, NAME, Secrets())
        undo.callback(node.stop)
        node.start()
        yield Broker(node.port, node.password, node.log)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What all nodes of a cluster have in common."""

    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    cookie: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)


class NameServer:
    """An epmd: where the nodes of one machine ask each other's ports. All of a cluster have the same port."""

    def __init__(self, folder: Path, user: str | None, address: str, port: int, place: Place | None = None) -> None:
        """`folder`: where it works, by which others know whose it is."""
        self._folder, self._user, self._place = folder, user, place
        self.address, self.port = address, port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """In the foreground: the one that RabbitMQ would start leaves its folder and stays for good. Raises `ServerTrouble`."""
        if self._process is not None and self._process.poll() is None:
            return
        enter, who = entrance(self._place, self._user)
        command = [*enter, str(_program("epmd")), "-port", str(self.port), "-address", self.address]
        process = self._process = subprocess.Popen(
            command, cwd=self._folder, env={"PATH": SYSTEM_PATH}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, **who,
        )  # type: ignore[call-overload]  # fmt: skip
        if not wait(lambda: process.poll() is not None or self._answers(), START_LIMIT_S) or process.poll() is not None:
            raise ServerTrouble(f"epmd did not start at {self.address}:{self.port}")

    def end(self) -> None:
        """Kill it, if it lives, and forget it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        return inside(self._place.netns if self._place else None, lambda: _connects(self.address, self.port))


class BrokerNode(Server):
    """One RabbitMQ and, unless it is told that there is one, its name server."""

    def __init__(
        self,
        folder: Path,
        user: str | None,
        name: str,
        common: Secrets,
        *,
        names: NameServer | None = None,
        place: Place | None = None,
        settings: str = "",
        advanced: str = "[].\n",
    ) -> None:
        """`names`: one that others care for; None: its own. `settings`: more for rabbitmq.conf. `advanced`: advanced.config."""
        super().__init__(
            folder,
            port=place.port if place else free_port(),
            password=common.password,
            command=[str(script("rabbitmq-server")), "-noinput"],
            user=user,
            ready=lambda _: self.answers(),
            client=lambda *_: [],
            client_environment={},
            schemes={},
            superuser=NAME,
            stop_signal=signal.SIGTERM,
            read_only_sql={},
            place=place,
        )
        self._began = 0.0
        self.name = name
        self.address = place.address if place else LOOPBACK
        self.node_name = f"{name}@{self.address}"
        self._own = None
        if names is None:
            names = self._own = NameServer(self.data, user, self.address, NAMES_PORT if place else free_port(), place)
        self._env = _environment(self, common, names.port, settings, advanced)

    @property
    def amqp(self) -> str:
        """Its URL, for Celery."""
        return f"amqp://{NAME}:{self.password}@{self.address}:{self.port}//"

    def begin(self) -> None:
        """Start without waiting: after all have crashed, none answers before the others run."""
        if self.pid is None:
            if self._own is not None:
                self._own.start()
            self._began = time.monotonic()
            super().begin()

    def start(self) -> None:
        self.begin()
        wait(lambda: self.pid is None or self.answers(), START_LIMIT_S)
        if not self.answers():
            how = "did not start" if self.pid is None else f"did not start within {START_LIMIT_S:.0f} s"
            raise ServerTrouble(f"RabbitMQ {self.name} {how}:\n{self.log_end(20)}")

    def running_s(self) -> float:
        """For how long, since it was last started."""
        return time.monotonic() - self._began

    def answers(self) -> bool:
        """Whether it speaks: an unknown version of the protocol is answered with the known one."""
        return inside(self.place.netns if self.place else None, self._answers)

    def ctl(self, *words: str, limit_s: float = CTL_LIMIT_S, program: str = "rabbitmqctl") -> str:
        """What ``rabbitmqctl`` prints, or another of its programs. Raises `ServerTrouble`."""
        enter, who = entrance(self.place, self.user)
        command = [*enter, str(script(program)), "--quiet", *words]
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=self._env, capture_output=True, text=True, check=False, timeout=limit_s,
                stdin=subprocess.DEVNULL, start_new_session=True, **who,
            )  # type: ignore[call-overload]  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ServerTrouble(f"`{program} {words[0]}` at {self.name}: no answer within {limit_s:.0f} s") from error
        if done.returncode != 0:
            raise ServerTrouble(
                f"`{program} {words[0]}` at {self.name} failed: {done.stderr.strip() or done.stdout.strip()}"
            )
        return str(done.stdout.strip())

    def names(self, erlang: str) -> set[str]:
        """The nodes that this expression comes to there. Raises `ServerTrouble`."""
        return set(
            self.ctl("eval", f'lists:foreach(fun(N) -> io:format("~s~n", [N]) end, {erlang}).', limit_s=10).split()
        ) - {"ok"}

    def at_odds(self) -> set[str]:
        """Nodes that it once lost and met again: each changed what they have in common, and now they differ."""
        return self.names("rabbit_node_monitor:partitions()")

    def crash(self) -> None:
        super().crash()
        if self._own is not None:
            self._own.end()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((self.address, self.port), 0.5) as link:
            link.settimeout(2.0)
            link.sendall(b"AMQP\x00\x00\x00\x00")
            return link.recv(4) == b"AMQP"
        return False


def _environment(node: BrokerNode, common: Secrets, names_port: int, settings: str, advanced: str) -> dict[str, str]:
    """Everything that RabbitMQ would otherwise look for in places of the system."""
    folder, user = node.folder, node.user
    own_settings = f"""\
listeners.tcp.1 = {node.address}:{node.port}
default_user = {NAME}
default_pass = {common.password}
log.console = true
log.console.level = warning
log.file = false
disk_free_limit.absolute = 50MB
"""
    files = {
        ".erlang.cookie": common.cookie,
        "rabbitmq.conf": own_settings + settings,
        "advanced.config": advanced,
        "plugins": "[].\n",
        "environment": "",
    }
    for name, text in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        path.chmod(0o400)
        own(path, user)
    interface = "{" + node.address.replace(".", ",") + "}"
    return {
        "PATH": SYSTEM_PATH,
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ERL_EPMD_ADDRESS": node.address,
        "ERL_EPMD_PORT": str(names_port),
        "RABBITMQ_DIST_PORT": str(node.place.port + 20000 if node.place else free_port()),
        # Names with an address in them are found without DNS and without a line in /etc/hosts.
        "RABBITMQ_USE_LONGNAME": "true",
        "RABBITMQ_NODENAME": node.node_name,
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
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {interface} "
        f"+sbwt none +sbwtdcpu none +sbwtdio none",
    }


def script(name: str) -> str | None:
    """Where one of RabbitMQ's own programs is."""
    return shutil.which(name, path=os.pathsep.join(PLACES))


def _connects(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), 0.5):
        return True
    return False


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), SYSTEM_PATH]))
