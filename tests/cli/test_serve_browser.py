"""The page of `heirflow serve` in a real browser: what is seen, heard and done by keys, at a desk and on a phone."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, expect
from playwright.sync_api import Page as Tab

from heirflow.stores import Store
from lab.stage import Stage
from tests.browser import browser, needs_chromium  # noqa: F401  a fixture
from tests.cli.conftest import until
from tests.cli.test_serve import SLEEPS, TOKEN, Page, _look, far, serve  # noqa: F401  fixtures

pytestmark = needs_chromium
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 800}}


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[..., Tab]]:  # noqa: F811
    """Open a page; whatever its scripts complain of fails the test."""
    contexts, complaints = [], []

    def open_tab(address: str, size: str = "desk", scheme: str = "light") -> Tab:
        contexts.append(browser.new_context(viewport=SIZES[size], color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(address)
        return page

    yield open_tab
    for each in contexts:
        each.close()
    # A browser tells of each answer that is no success, by itself.
    assert [each for each in complaints if "Failed to load resource" not in each] == []


@pytest.fixture
def stage(home: object) -> Iterator[Stage]:
    with Stage(os.environ["HEIRFLOW_DB_URL"]) as stage:
        yield stage


def host(place: int, name: str = "node") -> str:
    return f"{name}-{place:02}-{place:06x}"


def fits(page: Tab) -> None:
    """Nothing reaches beyond the window, and axe finds nothing that a person could not use."""
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"], f"it is {width} wide"  # type: ignore[index]
    found = Axe().run(page).response["violations"]
    serious = [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found if each["impact"] in {"serious", "critical"}
    ]
    assert serious == []


def scenes(stage: Stage) -> None:
    stage.line("alone", host(1))
    stage.line("three", *(host(place) for place in range(1, 4)))
    stage.line("fifty", *(host(place, "a-very-long-name-of-a-machine-in-some-cloud") for place in range(1, 51)))
    stage.line("seats", *(host(place) for place in range(1, 5)), leads=2, seats=3)
    stage.line("nobody", host(1), leads=0)
    for number in range(15):
        stage.line(f"airflow-scheduler-of-the-team-{number:02}", host(1), host(2))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_and_can_be_used_by_everybody(stage, serve, tab, size, scheme):  # noqa: F811
    scenes(stage)
    server = serve("--token-file", _token())
    page = tab(_address(server), size, scheme)
    expect(page.locator(".card")).to_have_count(20)
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    fits(page)
    order = [each.split("level-")[1][0] for each in _classes(page.locator(".card"))]
    assert order == sorted(order, reverse=True), "those that need somebody come first"
    for name, rows in {"alone": 1, "three": 3, "fifty": 50, "seats": 5, "nobody": 1}.items():
        page.goto(_address(server, f"election?name={name}"))
        expect(page.locator("table.line tbody tr")).to_have_count(rows)
        fits(page)
    page.goto(_address(server, f"member?name=three&id={host(2)}"))
    expect(page.locator("h1")).to_have_text(host(2))
    fits(page)
    page.goto(_address(server, "election?name=none"))
    fits(page)


def _token() -> str:
    path = os.path.join(os.environ["HOME"], "token")
    with open(path, "w") as file:
        file.write(TOKEN)
    return path


def _address(server: Page, path: str = "") -> str:
    return f"http://127.0.0.1:{server.port}/{path}"


def _classes(found: Locator) -> list[str]:
    return found.evaluate_all("all => all.map(each => each.className)")


def test_a_takeover_is_seen_and_heard_while_what_somebody_does_stays(stage, serve, tab):  # noqa: F811
    stage.line("three", host(1), host(2), host(3))
    page = tab(_address(serve(), "election?name=three"))
    expect(page.locator("tr.place-leader")).to_contain_text(host(1))
    expect(page.locator("#spoken")).to_have_text("")
    page.get_by_text("The same in words").click()
    link = page.locator(f"#row-{host(3)} a")
    link.focus()
    began = time.monotonic()
    stage.takeover("three", host(2))
    expect(page.locator("tr.place-leader")).to_contain_text(host(2))
    assert time.monotonic() - began < 4
    expect(page.locator("tr.place-heir")).to_contain_text(host(3))
    expect(page.locator("#spoken")).to_contain_text(f"led by {host(2)}")
    assert page.evaluate("document.activeElement.textContent") == host(3), "the focus is where it was"
    assert page.locator("details").get_attribute("open") is not None
    expect(page.locator(".told")).to_contain_text("was killed")
    expect(page.locator(".band")).to_have_count(3)
    expect(page.locator("rect.gap")).to_have_count(1)


def test_orders_by_keys_alone(start, store: Store, serve, tab):  # noqa: F811
    for place, name in enumerate("ab", 1):
        start("--name", "beat", "--host", name, "--", *SLEEPS)
        until(lambda: sum(row.rank is not None for row in _look(store).succession) == place, "it is in the line")  # noqa: B023
    until(lambda: _look(store).leader and _look(store).runs, "a leads")
    page = tab(_address(serve("--token-file", _token()), "election?name=beat"))

    def press(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == name:
                page.keyboard.press("Enter")
                return
        raise AssertionError(f"{name} cannot be reached by the Tab key")

    press("Pause")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Pause beat?")
    fits(page)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert _look(store).paused is False, "nothing without a yes"

    press("Pause")
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("the token is not right")
    assert _look(store).paused is False
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator(".state .badge")).to_contain_text("paused")
    expect(page.locator("#spoken")).to_contain_text("paused")
    assert _look(store).paused is True
    press("Resume")
    expect(page.get_by_label("Token")).to_have_value(TOKEN)
    page.get_by_role("button", name="Resume").last.click()
    expect(page.locator(".state .badge")).to_contain_text("healthy")

    heir = _look(store).heir
    press("Switch to it")
    page.get_by_role("dialog").get_by_role("button", name="Switch to it").click()
    expect(page.locator("tr.place-leader")).to_contain_text(str(heir), timeout=15_000)


def test_a_page_whose_server_is_gone_says_so_and_finds_it_again(stage, serve, tab):  # noqa: F811
    stage.line("three", host(1), host(2), host(3))
    server = serve()
    page = tab(_address(server))
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    server.process.kill()
    server.process.wait()
    expect(page.locator("#live")).to_have_attribute("data-state", "lost", timeout=20_000)
    expect(page.locator("#live")).to_contain_text("what it shows is old")
    serve(port=server.port)
    expect(page.locator("#live")).to_have_attribute("data-state", "live", timeout=20_000)


@pytest.mark.parametrize(("size", "scheme"), [("desk", "dark"), ("phone", "light")])
def test_a_store_that_is_away_is_seen_and_heard(far, serve, tab, size, scheme):  # noqa: F811
    url, between = far
    page = tab(_address(serve(HEIRFLOW_DB_URL=url), "election?name=airflow"), size, scheme)
    expect(page.locator("h1")).to_have_text("airflow")
    between.refuses = True
    between.cut()
    notice = page.get_by_role("alert").filter(has_text="has not answered for")
    expect(notice).to_be_visible(timeout=20_000)
    expect(notice).to_contain_text("what is shown was read")
    expect(page.locator("tr.place-heir, tr.place-silent")).to_have_count(1)
    fits(page)
    between.refuses = False
    expect(notice).to_be_hidden(timeout=20_000)


def test_a_page_can_be_read_without_scripts(stage, serve, browser):  # noqa: F811
    stage.line("three", host(1), host(2), host(3))
    with closing(browser.new_context(java_script_enabled=False)) as context:
        page = context.new_page()
        page.goto(_address(serve(), "election?name=three"))
        expect(page.locator("tr.place-leader")).to_contain_text(host(1))
        expect(page.locator("#live")).to_have_text("not live")


def test_many_pages_at_once_cost_one_reading(stage, serve, tab, browser):  # noqa: F811
    stage.line("three", host(1), host(2), host(3))
    server = serve()
    with closing(browser.new_context()) as context:
        pages = [context.new_page() for _ in range(5)]
        for page, path in zip(pages, itertools.cycle(["", "election?name=three"]), strict=False):
            page.goto(_address(server, path))
        stage.takeover("three", host(2))
        for page in pages:
            expect(page.locator("main")).to_contain_text(host(2))
