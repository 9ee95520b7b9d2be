"""Coordinators for tests and demonstrations, by their names: real ones, private, on loopback, gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.servers.etcd import etcd_ensemble, etcd_missing, url_of
from lab.servers.zookeeper import zookeeper_ensemble, zookeeper_missing

_MISSING: dict[str, Callable[[], str | None]] = {"etcd": etcd_missing, "zookeeper": zookeeper_missing}
COORDINATORS = tuple(_MISSING)


def coordinator_missing(name: str) -> str | None:
    """What keeps that one of `COORDINATORS` from working here, as a sentence; None when it works."""
    return _MISSING[name]()


@contextmanager
def coordinator(name: str, count: int = 3) -> Iterator[str]:
    """The URL of an ensemble of so many servers of one of `COORDINATORS`. Raises `ServerTrouble`."""
    if name == "etcd":
        with etcd_ensemble(count) as servers:
            yield url_of(servers)
    else:
        with zookeeper_ensemble(count) as ensemble:
            yield ensemble.url
