"""Word of one znode, as long as a session lasts. All but the first `set` is done by a thread of kazoo's, and waits for nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

from heirflow.stores.keyed.keys import ABSENT, Bell


class Watch:
    """Of a node that may come and go. A watch of ZooKeeper's tells of one change; so it is set again after each."""

    def __init__(self, path: str, number: int, bell: Bell) -> None:
        """`number`: as it was when nobody watched yet."""
        self.bell = bell
        self._path, self._number, self._most = path, number, number

    def set(self, client: Any) -> None:
        """In a new session, or again."""
        # It is told of a node that is absent, too.
        client.exists_async(self._path, watch=partial(self._changed, client)).rawlink(self._told)

    def _changed(self, client: Any, event: Any) -> None:
        if event.type != "NONE":  # else the session is lost
            self.set(client)

    def _told(self, result: Any) -> None:
        if not result.successful():
            return
        number = ABSENT if result.value is None else result.value.version + 1
        before, self._number = self._number, number
        if number != before:
            # A node that was made anew counts from the beginning: until it has passed what it was, everything is news to everybody.
            self.bell.ring(number if number > self._most else None)
            self._most = max(self._most, number)
