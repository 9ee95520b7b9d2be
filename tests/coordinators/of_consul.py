"""What the tests of Consul share: a store that is open, with the limit of a call that they count on."""

from __future__ import annotations

from heirflow.stores import Store, open_store

LIMIT_S = 1.5


def opened(url: str) -> Store:
    store = open_store(url, call_limit_s=LIMIT_S)
    try:
        store.open()
    except BaseException:
        store.close()
        raise
    return store
