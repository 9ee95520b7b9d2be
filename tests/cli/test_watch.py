"""`heirflow watch` on a real terminal, with real members: what it shows, what keys do, and that the terminal is given back."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.cli.common import settled
from heirflow.election.record import CheckIn, Exchange
from heirflow.status import Snapshot
from heirflow.steering.reading import Reader
from heirflow.stores import Store, open_store
from heirflow.terminal.page import Kind, Wish
from lab.servers.relay import relay
from lab.servers.servers import Server
from tests.cli.conftest import until
from tests.cli.screen import Terminal

WATCH = [sys.executable, "-m", "heirflow", "watch", "--every", "300ms"]
SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
BASH = shutil.which("bash")


def look(store: Store, election: str = "beat") -> Snapshot:
    return Snapshot.of(election, store.exchange(election, Exchange()))


@pytest.fixture
def three(start: Callable, store: Store) -> dict[str, subprocess.Popen]:
    """A line of three, by the hosts that they say: a leads, b and c follow."""
    found = {}
    for place, host in enumerate("abc", 1):
        found[host] = start("--name", "beat", "--host", host, "--", *SLEEPS).process
        until(lambda: sum(row.rank is not None for row in look(store).succession) == place, f"{host} is in the line")  # noqa: B023
    until(lambda: look(store).leader and look(store).runs, "a leads")
    assert (look(store).leader or "").startswith("a-")
    return found


def test_it_sees_a_takeover(three: dict[str, subprocess.Popen]) -> None:
    with Terminal(*WATCH) as terminal:
        seen = terminal.until("heir b-")
        assert "1 election, all well" in seen and "term 1   led by a-" in seen
        assert seen.index("> leader") < seen.index("  heir ") < seen.index("  3rd ")
        three["a"].kill()
        seen = terminal.until("term 2   led by b-")
        terminal.until(lambda text: "term 2  took charge  b-" in text and "was killed" in text)
        assert "heir c-" in seen
        terminal.type("q")
        assert terminal.ended() == 0


def test_orders_by_keys(three: dict[str, subprocess.Popen], store: Store) -> None:
    with Terminal(*WATCH) as terminal:
        terminal.until("> leader")
        # Nothing without a yes, and a yes that was typed before the question was seen is none.
        terminal.type("sy")
        terminal.until("hands over to the next in line (b-")
        terminal.type("n")
        terminal.until("no order was given")
        assert (look(store).term, look(store).switchover_to) == (1, None)

        terminal.type("j")
        terminal.until("> heir")
        terminal.type("j")
        terminal.until("> 3rd")
        terminal.type("s")
        terminal.until(lambda text: "hands over to c-" in text)
        terminal.type("y")
        terminal.until(lambda text: "term 2   led by c-" in text and "beat: c-" in text and "leads term 2." in text)
        assert look(store).term == 2

        terminal.type("p")
        terminal.until("Pause beat?")
        terminal.type("y")
        terminal.until(lambda text: "PAUSED" in text and "beat is paused." in text)
        assert look(store).paused
        terminal.type("s")
        terminal.until("hands over to")
        terminal.type("y")
        terminal.until("beat is paused: `heirflow resume beat` first")
        terminal.type("p")
        terminal.until("Resume beat?")
        terminal.type("y")
        terminal.until(lambda text: "PAUSED" not in text and "beat is not paused." in text)
        assert not look(store).paused

        terminal.type("G")
        terminal.until("> 3rd")
        terminal.type("d")
        terminal.until("Drain ")
        terminal.type("y")
        terminal.until(lambda text: "> drained" in text and "is drained." in text)
        assert sum(row.drained for row in look(store).succession) == 1
        terminal.type("d")
        terminal.until("lead again?")
        terminal.type("y")
        terminal.until("is not drained any more.")
        assert not any(row.drained for row in look(store).succession)
        said = [event.because.partition(",")[0] for event in store.events("beat", 50) if event.word == "ordered"]
        assert [each.split()[0] for each in said[:3]] == ["switchover", "pause", "resume"]
        terminal.type("q")
        assert terminal.ended() == 0


@pytest.mark.skipif(BASH is None, reason="a shell with job control is needed")
class TestTheTerminalIsGivenBack:
    def shell(self, home: Path) -> Terminal:
        """As under a person's shell, which writes down the terminal's settings before and after."""
        words = shlex.join(WATCH)
        script = f"set -m; stty -a > before; {words}; echo $? > code; stty -a > after; [ ! -s go-on ] || fg"
        script += "; stty -a > at-last; echo farewell"
        return Terminal(str(BASH), "-c", script)

    def sane(self, home: Path, terminal: Terminal, after: str = "after") -> None:
        assert (home / after).read_text() == (home / "before").read_text()
        assert (terminal.screen.modes["25"], terminal.screen.modes["1049"]) == (True, False)

    @pytest.mark.parametrize(
        ("leave", "code"),
        [("q", 0), ("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
        ids=["q", "Ctrl-C", "SIGTERM", "SIGHUP", "SIGINT"],
    )
    def test_whoever_ends_it(self, line: Callable, home: Path, leave: str | signal.Signals, code: int) -> None:
        line("beat", "a", "b")
        with self.shell(home) as terminal:
            terminal.until("> leader")
            assert (terminal.screen.modes["25"], terminal.screen.modes["1049"]) == (False, True)
            if isinstance(leave, str):
                terminal.type(leave)
            else:
                os.kill(self.child(terminal), leave)
            terminal.until("farewell")
            assert terminal.ended() == 0
            assert (home / "code").read_text() == f"{code}\n"
            self.sane(home, terminal)
            assert "leader" not in terminal.text, "nothing of the page is left"

    def child(self, terminal: Terminal) -> int:
        pid = terminal.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def test_stopped_and_continued(self, line: Callable, home: Path) -> None:
        line("beat", "a", "b")
        (home / "go-on").write_text("yes")
        with self.shell(home) as terminal:
            terminal.until("> leader")
            terminal.type("\x1a")
            terminal.until(lambda text: (home / "after").exists() and (home / "after").read_text())
            assert (home / "after").read_text() == (home / "before").read_text()
            terminal.until(lambda text: terminal.screen.entered == 2 and "> leader" in text)
            terminal.type("j")
            terminal.until("> heir")
            terminal.type("q")
            terminal.until("farewell")
            self.sane(home, terminal, "at-last")

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
    def test_while_nobody_takes_in_what_it_writes(
        self, line: Callable, home: Path, number: signal.Signals, code: int
    ) -> None:
        line("beat", "a", "b")
        with self.shell(home) as terminal:
            terminal.until("> leader")
            terminal.type("\x13j")  # Ctrl-S
            terminal.until("> heir")
            child = self.child(terminal)
            terminal.stall()
            until(
                lambda: Path(f"/proc/{child}/wchan").read_text() in {"n_tty_write", "wait_woken"},
                "it waits for its terminal",
            )
            os.kill(child, number)
            terminal.until("farewell")
            assert (home / "code").read_text() == f"{code}\n"
            self.sane(home, terminal)

    def test_where_no_shell_could_let_it_go_on(self, line: Callable) -> None:
        """Whoever has no shell above it cannot be stopped by Ctrl-Z, and must not be left half stopped."""
        line("beat", "a", "b")
        with Terminal(*WATCH) as terminal:
            terminal.until("> leader")
            terminal.type("\x1a")
            terminal.until(lambda _: terminal.screen.entered == 2)
            terminal.type("j")
            terminal.until("> heir")
            terminal.type("q")
            assert terminal.ended() == 0

    def test_stopped_without_being_asked(self, line: Callable, home: Path) -> None:
        """SIGSTOP cannot be heard: what it must put right comes after."""
        line("beat", "a", "b")
        with Terminal(*WATCH) as terminal:
            terminal.until("> leader")
            os.kill(terminal.process.pid, signal.SIGSTOP)
            os.kill(terminal.process.pid, signal.SIGCONT)
            terminal.type("j")
            terminal.until("> heir")
            terminal.type("q")
            assert terminal.ended() == 0


def test_it_follows_the_size_of_the_terminal(line: Callable) -> None:
    line("beat", *(f"member-{number:02}" for number in range(50)))
    with Terminal(*WATCH) as terminal:
        terminal.until("every 0.3 s")
        terminal.resize(40, 12)
        terminal.until(lambda text: "every" not in text and "j/k Esc s p d ? q" in text.splitlines()[-1])
        terminal.type("G")
        terminal.until("> 50th")
        terminal.resize(120, 40)
        seen = terminal.until(lambda text: len(text.splitlines()) == 40 and "every 0.3 s" in text)
        assert "> 50th" in seen and "lease left" in seen
        terminal.type("?")
        terminal.until("these keys")
        terminal.type("q")
        assert terminal.ended() == 0


def test_several_elections(line: Callable, store: Store) -> None:
    for number in range(20):
        line(f"election-{number:02}", "a", "b")
    line("lonely", "a")
    with Terminal(*WATCH) as terminal:
        wanted = "> lonely", "21 elections, 1 needs somebody", "no heir is ready: when a ends"
        terminal.until(lambda text: all(each in text for each in wanted))
        terminal.type("\x1b[F")
        terminal.until(lambda text: "> election-19" in text and "12 to 21 of 21" in text)
        terminal.type("\r")
        terminal.until("election-19   term 1   led by a")
        terminal.type("\x1b")
        terminal.until("> election-19")
        line("new", "a", leads=False)
        terminal.until("22 elections, 2 need somebody")
        terminal.type("q")
        assert terminal.ended() == 0


def test_a_store_that_goes_and_comes_back(
    start: Callable, new_database: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database("psycopg")
    port = int(url.rpartition(":")[2].partition("/")[0])
    monkeypatch.setenv("HEIRFLOW_DB_URL", url)
    start("--name", "beat", "--host", "a", "--", *SLEEPS)
    store = open_store(url, call_limit_s=5)
    store.open()
    until(lambda: look(store).leader, "a leads")
    store.close()
    with (
        relay(port) as between,
        Terminal(*WATCH, HEIRFLOW_DB_URL=url.replace(f":{port}/", f":{between.port}/")) as terminal,
    ):
        terminal.until("term 1   led by a-")
        between.refuses = True
        between.cut()
        seen = terminal.until("The store has been away since")
        assert "led by a-" in seen and "what is shown is of" in seen
        terminal.type("p")
        terminal.until(lambda text: "an order can be given when the store answers again" in " ".join(text.split()))
        terminal.until("(1.")
        between.refuses = False
        terminal.until("the store answers again after")
        assert "has been away" not in terminal.until(lambda text: "has been away" not in text)
        # It is there and does not answer: keys do what they do all the same.
        between.swallows = True
        terminal.type("?")
        terminal.until("these keys")
        began = time.monotonic()
        terminal.type("q")
        assert terminal.ended() == 0
        assert time.monotonic() - began < 5


def test_who_may_only_read_sees_all_and_is_refused(
    start: Callable, new_database: Callable, monkeypatch: pytest.MonkeyPatch, postgres: Server
) -> None:
    url = new_database("psycopg")
    monkeypatch.setenv("HEIRFLOW_DB_URL", url)
    store = open_store(url, call_limit_s=5)
    store.open()
    start("--name", "beat", "--host", "a", "--", *SLEEPS)
    until(lambda: look(store).leader, "a leads")
    tables = ", ".join(f"heirflow_{name}" for name in ("election", "member", "event", "meta"))
    postgres.sql(
        f"CREATE ROLE looks LOGIN PASSWORD 'looks'; GRANT SELECT ON {tables} TO looks", database=url.rpartition("/")[2]
    )
    before, _, place = url.rpartition("@")
    with Terminal(*WATCH, HEIRFLOW_DB_URL=f"{before.partition('//')[0]}//looks:looks@{place}") as terminal:
        terminal.until("term 1   led by a-")
        for key, question in (("p", "Pause beat?"), ("d", "Drain a-")):
            terminal.type(key)
            terminal.until(question)
            terminal.type("y")
            terminal.until(lambda text: "does not let this user do that: permission denied" in " ".join(text.split()))
            terminal.until("1 election")
        assert not look(store).paused and "has been away" not in terminal.text
        terminal.type("q")
        assert terminal.ended() == 0
    store.close()


def test_seats(start: Callable, store: Store) -> None:
    for place, host in enumerate("abc", 1):
        start("--name", "beat", "--seats", "2", "--host", host, "--", *SLEEPS)
        until(lambda: sum(row.rank is not None for row in look(store).succession) == place, f"{host} is in the line")  # noqa: B023
    until(lambda: sum(seat.leader is not None and bool(seat.runs) for seat in look(store).by_seat) == 2, "two lead")
    handed_over = look(store).by_seat[1]
    with Terminal(*WATCH) as terminal:
        seen = terminal.until("beat   2 seats   all led")
        assert [words.split()[:2] for words in seen.splitlines() if " leader  " in words] == [
            [">", "1"],
            ["2", "leader"],
        ]
        terminal.type("j")
        terminal.until(lambda text: any(words.startswith(">") and " 2  leader" in words for words in text.splitlines()))
        terminal.type("s")
        terminal.until("Switchover of seat 2 of beat")
        terminal.type("y")
        terminal.until(lambda text: f"leads seat 2, term {handed_over.term + 1}." in " ".join(text.split()))
        terminal.type("q")
        assert terminal.ended() == 0
    after = look(store).by_seat[1]
    assert after.leader not in (None, handed_over.leader) and after.term == handed_over.term + 1


def test_two_stores_are_one_page(home: Path, line: Callable, store: Store) -> None:
    line("beat", "a", "b")
    configs = [settled({"name": None, "db_url": f"sqlite:///{home / name}.db"}) for name in ("line", "other")]
    woken: list[float] = []
    reader = Reader(configs, 0.2, lambda: woken.append(time.monotonic()), name="watch")
    reader.start()
    try:
        until(lambda: reader.seen is not None, "it has read")
        assert reader.seen is not None
        assert [shown.key for shown in reader.seen.elections] == [(0, "beat")]
        assert [(away.store, "does not exist" in away.sentence) for away in reader.seen.away] == [(1, True)]
        other = open_store(f"sqlite:///{home / 'other.db'}", call_limit_s=5)
        other.open()
        other.exchange("beat", Exchange(check_in=CheckIn("z", "host-z", 1, ready=True), join=True))
        other.close()
        until(lambda: reader.seen is not None and len(reader.seen.elections) == 2, "both are there")
        said = reader.said()
        assert said is not None and said.well and said.sentence.startswith("the store answers again after")
        reader.ask(Wish(Kind.DRAIN, (1, "beat"), "z"))
        until(
            lambda: (told := reader.said()) is not None and told.sentence == "beat: z is drained.",
            "it was ordered there",
        )
        reader.ask(Wish(Kind.DRAIN, (0, "beat"), "z"))
        until(
            lambda: (told := reader.said()) is not None and not told.well and "no member 'z'" in told.sentence,
            "not here",
        )
    finally:
        reader.stop()
    assert woken and reader.broken is None


def test_a_fault_of_our_own_ends_the_page_with_its_name(
    home: Path, line: Callable, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line("beat", "a")
    monkeypatch.setattr("heirflow.steering.reading.judged", lambda *_: 1 / 0)
    reader = Reader([settled({"name": None})], 0.2, lambda: None, name="watch")
    reader.start()
    assert reader.read_once.wait(10)
    assert isinstance(reader.broken, ZeroDivisionError)
    reader.stop()


@pytest.mark.parametrize("colours", [True, False])
def test_colours_are_for_those_who_want_them(line: Callable, home: Path, colours: bool) -> None:
    line("beat", "a", leads=False)
    with Terminal(*WATCH, NO_COLOR="" if colours else "1") as terminal:
        terminal.until("nobody leads")
        asked = any(30 <= number < 50 or number >= 90 for number in terminal.screen.looks)
        assert asked is colours, terminal.screen.looks
        terminal.type("q")
        assert terminal.ended() == 0


@pytest.mark.parametrize("how", ["no terminal", "TERM=dumb", "keys from a file"])
def test_where_it_cannot_be_drawn_it_says_what_can(line: Callable, home: Path, how: str) -> None:
    line("beat", "a")
    sentence = "heirflow: this page needs a terminal; use `heirflow status --watch` here (see `heirflow watch --help`)"
    if how == "no terminal":
        answer = subprocess.run(WATCH, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", f"{sentence}\n")
        return
    env = {"TERM": "dumb"} if how == "TERM=dumb" else {}
    words = ["sh", "-c", f"{shlex.join(WATCH)} </dev/null"] if how == "keys from a file" else WATCH
    with Terminal(*words, columns=200, **env) as terminal:
        assert terminal.ended() == 2
        assert terminal.text.strip() == sentence


def test_what_is_wrong_is_told_before_the_page(line: Callable, heirflow: Callable) -> None:
    line("beat", "a")
    with Terminal(*WATCH, "beta", columns=200) as terminal:
        assert terminal.ended() == 1
        assert terminal.text.strip() == "heirflow: there is no election 'beta'; did you mean 'beat'?"
        assert terminal.screen.modes == {"25": True, "1049": False}
    with Terminal(*WATCH[:-1], "10ms", columns=200) as terminal:
        assert terminal.ended() == 2
        assert "--every must be at least 0.2s" in terminal.text


def test_the_election_that_was_named_is_forgotten_meanwhile(line: Callable, heirflow: Callable, store: Store) -> None:
    line("beat", leads=False)
    with Terminal(*WATCH, "beat") as terminal:
        terminal.until("beat   term 1   nobody leads")
        assert heirflow("forget", "beat").code == 0
        terminal.until(lambda text: "Since " in text and "there is no election 'beat'" in " ".join(text.split()))
        assert "has been away" not in terminal.text
        terminal.type("q")
        assert terminal.ended() == 0


def test_an_empty_store(store: Store, line: Callable) -> None:
    with Terminal(*WATCH) as terminal:
        terminal.until("There is no election in this store yet")
        line("beat", "a", "b")
        terminal.until("> leader")
        terminal.type("q")
        assert terminal.ended() == 0
