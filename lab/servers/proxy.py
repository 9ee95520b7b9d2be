"""HAProxy and keepalived as hosts of a cluster run them: Debian's programs, our configuration, nothing of the system's.

HAProxy stands on every host, and that host's programs use it: one entry follows the PostgreSQL that Patroni calls its primary,
the others go to any server that answers. keepalived carries one address that people use to a host whose HAProxy answers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
PACKAGES = {"haproxy": "haproxy", "keepalived": "keepalived"}


def program(name: str) -> str | None:
    """Where it is."""
    return shutil.which(name, path=SBIN)


def proxies_missing() -> str | None:
    """What is not installed here, as a sentence; None when all is there."""
    absent = [package for name, package in PACKAGES.items() if program(name) is None]
    if not absent:
        return None
    return (
        f"no {' and no '.join(absent)} is installed here; on Debian and Ubuntu: "
        f"`apt-get install --no-install-recommends {' '.join(absent)}` (their own services are not needed)"
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One port at which HAProxy listens, and who is behind it."""

    name: str
    bind: str
    """``address:port``; without an address, on all."""
    servers: Sequence[tuple[str, str]]
    """Name, and ``host:port``."""
    check: str
    """The path that a server which may be used answers with 200."""
    check_port: int = 0
    """Where it answers that; 0: where it serves."""
    speaks_http: bool = True
    """False: what passes is not HTTP, and one that is no longer to be used loses the connections it has."""

    def text(self) -> str:
        lines = [f"listen {self.name}", f"  bind {self.bind}", f"  mode {'http' if self.speaks_http else 'tcp'}"]
        lines += [f"  option httpchk GET {self.check}", "  http-check expect status 200"]
        # A server that hangs answers no health check either: those who wait for it are sent away, and ask the next.
        lines += [
            "  default-server inter 1s fastinter 500ms downinter 500ms fall 2 rise 1 on-marked-down shutdown-sessions"
        ]
        if self.speaks_http:
            lines += ["  balance leastconn", "  option forwardfor", "  retry-on conn-failure", "  option redispatch 1"]
        where = f" port {self.check_port}" if self.check_port else ""
        lines += [f"  server {name} {address} check{where}" for name, address in self.servers]
        return "\n".join(lines) + "\n"


def haproxy_text(entries: Sequence[Entry]) -> str:
    """The whole configuration."""
    head = """\
global
  maxconn 2000
defaults
  timeout connect 2s
  timeout check 1s
  timeout client 1h
  timeout server 1h
  timeout queue 5s
  retries 2
"""
    return "\n".join([head, *(entry.text() for entry in entries)])


def keepalived_text(*, own: str, peers: Sequence[str], floating: str, priority: int, port: int) -> str:
    """The whole configuration of one host. `port`: of the HAProxy whose host may carry the address."""
    others = "\n".join(f"    {peer}" for peer in peers)
    return f"""\
global_defs {{
  vrrp_version 3
  enable_script_security
  script_user root
}}
vrrp_script proxy_answers {{
  script "/bin/bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'"
  interval 1
  timeout 1
  fall 1
  rise 2
}}
vrrp_instance address {{
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 77
  priority {priority}
  advert_int 0.5
  garp_master_delay 1
  # A host that was cut off took the address where nobody heard it. When it is back, all must hear where the address is.
  garp_master_refresh 2
  garp_lower_prio_delay 1
  garp_lower_prio_repeat 3
  unicast_src_ip {own}
  unicast_peer {{
{others}
  }}
  virtual_ipaddress {{
    {floating}/24 dev eth0
  }}
  track_script {{
    proxy_answers
  }}
}}
"""


def haproxy_words(folder: Path) -> list[str]:
    """What runs it in the foreground with the configuration that lies there."""
    return [str(program("haproxy")), "-db", "-f", str(folder / "haproxy.cfg")]


def keepalived_words(folder: Path) -> list[str]:
    """The same for keepalived; its files are in that folder and not in the system's."""
    return [
        str(program("keepalived")), "--dont-fork", "--log-console", "--vrrp", "--use-file", str(folder / "keepalived.conf"),
        "--pid", str(folder / "keepalived.pid"), "--vrrp_pid", str(folder / "vrrp.pid"),
    ]  # fmt: skip
