"""Whose files are believed: what only this user and root could have put there, on the whole way to it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heirflow.config.places import default_run_dir
from heirflow.config.resolve import resolve
from heirflow.errors import ConfigError
from heirflow.ownership import above, stranger

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "top" / "folder" / "heirflow.toml"
    file.parent.mkdir(parents=True)
    file.write_text('label = "read"\non-event = "touch ran"\n')
    return file


def parent_open(file: Path) -> None:
    file.parent.parent.chmod(0o777)


def link_in_an_open_folder(file: Path) -> None:
    """The file is a link to a link in a folder where anybody may write."""
    target = file.with_name("real.toml")
    file.rename(target)
    open_folder = file.parent.parent / "open"
    open_folder.mkdir()
    (open_folder / "way").symlink_to(target)
    open_folder.chmod(0o777)
    file.symlink_to(open_folder / "way")


OPEN: dict[str, Callable[[Path], object]] = {
    "the file": lambda file: file.chmod(0o666),
    "the file, to a group": lambda file: file.chmod(0o660),
    "its folder": lambda file: file.parent.chmod(0o777),
    "its folder, to a group": lambda file: file.parent.chmod(0o775),
    "its folder, where nobody may rename": lambda file: file.parent.chmod(0o1777),
    "a parent": parent_open,
    "a folder on the way of links": link_in_an_open_folder,
}
FOREIGN: dict[str, Callable[[Path], object]] = {
    "the file": lambda file: os.chown(file, NOBODY, 0),
    "its folder": lambda file: os.chown(file.parent, NOBODY, 0),
    "a parent": lambda file: os.chown(file.parent.parent, NOBODY, 0),
}


def settle(file: Path, place: str) -> object:
    """Read the settings with this file in one of the places that are looked at."""
    env = {"HOME": str(file.parent.parent / "absent")}
    match place:
        case "the working directory":
            return resolve({}, env, folder=file.parent)["label"]
        case "a flag":
            return resolve({"config": str(file)}, env, folder=Path("/"))["label"]
        case "the environment":
            return resolve({}, {**env, "HEIRFLOW_CONFIG": str(file)}, folder=Path("/"))["label"]
        case _:
            own = file.parent.parent / "heirflow"
            own.symlink_to(file.parent)
            return resolve({}, {**env, "XDG_CONFIG_HOME": str(own.parent)}, folder=Path("/"))["label"]


PLACES = ("the working directory", "a flag", "the environment", "the home")


@pytest.mark.parametrize("place", PLACES)
def test_our_own_file_counts_everywhere(file: Path, place: str) -> None:
    assert settle(file, place) == "read"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", OPEN)
def test_where_others_may_write_no_file_counts(file: Path, place: str, what: str) -> None:
    OPEN[what](file)
    with pytest.raises(ConfigError, match=r"heirflow\.toml is not used, because other users may write to"):
        settle(file, place)


@needs_root
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", FOREIGN)
def test_a_strangers_file_is_refused_by_name(file: Path, place: str, what: str) -> None:
    FOREIGN[what](file)
    with pytest.raises(ConfigError, match=r"heirflow\.toml is not used, because .* belongs to the user nobody"):
        settle(file, place)


def test_a_parent_where_nobody_may_rename_what_is_not_theirs_is_no_harm(file: Path) -> None:
    file.parent.parent.chmod(0o1777)
    assert stranger(file) == ""


def test_a_url_in_a_file_that_others_may_write_earns_a_warning(file: Path) -> None:
    url = file.with_name("url")
    url.write_text("sqlite:////x")
    url.chmod(0o622)
    env = {"HOME": str(file.parent), "HEIRFLOW_DB_URL_FILE": str(url)}
    assert any(
        "somebody else could choose the database" in each for each in resolve({}, env, folder=Path("/")).warnings
    )


@needs_root
def test_on_a_read_only_file_system_no_right_to_write_counts(file: Path) -> None:
    """As a ConfigMap in Kubernetes: a folder with mode 777, mounted read-only."""
    file.parent.chmod(0o777)
    script = (
        f"mount --bind {file.parent} {file.parent} && mount -o remount,ro,bind {file.parent} && cat {file} && exec "
    )
    script += f"{sys.executable} -c 'from pathlib import Path; from heirflow.ownership import above, stranger; "
    script += f'print("who:" + stranger(Path("{file}")) + ":")' + "'"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert "who::" in done.stdout, done


@needs_root
def test_the_runtime_folder_of_somebody_else_is_not_ours(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert default_run_dir(env) == tmp_path / "heirflow"
    os.chown(tmp_path, NOBODY, 0)
    assert default_run_dir(env).name == f"heirflow-{os.getuid()}"


@needs_root
def test_an_open_volume_is_where_a_container_may_keep_its_sockets(tmp_path: Path) -> None:
    """As an emptyDir in Kubernetes: mode 777, without the sticky bit. An open folder that is no volume is refused."""
    tmp_path.chmod(0o777)
    assert above(tmp_path / "r") == f"other users may write to {tmp_path}"
    ask = f'from pathlib import Path; from heirflow.ownership import above, stranger; r = Path("{tmp_path}/r"); '
    ask += "r.mkdir(); file = r.with_name('x'); file.touch(); print(':', above(r), ':', bool(stranger(file)))"
    script = f"mount -t tmpfs -o mode=777 none {tmp_path} && exec {sys.executable} -c {shlex.quote(ask)}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == ":  : True\n", done
