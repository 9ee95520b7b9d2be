"""Becomes a nasty program whose file of ticks is this start's own: ``python -S starter.py BEHAVIOUR FOLDER [number]``.

The file is named after term, member and pid, and stands on the command line of every descendant. So a process that has
cleared its environment is still known for what it is, and two starts can never be taken for one.
"""

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from lab.rig.ticker import own_file  # noqa: E402  (this runs without site)

behaviour, folder, *more = sys.argv[1:]
nasty = CHECKOUT / "tests" / "process" / "nasty" / "program.py"
os.execv(sys.executable, [sys.executable, "-S", str(nasty), behaviour, own_file(folder), "tick", *more])
