"""Which coordinator a URL names, and what is missing here to use it."""

from __future__ import annotations

from heirflow.stores.base import Address, Beside, StoreMisfit
from heirflow.stores.keyed.keys import Keys
from heirflow.stores.keyed.place import Where
from heirflow.stores.keyed.store import KeyedStore

INSTALL = {"zookeeper": "kazoo>=2.11", "etcd": "urllib3>=2", "consul": "urllib3>=2"}
"""The client of each, as it is installed beside HeirFlow."""


def open_keyed(url: str | Address, *, call_limit_s: float, beside: Beside | None = None) -> KeyedStore:
    """See `stores.open_store`. Raises `ConfigError`, or `StoreMisfit` where the client is missing."""
    where = Where(url)
    keys = _keys(where, call_limit_s)
    return KeyedStore(keys, lambda: where.url, call_limit_s=call_limit_s, beside=beside)


def _keys(where: Where, call_limit_s: float) -> Keys:
    kind = where.now().kind
    try:
        if kind == "zookeeper":
            from heirflow.stores.keyed.zookeeper import ZooKeeper

            return ZooKeeper(where, call_limit_s=call_limit_s)
        if kind == "etcd":
            from heirflow.stores.keyed.etcd import Etcd

            return Etcd(where, call_limit_s=call_limit_s)
        from heirflow.stores.keyed.consul import Consul

        return Consul(where, call_limit_s=call_limit_s)
    except ImportError as error:
        raise StoreMisfit(
            f"the client for {kind} cannot be used: {error}; install it beside HeirFlow: `pip install '{INSTALL[kind]}'`"
        ) from error
