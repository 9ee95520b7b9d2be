"""The page of `heirflow watch`: what was read, what is chosen, and the lines that are drawn of it.

Nothing here reads a store, a key or a clock: `steering` makes wishes of keys, `drawing` makes lines of what was seen, and
whoever has the terminal carries both out.
"""

from __future__ import annotations

from heirflow.status.seen import Away, Key, Seen, Shown
from heirflow.steering.wishes import Kind, Wish
from heirflow.terminal.page.drawing import lines
from heirflow.terminal.page.steering import Page

__all__ = ["Away", "Key", "Kind", "Page", "Seen", "Shown", "Wish", "lines"]
