"""Nasty programs in one file, so that each is a few lines. All tick every few ms, as the laboratory's ticker does.

python -S program.py BEHAVIOUR TICKS MARKER [number]

They are no options of that ticker: it must start fast and be above suspicion, and these misbehave in ten ways.
"""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.abspath(f"{__file__}/../../../.."))

from lab.rig.ticker import opened, tick

behaviour, ticks, marker = sys.argv[1:4]
fd = opened(ticks)
LIMIT_S = 60  # whatever a test forgets ends by itself
BORN = time.monotonic()


def tick_for_ever(pause_s=0.004):
    while time.monotonic() < BORN + LIMIT_S:
        tick(fd)
        time.sleep(pause_s)
    os._exit(0)


def ignore_everything():
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)


if behaviour == "ordinary":  # ends on TERM
    tick_for_ever()
elif behaviour == "ignores-term":
    ignore_everything()
    tick_for_ever()
elif behaviour == "daemon":  # double-forks into sessions of their own, clears the environment, grandchildren tick
    ignore_everything()
    for generation in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.setsid if generation else os.setpgid(0, 0)
            for other in range(3):
                os.close(other)
            os.execve(sys.executable, [sys.executable, "-S", __file__, "ignores-term", ticks, marker], {})
        os.wait()
    tick_for_ever()
elif behaviour == "daemon-and-exit":  # as above, and the main process ends at once
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.execve(sys.executable, [sys.executable, "-S", __file__, "ignores-term", ticks, marker], {})
    os.wait()
    until = time.monotonic() + 10
    while os.fstat(fd).st_size == 0 and time.monotonic() < until:
        time.sleep(0.005)
    os._exit(7)
elif behaviour == "stops-itself":
    if os.fork() == 0:
        os.setsid()
        tick(fd)
        os.kill(os.getpid(), signal.SIGSTOP)
        tick_for_ever()
    tick(fd)
    os.kill(os.getpid(), signal.SIGSTOP)
    tick_for_ever()
elif behaviour == "floods":  # invalid UTF-8 on both outputs
    while time.monotonic() < BORN + LIMIT_S:
        os.write(1, b"\xff\xfe\x00\x80 no text \xc3\x28\n" * 200)
        os.write(2, b"\xf0\x28\x8c\x28")
        tick(fd)
elif behaviour == "exits":
    tick(fd)
    os._exit(int(sys.argv[4]))
elif (
    behaviour == "fork-storm"
):  # every process forks into a new session and ends; at most 40 lines, and a limit in time
    ignore_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(int(sys.argv[4])):
        if os.fork() == 0:
            while time.monotonic() < BORN + 20:
                tick(fd)
                if os.fork():
                    os._exit(0)
                os.setsid()
            os._exit(0)
    tick_for_ever()
elif behaviour == "reports":  # what it was given
    import json

    with open(f"/proc/{os.getpid()}/status") as status:
        masks = {line.split(":")[0]: int(line.split()[1], 16) for line in status if line[:6] in ("SigIgn", "SigBlk")}
    facts = {
        "env": {os.fsencode(k).decode("latin-1"): os.fsencode(v).decode("latin-1") for k, v in os.environ.items()},
        "argv": [os.fsencode(word).decode("latin-1") for word in sys.argv],
        "cwd": os.getcwd(),
        "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
        "sid": os.getsid(0) == os.getpid(),
        "masks": masks,
    }
    os.write(1, json.dumps(facts).encode())
    tick(fd)
else:
    sys.exit(f"no such behaviour: {behaviour}")
