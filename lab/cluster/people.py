"""What of a cluster's configuration people can take as it is: written into ``deploy/ha`` from what is proved here.

python -m lab.cluster.people
"""

from __future__ import annotations

from lab.airflow.environment import CHECKOUT
from lab.cluster.cluster import entries
from lab.servers import proxy
from lab.servers.brokers import SETTINGS

FOLDER = CHECKOUT / "deploy" / "ha"
NAMES = ("HOST1", "HOST2", "HOST3")
"""Stand for the addresses of three hosts."""
FLOATING = "ADDRESS"
"""Stands for the one that people use."""
MADE = "Made by: python -m lab.cluster.people\n"
SAME = f"# The same on every host. HOST1 to HOST3 stand for their addresses. {MADE}"
OWN = f"# On HOST1. Each host has its own address first, and a lower priority than the one before. {MADE}"


def files() -> dict[str, str]:
    """Name, and what is in it."""
    pair = [(name.lower(), name) for name in NAMES[:2]]
    others = "".join(
        f"cluster_formation.classic_config.nodes.{number} = rabbit@{name}\n" for number, name in enumerate(NAMES, 1)
    )
    keepalived = proxy.keepalived_text(own=NAMES[0], peers=NAMES[1:], floating=FLOATING, priority=100, port=8080)
    return {
        "haproxy.cfg": SAME + proxy.haproxy_text(entries([(name, host, 5432, 5433) for name, host in pair], pair)),
        "keepalived.conf": OWN + keepalived,
        "rabbitmq.conf": SAME + SETTINGS + others,
    }


def main() -> None:
    for name, text in files().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
