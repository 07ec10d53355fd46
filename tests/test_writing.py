"""Replacing files on the real file system: what is kept, what is refused, what is left behind."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard import writing
from session_guard.writing import WriteError, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

LEFT = ".session-guard-0123456789abcdef.tmp"
"""What a process that was killed may have left."""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that files are moved from."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "session-guard"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tree" / "a.py"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


def assert_untouched(path: Path) -> None:
    assert path.read_bytes() == b"old"
    assert not [entry for entry in path.parent.iterdir() if entry.name.startswith(".session")]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o4711])
def test_a_file_keeps_its_mode_and_owner(file: Path, mode: int) -> None:
    if os.getuid() == 0:
        os.chown(file, 1234, 2345)
    file.chmod(mode)
    before = file.stat()
    write_atomically(file, b"new", b"old")
    after = file.stat()
    assert file.read_bytes() == b"new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert os.listdir(file.parent) == ["a.py"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has them in Python")
def test_a_file_keeps_its_extended_attributes(file: Path) -> None:
    try:
        os.setxattr(file, "user.origin", b"here")
    except OSError:
        pytest.skip("this file system has none")
    write_atomically(file, b"new", b"old")
    assert os.getxattr(file, "user.origin") == b"here"


def test_a_symbolic_link_stays_one(file: Path) -> None:
    link = file.with_name("link.py")
    link.symlink_to("a.py")
    write_atomically(link, b"new", b"old")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"


def test_a_file_that_changed_meanwhile_is_left(file: Path) -> None:
    with pytest.raises(WriteError, match="changed by another program"):
        write_atomically(file, b"new", b"older")
    assert_untouched(file)


def test_a_read_only_file_is_left_even_by_root(file: Path) -> None:
    file.chmod(0o444)
    with pytest.raises(WriteError, match="read-only"):
        write_atomically(file, b"new", b"old")
    assert_untouched(file)


def test_a_file_with_several_names_is_left(file: Path) -> None:
    os.link(file, file.with_name("b.py"))
    with pytest.raises(WriteError, match="2 hard links"):
        write_atomically(file, b"new", b"old")
    assert_untouched(file)


def test_a_file_that_is_gone_or_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file"):
        write_atomically(tmp_path / "a.py", b"new", b"old")
    assert not list(tmp_path.iterdir())


def test_a_file_in_a_read_only_folder_is_left_even_by_root(file: Path) -> None:
    file.parent.chmod(0o555)
    with pytest.raises(WriteError, match="in a folder that is read-only"):
        write_atomically(file, b"new", b"old")
    file.parent.chmod(0o755)
    assert_untouched(file)


def test_a_link_that_leads_nowhere_or_round_is_said_so(file: Path) -> None:
    link = file.with_name("link.py")
    link.symlink_to("gone.py")
    with pytest.raises(WriteError, match="No such file"):
        write_atomically(link, b"new", b"")
    link.unlink()
    link.symlink_to("link.py")
    with pytest.raises(WriteError, match="cannot be written"):
        write_atomically(link, b"new", b"")
    link.unlink()
    assert_untouched(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.chmod(0o640),
        lambda file: os.link(file, file.with_name("twin.py")),
        lambda file: os.replace(shutil.copy2(file, f"{file}.copy"), file),
        lambda file: file.write_bytes(b"mine"),
        lambda file: file.unlink(),
    ],
    ids=["mode", "hard link", "another file", "text", "deleted"],
)
def test_a_file_that_changes_while_it_is_written_is_left(
    file: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    real = os.fsync

    def meddle(descriptor: int) -> None:
        real(descriptor)
        change(file)

    monkeypatch.setattr(os, "fsync", meddle)  # the moment at which another program comes in
    with pytest.raises(WriteError, match=r"changed by another program|No such file"):
        write_atomically(file, b"new", b"old")
    assert all(path.read_bytes() in (b"old", b"mine") for path in file.parent.iterdir())


# -- the new file until it stands -------------------------------------------------------------


def name_in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")


def name_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    # As where the system has no files without a name.
    monkeypatch.setattr(writing._Temporary, "_nameless", lambda self: -1)


def shared_folder_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "session-guard"
    folder.mkdir(parents=True)
    folder.chmod(0o777)


WAYS = [
    lambda monkeypatch: None,
    name_in_the_folder,
    name_from_the_start,
    shared_folder_of_ones_own,
]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_whether_it_is_written_or_not(
    file: Path, own: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[object], None]
) -> None:
    way(monkeypatch)
    write_atomically(file, b"new", b"old")
    assert (file.read_bytes(), os.listdir(file.parent)) == (b"new", ["a.py"])
    with pytest.raises(WriteError):
        write_atomically(file, b"newer", b"old")
    assert (file.read_bytes(), os.listdir(file.parent)) == (b"new", ["a.py"])
    assert not own.exists() or not os.listdir(own)


@pytest.mark.parametrize("way", WAYS)
def test_what_was_left_goes_with_the_next_file_and_what_is_in_use_stays(
    file: Path, own: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[object], None]
) -> None:
    way(monkeypatch)
    own.mkdir(parents=True, exist_ok=True)
    for folder in (file.parent, own):
        (folder / LEFT).write_bytes(b"left")
        (folder / ".session-guard-baseline").touch()
    (file.parent / "x.tmp").touch()
    in_use = file.with_name(LEFT.replace("0", "1"))
    with in_use.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        write_atomically(file, b"new", b"old")
    assert set(os.listdir(file.parent)) == {".session-guard-baseline", in_use.name, "a.py", "x.tmp"}
    if way is WAYS[0]:
        assert os.listdir(own) == [".session-guard-baseline"]
    write_atomically(file, b"newer", b"new")
    assert not in_use.exists()


def test_a_file_on_another_file_system_is_replaced_too(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == file.stat().st_dev:
        pytest.skip("there is one file system alone")
    with tempfile.TemporaryDirectory(dir=other) as folder:
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        write_atomically(file, b"new", b"old")
        assert os.listdir(folder) == ["session-guard"]
        assert not os.listdir(f"{folder}/session-guard")
    assert (file.read_bytes(), os.listdir(file.parent)) == (b"new", ["a.py"])


# -- disks that are full, and processes that are killed ----------------------------------------


def test_a_full_disk_leaves_the_file_and_no_litter(file: Path) -> None:
    # A limit on the size of files stands for the full disk.
    code = (
        "import resource, signal; from session_guard.writing import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"write_atomically(Path({str(file)!r}), b'n' * 10_000_000, b'old')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "WriteError: cannot be written: File too large" in run.stderr
    assert_untouched(file)


def test_a_disk_that_is_full_leaves_the_file_and_no_litter(file: Path) -> None:
    code = (
        "import sys; from session_guard.writing import *\n"
        "path = Path(sys.argv[1], 'a.py'); path.write_bytes(b'old')\n"
        "try: write_atomically(path, b'n' * 10_000_000, b'old')\n"
        "except WriteError as error: print(error)\n"
        "print(path.read_bytes(), os.listdir(sys.argv[1]))"
    )
    mount = 'mount -t tmpfs -o size=64k none "$1" 2>/dev/null || exit 77; exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", str(file.parent), sys.executable, code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip("no file system may be mounted here")
    assert run.stdout.splitlines() == [
        "cannot be written: No space left on device",
        "b'old' ['a.py']",
    ]


def test_killed_at_any_moment_it_is_the_old_file_or_the_new_one(file: Path) -> None:
    old, new = b"o" * 300_000, b"n" * 300_000
    code = (
        "import sys; from session_guard.writing import *\n"
        f"path, one, other = Path({str(file)!r}), {old[:1]!r} * 300_000, {new[:1]!r} * 300_000\n"
        "print('ready', flush=True)\n"
        "while True: write_atomically(path, other, one); one, other = other, one"
    )
    chance = random.Random(1)
    for _ in range(15):
        file.write_bytes(old)
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
        assert file.read_bytes() in (old, new)
        assert os.listdir(file.parent) == ["a.py"]
