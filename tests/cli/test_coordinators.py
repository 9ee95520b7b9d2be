"""Every command that people use, on etcd and on ZooKeeper; and what they say of a coordinator that is none, or not there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from heirflow.election.record import CheckIn, Event, Exchange, What
from heirflow.stores import Store
from lab.servers.etcd import EtcdServer
from lab.servers.servers import free_port
from lab.servers.zookeeper import Ensemble
from tests.cgroups import kill_all
from tests.cli.conftest import Answer, until
from tests.cli.test_json import GIVEN
from tests.cli.test_release import cgroup, leading, record, release, started
from tests.schemas import conforms

assert cgroup and started, "fixtures of this module too"
Heirflow = Callable[..., Answer]
KINDS = ["etcd", "zookeeper"]
TITLES = {"etcd": "etcd", "zookeeper": "ZooKeeper"}
PROBLEM, STORE, REFUSED, CONFIG = 1, 69, 77, 78


def leading_in(store: Store) -> set[str]:
    places = store.exchange("beat", Exchange()).places
    return {place.record.leader for place in places if place.record is not None and place.record.leader is not None}


class TestOnOne:
    """One that works."""

    @pytest.fixture(autouse=True, params=KINDS)
    def kind(
        self,
        request: pytest.FixtureRequest,
        home: Path,
        new_folder_url: Callable[[str], str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> str:
        monkeypatch.setenv("HEIRFLOW_DB_URL", new_folder_url(request.param))
        return str(request.param)

    @pytest.fixture
    def short_run_dir(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """As a socket's must be."""
        monkeypatch.setenv("HEIRFLOW_RUN_DIR", str(tmp_path_factory.mktemp("run")))

    def test_each_command_writes_what_its_schema_says(self, heirflow: Heirflow, line: Callable, store: Store) -> None:
        line("beat", "a", "b", "c")
        line("old")
        who = CheckIn("c", "host-c", 4243, ready=False, label="rack 3", note='{"settings": {"ttl_s": 3}}')
        store.exchange("beat", Exchange(check_in=who, notes=(Event(What.LOST, 1, "a", "over", took_s=3.5, ago_s=2.0),)))
        for text, code in GIVEN:
            if "--db-url" not in text and "{python}" not in text:
                answer = heirflow(*text.split(), "--json")  # the fixture holds it against its schema
                assert answer.code == code, (text, answer)

    def test_each_command_tells_people_the_same(self, heirflow: Heirflow, line: Callable, kind: str) -> None:
        line("beat", "a", "b")
        said = {}
        for text, code in [
            ("init", 0), ("status", 0), ("status --check beat", 0), ("history beat", 0), ("doctor", 0), ("fence status", 1),
            ("pause beat", 0), ("resume beat", 0), ("switchover beat --no-wait", 0), ("drain b --name beat", 0),
            ("drain b --name beat --undo", 0), ("seats beat", 0), ("release", 0),
        ]:  # fmt: skip
            answer = heirflow(*text.split())
            assert (answer.code, answer.err) == (code, ""), (text, answer)
            said[text] = answer.out
        assert f"{kind}://" in said["init"] and "needs no preparation" in said["init"]
        assert "heir b takes charge within 720 s; at once on a clean end" in said["status"]
        assert "took charge" in said["history beat"] and "it is the first of its line" in said["history beat"]
        assert f"the record is in {TITLES[kind]}" in said["fence status"]
        assert "1 seat" in said["seats beat"]
        assert "problem" not in said["doctor"] and "rights" in said["doctor"]

    def test_a_fence_cannot_be_there_and_that_is_said(self, heirflow: Heirflow) -> None:
        for what in ("install", "remove"):
            answer = heirflow("fence", what)
            assert (answer.code, answer.out, answer.err.count("\n")) == (PROBLEM, "", 1)
            assert "it works only where the record is in the database that it guards" in answer.err

    def test_a_line_of_members_is_looked_at_and_ordered_about(
        self, heirflow: Heirflow, start: Callable, store: Store, short_run_dir: None
    ) -> None:
        start("--name", "beat", "--host", "one", "--", "sleep", "60")
        until(lambda: heirflow("probe", "leader").code == 0, "a leader")
        assert [heirflow("probe", question).code for question in ("live", "ready", "able")] == [0, 0, 0]
        start("--name", "beat", "--host", "two", "--", "sleep", "60")
        look = {}

        def stands(leader: str, heir: str) -> bool:
            elections = json.loads(heirflow("status", "beat", "--json").out)["elections"]
            look.update(elections[0] if elections else {})
            return str(look.get("leader")).startswith(leader) and str(look.get("heir")).startswith(heir)

        until(lambda: stands("one", "two") or stands("two", "one"), "a leader and an heir")
        leader, heir = ("one", "two") if str(look["leader"]).startswith("one") else ("two", "one")
        assert heirflow("status", "beat", "--check").code == 0
        answer = heirflow("switchover", "beat")
        assert answer.code == 0 and heir in answer.out, answer
        until(lambda: stands(heir, leader), "the other way round")
        assert heirflow("drain", heir, "--name", "beat", "--wait").code == 0
        assert str(json.loads(heirflow("status", "--json").out)["elections"][0]["leader"]).startswith(leader)
        assert heirflow("drain", heir, "--name", "beat", "--undo").code == 0
        assert heirflow("seats", "beat", "2").code == 0
        until(lambda: len(leading_in(store)) == 2, "both of them lead")
        refused = heirflow("forget", "beat")
        assert refused.code == PROBLEM and "checked in just now; stop its members first" in refused.err
        listed = json.loads(heirflow("probe", "--list", "--json").out)["members"]
        assert {each["election"] for each in listed} == {"beat"} and len(listed) == 2

    def test_history_follows(self, line: Callable, store: Store) -> None:
        line("beat", "a")
        words = ["history", "beat", "--follow", "--json", "--limit", "1"]
        with subprocess.Popen(
            [sys.executable, "-m", "heirflow", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            assert json.loads(process.stdout.readline())["what"] == "took charge"
            store.exchange("beat", Exchange(notes=(Event(What.ORDERED, 1, "ann", "one"),)))
            told = json.loads(process.stdout.readline())
            conforms("history-follow", told)
            assert told["because"] == "one"
            process.send_signal(signal.SIGINT)
            assert (process.wait(10), process.stderr.read()) == (130, "\n")

    def test_an_election_that_is_forgotten_begins_again(self, heirflow: Heirflow, line: Callable, store: Store) -> None:
        line("old", "a", leads=False)
        store.exchange("old", Exchange(check_in=CheckIn("a", "host-a", 1, ready=False), leave=True))
        assert heirflow("forget", "old").out == "old is forgotten.\n"
        assert "There is no election" in heirflow("status").out
        line("old", "b")
        [look] = json.loads(heirflow("status", "--json").out)["elections"]
        assert (look["leader"], look["term"]) == ("b", 1)
        assert len(json.loads(heirflow("history", "old", "--json").out)["events"]) == 1

    def test_once_runs_once(self, home: Path) -> None:
        words = ["once", "--name", "job", "--every", "1h", "--conflict-exit-code", "9", "--", "sh", "-c", "echo ran"]
        done = [
            subprocess.run([sys.executable, "-m", "heirflow", *words], capture_output=True, text=True, timeout=60)
            for _ in range(2)
        ]
        assert [(each.returncode, each.stdout) for each in done] == [(0, "ran\n"), (9, "")], done

    def test_a_group_that_was_killed_is_released(self, cgroup: Path, store: Store) -> None:
        charge = leading(cgroup)
        assert record(store) == (charge.member, 1)
        kill_all(cgroup)
        code, out, err = release(cgroup)
        assert (code, out, err) == (0, f"unit: term 1 of {charge.member} is released\n", "")
        assert record(store) == (None, 1)
        assert store.events("unit", 1)[0].what is What.RELEASED


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    """Ports at which something else answers than what one looks for."""
    replies: dict[str, bytes | None] = {
        "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
        "page": http(b"<html>hello</html>"),
        "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "list": http(b"[]"),
        "object": http(b'{"header": [], "kvs": 7}'),
        "zeros": bytes(300),
        "ones": b"\xff" * 300,
    }
    listening = {name: socket.create_server(("127.0.0.1", 0)) for name in replies}
    for name, link in listening.items():
        threading.Thread(target=answering, args=(link, replies[name]), daemon=True).start()
    yield {name: link.getsockname()[1] for name, link in listening.items()}
    for link in listening.values():
        with suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)
        link.close()


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def answering(link: socket.socket, reply: bytes) -> None:
    with suppress(OSError):
        while True:
            with closing(link.accept()[0]) as asked, suppress(OSError):
                asked.recv(4096)
                asked.sendall(reply)


def one_sentence(answer: Answer, *codes: int) -> str:
    """What a command says that cannot use its store."""
    assert answer.code in codes and answer.out == "", answer
    [said] = answer.err.splitlines()
    assert said.startswith("heirflow: ") and "Traceback" not in said and len(said) < 400
    assert "hunter2" not in said and "_ssl.c" not in said
    return said


SCHEMES = ["etcd", "etcds", "zookeeper", "zookeepers"]
STRANGERS = ["ssh", "page", "404", "list", "object", "zeros", "ones"]


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_something_else_at_that_port(
    heirflow: Heirflow, servers: dict[str, int], scheme: str, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIRFLOW_DB_URL", f"{scheme}://me:hunter2@127.0.0.1:{servers[stranger]}/x")
    said = one_sentence(heirflow("status"), STORE, CONFIG)
    assert str(servers[stranger]) in said
    looked = heirflow("doctor")
    assert looked.code == PROBLEM and "problem" in looked.out and looked.err == "", looked
    assert "hunter2" not in looked.out


def test_the_wrong_kind_at_that_port(heirflow: Heirflow, etcd: EtcdServer, zookeeper: Ensemble) -> None:
    ports = {"etcd": zookeeper.server.port, "etcds": etcd.port, "zookeepers": zookeeper.server.port}
    for scheme, port in ports.items():
        said = one_sentence(heirflow("status", "--db-url", f"{scheme}://127.0.0.1:{port}/x"), STORE)
        assert f"127.0.0.1:{port}" in said
    assert "TLS" in one_sentence(heirflow("status", "--db-url", f"etcds://127.0.0.1:{etcd.port}/x"), STORE)


COMMANDS = {
    "status": STORE,
    "history": STORE,
    "history --follow": STORE,
    "init": STORE,
    "switchover x": STORE,
    "drill x --yes": STORE,
    "pause x": STORE,
    "resume x": STORE,
    "drain x": STORE,
    "seats x": STORE,
    "forget x": STORE,
    "fence status": STORE,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("scheme", KINDS)
def test_nobody_listens(heirflow: Heirflow, scheme: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIRFLOW_DB_URL", f"{scheme}://me:hunter2@127.0.0.1:{free_port()}/x")
    assert "127.0.0.1" in one_sentence(heirflow(*command.split()), COMMANDS[command])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_host_that_is_not_known(heirflow: Heirflow, scheme: str) -> None:
    said = one_sentence(heirflow("status", "--db-url", f"{scheme}://no.such.host.invalid/x"), STORE)
    assert "cannot be looked up" in said or "none of them has an address" in said


@pytest.mark.parametrize("scheme", KINDS)
@pytest.mark.parametrize("command", ["run", "once --every 1h"])
def test_a_member_gives_up_with_the_same_words(scheme: str, command: str) -> None:
    url = f"{scheme}://me:hunter2@127.0.0.1:{free_port()}/x"
    words = [*command.split(), "--name", "x", "--start-timeout", "1s", "--", "true"]
    done = subprocess.run(
        [sys.executable, "-m", "heirflow", *words],
        env={**os.environ, "HEIRFLOW_DB_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == STORE
    assert "gives up" in done.stderr and "127.0.0.1" in done.stderr
    assert "hunter2" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("scheme", KINDS)
def test_what_a_url_cannot_say(heirflow: Heirflow, scheme: str) -> None:
    for url, word in {
        f"{scheme}://me:hunter2@h/x?nope=1": "an option that is unknown: 'nope'",
        f"{scheme}://me:hunter2@h/x?token-file=/t": "an option that is unknown: 'token-file'",
        f"{scheme}://me:hunter2@h:99999/x": "must name hosts like",
        f"{scheme}://": "must name hosts like",
        f"{scheme}://a b/x": "must name hosts like",
        f"{scheme}://h/x/../y": "a folder that cannot be",
        f"{scheme}://me:hunter2@more@h/x": "an @ too many",
        f"{scheme}s://h/x?key=/k": "a key without a cert",
    }.items():
        for command in ("status", "doctor"):
            answer = heirflow(command, "--db-url", url)
            if command == "status":
                warned = [said for said in answer.err.splitlines() if not said.startswith("heirflow: warning: ")]
                assert answer.code == CONFIG and len(warned) == 1 and word in warned[0], (url, answer)
            assert "hunter2" not in answer.out + answer.err and "Traceback" not in answer.err


@pytest.mark.parametrize("scheme", KINDS)
@pytest.mark.parametrize("option", ["password-file", "ca"])
def test_a_file_that_is_not_there(
    heirflow: Heirflow, scheme: str, option: str, etcd: EtcdServer, zookeeper: Ensemble
) -> None:
    port = etcd.port if scheme == "etcd" else zookeeper.server.port
    secure = "s" if option == "ca" else ""
    url = f"{scheme}{secure}://me@127.0.0.1:{port}/x?{option}=/not/there"
    assert "No such file or directory" in one_sentence(heirflow("status", "--db-url", url), REFUSED)


HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"kazoo", "urllib3"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from heirflow.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("scheme", "client"), [("etcd", "urllib3>=2"), ("zookeeper", "kazoo>=2.11")])
@pytest.mark.parametrize(
    "command", ["status", "doctor", "init", "run --name x -- true", "once --name x --every 1h -- true"]
)
def test_a_client_that_is_not_installed(scheme: str, client: str, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDE, *command.split()],
        env={**os.environ, "HEIRFLOW_DB_URL": f"{scheme}://me:hunter2@127.0.0.1:1/x"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = done.stdout + done.stderr
    assert done.returncode == (PROBLEM if command == "doctor" else CONFIG), told
    assert f"the client for {scheme} cannot be used" in told and f"pip install '{client}'" in told
    assert "Traceback" not in told and "hunter2" not in told
