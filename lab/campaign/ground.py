"""The ground that a laboratory stands on: hosts that are network namespaces around one switch, and freezers.

    lab's process ── unix sockets ──▶ database servers
    netns …-sw:  a bridge; what may pass from which port to which is its nftables table
    netns …-ada, …-ben, …-cleo, …-db1, …-db2:  one address each, one cable (veth) to the switch

Only the switch drops and delays, so a partition looks to both ends like a partition: no error, only silence. A host's
processes are those in its namespace, whoever started them.

Everything is named after the process that made it (``hflab-<pid>-<when it started>-…``). What a laboratory that was killed has
left is thus known for what it is, and the next one clears it away; nobody else's is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from heirflow.guard.processes import stat_of

PREFIX = "hflab-"
SPACES = Path("/run/netns")
SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class GroundTrouble(RuntimeError):
    """The ground cannot be made here; the message says what is missing."""


def missing() -> list[str]:
    """What keeps a laboratory from standing here, as sentences; empty when nothing does."""
    if os.geteuid() != 0:
        return ["only root may make network namespaces"]
    found = [
        f"no program `{name}` is installed here (Debian: {package})"
        for name, package in (("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux"))
        if shutil.which(name, path=SBIN) is None
    ]
    if not found:
        try:
            with _trial() as space:
                rules = "table bridge lab {\n chain forward {\n type filter hook forward priority 0;\n }\n}\n"
                _run("nft", "-f", "-", inside=space, text=rules)
        except GroundTrouble as trouble:
            found.append(f"this kernel lets us make no network of our own: {trouble}")
    return found


def remarks() -> list[str]:
    """What is not as one would wish and yet no hindrance, as sentences."""
    found = []
    if not _has_netem():
        found.append(
            "This kernel cannot delay frames (it lacks tc netem): a slow link is a narrow one here, in which frames queue."
        )
    if Freezer.root() is None:
        found.append("There is no cgroup freezer here: hosts are stopped with SIGSTOP only.")
    return found


@contextmanager
def _trial() -> Iterator[Path]:
    """A namespace with a bridge in it, for a moment."""
    trial = f"{PREFIX}{own_mark()}-try"
    try:
        _run("ip", "netns", "add", trial)
        _run("ip", "-n", trial, "link", "add", "sw", "type", "bridge")
        yield SPACES / trial
    finally:
        with suppress(GroundTrouble):
            _run("ip", "netns", "del", trial)


def _has_netem() -> bool:
    try:
        with _trial() as space:
            _run("tc", "-n", space.name, "qdisc", "replace", "dev", "sw", "root", "netem", "delay", "1ms")
    except GroundTrouble:
        return False
    return True


def own_mark() -> str:
    """Names this very process, also when its number is used again: pid and the moment at which it started."""
    return _mark(os.getpid()) or str(os.getpid())


def _mark(pid: int) -> str | None:
    try:
        return f"{pid}-{stat_of(pid)[19]}"
    except OSError:
        return None


def clear_away() -> list[str]:
    """Remove what laboratories that are no more have left: processes, namespaces, freezers, folders. Returns their names."""
    found = set(_left(SPACES))
    for root in (Path("/sys/fs/cgroup/freezer"), Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        for path in _left(root):
            Freezer(path).end()
            found.add(path)
    for path in _left(SPACES):
        kill_all(path)
        with suppress(GroundTrouble):
            _run("ip", "netns", "del", path.name)
    for path in _left(Path(tempfile.gettempdir())):
        shutil.rmtree(path, ignore_errors=True)
        found.add(path)
    return sorted({path.name for path in found})


def _left(root: Path) -> Iterator[Path]:
    for path in sorted(root.glob(f"{PREFIX}*")) if root.is_dir() else []:
        mark = "-".join(path.name.removeprefix(PREFIX).split("-")[:2])
        pid = mark.split("-")[0]
        if pid.isdigit() and _mark(int(pid)) != mark:
            yield path


def processes_in(space: Path) -> list[int]:
    """Every process in a namespace."""
    inode, found = space.stat().st_ino, []
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if entry.isdigit():
            with suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino == inode:  # noqa: PTH116
                    found.append(int(entry))
    return found


def signal_all(space: Path, number: signal.Signals) -> None:
    """Reach every process of a host, also those that are born meanwhile."""
    reached: set[int] = set()
    while new := [pid for pid in processes_in(space) if pid not in reached]:
        for pid in new:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        reached.update(new)


def kill_all(space: Path, limit_s: float = 10) -> None:
    """Kill every process in a namespace and wait until none is left."""
    until = time.monotonic() + limit_s
    with suppress(FileNotFoundError):
        while (pids := processes_in(space)) and time.monotonic() < until:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


@dataclass(slots=True)
class Freezer:
    """A cgroup that stops all that is in it at once, as a paused machine would. Version 1 or 2, whichever there is."""

    path: Path

    @staticmethod
    def root() -> Path | None:
        """Where freezers can be made here; None: nowhere."""
        first = Path("/sys/fs/cgroup/freezer")
        if os.access(first / "tasks", os.W_OK):
            return first
        for second in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
            if (second / "cgroup.controllers").exists() and os.access(second / "cgroup.procs", os.W_OK):
                return second
        return None

    def freeze(self, on: bool) -> None:
        """Stop all that is inside, or let it go on; waits until it is so. Raises `GroundTrouble` when it does not become so."""
        state, word = self.path / "freezer.state", "FROZEN" if on else "THAWED"
        if state.exists():
            state.write_text(word)
        else:
            (self.path / "cgroup.freeze").write_text(str(int(on)))
            state, word = self.path / "cgroup.events", f"frozen {int(on)}"
        until = time.monotonic() + 5
        while word not in state.read_text():
            if time.monotonic() > until:
                raise GroundTrouble(f"{self.path.name} did not become {word} within 5 s")
            time.sleep(0.002)

    def end(self) -> None:
        """Let go, kill and remove."""
        with suppress(OSError, GroundTrouble):
            self.freeze(False)
        until = time.monotonic() + 10
        while self.path.exists() and time.monotonic() < until:
            for folder in (*sorted(self.path.rglob("*/"), reverse=True), self.path):
                with suppress(OSError):
                    for pid in (folder / "cgroup.procs").read_text().split():
                        with suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
                    folder.rmdir()
            time.sleep(0.01)


@dataclass(slots=True)
class Cable:
    """What the switch does to one host's frames."""

    drop_from: bool = False
    """Nothing that the host sends arrives."""
    drop_to: bool = False
    """Nothing that is sent to it arrives."""
    loss_percent: int = 0


@dataclass(slots=True)
class Ground:
    """One switch and its hosts. `make`, then `end`."""

    world: str
    number: int
    hosts: Sequence[str]
    cables: dict[str, Cable] = field(default_factory=dict)
    severed: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of hosts between which nothing passes."""
    freezers: dict[str, Freezer] = field(default_factory=dict)
    netem: bool = False
    """Whether this kernel can delay frames (tc netem)."""

    def space(self, host: str) -> Path:
        """The namespace of a host; ``sw`` is the switch."""
        return SPACES / f"{PREFIX}{own_mark()}-{self.world}-{host}"

    @property
    def network(self) -> str:
        return f"10.77.{self.number}.0/24"

    def address(self, host: str) -> str:
        return f"10.77.{self.number}.{10 + list(self.hosts).index(host)}"

    @property
    def floating(self) -> str:
        """The address that the database moves with when it fails over."""
        return f"10.77.{self.number}.200"

    def make(self) -> None:
        """Lay the cables. Raises `GroundTrouble`."""
        switch = self.space("sw").name
        for host in ("sw", *self.hosts):
            _run("ip", "netns", "add", self.space(host).name)
        _run("ip", "-n", switch, "link", "add", "sw", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "sw", "up")
        root = Freezer.root()
        for host in self.hosts:
            name = self.space(host).name
            _run("ip", "-n", switch, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "-n", switch, "link", "set", host, "master", "sw", "up")
            _run("ip", "-n", name, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            for link in ("eth0", "lo"):
                _run("ip", "-n", name, "link", "set", link, "up")
            self.cables[host] = Cable()
            if root is not None:
                self.freezers[host] = Freezer(root / name)
                self.freezers[host].path.mkdir(exist_ok=True)
        self.netem = _has_netem()

    def end(self) -> None:
        """Kill what is there and take everything away."""
        for freezer in self.freezers.values():
            freezer.end()
        for host in (*self.hosts, "sw"):
            kill_all(self.space(host))
            with suppress(GroundTrouble):
                _run("ip", "netns", "del", self.space(host).name)

    def join(self) -> None:
        """Lay a cable from this machine's own network to the switch: people's way in, which no fault touches."""
        mine, switch = f"{PREFIX}{os.getpid()}"[:15], self.space("sw").name
        _run("ip", "link", "add", mine, "type", "veth", "peer", "name", "people", "netns", switch)
        _run("ip", "-n", switch, "link", "set", "people", "master", "sw", "up")
        _run("ip", "addr", "add", f"10.77.{self.number}.1/24", "dev", mine)
        _run("ip", "link", "set", mine, "up")

    def enter(self, host: str) -> list[str]:
        """The words that carry a command to a host; they replace themselves by it, so its pid is that of the first."""
        words = ["nsenter", f"--net={self.space(host)}", "--"]
        if (freezer := self.freezers.get(host)) is not None:
            return ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(freezer.path), *words]
        return words

    def apply(self) -> None:
        """Make the switch do what `cables` and `severed` say."""
        rules = [f'iifname "{a}" oifname "{b}" drop' for a, b in self.severed]
        for host, cable in self.cables.items():
            for wanted, way in ((cable.drop_from, "iifname"), (cable.drop_to, "oifname")):
                if wanted:
                    rules.append(f'{way} "{host}" drop')
                elif cable.loss_percent:
                    rules.append(f'{way} "{host}" numgen random mod 100 < {cable.loss_percent} drop')
        lines = ["table bridge lab", "delete table bridge lab", "table bridge lab {", "chain forward {"]
        lines += ["type filter hook forward priority 0;", *rules, "}", "}", ""]
        _run("nft", "-f", "-", inside=self.space("sw"), text="\n".join(lines))

    def unplug(self, host: str, *, out: bool) -> None:
        """Pull the cable out of the switch: the host's own side loses its carrier."""
        _run("ip", "-n", self.space("sw").name, "link", "set", host, "down" if out else "up")

    def narrow(self, host: str, delay_ms: int | None) -> None:
        """Delay each frame both ways; without netem, a link so narrow that frames queue. None: as before."""
        for where, link in ((self.space("sw").name, host), (self.space(host).name, "eth0")):
            if delay_ms is None:
                _run("tc", "-n", where, "qdisc", "del", "dev", link, "root")
            elif self.netem:
                _run(
                    "tc",
                    "-n",
                    where,
                    "qdisc",
                    "replace",
                    "dev",
                    link,
                    "root",
                    "netem",
                    "delay",
                    f"{delay_ms}ms",
                    "20ms",
                )
            else:
                words = ["tbf", "rate", "64kbit", "burst", "3000", "latency", f"{max(50, 2 * delay_ms)}ms"]
                _run("tc", "-n", where, "qdisc", "replace", "dev", link, "root", *words)

    def drop_floating(self, host: str) -> None:
        """Take it from a host that may have it."""
        with suppress(GroundTrouble):
            _run("ip", "-n", self.space(host).name, "addr", "del", f"{self.floating}/24", "dev", "eth0")

    def has_floating(self, host: str) -> bool:
        """Whether that host has it."""
        return f" {self.floating}/" in _run("ip", "-n", self.space(host).name, "addr", "show", "dev", "eth0")

    def carry_floating(self, host: str, *, away_from: str | None = None) -> None:
        """Give the floating address to a host, and let everybody forget where it was."""
        if away_from is not None:
            self.drop_floating(away_from)
        _run("ip", "-n", self.space(host).name, "addr", "add", f"{self.floating}/24", "dev", "eth0")
        for other in self.hosts:
            if other != host:
                _run("ip", "-n", self.space(other).name, "neigh", "flush", "to", self.floating)


def _run(*words: str, inside: Path | None = None, text: str | None = None) -> str:
    enter = ["nsenter", f"--net={inside}", "--"] if inside else []
    done = subprocess.run(
        [*enter, *words], input=text, capture_output=True, text=True, check=False, timeout=30, start_new_session=True,
        env={**os.environ, "PATH": SBIN}, stdin=subprocess.DEVNULL if text is None else None,
    )  # fmt: skip
    if done.returncode != 0:
        raise GroundTrouble(f"`{' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout
