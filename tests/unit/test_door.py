"""The local door: who is asked, who answers, and what a frozen or absent member looks like."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.errors import HeirflowError
from heirflow.member.door import LocalDoor, NobodyAnswers, NotOneMember, ask, prepare, remove_stale, safe_name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r"


@pytest.fixture
def open_door(folder: Path):
    """Doors with somebody behind each of them who answers."""
    doors: list[LocalDoor] = []
    ending = threading.Event()
    threads = []

    def open_door(election: str = "beat", pid: int | None = None, **facts: object) -> LocalDoor:
        door = LocalDoor(folder, election, pid)
        doors.append(door)

        def answer() -> None:
            with selectors.DefaultSelector() as selector:
                selector.register(door, selectors.EVENT_READ)
                while not ending.is_set():
                    if selector.select(0.05):
                        door.answer({"election": election, "live": True, **facts})

        thread = threading.Thread(target=answer)
        thread.start()
        threads.append(thread)
        return door

    yield open_door
    ending.set()
    for thread in threads:
        thread.join()
    for door in doors:
        door.close()


def test_whoever_asks_gets_the_facts(folder: Path, open_door) -> None:
    open_door(term=7)
    assert ask(folder)["term"] == 7
    assert ask(folder, "beat")["live"] is True


def test_nobody_there(folder: Path, open_door) -> None:
    with pytest.raises(NobodyAnswers, match="no member runs on this host"):
        ask(folder)
    open_door("other")
    with pytest.raises(NobodyAnswers, match="no member of beat runs"):
        ask(folder, "beat")


def test_several_members_must_be_told_apart(folder: Path, open_door) -> None:
    open_door("beat", 11, who="first")
    open_door("beat", 12, who="second")
    open_door("other", 13, who="third")
    with pytest.raises(NotOneMember, match=r"beat\.11, beat\.12, other\.13"):
        ask(folder)
    with pytest.raises(NotOneMember):
        ask(folder, "beat")
    assert ask(folder, "beat", pid=12)["who"] == "second"
    assert ask(folder, "other")["who"] == "third"


def test_a_member_that_does_not_answer_is_not_live(folder: Path) -> None:
    door = LocalDoor(folder, "beat")
    with pytest.raises(NobodyAnswers, match="does not answer in time"):
        ask(folder, timeout_s=0.05)
    door.close()


def test_a_full_queue_is_no_reason_to_take_a_members_socket_away(folder: Path) -> None:
    frozen = LocalDoor(folder, "beat", 11)
    askers = []
    for _ in range(40):
        asker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        asker.setblocking(False)
        askers.append(asker)
        asker.connect_ex(os.fspath(frozen.path))
    LocalDoor(folder, "beat", 12).close()
    assert frozen.path.exists()
    for asker in askers:
        asker.close()
    frozen.close()


def test_stale_sockets_are_taken_away(folder: Path, open_door) -> None:
    prepare(folder)
    stale = folder / "beat.4242.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(os.fspath(stale))
    (folder / "notes.txt").write_text("not ours")
    open_door()
    assert not stale.exists()
    assert (folder / "notes.txt").exists()


def test_a_closed_door_leaves_nothing(folder: Path) -> None:
    door = LocalDoor(folder, "beat")
    assert door.path.exists()
    door.close()
    door.close()
    assert list(folder.iterdir()) == []


def test_only_its_owner_may_enter(folder: Path) -> None:
    door = LocalDoor(folder, "beat")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert door.path.stat().st_mode & 0o777 == 0o600
    door.close()


def test_a_folder_that_others_may_write_to_is_closed(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    prepare(folder)
    assert folder.stat().st_mode & 0o022 == 0


def test_a_link_instead_of_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.symlink_to(tmp_path)
    with pytest.raises(HeirflowError, match="is not a folder"):
        prepare(folder)


def test_a_path_that_is_too_long_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HeirflowError, match="too long for a socket; choose a shorter --run-dir"):
        LocalDoor(tmp_path / ("x" * 100), "beat")


def test_an_asker_that_went_away_harms_nobody(folder: Path) -> None:
    door = LocalDoor(folder, "beat")
    for _ in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
            asker.connect(os.fspath(door.path))
    assert door.answer({"live": True}) == 3
    assert door.answer({"live": True}) == 0
    door.close()


def test_names_become_file_names_and_stay_different() -> None:
    assert safe_name("airflow-scheduler") == "airflow-scheduler"
    hostile = ["../../etc/passwd", "a b", "a.b", "a/b", "a_b", "日本", "日木", "x" * 41, "x" * 42]
    names = [safe_name(name) for name in hostile]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 40 and "/" not in name and "." not in name for name in names)


def test_members_that_start_at_once_leave_each_others_doors_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another member takes stale sockets away just when ours is bound and does not listen yet."""
    bind = socket.socket.bind

    class Bound(socket.socket):
        def bind(self, address: str) -> None:
            bind(self, address)
            remove_stale(folder)

    monkeypatch.setattr("heirflow.member.door.socket.socket", Bound)
    door = LocalDoor(folder, "beat", 1)
    try:
        assert door.path.is_socket()
        assert list(folder.iterdir()) == [door.path]
    finally:
        door.close()


NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
FOREIGN: dict[str, Callable[[Path], object]] = {
    "its parent belongs to another user": lambda folder: os.chown(folder.parent, NOBODY, 0),
    "anybody may rename it": lambda folder: folder.parent.chmod(0o777),
    "it belongs to another user": lambda folder: os.chown(folder, NOBODY, 0),
}


@needs_root
@pytest.mark.parametrize("what", FOREIGN)
def test_nobody_serves_or_believes_where_another_user_could_put_sockets(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "theirs" / "r"
    folder.mkdir(parents=True)
    FOREIGN[what](folder)
    for use in (prepare, ask):
        with pytest.raises(HeirflowError, match="choose another --run-dir"):
            use(folder)


def test_nobody_believes_what_stands_in_an_open_folder(folder: Path, open_door) -> None:
    open_door()
    folder.chmod(0o770)
    with pytest.raises(HeirflowError, match=r"other users may write to .* no member there is believed"):
        ask(folder)


def test_a_folder_in_the_temporary_folder_is_ours(folder: Path, tmp_path: Path, open_door) -> None:
    tmp_path.chmod(0o1777)
    open_door()
    assert ask(folder)["live"] is True


def test_the_folders_that_are_made_on_the_way_are_closed(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        prepare(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o022 == 0


@needs_root
def test_another_users_socket_is_not_believed(folder: Path) -> None:
    prepare(folder)
    script = f"""
import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind({str(folder / "beat.7.sock")!r})
os.setuid({NOBODY})
s.listen()
print(flush=True)
while True:
    s.accept()[0].sendall(b'{{"live": true}}')
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        try:
            with pytest.raises(NobodyAnswers, match="no member of beat runs"):
                ask(folder, "beat")
        finally:
            stranger.kill()


def test_two_members_with_one_number_have_a_door_each(folder: Path) -> None:
    first = LocalDoor(folder, "beat", 1, member="host-a-aaaaaa")
    second = LocalDoor(folder, "beat", 1, member="host-b-bbbbbb")
    assert sorted(path.name for path in folder.iterdir()) == ["beat.host-a-aaaaaa.1.sock", "beat.host-b-bbbbbb.1.sock"]
    second.close()
    assert first.path.exists()
    first.close()


def test_a_member_can_be_asked_by_its_id(folder: Path) -> None:
    doors = [LocalDoor(folder, "beat", 1, member=f"host.x-{end}") for end in ("aaaaaa", "bbbbbb")]
    with pytest.raises(NotOneMember, match="--member"):
        ask(folder, timeout_s=0.05)
    with pytest.raises(NobodyAnswers, match=r"beat\.host-x-aaaaaa\.1 does not answer in time"):
        ask(folder, timeout_s=0.05, member="host.x-aaaaaa")
    with pytest.raises(NobodyAnswers, match="no member runs"):
        ask(folder, timeout_s=0.05, member="host.x-cccccc")
    for door in doors:
        door.close()


def test_a_long_name_leaves_room_for_a_member() -> None:
    with tempfile.TemporaryDirectory() as short:  # pytest's own folders have long names
        door = LocalDoor(Path(short), "e" * 40, 1234567, member="h" * 39 + "-abcdef")
        assert door.path.name == f"{'e' * 40}.abcdef.1234567.sock"
        with pytest.raises(NobodyAnswers, match="does not answer in time"):
            ask(Path(short), timeout_s=0.05, member="h" * 39 + "-abcdef")
        door.close()


def test_where_somebody_listens_no_door_is_replaced(folder: Path, open_door) -> None:
    there = open_door("beat", 1, who="first")
    with pytest.raises(HeirflowError, match="somebody else listens on"):
        LocalDoor(folder, "beat", 1)
    assert ask(folder)["who"] == "first"
    there.path.unlink()
    later = LocalDoor(folder, "beat", 1)
    there.close()
    assert later.path.exists(), "a door that is not its own is left alone"
    later.close()


def test_brackets_without_end_are_no_answer(folder: Path) -> None:
    prepare(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(folder / "beat.1.sock"))
        listener.listen()

        def tell() -> None:
            link, _ = listener.accept()
            with link:
                link.sendall(b"[" * 60_000)

        thread = threading.Thread(target=tell)
        thread.start()
        with pytest.raises(NobodyAnswers, match="broke off its answer"):
            ask(folder)
        thread.join()
