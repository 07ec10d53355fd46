"""Finding and decoding files, against git, CPython and the real file system."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from session_guard.config import ConfigError, Configuration
from session_guard.sources import (
    Finder,
    PathError,
    Source,
    SourceError,
    decode,
    encode,
    walk,
)

TABLE = "[tool.session-guard]\n"


def lay(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def finder(*overrides: str, force_exclude: bool = True) -> Finder:
    configuration = Configuration(overrides, lambda: frozenset({"SG101"}))
    return Finder(configuration.settings, force_exclude=force_exclude)


def find(*paths: str | Path, force_exclude: bool = True) -> list[Source]:
    found = list(finder(force_exclude=force_exclude).find(map(str, paths)))
    assert all(isinstance(source, Source) for source in found), found
    return [source for source in found if isinstance(source, Source)]


def shown(*paths: str | Path, force_exclude: bool = True) -> list[str]:
    return [source.shown for source in find(*paths, force_exclude=force_exclude)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- which files ------------------------------------------------------------------------------


def test_files_come_sorted_once_and_only_python(here: Path) -> None:
    lay(here, {"b/z.py": "", "b/a.py": "", "a.py": "", "c.pyi": "", "d.txt": "", "script": ""})
    assert shown(".") == ["a.py", "b/a.py", "b/z.py"]
    assert shown("b/z.py", ".", "b", "./b/../a.py") == ["b/z.py", "a.py", "b/a.py"]
    assert shown("script", "d.txt", "c.pyi") == ["script", "d.txt"]


def test_symbolic_links_are_followed_where_named_and_never_loop(here: Path) -> None:
    lay(here, {"p/a.py": "", "q/b.py": ""})
    (here / "p/loop").symlink_to(here)
    (here / "p/link.py").symlink_to("../q/b.py")
    (here / "r").symlink_to("q")
    assert shown(".") == ["p/a.py", "q/b.py"]
    assert shown("r") == ["r/b.py"]
    assert shown("p/link.py", "q/b.py") == ["p/link.py"]
    assert find("p/link.py")[0].path == str((here / "q/b.py").resolve())


def test_a_path_that_is_not_there_is_named(here: Path) -> None:
    lay(here, {"a.py": ""})
    with pytest.raises(PathError, match=r"^nope\.py: No such file"):
        next(finder().find(["a.py", "nope.py"]))
    os.mkfifo(here / "pipe")
    with pytest.raises(PathError, match="pipe: neither a file nor a folder"):
        next(finder().find(["pipe"]))


def test_a_name_that_is_not_text_is_shown_all_the_same(here: Path) -> None:
    Path(os.fsdecode(b"caf\xe9.py")).touch()
    assert shown(".") == ["caf\N{REPLACEMENT CHARACTER}.py"]
    assert Path(find(".")[0].path).exists()


def test_a_folder_that_cannot_be_listed_is_reported(here: Path) -> None:
    lay(here, {"a.py": "", "shut/b.py": ""})
    (here / "shut").chmod(0)
    code = (
        "import os\n"
        "from session_guard.sources import *; from session_guard.config import Settings\n"
        "os.getuid() or os.setuid(65534)\n"
        "print(list(Finder(lambda r: Settings(root=Path(r))).find(['.'])))"
    )
    for folder in (here, *here.parents):
        if folder.owner() == here.owner() and folder != Path("/"):
            folder.chmod(0o755)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (here / "shut").chmod(0o755)
    assert "Unreadable(shown='shut', reason='Permission denied')" in run.stdout
    assert "shown='a.py'" in run.stdout


def test_excluded_folders_are_passed_by_for_named_files_too(here: Path) -> None:
    files = {"venv/a.py": "", "x/node_modules/b.py": "", "gen/c.py": "", "build": "", "ok.py": ""}
    lay(here, {**files, "pyproject.toml": f'{TABLE}exclude = ["/gen", "*_pb2.py"]', "m_pb2.py": ""})
    names = ["venv/a.py", "x/node_modules/b.py", "gen/c.py", "m_pb2.py", "build", "ok.py"]
    assert shown(".") == ["ok.py"]
    assert shown(*names) == ["build", "ok.py"]
    assert shown(*names, force_exclude=False) == names
    assert shown("gen") == []
    assert shown("gen", force_exclude=False) == ["gen/c.py"]


def test_a_users_pattern_can_take_a_default_exclude_back(here: Path) -> None:
    lay(here, {"build/a.py": "", "pyproject.toml": f'{TABLE}exclude = ["!build"]'})
    assert shown(".") == shown("build/a.py") == ["build/a.py"]


# -- ignore files -----------------------------------------------------------------------------

WHOLE = ["a", "b", "c.py", "d.py", "*", "**", "*.py", "?", "[ab]", "a*", "\\a", "?.py", "[!a]*"]
ODD = ["***", "**b", "[[:alpha:]]*", "[a", "[]a]", "[b-a]", "[a-c].py", "[^b]", "[\\a]", "\\"]
PIECES = st.one_of(st.sampled_from(WHOLE), st.sampled_from(ODD))
PATTERNS = st.builds(
    lambda negated, anchored, pieces, folder, end: (
        ("!" if negated else "")
        + ("/" if anchored else "")
        + "/".join(pieces)
        + ("/" if folder else "")
        + end
    ),
    st.booleans(),
    st.booleans(),
    st.lists(PIECES, min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["", "", " ", "\\ ", "\r"]),
)
IGNORE_FILES = st.lists(
    st.one_of(PATTERNS, st.sampled_from(["# c", "", "!", "/", "\\"])), max_size=4
)


@settings(max_examples=150, deadline=None)
@given(top=IGNORE_FILES, inner=IGNORE_FILES, exclude=IGNORE_FILES)
@example(top=["a/a", "!a/a/*"], inner=[], exclude=[])
@example(top=["a", "!/a"], inner=[], exclude=[])
@example(top=["/a/**", "!/a/a/"], inner=["[b-a]"], exclude=["/b\r"])
def test_ignore_files_mean_what_they_mean_to_git(
    top: list[str], inner: list[str], exclude: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        tree = [
            f"{up}{file}"
            for up in ("", "a/", "b/", "a/a/", "a/b/", "b/a/b/")
            for file in ("c.py", "d.py")
        ]
        lay(folder, dict.fromkeys(tree, ""))
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        lay(folder, {".gitignore": "\n".join(top), "a/.gitignore": "\n".join(inner)})
        lay(folder, {".git/info/exclude": "\n".join(exclude)})
        git = ["git", "-c", "core.excludesFile=", "ls-files", "-o", "--exclude-standard", "*.py"]
        listed = subprocess.run(git, cwd=folder, capture_output=True, text=True, check=True)
        expected = set(listed.stdout.split())
        assert {source.relative for source in find(folder)} == expected
        assert {source.relative for source in find(*(folder / f for f in tree))} == expected


def test_ignore_files_count_from_the_project_where_there_is_no_repository(here: Path) -> None:
    lay(here, {".gitignore": "a.py", "p/pyproject.toml": "", "p/a.py": "", "p/b.py": ""})
    lay(here, {"p/.gitignore": "b.py"})
    assert shown("p") == ["p/a.py"]


def test_a_repository_within_another_has_ignore_files_of_its_own(here: Path) -> None:
    lay(here, {".gitignore": "a.py", ".git/HEAD": "", "sub/.git/HEAD": "", "sub/a.py": ""})
    assert shown(".") == shown("sub/a.py") == ["sub/a.py"]


def test_neither_a_project_nor_a_repository_is_bound_by_what_is_above_it(here: Path) -> None:
    lay(here, {".git/HEAD": "", ".gitignore": "third", "pyproject.toml": TABLE})
    lay(here, {"third/.git/HEAD": "", "third/a.py": "", "third/b/a.py": ""})
    lay(here, {"build/in/pyproject.toml": TABLE, "build/in/a.py": "", "build/b.py": ""})
    assert shown(".") == []
    assert shown("third/b/a.py", "build/in/a.py", "build/b.py") == ["third/b/a.py", "build/in/a.py"]
    assert shown("third", "build/in") == ["third/a.py", "third/b/a.py", "build/in/a.py"]


def test_a_worktree_has_its_repositorys_exclude_file(here: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q", "main"], check=True)
    lay(here, {"main/.git/info/exclude": "a.py\n"})
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], cwd="main", check=True)
    subprocess.run([*git, "worktree", "add", "-q", "../tree"], cwd="main", check=True)
    lay(here, {"tree/a.py": "", "tree/b.py": ""})
    assert shown("tree") == ["tree/b.py"]


# -- which project ----------------------------------------------------------------------------


def roots(*paths: str) -> dict[str, str]:
    return {source.shown: source.settings.root.name for source in find(*paths)}


@pytest.mark.parametrize(
    ("files", "root"),
    [
        ({"w/p/pyproject.toml": TABLE, "w/p/q/.git/HEAD": "", "w/p/q/pyproject.toml": ""}, "p"),
        ({"w/.git/HEAD": "", "w/p/pyproject.toml": "", "w/p/q/pyproject.toml": ""}, "w"),
        ({"w/p/pyproject.toml": "", "w/p/q/x": ""}, "p"),
        ({"w/p/pyproject.toml": "[project]\nname = 'session-guard'", "w/.git/HEAD": ""}, "w"),
        ({"w/p/pyproject.toml": "not TOML", "w/.git/HEAD": ""}, "w"),
        ({"w/p/q/__init__.py": "", "w/p/__init__.py": ""}, "w"),
        ({}, "q"),
    ],
)
def test_a_files_project_is_where_its_marks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], root: str
) -> None:
    lay(tmp_path, {"w/p/q/a.py": "", "elsewhere/b.py": "", **files})
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find(tmp_path / "w/p/q/a.py")[0].settings.root.name == root


def test_without_any_mark_the_project_is_where_we_are_or_what_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path, {"w/p/q/a.py": "", "elsewhere/b.py": ""})
    monkeypatch.chdir(tmp_path / "w")
    assert roots("p", "p/q/a.py") == {"p/q/a.py": "w"}
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [source.settings.root.name for source in find("../w/p")] == ["p"]


def test_a_project_within_another_has_its_own_settings_however_it_is_named(here: Path) -> None:
    lay(here, {"pyproject.toml": f'{TABLE}handler = "outer"\nexclude = ["x.py"]', "x.py": ""})
    lay(here, {"in/pyproject.toml": f'{TABLE}handler = "inner"', "in/d/x.py": "", "y.py": ""})
    for paths in (["."], ["in", "y.py"], ["in/d/x.py", "y.py"]):
        found = {source.shown: source for source in find(*paths)}
        assert found["y.py"].settings.handler == ("outer",)
        assert found["in/d/x.py"].settings.handler == ("inner",)
        assert found["in/d/x.py"].relative == "d/x.py"
        assert len(found) == 2


def test_a_wrong_configuration_met_on_the_way_is_an_error(here: Path) -> None:
    lay(here, {"a.py": "", "in/b.py": "", "in/pyproject.toml": f"{TABLE}handler = 1"})
    with pytest.raises(ConfigError, match=r"in/pyproject\.toml: .*`handler`"):
        find(".")


def test_the_files_of_a_project_are_its_own_alone(here: Path) -> None:
    lay(here, {"pyproject.toml": TABLE, "a.py": "", "venv/v.py": "", "g/b.py": "", "t/x.py": ""})
    lay(here, {".gitignore": "t", ".git/HEAD": "", "in/pyproject.toml": TABLE, "in/c.py": ""})
    root = find("a.py")[0].settings
    assert list(walk(root.root, root)) == [here / "a.py", here / "g/b.py"]


# -- decoding ---------------------------------------------------------------------------------

COOKIES = st.sampled_from(
    "utf-8 utf8 UTF_8 latin-1 iso-8859-1 cp1252 koi8-r shift_jis gbk ascii utf-8-sig nope rot13 "
    "iso-8859-15 latin-1-unix Latin_1".split()
)
FIRST = st.sampled_from(
    [b"", b"#!/bin/x", b"x = 1", b"  # c", b"\f", b"'''", b'"""# coding: x', b"\xe9", b"# \xe9"]
)
COOKIE_LINES = st.builds(
    lambda before, cookie, after: before + cookie.encode() + after,
    st.sampled_from([b"# coding: ", b"# -*- coding:", b"# vim: set fileencoding=", b"#coding=\t"]),
    COOKIES,
    st.sampled_from([b"", b" -*-", b" \xe9", b" :"]),
)
LINES = st.lists(st.one_of(FIRST, COOKIE_LINES), max_size=3)


@settings(max_examples=400, deadline=None)
@given(
    bom=st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
    lines=LINES,
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    inner=st.one_of(st.binary(max_size=4), st.sampled_from([b"\xc3\xa9", b"\0", b"\xed\xa0\x80"])),
)
def test_bytes_are_decoded_as_python_decodes_them(
    bom: bytes, lines: list[bytes], end: bytes, inner: bytes
) -> None:
    if any(mark in inner for mark in b"\r\n'\\"):
        return
    data = bom + end.join([*lines, b"x = '" + inner + b"'", b""])
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError) as error:
        if any(word in str(error) for word in ("codec", "encoding", "null byte")):
            with pytest.raises(SourceError):
                decode(data)
        return
    try:
        decoded = decode(data)
    except SourceError:
        # `compile` passes over wrong bytes in a comment; Python does not when it reads the file.
        with pytest.raises(UnicodeDecodeError):
            data.decode()
        return
    assert encode(decoded) == data == decoded.data
    assert ast.dump(ast.parse(decoded.text)) == ast.dump(tree)


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"a\r\nb\rc\n\xff", 4, "byte 0xff is not utf-8"),
        (b"\xef\xbb\xbf\n# coding: latin-1\n", 2, "byte order mark but says 'iso-8859-1'"),
        (b"#\n# coding: klingon\n", 2, "encoding 'klingon' is not known"),
        (b"# coding: rot13\n", 1, "encoding 'rot13' is not known"),
        (b"a\nb\0", 2, "null byte"),
    ],
)
def test_bytes_that_are_no_text_are_named_with_their_line(
    data: bytes, line: int, message: str
) -> None:
    with pytest.raises(SourceError, match=message) as raised:
        decode(data)
    assert raised.value.line == line
