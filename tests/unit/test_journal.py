"""The journal: one line each, nothing that a terminal obeys, and never the end of who speaks."""

from __future__ import annotations

import io
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from heirflow.election.told import Named
from heirflow.member.journal import LINE_LIMIT, Journal, rfc3339


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


def test_text(out: io.StringIO) -> None:
    journal = Journal("airflow-scheduler", "host-a-90b3f2", out=out)
    journal.log("took charge", event=Named.TOOK_CHARGE, term=7)
    journal.warn("the store is slow", event=Named.STORE_FAILS)
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(rf"{MOMENT} heirflow airflow-scheduler b3f2: took charge", first)
    assert second.endswith(": warning: the store is slow")


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("UTC0", "2026-11-29T05:52:29.500+00:00"),
        ("XXX-5:45", "2026-11-29T11:37:29.500+05:45"),
        ("XXX3:30", "2026-11-29T02:22:29.500-03:30"),
    ],
)
def test_a_moment_has_its_zone_and_is_the_same_for_everybody(
    zone: Callable[[str], None], where: str, shown: str
) -> None:
    zone(where)
    at = datetime(2026, 11, 29, 5, 52, 29, 500_000, tzinfo=timezone.utc).timestamp()
    assert rfc3339(at) == shown
    assert datetime.fromisoformat(shown).timestamp() == at
    assert rfc3339(at + 0.4999)[17:23] == "30.000", "a rounded moment carries over"


def in_json(out: io.StringIO) -> dict[str, Any]:
    (line,) = out.getvalue().splitlines()
    entry: dict[str, Any] = json.loads(line)
    return entry


def test_json(out: io.StringIO) -> None:
    Journal("beat", "host-a-90b3f2", form="json", out=out).log(
        "took\ncharge", event=Named.TOOK_CHARGE, term=7, level="forged", pid=1, command_pid=4242
    )
    entry = in_json(out)
    assert re.fullmatch(MOMENT, entry.pop("time"))
    assert abs(entry.pop("at") - time.time()) < 60
    assert entry == {
        "level": "info", "event": "took_charge", "election": "beat", "member": "host-a-90b3f2", "pid": os.getpid(),
        "term": 7, "sentence": "took\ncharge", "command_pid": 4242,
    }  # fmt: skip


def test_both_times_of_a_line_are_the_same_moment(out: io.StringIO) -> None:
    Journal(form="json", out=out).log("x", event=Named.JOINED)
    entry = in_json(out)
    assert abs(datetime.fromisoformat(entry["time"]).timestamp() - entry["at"]) < 0.001


@pytest.mark.parametrize("letter", ["z ", "\U0001f600 ", "\x1b ", '" '])
def test_a_long_sentence_is_cut_and_the_line_is_whole(out: io.StringIO, letter: str) -> None:
    Journal("beat", "a-1", form="json", out=out).warn(letter * 9000, event=Named.STORE_FAILS, term=3)
    assert len(out.getvalue()) <= LINE_LIMIT + 1
    entry = in_json(out)
    assert (entry["event"], entry["term"], entry["sentence"][-1]) == ("store_fails", 3, "…")
    assert len(entry["sentence"]) > 100


def test_a_sentence_that_fits_is_not_cut(out: io.StringIO) -> None:
    Journal("beat", "a-1", form="json", out=out).warn("word " * 500, event=Named.STORE_FAILS)
    assert in_json(out)["sentence"] == "word " * 500


def test_lost_lines_are_a_number_too(out: io.StringIO) -> None:
    class Full(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    disk = Full()
    journal = Journal("beat", "a-1", form="json", out=disk)
    journal.log("one", event=Named.JOINED)
    journal.log("two", event=Named.JOINED)
    disk.full = False
    journal.log("three", event=Named.JOINED)
    assert in_json(disk)["lost_lines"] == 2


def test_quiet(out: io.StringIO) -> None:
    quiet = Journal(quiet=True, out=out)
    quiet.log("nothing", event=Named.JOINED)
    quiet.warn("trouble", event=Named.STORE_FAILS)
    assert [line.split(": ", 1)[1] for line in out.getvalue().splitlines()] == ["warning: trouble"]


def test_nothing_can_forge_a_line_or_show_a_password(out: io.StringIO) -> None:
    Journal("a\nb", out=out).log("x\n12:00:00 heirflow: forged \x1b[2J mysql://me:pw@db/x", event=Named.JOINED)
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    assert "me:***@db" in out.getvalue()


def test_a_closed_output_ends_nothing(out: io.StringIO) -> None:
    journal = Journal(out=out)
    out.close()
    journal.log("nobody hears this", event=Named.JOINED)


IMPORTS = "from heirflow.member.journal import Journal; from heirflow.election.told import Named; N = Named.JOINED"


def speaks(code: str, stderr: int) -> subprocess.Popen[bytes]:
    """A process of its own that speaks through a journal on a real standard error, and tells its end on standard output."""
    program = f"import os; {IMPORTS}; j = Journal('x', 'y'); {code}; os.write(1, b'done')"
    return subprocess.Popen([sys.executable, "-c", program], stderr=stderr, stdout=subprocess.PIPE)


def test_a_pipe_that_nobody_reads_never_holds_up_the_speaker() -> None:
    reader, writer = os.pipe()
    with speaks("[j.log('z' * 500, event=N) for _ in range(1000)]", writer) as process:
        os.close(writer)
        assert process.communicate(timeout=20)[0] == b"done"
    flags = os.get_blocking(reader)
    os.close(reader)
    assert flags, "the pipe that we share with the command is as it was"


def test_lost_lines_are_counted() -> None:
    reader, writer = os.pipe()
    program = (
        f"import sys; {IMPORTS}; j = Journal('x', 'y');"
        "[j.log('z' * 500, event=N) for _ in range(1000)]; print('full', flush=True); sys.stdin.readline(); j.log('again', event=N)"
    )
    pipes = {"stderr": writer, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.readline() == b"full\n"
        heard = os.read(reader, 1_000_000)
        process.communicate(b"\n", timeout=20)
    while piece := os.read(reader, 100_000):
        heard += piece
    os.close(reader)
    *told, last = heard.splitlines()
    lost = re.search(rb"again \((\d+) lines before this one could not be written\)", last)
    assert lost
    assert len(told) + int(lost[1]) == 1000


def test_a_reader_that_went_away_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with speaks("j.log('nobody', event=N)", writer) as process:
        os.close(writer)
        assert process.communicate(timeout=20)[0] == b"done"


def test_a_file_is_appended_to(tmp_path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    with (
        path.open("ab") as file,
        speaks("j.log('one', event=N); os.write(2, b'two\\n'); j.log('three', event=N)", file.fileno()) as process,
    ):
        process.communicate(timeout=20)
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["before", "one", "two", "three"]


BECOME_NOBODY = f"import os; {IMPORTS}; os.setgroups([]); os.setresgid(65534, 65534, 65534); "
BECOME_NOBODY += "os.setresuid(65534, 65534, 65534); j = Journal('x', 'y'); "
ANOTHER_USERS = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@ANOTHER_USERS
def test_another_users_pipe_that_nobody_reads_never_holds_up_the_speaker_and_its_end() -> None:
    reader, writer = os.pipe()  # its end of it may be written to, and not opened again
    program = BECOME_NOBODY + "[j.log('z' * 500, event=N) for _ in range(3000)]; os.write(1, b'done')"
    with subprocess.Popen([sys.executable, "-c", program], stderr=writer, stdout=subprocess.PIPE) as process:
        os.close(writer)
        try:
            assert process.communicate(timeout=20)[0] == b"done"
        finally:
            process.kill()
    assert process.returncode == 0
    os.close(reader)


@ANOTHER_USERS
def test_lines_that_another_users_pipe_did_not_take_are_counted() -> None:
    reader, writer = os.pipe()
    program = BECOME_NOBODY + (
        "import sys; [j.log('z' * 500, event=N) for _ in range(3000)]; print('full', flush=True); sys.stdin.readline();"
        "j.log('again', event=N)"
    )
    pipes = {"stderr": writer, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        os.close(writer)
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], 20.0)[0], "it is held up"
            assert process.stdout.readline() == b"full\n"
            heard = b""
            while select.select([reader], [], [], 1.0)[0]:  # all that waited is written once there is room
                heard += os.read(reader, 100_000)
            process.communicate(b"\n", timeout=20)
        finally:
            process.kill()
    while piece := os.read(reader, 100_000):
        heard += piece
    os.close(reader)
    *told, last = heard.splitlines()
    lost = re.search(rb"again \((\d+) lines before this one could not be written\)", last)
    assert lost
    assert len(told) + int(lost[1]) == 3000


@ANOTHER_USERS
def test_the_last_words_reach_another_users_pipe() -> None:
    reader, writer = os.pipe()
    program = BECOME_NOBODY + "[j.log(str(n), event=N) for n in range(50)]"
    with subprocess.Popen([sys.executable, "-c", program], stderr=writer) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as heard:
            assert [int(line.split()[-1]) for line in heard] == list(range(50))
    assert process.returncode == 0


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    with open("/dev/full", "wb") as full, speaks("[j.log('z', event=N) for _ in range(100)]", full.fileno()) as process:
        assert process.communicate(timeout=20)[0] == b"done"
