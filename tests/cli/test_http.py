"""`heirflow run --http`: a real member answers on the network what it answers to a probe, whatever comes in there."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Started, until
from tests.schemas import conforms
from tests.unit.test_http_door import read

QUESTIONS = ("live", "ready", "able", "leader")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    """0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_leader_and_heir_say_what_probes_say(heirflow: Callable, start: Callable, home: Path) -> None:
    members: list[tuple[Started, int]] = []
    for host in ("host-a", "host-b"):
        port = free_port()
        member = start("--host", host, "--http", f"127.0.0.1:{port}", "--name", "beat", "--", "sleep", "600")
        until(lambda port=port, host=host: get(port, "/leader" if host == "host-a" else "/able")[0] == 200, host)
        members.append((member, port))
    for member, port in members:
        for question in QUESTIONS:
            probed = heirflow("probe", question, "--pid", str(member.process.pid)).code == 0
            assert (get(port, f"/{question}")[0] == 200) == probed, question
        said = json.loads(get(port, "/status")[1])
        conforms("probe", said)
        probed = json.loads(heirflow("probe", "live", "--pid", str(member.process.pid), "--json").out)
        assert {**said, "trusted_for_s": None} == {**probed, "trusted_for_s": None}
    leader, heir = (read(get(port, "/metrics")[1]) for _, port in members)
    assert (leader["leader"], leader["term"], heir["leader"], heir["place"]) == (1, 1, 0, 1)
    assert leader["check_in_seconds_count"] >= 1 and leader["takeovers_totalfirst"] == 1
    assert heir["heirs"] == 1 and "last_gap_seconds" not in leader
    until(lambda: read(get(members[0][1], "/metrics")[1])["heirs"] == 1, "the leader has seen its heir")
    if shutil.which("promtool") is not None:
        text = get(members[0][1], "/metrics")[1]
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
    members[0][0].process.kill()
    until(lambda: get(members[1][1], "/leader")[0] == 200, "the heir leads")
    heir = read(get(members[1][1], "/metrics")[1])
    # Its guard proves the command gone and releases the record.
    assert (heir["takeovers_totalreleased"], heir["takeovers_totallease_ended"], heir["heirs"]) == (1, 0, 0)
    assert 0 <= heir["last_gap_seconds"] < 3
    assert get(members[0][1], "/live")[0] == 0
    members[1][0].process.terminate()
    assert members[1][0].process.wait(10) == 0


def test_a_hundred_slow_clients_and_one_that_never_reads_cost_no_check_in(start: Callable) -> None:
    port = free_port()
    start("--http", f"127.0.0.1:{port}", "--name", "beat", "--", "sleep", "600")
    until(lambda: get(port, "/leader")[0] == 200, "leads")
    ending = threading.Event()

    def pull() -> None:
        links: list[socket.socket] = []
        while not ending.wait(0.02):
            while len(links) < 100:
                links.append(socket.create_connection(("127.0.0.1", port), timeout=10))
            for link in [*links]:
                try:
                    link.send(b"G")
                except OSError:
                    links.remove(link)
                    link.close()
        for link in links:
            link.close()

    deaf = socket.create_connection(("127.0.0.1", port), timeout=10)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    before = read(get(port, "/metrics")[1])
    pulling = threading.Thread(target=pull)
    pulling.start()
    try:
        until(
            lambda: read(get(port, "/metrics")[1])["check_in_seconds_count"] >= before["check_in_seconds_count"] + 6,
            "six check-ins",
        )
        after = read(get(port, "/metrics")[1])
    finally:
        ending.set()
        pulling.join()
        deaf.close()
    assert (after["term"], after["leader"], after["takeovers_totalfirst"]) == (1, 1, 1)
    # ttl 3 s: a check-in may take 0.45 s.
    assert after["check_in_seconds_bucket0.5"] == after["check_in_seconds_count"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("9180", "http must be HOST:PORT, like 127.0.0.1:9180 or [::1]:9180, not '9180' (flag --http)"),
        (":9180", "must be HOST:PORT"),
        ("127.0.0.1:0", "must have a port from 1 to 65535"),
        ("127.0.0.1:70000", "must have a port from 1 to 65535"),
        ("192.0.2.1:9180", "cannot listen on 192.0.2.1:9180 (--http): "),
    ],
)
def test_a_place_where_nobody_can_listen(start: Callable, place: str, sentence: str) -> None:
    member = start("--http", place, "--name", "beat", "--", "sleep", "600")
    assert member.process.wait(20) == 78
    assert sentence in member.told and member.told.count("\n") == 1


def test_a_port_in_use_ends_a_start_and_disturbs_nobody(start: Callable, home: Path) -> None:
    port = free_port()
    words = ("--http", f"127.0.0.1:{port}", "--name", "beat", "--", "sleep", "600")
    start(*words)
    until(lambda: get(port, "/leader")[0] == 200, "leads")
    second = start(*words)
    assert second.process.wait(20) == 78
    assert f"cannot listen on 127.0.0.1:{port} (--http): " in second.told and second.told.count("\n") == 1
    assert get(port, "/leader")[0] == 200 and len([*(home / "run").glob("*.sock")]) == 1


def test_the_command_has_nothing_of_it(start: Callable, home: Path) -> None:
    port = free_port()
    start(
        "--http", f"127.0.0.1:{port}", "--name", "beat", "--", "sh", "-c", "ls -l /proc/self/fd > fds; exec sleep 600"
    )
    until(lambda: get(port, "/leader")[0] == 200 and (home / "fds").exists(), "leads")
    assert "socket:" not in (home / "fds").read_text()


def test_once_does_not_listen(heirflow: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = heirflow("once", "--http", "127.0.0.1:9180", "--name", "x", "--", "true")
    assert answer.code == 2 and "No such option" in answer.err
