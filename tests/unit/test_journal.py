"""The journal: one line each, nothing that a terminal obeys, and never the end of who speaks."""

from __future__ import annotations

import io
import json
import os
import re
import select
import subprocess
import sys

import pytest

from heirflow.member.journal import Journal


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def test_text(out: io.StringIO) -> None:
    journal = Journal("airflow-scheduler", "host-a-90b3f2", out=out)
    journal.log("took charge", term=7)
    journal.warn("the store is slow")
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d heirflow airflow-scheduler b3f2: took charge", first)
    assert second.endswith(": warning: the store is slow")


def test_json(out: io.StringIO) -> None:
    Journal("beat", "a-1", form="json", out=out).log("took\ncharge", term=7, level="forged")
    (line,) = out.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["sentence"], entry["term"], entry["level"], entry["member"]) == ("took\ncharge", 7, "info", "a-1")


def test_quiet(out: io.StringIO) -> None:
    quiet = Journal(quiet=True, out=out)
    quiet.log("nothing")
    quiet.warn("trouble")
    assert [line.split(": ", 1)[1] for line in out.getvalue().splitlines()] == ["warning: trouble"]


def test_nothing_can_forge_a_line_or_show_a_password(out: io.StringIO) -> None:
    Journal("a\nb", out=out).log("x\n12:00:00 heirflow: forged \x1b[2J mysql://me:pw@db/x")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    assert "me:***@db" in out.getvalue()


def test_a_closed_output_ends_nothing(out: io.StringIO) -> None:
    journal = Journal(out=out)
    out.close()
    journal.log("nobody hears this")


def speaks(code: str, stderr: int) -> subprocess.Popen[bytes]:
    """A process of its own that speaks through a journal on a real standard error, and tells its end on standard output."""
    program = (
        f"import os; from heirflow.member.journal import Journal; j = Journal('x', 'y'); {code}; os.write(1, b'done')"
    )
    return subprocess.Popen([sys.executable, "-c", program], stderr=stderr, stdout=subprocess.PIPE)


def test_a_pipe_that_nobody_reads_never_holds_up_the_speaker() -> None:
    reader, writer = os.pipe()
    with speaks("[j.log('z' * 500) for _ in range(1000)]", writer) as process:
        os.close(writer)
        assert process.communicate(timeout=20)[0] == b"done"
    flags = os.get_blocking(reader)
    os.close(reader)
    assert flags, "the pipe that we share with the command is as it was"


def test_lost_lines_are_counted() -> None:
    reader, writer = os.pipe()
    program = (
        "import sys; from heirflow.member.journal import Journal; j = Journal('x', 'y');"
        "[j.log('z' * 500) for _ in range(1000)]; print('full', flush=True); sys.stdin.readline(); j.log('again')"
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
    with speaks("j.log('nobody')", writer) as process:
        os.close(writer)
        assert process.communicate(timeout=20)[0] == b"done"


def test_a_file_is_appended_to(tmp_path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    with (
        path.open("ab") as file,
        speaks("j.log('one'); os.write(2, b'two\\n'); j.log('three')", file.fileno()) as process,
    ):
        process.communicate(timeout=20)
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["before", "one", "two", "three"]


BECOME_NOBODY = (
    "import os; from heirflow.member.journal import Journal; os.setgroups([]); os.setresgid(65534, 65534, 65534); "
)
BECOME_NOBODY += "os.setresuid(65534, 65534, 65534); j = Journal('x', 'y'); "
ANOTHER_USERS = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@ANOTHER_USERS
def test_another_users_pipe_that_nobody_reads_never_holds_up_the_speaker_and_its_end() -> None:
    reader, writer = os.pipe()  # its end of it may be written to, and not opened again
    program = BECOME_NOBODY + "[j.log('z' * 500) for _ in range(3000)]; os.write(1, b'done')"
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
        "import sys; [j.log('z' * 500) for _ in range(3000)]; print('full', flush=True); sys.stdin.readline();"
        "j.log('again')"
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
    program = BECOME_NOBODY + "[j.log(str(n)) for n in range(50)]"
    with subprocess.Popen([sys.executable, "-c", program], stderr=writer) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as heard:
            assert [int(line.split()[-1]) for line in heard] == list(range(50))
    assert process.returncode == 0


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    with open("/dev/full", "wb") as full, speaks("[j.log('z') for _ in range(100)]", full.fileno()) as process:
        assert process.communicate(timeout=20)[0] == b"done"
