"""The baseline: what is frozen stays silent wherever it moves to, and what is new is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from session_guard.config import ConfigError
from session_guard.runner import Options, Run

BASELINE = ".session-guard-baseline"
HEAD = "from sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
ONE = f"{HEAD}def one(engine):\n    return AsyncSession(engine)\n"
TWO = f"{HEAD}def two(engine):\n    return AsyncSession(engine, expire_on_commit=False)\n"


def run(
    *arguments: str, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error", **(env or {})},
    )
    assert "Traceback" not in done.stderr
    return done


def guard(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return run("-m", "session_guard", *arguments, stdin=stdin)


def lay(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def entries(path: str = BASELINE) -> list[str]:
    """Return the lines of a baseline without its comments, and without the hashes."""
    lines = [line for line in Path(path).read_text().splitlines() if not line.startswith("#")]
    parts = [line.rsplit(" ", 2) for line in lines]
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for _, digest, _ in parts)
    return [f"{start} {ordinal}" for start, _, ordinal in parts]


def reported(*paths: str) -> list[tuple[str, int, str]]:
    run = Run(Options(paths or (".",)))
    return [(item.path, item.line, item.code) for found in run.check() for item in found]


def freeze(*paths: str) -> None:
    assert list(Run(Options(paths or (".",))).check(freeze=True)) == []


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lay({"pyproject.toml": "[tool.session-guard]\n", "app/a.py": ONE, "app/b.py": TWO})
    return tmp_path


def test_what_is_frozen_is_silent_and_what_is_new_fails(project: Path) -> None:
    assert guard("check").returncode == 1
    frozen = guard("check", "--write-baseline")
    assert frozen.returncode == 0
    assert frozen.stdout == "All checks passed: 2 files; 2 violations in the baseline.\n"
    assert frozen.stderr == f"note: {BASELINE}: 2 known findings (2 new, 0 dropped)\n"
    assert entries() == ["app/a.py SG101 1", "app/b.py SG101 1"]
    assert Path(BASELINE).read_text().startswith("# ")

    again = guard("check")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "All checks passed: 2 files; 2 violations in the baseline.\n"
    assert guard("check", "--output-format", "json").stdout == "[]\n"

    lay({"app/c.py": ONE})
    new = guard("check")
    assert new.returncode == 1
    assert new.stdout.startswith("app/c.py:5:12: SG101 ")
    assert new.stdout.endswith(
        "\nFound 1 violation in 1 of 3 files; 2 violations in the baseline.\n"
    )


def test_it_is_a_file_for_version_control(project: Path) -> None:
    secret = 'AsyncSession("postgresql://me:hunter2@db/app", password="hunter3")'
    lay({"app/a.py": ONE + f"\n\nsecret = {secret}\n"})
    freeze()
    written = Path(BASELINE)
    lines = written.read_text().splitlines()[2:]
    assert lines == sorted(lines)
    assert not any(
        word in written.read_text() for word in ("hunter", "postgresql", "db/app", str(project))
    )
    before = written.stat()
    freeze()
    assert (written.stat().st_ino, written.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )

    # What a merge leaves: both sides in any order, some twice, with the other system's line ends.
    merged = "\r\n".join([*lines[::-1], "", *lines, ""])
    written.write_bytes(merged.encode())
    assert reported() == []


SAME = {
    "further down": ("AsyncSession(e)", "x = 1\n\n\nAsyncSession(e)"),
    "indented": ("s = AsyncSession(e)", "def f(e):\n    if e:\n        s = AsyncSession(e)"),
    "a comment": ("s = AsyncSession(e)", "s = AsyncSession(e)  # why\n# because"),
    "layout": (
        "s = f(AsyncSession(e), b=1)",
        "s=f(\n  AsyncSession(  # a\n    e\n  ),\n  b = 1,\n)",
    ),
    "parentheses": ("s = AsyncSession(e)", "s = (AsyncSession((e)))"),
    "quotes": ("AsyncSession(b'x', f'y{z}')", 'AsyncSession(B"x", f"y{z}")'),
    "a string in pieces": ("AsyncSession('a b c')", "AsyncSession(\n  'a '\n  'b '\n  'c'\n)"),
    "two in one": ("f(AsyncSession(e), AsyncSession(e))", "x\nf(AsyncSession(e), AsyncSession(e))"),
    "beside another": ("AsyncSession(e)", "x = 1; AsyncSession(e); y = 2"),
    "the block below": (
        "async def f():\n  async with AsyncSession(e) as s:\n    await s.commit()",
        "async def g():\n  async with (\n    AsyncSession(e) as s,\n  ):\n    pass",
    ),
    "the branch beside": (
        "if AsyncSession(e):\n  pass",
        "if x:\n  pass\nelif AsyncSession(e):\n  y\nelse:\n  z",
    ),
    "a decorator above": ("def f(s=AsyncSession(e)): pass", "@g\ndef f(s=AsyncSession(e)):\n  h()"),
    "what is decorated": ("@g(AsyncSession(e))\ndef f(): pass", "@g(AsyncSession(e))\ndef h(x): y"),
}


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME.keys())
def test_what_is_moved_or_laid_out_anew_stays_known(before: str, after: str, project: Path) -> None:
    lay({"app/a.py": f"{HEAD}{before}\n"})
    freeze()
    lay({"app/a.py": f"{HEAD}{after}\n"})
    assert reported() == []


OTHER = {
    "a second one": ("AsyncSession(e)", "AsyncSession(e)\nAsyncSession(e)"),
    "another argument": ("AsyncSession(e)", "AsyncSession(f)"),
    "another keyword": ("AsyncSession(e, a=1)", "AsyncSession(e, b=1)"),
    "another target": ("s = AsyncSession(e)", "t = AsyncSession(e)"),
    "another string": ("AsyncSession('a')", "AsyncSession('b')"),
    "another kind of string": ("AsyncSession('a')", "AsyncSession(b'a')"),
    "a blank in a string": ("AsyncSession('ab')", "AsyncSession('a b')"),
    "another operator": ("AsyncSession(a + b)", "AsyncSession(a - b)"),
    "another tuple's element": ("AsyncSession(((a,), b))", "AsyncSession(((a, b),))"),
    "other grouping": ("AsyncSession((a + b) * c)", "AsyncSession(a + (b * c))"),
    "another statement": ("AsyncSession(e)", "await_ = AsyncSession(e)"),
    "not asynchronous": (
        "async def f():\n  async with AsyncSession(e) as s: pass",
        "async def f():\n  with AsyncSession(e) as s: pass",
    ),
}


@pytest.mark.parametrize(("before", "after"), OTHER.values(), ids=OTHER.keys())
def test_another_statement_is_new(before: str, after: str, project: Path) -> None:
    lay({"app/a.py": f"{HEAD}{before}\n"})
    freeze()
    assert reported() == []
    lay({"app/a.py": f"{HEAD}{after}\n"})
    assert [(path, code) for path, _, code in reported()] == [("app/a.py", "SG101")]


def test_another_code_on_the_statement_is_new(project: Path) -> None:
    text = f"{HEAD}s = AsyncSession(e, execution_options={{'a': 1}})"
    lay({"app/a.py": f"{text}  # noqa: SG104\n"})
    freeze()
    lay({"app/a.py": f"{text}\n"})
    assert [code for _, _, code in reported()] == ["SG104"]


def test_a_suppression_of_no_use_can_be_frozen(project: Path) -> None:
    lay({"app/a.py": "x = 1  # noqa: SG101\n"})
    freeze()
    assert "app/a.py SG002 1" in entries()
    lay({"app/a.py": "\n\nx = 2  # noqa: SG101\n"})
    assert reported() == []
    lay({"app/a.py": "x = 1  # noqa: SG101\ny = 1  # noqa: SG103\n"})
    assert reported() == [("app/a.py", 2, "SG002")]


def test_what_is_found_does_not_depend_on_what_else_is_named(project: Path) -> None:
    freeze()
    lay({"app/a.py": ONE + ONE, "app/c.py": TWO})
    whole = reported()
    assert [item[0] for item in whole] == ["app/a.py", "app/c.py"]
    assert reported("app/c.py", "app/b.py", "app/a.py") == whole[::-1]
    assert [
        item for path in ("app/a.py", "app/b.py", "app/c.py") for item in reported(path)
    ] == whole


def test_freezing_some_files_leaves_the_entries_of_others(project: Path) -> None:
    freeze("app/a.py")
    assert entries() == ["app/a.py SG101 1"]
    freeze("app/b.py")
    assert entries() == ["app/a.py SG101 1", "app/b.py SG101 1"]
    lay({"app/a.py": "x = 1\n", "lib/c.py": ONE})
    Path("app/b.py").unlink()
    freeze("lib")
    assert entries() == ["app/a.py SG101 1", "app/b.py SG101 1", "lib/c.py SG101 1"]
    freeze("app/a.py", "lib/c.py")
    assert entries() == ["app/b.py SG101 1", "lib/c.py SG101 1"]
    freeze("app", "lib/c.py")
    assert entries() == ["lib/c.py SG101 1"]


def test_what_matches_nothing_any_more_is_said_and_fails_nothing(project: Path) -> None:
    freeze()
    lay({"app/a.py": "x = 1\n"})
    done = guard("check")
    assert done.returncode == 0
    assert done.stderr == (
        f"note: {BASELINE}: 1 entry matches nothing any more (line 3); delete it, or freeze what "
        "is found today with `session-guard check --write-baseline`\n"
    )
    for arguments in (
        ["check", "app/b.py"],
        ["check", "--config", 'select = ["SG102"]'],
        ["check", "--config", 'per-file-ignores = { "app/" = ["SG1"] }'],
        ["check", "--config", 'exclude = ["a.py"]'],
        ["fix", "--diff"],
    ):
        assert guard(*arguments).stderr.count("note: ") == 0, arguments
    Path("app/b.py").unlink()
    assert "2 entries match nothing any more (line 3, 4); delete them, " in guard("check").stderr
    assert guard("check", "app/a.py").stderr.count("1 entry matches") == 1
    refreshed = guard("check", "--write-baseline")
    assert refreshed.stderr == f"note: {BASELINE}: 0 known findings (0 new, 2 dropped)\n"
    assert entries() == []
    assert guard("check").stderr == ""


def test_what_is_not_looked_for_is_not_dropped(project: Path) -> None:
    lay({"app/b.py": f"{HEAD}AsyncSession(e, execution_options={{'a': 1}})\n"})
    freeze()
    everything = ["app/a.py SG101 1", "app/b.py SG101 1", "app/b.py SG104 1"]
    assert entries() == everything
    with Path(BASELINE).open("a") as file:
        file.write(f"app/a.py TEAM001 {'0' * 16} 1\n")
    assert guard("check", "--write-baseline", "--config", 'select = ["SG104"]').returncode == 0
    assert entries() == sorted([*everything, "app/a.py TEAM001 1"])
    assert guard("check", "--write-baseline").returncode == 0
    assert entries() == sorted([*everything, "app/a.py TEAM001 1"])


def test_a_file_that_cannot_be_parsed_is_never_known(project: Path) -> None:
    freeze()
    lay({"app/a.py": ONE + "AsyncSession(\n"})
    done = guard("check", "--write-baseline")
    assert done.returncode == 1
    assert "app/a.py:6:13: SG001 " in done.stdout
    assert entries() == ["app/a.py SG101 1", "app/b.py SG101 1"]
    again = guard("check")
    assert (again.returncode, again.stderr) == (1, "")


def test_nothing_is_written_where_there_is_nothing_to_freeze(project: Path) -> None:
    lay({"app/a.py": "", "app/b.py": ""})
    done = guard("check", "--write-baseline")
    assert (done.returncode, Path(BASELINE).exists()) == (0, False)


FIXABLE = """\
from app.db import engine
from sqlalchemy.ext.asyncio import AsyncSession

async def job():
    async with AsyncSession(engine) as session:
        await session.get(User, 1)
"""


def test_fix_mends_what_is_known_and_lists_what_is_new(project: Path) -> None:
    handler = (Path(__file__).parent / "fixtures/standard_2025/async_session.py").read_text()
    lay({"app/db.py": handler, "app/a.py": FIXABLE})
    freeze()
    before = Path(BASELINE).read_bytes()
    diff = guard("fix", "--diff")
    assert (diff.returncode, diff.stdout.count("+++ ")) == (1, 1)
    assert "SG101" not in diff.stderr
    done = guard("fix")
    assert done.returncode == 0
    assert done.stdout.startswith("app/a.py: fixed 1 violation\n")
    assert done.stdout.endswith("\nFixed 1 violation in 1 file.\n")
    assert "get_background_session" in Path("app/a.py").read_text()
    assert "1 entry matches nothing any more" in done.stderr
    assert Path(BASELINE).read_bytes() == before
    lay({"app/b.py": TWO + TWO})
    done = guard("fix")
    assert (done.returncode, done.stdout.count("SG101")) == (1, 1)
    Path("app/a.py").write_text(FIXABLE)
    Path("app/a.py").chmod(0o444)
    assert guard("fix", "app/a.py").returncode == 0


def test_standard_input_respects_it(project: Path) -> None:
    freeze()
    named = ("--stdin-filename", "app/a.py", "-")
    assert guard("check", *named, stdin=ONE).returncode == 0
    assert guard("check", *named, stdin=TWO).returncode == 1
    assert guard("check", *named, stdin="x = 1\n").stderr == ""
    done = guard("check", "--write-baseline", *named, stdin=TWO)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--write-baseline needs files" in done.stderr


def test_each_project_has_its_own(project: Path) -> None:
    lay({"sub/pyproject.toml": '[tool.session-guard]\nbaseline = "ci/known"\n', "sub/a.py": ONE})
    Path("sub/ci").mkdir()
    done = guard("check", "--write-baseline")
    assert done.stderr == (
        f"note: {BASELINE}: 2 known findings (2 new, 0 dropped)\n"
        "note: sub/ci/known: 1 known finding (1 new, 0 dropped)\n"
    )
    assert entries() == ["app/a.py SG101 1", "app/b.py SG101 1"]
    assert entries("sub/ci/known") == ["a.py SG101 1"]
    assert guard("check").returncode == guard("check", "sub/a.py").returncode == 0
    os.chdir("sub")
    assert guard("check", "..").returncode == 0
    elsewhere = guard("check", "--config", 'baseline = "other"')
    assert (elsewhere.returncode, elsewhere.stderr) == (1, "")


@pytest.mark.parametrize(
    "name", ["with blank.py", "#a.py", "50%25.py", "größe\u2028.py", "a\nb.py"]
)
def test_any_name_of_a_file(name: str, project: Path) -> None:
    lay({name: ONE})
    freeze()
    assert len(Path(BASELINE).read_text().split("\n")) == 2 + 3 + 1
    assert reported() == []
    lay({name: TWO})
    assert len(reported()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_name_that_is_not_text(project: Path) -> None:
    Path(os.fsdecode(b"app/\xff.py")).write_text(ONE)
    freeze()
    assert "app/%FF.py SG101 1" in entries()
    assert reported() == []


@pytest.mark.parametrize(
    "line",
    [
        b"<<<<<<< HEAD",
        b"app/a.py SG101 0123456789abcdef",
        b"app/a.py SG101 0123456789abcde 1",
        b"app/a.py SG101 0123456789abcdef 0",
        b"app/a.py SG101 0123456789ABCDEF 1",
        b"SG101 0123456789abcdef 1",
        b"\xff\xfe\0",
    ],
)
def test_a_line_that_is_no_entry_is_an_error(line: bytes, project: Path) -> None:
    Path(BASELINE).write_bytes(b"# a comment\n\n" + line + b"\n")
    with pytest.raises(ConfigError, match=f"^{project / BASELINE}:3: no entry of a baseline"):
        reported()


def test_a_broken_baseline_is_exit_code_2_and_stays_as_it_is(project: Path) -> None:
    freeze()
    with Path(BASELINE).open("a") as file:
        file.write("\n<<<<<<< HEAD\n")
    before = Path(BASELINE).read_bytes()
    for arguments in (["check"], ["fix"], ["check", "--write-baseline"], ["check", "app/a.py"]):
        done = guard(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"Error: {project / BASELINE}:6: no entry of a baseline")
    assert Path(BASELINE).read_bytes() == before


def test_what_cannot_be_read_or_written_is_exit_code_2(project: Path) -> None:
    freeze("app/a.py")
    Path(BASELINE).chmod(0o444)
    before = Path(BASELINE).read_bytes()
    done = guard("check", "--write-baseline")
    assert (done.returncode, Path(BASELINE).read_bytes()) == (2, before)
    assert f"Error: {project / BASELINE}: the file is read-only" in done.stderr
    assert os.listdir() == [name for name in os.listdir() if not name.endswith(".tmp")]
    Path(BASELINE).unlink()
    Path(BASELINE).mkdir()
    assert f"{BASELINE}: Is a directory" in guard("check").stderr
    missing = guard("check", "--write-baseline", "--config", 'baseline = "not/there"')
    assert missing.returncode == 2
    assert "not/there: cannot be written: No such file or directory" in missing.stderr


def imported(path: str, *, command: str = "check") -> set[str]:
    arguments = [command, *(["--no-cache"] if command == "check" else []), path]
    done = run("-X", "importtime", "-m", "session_guard", *arguments)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_nothing_is_hashed_without_a_baseline_and_a_finding(project: Path) -> None:
    lay({"app/clean.py": "x = 1\n"})
    assert "hashlib" not in imported("app/a.py") | imported("app/a.py", command="fix")
    freeze()
    assert not {"hashlib", "libcst"} & imported("app/clean.py")
    assert "hashlib" in imported("app/a.py")
