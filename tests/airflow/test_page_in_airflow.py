"""The page inside Airflow's own user interface, in a real browser: who sees it, who may give orders, and that it lives."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, FrameLocator, expect
from playwright.sync_api import Page as Tab

from heirflow.demo.stage import Process, Stage
from lab.airflow.environment import VERSIONS, ensure, fits
from lab.servers.servers import Server
from tests.airflow.page import Served
from tests.airflow.rig import Rig, kill
from tests.browser import browser, needs_chromium  # noqa: F401  a fixture

pytestmark = pytest.mark.timeout(600)
LIVE_MS = 40_000
"""So long a page may take to show what has changed, on a busy machine."""
ORDER = {"what": "pause", "election": "airflow-scheduler"}
SENT = {"X-Heirflow-Order": "yes", "Content-Type": "application/json"}
ONE = "name=airflow-scheduler"
PLACES = ("", f"election?{ONE}", f"member?{ONE}&id=x", "static/heirflow.css", "metrics", "api/elections")


@dataclass
class House:
    rig: Rig
    served: Served
    below: Served
    """By a base URL with a path; with 2.11 the same one."""
    empty: tuple[int, dict[str, str], str]
    """The page before there was any line."""
    members: dict[str, Process]


@pytest.fixture(scope="module", params=list(VERSIONS))
def house(request, server: Server, tmp_path_factory) -> Iterator[House]:
    if not fits(request.param):
        pytest.skip("Airflow 2.11 is pinned for Python 3.11 and 3.12")
    with Stage(tmp_path_factory.mktemp("page") / "stage") as stage:
        rig = Rig(ensure(request.param), server, stage, f"page_{request.param.replace('.', '_')}")
        below = Served(rig, "/team/a")
        served = Served(rig) if below.new else below
        served.wait()
        empty = served.ask("admin", served.page)
        first = rig.member("host-a", "scheduler", "--ttl", "5")
        rig.at_work("scheduler", first)
        second = rig.member("host-b", "scheduler", "--ttl", "5")
        rig.warm("scheduler", "host-b", first, second)
        below.wait()
        yield House(rig, served, below, empty, {"host-a": first, "host-b": second})


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[..., Tab]]:  # noqa: F811
    """A browser's page of somebody who has logged in."""
    with ExitStack() as undo:

        def open_tab(served: Served, name: str) -> Tab:
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            undo.callback(context.close)
            context.set_default_timeout(LIVE_MS)
            cookies = served.cookies_of(name)
            context.add_cookies(
                [{"name": key, "value": value, "url": served.base + "/"} for key, value in cookies.items()]
            )
            return context.new_page()

        yield open_tab


def framed(tab: Tab) -> FrameLocator:
    return tab.frame_locator("iframe")


def test_without_a_line_the_page_says_how_one_begins(house):
    status, _, text = house.empty
    assert status == 200
    assert "HeirFlow&#39;s tables are not in this database" in text
    assert "<code>heirflow run -- airflow scheduler</code>" in text


@needs_chromium
def test_whoever_has_no_right_gets_nothing_at_all(house, tab):
    served = house.served
    for place in PLACES:
        assert served.ask("nobody", served.page + place)[0] == 403, place
        status, headers, _ = served.ask("", served.page + place)
        if served.new:
            assert status == 401, place
        else:
            assert status == 302 and headers["location"].startswith("/team/a/login/"), place
    for name, refused in (("nobody", {403}), ("", {401, 302})):
        found = served.ask(name, served.page + "api/order", method="POST", headers=SENT, body=json.dumps(ORDER))
        assert found[0] in refused
    page = tab(served, "nobody")
    page.goto(served.within)
    page.wait_for_timeout(1500)
    assert not any(frame.locator("#body").count() for frame in page.frames)
    assert "paused" not in house.rig.history("scheduler")


@needs_chromium
def test_a_viewer_reads_and_gives_no_orders(house, tab):
    served = house.served
    page = tab(served, "viewer")
    page.goto(served.within)
    framed(page).get_by_role("link", name="airflow-scheduler").first.click()
    expect(framed(page).locator("tr.place-leader")).to_contain_text("host-")
    assert framed(page).locator("button.order").count() == 0
    found = served.ask("viewer", served.page + "api/order", method="POST", headers=SENT, body=json.dumps(ORDER))
    assert found[0] == 403 and "right to change pools" in found[2]


@needs_chromium
def test_an_administrator_sees_a_takeover_live_and_gives_orders(house, tab):
    served, rig = house.served, house.rig
    page = tab(served, "admin")
    page.goto(served.base + ("/" if served.new else "/home"))
    if served.new:
        page.get_by_role("button", name="Browse").click()
        page.get_by_role("menuitem", name="HeirFlow").click()
    else:
        page.locator("a", has_text="Browse").first.click()
        page.get_by_role("link", name="HeirFlow").click()
    framed(page).get_by_role("link", name="airflow-scheduler").first.click()
    leader = framed(page).locator("tr.place-leader")
    expect(leader).to_contain_text("host-a")
    job = leader.locator('td[data-head="Airflow\'s job"]')
    expect(job).to_contain_text(f"{rig.jobs('scheduler')[-1][0]} on ", timeout=LIVE_MS)
    expect(job).to_contain_text("running, heartbeat")
    expect(framed(page).locator("#live")).to_have_text("live")

    kill(house.members["host-a"].pid)
    expect(leader).to_contain_text("host-b", timeout=LIVE_MS)
    number = rig.at_work("scheduler", house.members["host-b"])
    expect(job).to_contain_text(f"{number} on ", timeout=LIVE_MS)
    expect(framed(page).locator("table.events")).to_contain_text("took charge")

    leader.locator("a").first.click()
    expect(framed(page).locator("dl.facts")).to_contain_text(f"{number} on ", timeout=LIVE_MS)
    framed(page).get_by_role("link", name="airflow-scheduler").first.click()
    framed(page).get_by_role("button", name="Pause").click()
    framed(page).locator("#ask-yes").click()
    expect(framed(page).get_by_role("button", name="Resume")).to_be_visible(timeout=LIVE_MS)
    assert any("admin" in each and "in Airflow" in each for each in rig.history("scheduler"))
    place, body = served.page + "api/order", json.dumps({**ORDER, "what": "resume"})
    assert served.ask("admin", place, method="POST", headers={"Content-Type": "application/json"}, body=body)[0] == 403
    assert served.ask("admin", place, method="POST", headers=SENT, body=body)[0] == 200


@needs_chromium
def test_it_is_there_below_the_path_of_the_base_url(house, tab):
    served = house.below
    assert served.ask("", served.page)[0] in {401, 302}
    page = tab(served, "viewer")
    page.goto(served.within)
    framed(page).get_by_role("link", name="airflow-scheduler").first.click()
    expect(framed(page).locator("tr.place-leader")).to_contain_text("host-")
    expect(framed(page).locator("#live")).to_have_text("live")
    if served.new:  # its address bar follows the frame
        page.reload()
        expect(framed(page).locator("tr.place-leader")).to_contain_text("host-")


def heard(answer: http.client.HTTPResponse, wanted: bytes) -> None:
    """Until a stream has said this."""
    text = b""
    while wanted not in text:
        piece = answer.read1(65536)
        assert piece, text
        text += piece


def test_a_stream_is_for_who_may_look_and_ends_before_long(house):
    served = house.served
    if not served.new:  # with threads a page asks again and again
        with served.stream("viewer", served.page) as answer:
            assert answer.getheader("content-type", "").startswith("text/html")
        return
    for name, status in (("", 401), ("nobody", 403)):
        with served.stream(name, served.page) as answer:
            assert answer.status == status, name
    with served.stream("viewer", served.page) as answer:
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        began = time.monotonic()
        heard(answer, b"airflow-scheduler")
        while answer.read1(65536):
            assert time.monotonic() - began < 70
        assert time.monotonic() - began > 55


def test_streams_do_not_hold_up_the_end_of_the_server(house):
    """The last of these tests that asks it anything."""
    served = house.below
    if not served.new:
        return
    with ExitStack() as undo:
        answers = [undo.enter_context(served.stream("viewer", served.page)) for _ in range(5)]
        for answer in answers:
            heard(answer, b"airflow-scheduler")
        house.rig.stage.signal(served.process, signal.SIGTERM)
        assert house.rig.stage.wait(served.process, 15) is not None, served.process.log_end(30)


# What no server is needed for

OURS = """
import json, sys
import airflow.plugins_manager
before = set(sys.modules)
import heirflow.web.airflow.plugin as found
plugin = found.HeirflowPlugin()
print(json.dumps({
    "modules": sorted(set(sys.modules) - before),
    "apps": len(plugin.fastapi_apps),
    "views": len(plugin.external_views) and plugin.external_views[0]["href"],
}))
"""
ASKED = """
import json, sys
%s
from heirflow.web.airflow import asgi
%s
from starlette.testclient import TestClient
app, for_good = asgi.app_of()
client = TestClient(app)
for method, path in (("GET", "/"), ("GET", "/static/heirflow.css"), ("GET", "/api/elections"), ("POST", "/api/order")):
    answer = client.request(method, path, headers={"X-Heirflow-Order": "yes"})
    print(json.dumps([answer.status_code, answer.text]))
"""


def said(airflow, program: str, tmp_path, **settings: str) -> list[Any]:
    """What a program in this Airflow's environment prints, lines of JSON."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    env |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
    done = subprocess.run([airflow.python, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


def test_other_processes_of_airflows_pay_next_to_nothing_for_it(airflow, tmp_path):
    (found,) = said(airflow, OURS, tmp_path, API__BASE_URL="https://airflow.example/team/a/")
    ours = [name for name in found["modules"] if name.partition(".")[0] == "heirflow"]
    assert ours == ["heirflow", "heirflow.web", "heirflow.web.airflow", "heirflow.web.airflow.plugin"]
    heads = {name.partition(".")[0] for name in found["modules"]}
    assert not heads & {"starlette", "fastapi", "jinja2", "flask", "flask_appbuilder", "sqlalchemy"}
    if airflow.version.startswith("2."):
        assert found["apps"] == 0
    else:
        assert found["views"] == "/team/a/heirflow/"


def test_it_can_be_turned_off(airflow, tmp_path):
    (found,) = said(airflow, OURS, tmp_path, HEIRFLOW__PAGE="False")
    assert not found["apps"] and not found["views"]


@pytest.fixture
def newest():
    """The Airflow with an API server."""
    return ensure("3.3")


def test_nobody_gets_in_where_airflows_authorization_cannot_be_asked(newest, tmp_path):
    away = "sys.modules['airflow.api_fastapi.core_api.security'] = None"
    answers = said(newest, ASKED % (away, ""), tmp_path)
    assert [status for status, _ in answers] == [403] * 4


def test_a_missing_package_is_named_to_those_who_may_look(newest, tmp_path):
    away = "sys.modules['jinja2'] = None\n"  # after Airflow has it, which needs it too
    answers = said(newest, ASKED % ("", away + "asgi.GUARDS.clear()"), tmp_path)
    assert [status for status, _ in answers] == [503] * 4 and "jinja2" in answers[0][1]
    assert [status for status, _ in said(newest, ASKED % ("", away), tmp_path)] == [401] * 4


def test_a_database_that_does_not_answer_is_told(newest, tmp_path):
    by_us = "asgi.GUARDS.clear(); asgi.may_order = lambda *_: False; asgi.get_auth_manager = lambda: None\n"
    by_us += "from starlette.requests import Request; Request.state = type('State', (), {'heirflow_user': None})()"
    url = "postgresql+psycopg2://nobody@127.0.0.1:1/nothing"
    answers = said(newest, ASKED % ("", by_us), tmp_path, DATABASE__SQL_ALCHEMY_CONN=url)
    assert [status for status, _ in answers] == [200, 200, 503, 403]
    assert "has not answered" in answers[0][1]
