"""`heirflow serve` as a process, asked as browsers and monitors ask it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url
from starlette.requests import Request

from heirflow.cli.common import settled
from heirflow.election.record import CheckIn, Exchange
from heirflow.status import Snapshot
from heirflow.stores import Store, open_store
from heirflow.web.desk import Desk
from heirflow.web.routes import Pages
from lab.servers.relay import Relay, relay
from lab.servers.servers import free_port
from tests.cli.conftest import Answer, until
from tests.contract.drivers import POSTGRES
from tests.schemas import conforms

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
TOKEN = "a-token-that-is-long-enough"
ORDER = {"X-Heirflow-Order": "yes", "Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}


@dataclass
class Page:
    """A server, and how to ask it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(
        self, path: str, *, method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            link.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = link.getresponse()
            return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            link.close()

    def json(self, path: str) -> tuple[int, dict]:
        status, text, _ = self.ask(path)
        return status, json.loads(text)

    def order(self, headers: dict[str, str] = ORDER, **order: object) -> tuple[int, str]:
        status, text, _ = self.ask("/api/order", method="POST", body=json.dumps(order), **headers)
        return status, json.loads(text)["sentence"]


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Page]]:
    """Start `heirflow serve` as people do."""
    started: list[Page] = []

    def start(*args: str, port: int = 0, **environment: str) -> Page:
        port, log = port or free_port(), home / f"page-{len(started)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "heirflow", "serve", "--http", f"127.0.0.1:{port}", *args],
                stdout=file, stderr=file, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
            )  # fmt: skip
        started.append(Page(process, port, log))
        until(lambda: "the page is at" in log.read_text() or process.poll() is not None, "it serves")
        return started[-1]

    yield start
    for page in started:
        page.process.kill()
        page.process.wait()


def test_every_election_at_a_glance_those_that_need_somebody_first(serve, line, store):
    line("airflow", "a", "b")
    line("nightly", "n", leads=False)
    line("alone", "x")
    page = serve()
    status, text, headers = page.ask("/")
    assert status == 200
    assert re.findall(r'<h2><a href="election\?name=(\w+)">', text) == ["nightly", "alone", "airflow"]
    assert "2 of 3 elections need somebody." in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", text).replace("http-equiv", ""), "nothing comes from another host"
    assert "uvicorn" not in str(headers).lower()


def test_one_election_shows_its_line_who_led_and_what_happened(serve, line):
    line("airflow", "a", "b", "c")
    page = serve("airflow")
    status, text, _ = page.ask("/election?name=airflow")
    assert status == 200
    assert re.findall(r'class="place-(\w+)', text) == ["leader", "heir", "3rd"]
    assert "took charge" in text
    assert '<rect class="spell"' in text
    status, text, _ = page.ask("/member?name=airflow&id=b")
    assert (status, "<dt>Host</dt><dd>host-b</dd>" in text) == (200, True)
    for path, code in {
        "/election?name=none": 404, "/election": 400, "/member?name=airflow": 400, "/member?name=airflow&id=zz": 404,
        "/election?name=airflow&stretch=year": 400, "/election?name=airflow&store=7": 404, "/static/server.py": 404,
        "/static/..%2f..%2fserver.py": 404, "/nothing": 404,
    }.items():  # fmt: skip
        status, text, _ = page.ask(path)
        assert (status, "<h1>" in text) == (code, True), path


def test_names_and_words_of_others_are_text_and_nothing_else(serve, store):
    evil = '<script>alert(1)</script>"/..\u202e'
    store.exchange(
        evil, Exchange(check_in=CheckIn("m<b>", "h&h", 1, ready=True, label="postgresql://u:secret@h/d"), join=True)
    )
    page = serve()
    for path in (
        "/",
        f"/election?name={quote(evil, safe='')}",
        f"/member?name={quote(evil, safe='')}&id={quote('m<b>')}",
    ):
        status, text, _ = page.ask(path)
        assert status == 200
        assert "<script>alert" not in text and "<b>" not in text and "\u202e" not in text and "secret" not in text


def test_a_page_whose_member_is_gone_says_so(serve, line):
    line("airflow", "a", "b")
    page = serve()
    status, text, headers = page.ask("/member?name=airflow&id=zz", X_Heirflow_Part="main")
    assert (status, headers["x-heirflow-part"]) == (200, "main")
    assert "Not there any more" in text


def test_names_that_are_alike_are_two_elections(serve, line):
    for name in ("etl_daily", "etl-daily", "данные", "заказы"):
        line(name, "a")
    text = serve().ask("/")[1]
    ids = re.findall(r' id="([^"]+)"', text)
    assert len([each for each in ids if each.startswith("card-")]) == 4
    assert len(set(ids)) == len(ids)


def test_a_page_that_lives_is_told_what_changes(serve, line, store):
    line("airflow", "a", "b")
    page = serve()
    link = http.client.HTTPConnection("127.0.0.1", page.port, timeout=15)
    link.request("GET", "/election?name=airflow", headers={"Accept": "text/event-stream"})
    answer = link.getresponse()
    assert answer.getheader("content-type").startswith("text/event-stream")
    first = _event_of(answer)
    assert first.count("place-") == 2
    store.exchange("airflow", Exchange(check_in=CheckIn("late", "host-late", 7, ready=True), join=True))
    until(lambda: "host-late" in _event_of(answer), "the new member is on the page")
    page.process.terminate()
    assert page.process.wait(10) == 0, "a page that is open does not keep the server from its end"
    assert page.log.read_text().count("\n") == 1, page.log.read_text()
    answer.close()
    link.close()


def _event_of(answer: http.client.HTTPResponse) -> str:
    lines = []
    while (text := answer.readline().decode()) != "\n":
        assert text, "the stream is over"
        lines.append(text)
    return "".join(lines)


def test_what_programs_ask_is_as_the_commands_write_it(serve, line, heirflow):
    line("airflow", "a", "b")
    line("alone", "x")
    page = serve()
    for path, schema in {
        "/api/elections": "status", "/api/check": "status-check", "/api/history?name=airflow": "history",
        "/api/timeline?name=airflow&stretch=day": "web-timeline", "/healthz": "web-health",
    }.items():  # fmt: skip
        status, found = page.json(path)
        assert status == 200, path
        conforms(schema, found)
    assert [each["election"] for each in page.json("/api/elections")[1]["elections"]] == ["alone", "airflow"]
    ours = json.loads(heirflow("history", "airflow", "--json").out)
    assert page.json("/api/history?name=airflow")[1] == ours
    assert page.json("/api/check")[1]["level"] == "warning"
    assert page.ask("/api/history?name=none")[0] == 404
    assert page.ask("/api/timeline")[0] == 400
    text = page.ask("/metrics")[1]
    named = {family.name for family in text_string_to_metric_families(text)}
    assert {"heirflow_leader_up", "heirflow_store_up", "heirflow_takeovers_past_hour", "heirflow_build_info"} <= named
    leads = {each for each in text.splitlines() if each.startswith("heirflow_leader_up")}
    assert leads == {
        'heirflow_leader_up{election="airflow",seat="1"} 1.0',
        'heirflow_leader_up{election="alone",seat="1"} 1.0',
    }


def test_without_a_token_the_page_gives_no_orders(serve, line):
    line("airflow", "a", "b")
    page = serve()
    assert '<button type="button" class="order"' not in page.ask("/election?name=airflow")[1]
    assert page.order(what="pause", election="airflow") == (403, "this page is for reading only")


def test_orders_need_the_token_and_a_header_that_no_form_can_send(serve, start, store, home):
    for host in "ab":
        start("--name", "beat", "--host", host, "--", *SLEEPS)
        until(lambda: host in str([row.host for row in _look(store).succession if row.rank]), f"{host} is in the line")  # noqa: B023
    until(lambda: _look(store).leader, "somebody leads")
    (home / "token").write_text(f"{TOKEN}\n")
    page = serve("--token-file", str(home / "token"))
    assert 'data-what="switchover"' in page.ask("/election?name=beat")[1]

    form = {key: value for key, value in ORDER.items() if key != "X-Heirflow-Order"}
    assert page.order(form, what="pause", election="beat")[0] == 403
    assert page.order({**ORDER, "Authorization": "Bearer wrong"}, what="pause", election="beat") == (
        401,
        "the token is not right",
    )
    assert page.order({"X-Heirflow-Order": "yes"}, what="pause", election="beat")[0] == 401
    assert _look(store).paused is False

    for bad in (
        {},
        {"what": "leave", "election": "beat"},
        {"what": "pause"},
        {"what": "drain", "election": "beat"},
        {"what": "pause", "election": "beat", "store": "x"},
        {"what": "pause", "election": "beat", "member": 5},
    ):
        assert page.order(**bad)[0] == 400, bad
    assert page.ask("/api/order", method="POST", body="{", **ORDER)[0] == 400
    assert page.ask("/api/order", method="POST", body="[" * 4000, **ORDER)[0] == 400, "nested without end"
    assert page.ask("/api/order", method="POST", body=json.dumps({"what": "x" * 5000}), **ORDER)[0] == 400
    assert page.order(what="pause", election="beat", store=9)[0] == 409
    assert page.order(what="pause", election="none")[0] == 409

    assert page.order(what="pause", election="beat") == (200, "beat is paused.")
    assert _look(store).paused is True
    said = store.events("beat", 1)[0]
    assert (said.word, said.member) == ("ordered", "the page, from 127.0.0.1")
    assert page.order(what="switchover", election="beat")[0] == 409
    assert page.order(what="resume", election="beat")[0] == 200
    heir = _look(store).heir
    assert page.order(what="switchover", election="beat", member=heir)[0] == 200
    until(lambda: _look(store).leader == heir, "the heir leads")
    assert page.order(what="drain", election="beat", member=heir)[0] == 200
    until(lambda: _look(store).leader not in (heir, None), "the other one leads")

    (home / "token").write_text("another-token-that-is-long\n")
    assert page.order(what="undrain", election="beat", member=heir)[0] == 401, "the token is read anew"
    (home / "token").unlink()
    assert page.order(what="undrain", election="beat", member=heir)[0] == 503


def _look(store: Store, election: str = "beat") -> Snapshot:
    return Snapshot.of(election, store.exchange(election, Exchange()))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--token-file", "/nowhere/token"], "cannot read the token in /nowhere/token"),
        (["--token-file", "short"], "at least 16"),
        (["--http", "nonsense"], "must be HOST:PORT"),
        (["--http", "127.0.0.1:1", "--every", "1ms"], "--every must be at least"),
        (["--db-url", "nonsense"], "db-url must be a URL"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told_in_one_sentence(heirflow, line, home, args, says):
    line("airflow", "a")
    (home / "short").write_text("short\n")
    answer: Answer = heirflow("serve", *args)
    assert answer.code in (2, 78)
    assert says in answer.err and "Traceback" not in answer.err


def test_a_place_that_is_taken_is_told(serve, line, heirflow):
    line("airflow", "a")
    page = serve()
    answer = heirflow("serve", "--http", f"127.0.0.1:{page.port}")
    assert answer.code == 78
    assert f"cannot listen on 127.0.0.1:{page.port}" in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_and_well(serve, line, number):
    line("airflow", "a")
    page = serve()
    page.ask("/")
    page.process.send_signal(number)
    assert page.process.wait(5) == 0
    assert "Traceback" not in page.log.read_text()


@pytest.fixture
def far(new_database: Callable[[str], str]) -> Iterator[tuple[str, Relay]]:
    """A line of one member in a PostgreSQL behind a relay."""
    url = make_url(new_database(POSTGRES[0]))
    store = open_store(url.render_as_string(hide_password=False), call_limit_s=5)
    store.open()
    store.exchange("airflow", Exchange(check_in=CheckIn("a", "host-a", 1, ready=True), join=True))
    store.close()
    assert url.port is not None
    with relay(url.port) as between:
        near = url.set(host="127.0.0.1", port=between.port)
        yield near.render_as_string(hide_password=False), between


def test_a_store_that_is_away_is_told_with_the_age_of_what_is_shown(serve, far):
    url, between = far
    page = serve(HEIRFLOW_DB_URL=url)
    assert "host-a" in page.ask("/election?name=airflow")[1]
    between.refuses = True
    between.cut()
    until(lambda: "has not answered for" in page.ask("/election?name=airflow")[1], "the page tells of it")
    text = page.ask("/election?name=airflow")[1]
    assert "host-a" in text
    assert "what is shown was read" in text
    status, found = page.json("/api/elections")
    assert (status, found["elections"]) == (503, [])
    assert found["trouble"]
    status, health = page.json("/healthz")
    assert (status, health["stores"][0]["up"]) == (200, False)
    assert page.json("/api/check")[1]["level"] == "unknown"
    assert "heirflow_store_up" in page.ask("/metrics")[1]
    between.refuses = False
    until(lambda: "has not answered for" not in page.ask("/election?name=airflow")[1], "it is there again")


def test_a_store_that_stands_still_keeps_no_viewer_waiting(serve, far):
    url, between = far
    page = serve(HEIRFLOW_DB_URL=url)
    assert "host-a" in page.ask("/election?name=airflow")[1]
    between.swallows = True
    time.sleep(3)
    took: list[float] = []

    def look() -> None:
        began = time.monotonic()
        assert "host-a" in page.ask("/election?name=airflow&stretch=week")[1]
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=look) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 60
    assert max(took) < 12, "the server stands still for 15 s, and each would have waited for that in turn"
    assert re.search("takes long to answer|has not answered for", page.ask("/election?name=airflow")[1])


def test_a_store_that_is_not_there_yet_is_waited_for(serve, home):
    page = serve(HEIRFLOW_DB_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    status, text, _ = page.ask("/")
    assert status == 200
    assert "has not answered" in text
    assert page.ask("/election?name=airflow")[0] == 200, "it may be there: nobody knows"


@contextmanager
def reading(url: str, monkeypatch: pytest.MonkeyPatch, **pace: float) -> Iterator[Desk]:
    """A desk of this process's own."""
    monkeypatch.setenv("HEIRFLOW_DB_URL", url)
    desk = Desk([settled({"name": None})], **pace)
    desk.start()
    try:
        yield desk
    finally:
        desk.stop()


@pytest.mark.parametrize("kind", ["etcd", "zookeeper", "consul"])
def test_a_line_in_a_coordinator_is_shown_and_read_again_after_a_pause(serve, new_folder_url, monkeypatch, kind):
    url = new_folder_url(kind)
    store = open_store(url, call_limit_s=5)
    store.open()
    store.exchange("airflow", Exchange(check_in=CheckIn("a", "host-a", 1, ready=True), join=True))
    page = serve(HEIRFLOW_DB_URL=url)
    status, text, _ = page.ask("/election?name=airflow")
    assert (status, "host-a" in text) == (200, True)
    assert 'heirflow_leader_up{election="airflow",seat="1"} 0.0' in page.ask("/metrics")[1]

    with reading(url, monkeypatch, every_s=0.1, idle_s=0.3) as desk:
        assert desk.seen((0, "airflow")) is not None
        time.sleep(3)
        store.exchange("airflow", Exchange(check_in=CheckIn("late", "host-late", 2, ready=True), join=True))
        again = desk.seen((0, "airflow"))
        assert again is not None
        assert again.away == ()
        assert {row.host for row in again.elections[0].snapshot.succession} == {"host-a", "host-late"}
    store.close()


def sessions(url: str) -> list[tuple[int]]:
    """How many there are in this database."""
    asked = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(asked) as conn:
        return conn.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchall()


def test_where_nobody_looks_nothing_is_read(far, monkeypatch):
    url, between = far
    with reading(url, monkeypatch, every_s=0.1, idle_s=0.5) as desk:
        seen = desk.seen((0, "airflow"))
        assert seen is not None
        assert [shown.snapshot.election for shown in seen.elections] == ["airflow"]
        desk.history(seen.elections[0])
        time.sleep(1.5)
        assert sum(row[0] for row in sessions(url)) == 1, "no connection stays but the one that counts them"
        time.sleep(0.2)
        before = len(between.asked)
        time.sleep(1.5)
        assert len(between.asked) == before, "nobody has looked for long"
        again = desk.seen((0, "airflow"))
        assert again is not None
        assert len(between.asked) > before
        assert time.time() - again.at < 5


def test_whoever_asks_for_what_is_not_there_causes_no_readings(far, monkeypatch):
    url, between = far
    with reading(url, monkeypatch, every_s=1.0) as desk:
        desk.seen((0, "airflow"))
        time.sleep(1.5)
        taken = []
        for strangers in (0, 2000):
            before, ends_at = len(between.asked), time.monotonic() + 4
            for number in range(strangers):
                desk.look((0, f"stranger-{number}"))
            while time.monotonic() < ends_at:
                desk.look((0, "airflow"))
                time.sleep(0.1)
            taken.append(len(between.asked) - before)
        assert taken[1] < 2 * taken[0], taken


def test_all_viewers_share_one_reading(far, monkeypatch):
    url, between = far
    with reading(url, monkeypatch, every_s=0.5) as desk:
        desk.seen((0, "airflow"))
        taken = {}
        for viewers in (1, 50):
            ends_at, before = time.monotonic() + 4, len(between.asked)
            threads = [threading.Thread(target=_look_often, args=(desk, ends_at)) for _ in range(viewers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            taken[viewers] = len(between.asked) - before
        assert taken[50] < 2 * taken[1], taken


def _look_often(desk: Desk, ends_at: float) -> None:
    while time.monotonic() < ends_at:
        seen = desk.seen((0, "airflow"))
        assert seen is not None
        desk.history(seen.elections[0])
        time.sleep(0.05)


def test_it_answers_by_addresses_and_by_its_own_names_only(serve, line):
    """A site whose name is made to lead here must not read the page as its own."""
    line("airflow", "a")
    page = serve("--allow-host", "page.example.org", "--allow-host", "Other.Example.")
    own = socket.gethostname()
    for host in (
        "127.0.0.1",
        "127.0.0.1:8470",
        "10.2.3.4",
        "[::1]:8470",
        "[fe80::1]",
        "localhost",
        "LOCALHOST.:1",
        own,
    ):
        for path in ("/", "/healthz", "/metrics"):
            assert page.ask(path, Host=host)[0] == 200, (host, path)
    for host in ("page.example.org", "PAGE.example.org:443", "other.example"):
        assert page.ask("/", Host=host)[0] == 200, host
    for host in (
        "evil.example",
        "evil.example:8470",
        "page.example.org.evil.example",
        "127.0.0.1.evil.example",
        "a<b>",
        "1",
    ):
        for path in ("/", "/healthz", "/metrics", "/api/elections"):
            status, text, headers = page.ask(path, Host=host)
            assert status == 421 and "--allow-host" in text and text.count("\n") == 1, (host, path)
            assert headers["content-type"].startswith("text/plain")
    assert page.ask("/api/order", method="POST", body="{}", Host="evil.example", **ORDER)[0] == 421


@pytest.mark.parametrize("name", ["", "a b", "a:80", "http://a", "-a", "a..b", "*", "x" * 254])
def test_what_is_no_name_of_a_host_is_refused_at_once(heirflow, name):
    answer = heirflow("serve", "--allow-host", name)
    assert answer.code == 2 and "not the name of a host" in answer.err


@pytest.mark.parametrize(("lasts_s", "stops"), [(1.0, False), (60.0, True)])
def test_a_stream_within_another_server_ends_in_time_and_when_that_wants_to(line, lasts_s, stops):
    line("airflow", "a")
    desk = Desk([settled({"name": None})])
    desk.start()
    wants_to_end = threading.Event()
    shown = Pages(desk, lasts_s=lasts_s, stopping=wants_to_end.is_set)
    scope = {"type": "http", "headers": [(b"accept", b"text/event-stream")], "query_string": b"", "path": "/"}

    async def look() -> list[str]:
        answer = await shown.all_page(Request(scope))
        found = []
        async for piece in answer.body_iterator:
            found.append(piece)
            if stops:
                wants_to_end.set()
        return found

    began = time.monotonic()
    try:
        found = asyncio.run(look())
    finally:
        desk.stop()
    assert found[0].startswith("retry: ") and time.monotonic() - began < 5
    assert ("event: main" in "".join(found)) is not stops
