"""Becomes a nasty program whose file of ticks is this start's own: ``python -S starter.py BEHAVIOUR FOLDER [number]``.

The file is named after term, member and pid, and stands on the command line of every descendant. So a process that has
cleared its environment is still known for what it is, and two starts can never be taken for one.
"""

import os
import sys
from pathlib import Path

behaviour, folder, *more = sys.argv[1:]
ticks = f"{folder}/{os.environ['HEIRFLOW_TERM']}.{os.environ['HEIRFLOW_MEMBER']}.{os.getpid()}.ticks"
nasty = Path(__file__).resolve().parents[1] / "process" / "nasty" / "ticker.py"
os.execv(sys.executable, [sys.executable, "-S", str(nasty), behaviour, ticks, "tick", *more])
