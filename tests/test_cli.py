"""The commands as a user runs them: real processes on real files."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HANDLER = """\
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
factory = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)


@asynccontextmanager
async def get_background_session():
    async with factory() as session:
        try:
            yield session
            await session.commit()
        except BaseException:
            await session.rollback()
            raise
"""
FIXABLE = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine


async def one():
    async with AsyncSession(engine) as session:
        return await session.scalar(select(1))
"""
FIXED = """\
from sqlalchemy import select

from app.db import get_background_session


async def one():
    async with get_background_session() as session:
        return await session.scalar(select(1))
"""
UNFIXABLE = """\
from sqlalchemy.ext.asyncio import AsyncSession


def make(engine):
    return AsyncSession(engine)
"""


def run(
    *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = run_bytes(*arguments, stdin=stdin, env=env)
    out, err = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
    assert "Traceback" not in err or "SESSION_GUARD_TRACEBACK" in (env or {})
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def run_bytes(
    *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "session_guard", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error", **(env or {})},
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a project that has a handler and one clean file."""
    monkeypatch.chdir(tmp_path)
    lay({"pyproject.toml": '[tool.session-guard]\nhandler = "app.db"\n'})
    lay({"app/__init__.py": "", "app/db.py": HANDLER, "app/clean.py": "x = 1\n"})
    return tmp_path


def lay(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


# -- check ------------------------------------------------------------------------------------


def test_check_of_what_is_clean(project: Path) -> None:
    done = run("check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "All checks passed: 3 files.\n", "")
    assert run("check", "app/clean.py").stdout == "All checks passed: 1 file.\n"


def test_check_shows_place_line_and_help_and_sums_up(project: Path) -> None:
    lay({"app/a.py": FIXABLE, "app/b.py": UNFIXABLE})
    done = run("check")
    assert done.returncode == 1
    assert done.stderr == ""
    first, second, summary = done.stdout.split("\n\n")
    head, _, line, marks, hint = first.splitlines()
    assert head.startswith("app/a.py:8:16: SG101 ")
    assert line == "8 |     async with AsyncSession(engine) as session:"
    assert marks == "  |                ^^^^^^^^^^^^^^^^^^^^"
    assert hint.startswith("  = help: ")
    assert second.startswith("app/b.py:5:12: SG101 ")
    assert summary == (
        "Found 2 violations in 2 of 5 files; 1 can be fixed with `session-guard fix`.\n"
    )


def test_the_summary_says_which_command_fixes_what(project: Path) -> None:
    unsafe = FIXABLE.replace("(engine)", "(engine, info={1: 2})")
    lay({"app/a.py": unsafe})
    summary = "Found 1 violation in 1 of 4 files; "
    summary += "1 can be fixed with `session-guard fix --unsafe-fixes`.\n"
    assert run("check").stdout.endswith(f"\n\n{summary}")
    lay({"app/b.py": FIXABLE})
    summary = "Found 2 violations in 2 of 5 files; "
    summary += "1 can be fixed with `session-guard fix`, 1 more with `--unsafe-fixes`.\n"
    assert run("check").stdout.endswith(f"\n\n{summary}")


def test_paths_are_shown_from_where_we_stand(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay({"app/a.py": FIXABLE, "other/x": ""})
    monkeypatch.chdir("app")
    assert run("check", str(project / "app/a.py")).stdout.startswith("a.py:8:16: ")
    assert run("check", "./a.py").stdout.startswith("a.py:8:16: ")
    monkeypatch.chdir("../other")
    assert run("check", "../app/a.py").stdout.startswith(f"{project}/app/a.py:8:16: ")


def test_what_is_found_does_not_depend_on_what_else_is_named(project: Path) -> None:
    lay({"app/a.py": FIXABLE, "in/pyproject.toml": "[tool.session-guard]\nselect = []\n"})
    lay({"in/b.py": FIXABLE, "tests/c.py": FIXABLE, "venv/d.py": FIXABLE})
    expected = [
        (found["path"], found["line"], found["code"], found["fix"])
        for found in json.loads(run("check", "--output-format", "json").stdout)
    ]
    assert [item[:3] for item in expected] == [("app/a.py", 8, "SG101")]
    for paths in (["app/a.py"], ["in", "app"], ["app/a.py", "in/b.py", "tests/c.py", "venv/d.py"]):
        found = json.loads(run("check", "--output-format", "json", *paths).stdout)
        assert [(f["path"], f["line"], f["code"], f["fix"]) for f in found] == expected


@pytest.mark.parametrize("output_format", ["json", "github"])
def test_formats_for_programs_have_nothing_else_in_them(project: Path, output_format: str) -> None:
    clean = run("check", "--output-format", output_format)
    assert (clean.returncode, clean.stdout.strip()) == (0, "[]" if output_format == "json" else "")
    lay({"app/a.py": FIXABLE})
    done = run("check", "--output-format", output_format)
    assert (done.returncode, done.stderr) == (1, "")
    if output_format == "json":
        assert [found["code"] for found in json.loads(done.stdout)] == ["SG101"]
    else:
        assert all(line.startswith("::error ") for line in done.stdout.splitlines())


def test_the_edits_of_the_json_make_the_fixed_file(project: Path) -> None:
    lay({"app/a.py": FIXABLE})
    (found,) = json.loads(run("check", "--output-format", "json", "app").stdout)
    data = Path("app/a.py").read_bytes()
    for edit in sorted(found["fix"]["edits"], key=lambda edit: -edit["start"]):
        data = data[: edit["start"]] + edit["text"].encode() + data[edit["end"] :]
    assert data.decode() == FIXED


def test_files_that_cannot_be_read_are_violations(project: Path) -> None:
    lay({"app/a.py": "AsyncSession("})
    Path("app/b.py").write_bytes(b"# \xff AsyncSession\n")
    done = run("check")
    assert done.returncode == 1
    assert "app/a.py:1:13: SG001 this file was not checked: syntax error: '(' was" in done.stdout
    assert "app/b.py:1:1: SG001 " in done.stdout


def test_configuration_from_the_command_line(project: Path) -> None:
    lay({"app/a.py": FIXABLE})
    assert run("check", "--config", 'ignore = ["SG1"]').returncode == 0
    assert run("check", "--config", 'exclude = ["a.py"]', "app/a.py").returncode == 0
    again = run("check", "--config", 'exclude = ["a.py"]', "--no-force-exclude", "app/a.py")
    assert again.returncode == 1


def test_a_run_over_no_files_says_so(project: Path) -> None:
    lay({"doc/a.txt": ""})
    done = run("check", "doc")
    assert (done.returncode, done.stdout) == (0, "All checks passed: 0 files.\n")
    assert done.stderr == "warning: no Python files to check in: doc\n"


def test_what_concerns_the_project_is_said_once_on_standard_error(project: Path) -> None:
    lay({"pyproject.toml": "[tool.session-guard]\n", "lib/db.py": HANDLER, "app/a.py": FIXABLE})
    for arguments in (["check"], ["check", "--output-format", "json"], ["fix"]):
        done = run(*arguments)
        notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
        assert len(notes) == 1
        assert "get_background_session" in notes[0]


# -- fix --------------------------------------------------------------------------------------


def test_fix_rewrites_and_says_what_it_did(project: Path) -> None:
    lay({"app/a.py": FIXABLE})
    done = run("fix")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("app/a.py: fixed 1 violation\n  8:16: SG101 ")
    assert done.stdout.endswith("\nFixed 1 violation in 1 file.\n")
    assert Path("app/a.py").read_text() == FIXED
    again = run("fix")
    assert (again.returncode, again.stdout) == (0, "Nothing to fix: 4 files.\n")
    assert run("check").returncode == 0


def test_fix_lists_what_it_left_with_the_reason(project: Path) -> None:
    lay({"app/a.py": FIXABLE, "app/b.py": UNFIXABLE})
    done = run("fix")
    assert done.returncode == 1
    assert "app/b.py:5:12: SG101 " in done.stdout
    assert "not fixed: " in done.stdout
    assert done.stdout.endswith("\nFixed 1 violation in 1 file; 1 not fixed.\n")
    assert Path("app/b.py").read_text() == UNFIXABLE


def test_fix_diff_prints_what_would_change_and_writes_nothing(project: Path) -> None:
    lay({"app/a.py": FIXABLE.rstrip("\n"), "app/b.py": UNFIXABLE})
    Path("app/c.py").write_bytes(FIXABLE.replace("\n", "\r\n").encode())
    before = {path: path.read_bytes() for path in Path("app").iterdir()}
    done = run_bytes("fix", "--diff")
    assert done.returncode == 1
    assert {path: path.read_bytes() for path in Path("app").iterdir()} == before
    assert done.stdout.startswith(b"--- a/app/a.py\n+++ b/app/a.py\n@@ ")
    assert b"\\ No newline at end of file\n" in done.stdout
    assert b"app/b.py:5:12: SG101 " in done.stderr
    assert done.stderr.endswith(b"\nWould fix 2 violations in 2 files; 1 not fixed.\n")
    subprocess.run(["git", "apply", "-"], input=done.stdout, check=True)
    assert Path("app/a.py").read_text() == FIXED.rstrip("\n")
    assert Path("app/c.py").read_bytes() == FIXED.replace("\n", "\r\n").encode()
    os.unlink("app/b.py")
    assert run("fix", "--diff").returncode == 0


def test_fix_says_of_each_unwritable_file_why(project: Path) -> None:
    lay({"app/a.py": FIXABLE, "app/b.py": FIXABLE})
    Path("app/a.py").chmod(0o444)
    os.link("app/b.py", "twin")
    done = run("fix")
    assert done.returncode == 1
    assert "help: not fixed: the file is read-only\n" in done.stdout
    assert "help: not fixed: the file has 2 hard links" in done.stdout
    assert Path("app/a.py").read_text() == Path("twin").read_text() == FIXABLE


def test_fix_ended_from_outside_leaves_whole_files_and_nothing_else(project: Path) -> None:
    names = [f"app/m{number}.py" for number in range(40)]
    lay(dict.fromkeys(names, FIXABLE))
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "session_guard", "fix"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    texts = [Path(name).read_text() for name in names]
    assert {*texts} == {FIXABLE, FIXED}
    assert not [name for name in os.listdir("app") if name.startswith(".session-guard-")]


def test_fix_in_a_format_for_programs_keeps_standard_output_for_it(project: Path) -> None:
    lay({"app/a.py": FIXABLE, "app/b.py": UNFIXABLE})
    done = run("fix", "--output-format", "json")
    assert [found["path"] for found in json.loads(done.stdout)] == ["app/b.py"]
    assert "app/a.py: fixed 1 violation" in done.stderr


# -- standard input ---------------------------------------------------------------------------


def test_check_reads_standard_input(project: Path) -> None:
    done = run("check", "-", stdin=UNFIXABLE.encode())
    assert (done.returncode, done.stdout[:21]) == (1, "<stdin>:5:12: SG101 `")
    done = run("check", "-", "--stdin-filename", "app/new.py", stdin=FIXABLE.encode())
    assert done.stdout.startswith("app/new.py:8:16: SG101 ")
    assert (
        run("check", "-", "--stdin-filename", "tests/x.py", stdin=FIXABLE.encode()).returncode == 0
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_fix_prints_the_new_text_and_nothing_else(project: Path, start: str, end: str) -> None:
    given, expected = ((start + text).replace("\n", end).encode() for text in (FIXABLE, FIXED))
    done = run_bytes("fix", "-", "--stdin-filename", "app/a.py", stdin=given)
    assert (done.returncode, done.stdout) == (0, expected)
    assert done.stderr.startswith(b"app/a.py: fixed 1 violation\n")
    assert not Path("app/a.py").exists()


@pytest.mark.parametrize("name", ["venv/a.py", "app/clean.py"])
def test_fix_gives_back_what_it_leaves_alone(project: Path, name: str) -> None:
    odd = b"\xff\0 AsyncSession(engine)\r\n" if name.startswith("venv") else b"x = 1\r\n\n"
    done = run_bytes("fix", "-", "--stdin-filename", name, stdin=odd)
    assert (done.returncode, done.stdout) == (0, odd)


def test_fix_gives_back_what_it_cannot_read(project: Path) -> None:
    odd = b"\xff AsyncSession(engine)\r\n"
    done = run_bytes("fix", "-", stdin=odd)
    assert (done.returncode, done.stdout) == (1, odd)
    assert b"<stdin>:1:1: SG001 " in done.stderr


def test_fix_diff_of_standard_input(project: Path) -> None:
    name = ("--stdin-filename", "app/a.py")
    done = run("fix", "--diff", "-", *name, stdin=FIXABLE.encode())
    assert (done.returncode, done.stdout[:15]) == (1, "--- a/app/a.py\n")


# -- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nope.py"], "Error: nope.py: No such file or directory"),
        (["check", "--nope"], "No such option"),
        (["chek"], "No such command"),
        (["check", "-", "app"], "no other path can be named"),
        (["check", "app", "--stdin-filename", "x"], "--stdin-filename needs `-`"),
        (["check", "--output-format", "xml"], "Invalid value for '--output-format'"),
        (["check", "--config", "handler"], "Error: --config 'handler': invalid TOML"),
        (["fix", "--config", "handler = 1"], "Error: --config 'handler': `handler`: must be"),
        (["rule", "SG1011"], "there is no rule `SG1011`; did you mean `SG101`"),
        (["rule", "direct-session"], "did you mean `direct-async-session`"),
    ],
)
def test_bad_usage_is_exit_code_2(project: Path, arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_bad_configuration_is_exit_code_2(project: Path) -> None:
    lay({"pyproject.toml": "[tool.session-guard]\nselect = ['SG1001']\n"})
    done = run("check")
    assert (done.returncode, done.stdout) == (2, "")
    where = f"Error: {project}/pyproject.toml: [tool.session-guard]: `select`: "
    assert done.stderr.startswith(f"{where}no rule has the code `SG1001`; did you mean `SG101`?")


PLUGIN = """\
from session_guard.rule import Rule

class TeamRule(Rule):
    code = "TEAM001"
    name = "team-rule"
    summary = why = fix_safety = "The team's own."
    since = "1"
    tokens = (b"BOOM",)
    node_types = ("Name",)
    valid = invalid = ()

    def check(self, node, module):
        if node.value == "BOOM":
            raise RuntimeError("it went off")
        return iter(())
"""


def plug_in(folder: Path, text: str) -> dict[str, str]:
    """Lay what an installed rule package looks like, and return how Python is to find it."""
    package = folder / "team-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: team\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[session_guard.rules]\nteam = team_rules\n")
    (folder / "team_rules.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def test_an_error_of_ours_names_the_file_and_is_exit_code_2(project: Path) -> None:
    environment = plug_in(project / "venv", PLUGIN)
    lay({"app/boom.py": "BOOM\n"})
    assert "TEAM001  team-rule: The team's own." in run("rule", env=environment).stdout
    for command in ("check", "fix"):
        done = run(command, env=environment)
        assert done.returncode == 2
        assert (
            "error: app/boom.py: internal error in TEAM001: RuntimeError"
            in done.stderr.splitlines()
        )
        assert "SESSION_GUARD_TRACEBACK=1" in done.stderr
    full = run("check", env={**environment, "SESSION_GUARD_TRACEBACK": "1"})
    assert full.returncode == 2
    assert "Traceback" in full.stderr
    assert 'raise RuntimeError("it went off")' in full.stderr
    ignored = run("check", "--config", 'ignore = ["TEAM"]', env=environment)
    assert ignored.returncode == 0


def test_a_rule_that_fails_at_a_file_keeps_nothing_from_the_others(project: Path) -> None:
    environment = plug_in(project / "venv", PLUGIN)
    lay({"app/boom.py": FIXABLE + "BOOM\n", "app/jobs.py": FIXABLE})
    before = Path("app/boom.py").read_bytes()
    found = run("check", "--output-format", "json", env=environment)
    assert {item["path"] for item in json.loads(found.stdout)} == {"app/jobs.py"}
    assert found.returncode == 2
    said = run("check", "app/boom.py", env=environment)
    assert said.stdout == "Found no violation in 0 files; 1 file not checked.\n"

    frozen = run("check", "--write-baseline")
    assert frozen.returncode == 0
    entries = Path(".session-guard-baseline").read_bytes()
    assert run("check", "--write-baseline", env=environment).returncode == 2
    assert Path(".session-guard-baseline").read_bytes() == entries

    done = run("fix", env=environment)
    assert done.returncode == 2
    assert "Fixed 1 violation in 1 file; 1 file not checked." in done.stdout
    assert "AsyncSession" not in Path("app/jobs.py").read_text()
    assert Path("app/boom.py").read_bytes() == before
    text = before.decode()
    stdin = run("fix", "-", "--stdin-filename", "app/x.py", stdin=before, env=environment)
    assert (stdin.returncode, stdin.stdout) == (2, text)


def test_a_rule_package_that_cannot_be_imported_is_exit_code_2(project: Path) -> None:
    environment = plug_in(project / "venv", "import not_there\n")
    for command in ("check", "rule"):
        done = run(command, env=environment)
        assert done.returncode == 2
        assert "No module named 'not_there'" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(project: Path) -> None:
    lay({f"app/m{number}.py": FIXABLE for number in range(60)})
    for command in (["check"], ["rule", "SG101"], ["fix", "--diff"]):
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "session_guard", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            errors = process.stderr.read().decode()
        assert "Traceback" not in errors
        assert "rror:" not in errors
        assert "BrokenPipe" not in errors


def test_a_terminal_that_lacks_a_character_is_no_error(project: Path) -> None:
    lay({"app/a.py": UNFIXABLE.replace("engine", "漢")})
    done = run("check", env={"PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 1
    assert "AsyncSession(\\u6f22)" in done.stdout


# -- rules, version, colours, start-up --------------------------------------------------------


def test_rule_lists_and_explains(project: Path) -> None:
    listed = run("rule").stdout.splitlines()
    assert any(line.startswith("SG101  direct-async-session: ") for line in listed)
    page = run("rule", "SG101")
    assert page.returncode == 0
    assert page.stdout.startswith("# direct-async-session (SG101)\n")
    for part in (
        "## Why",
        "## Fix",
        "## Reported",
        "After `session-guard fix`:",
        "## Not reported",
    ):
        assert part in page.stdout
    assert run("rule", "direct-async-session").stdout == run("rule", "sg101").stdout == page.stdout


def test_version_and_help() -> None:
    assert run("--version").stdout == "session-guard 0.1.0\n"
    assert all(f"\n  {command} " in run("--help").stdout for command in ("check", "fix", "rule"))


def on_a_terminal(**environment: str) -> bytes:
    try:
        reading, writing = pty.openpty()
    except OSError as error:  # a bare chroot
        pytest.skip(f"this machine has no pseudo-terminal: {error}")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "session_guard", "check"],
        stdout=writing,
        env={**os.environ, **environment},
    ):
        os.close(writing)
        printed = b""
        try:
            while piece := os.read(reading, 4096):
                printed += piece
        except OSError:  # Linux says so when the other side is closed
            os.close(reading)
    return printed


def test_colours_are_for_terminals_that_want_them(project: Path) -> None:
    lay({"app/a.py": FIXABLE})
    assert "\x1b" not in run("check").stdout
    assert b"\x1b[" in on_a_terminal(NO_COLOR="")
    assert b"\x1b" not in on_a_terminal(NO_COLOR="1")


# Our modules that a run without findings imports, the rules apart. Each one more is paid for in
# every run of a hook: see that it is needed before it is added here.
OF_A_CLEAN_RUN = set(
    "cli cli.check cli.files config gate output output.masking output.text patterns registry rule "
    "runner sources texts witnesses".split()
)
HEAVY = {"libcst", "asyncio", "multiprocessing", "sqlalchemy", "difflib", "pathspec", "concurrent"}


def test_a_project_without_sessions_costs_few_of_our_modules(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a.py").write_text("x = 1\n")
    run = (
        "import atexit, sys; from session_guard.cli import main; sys.argv[1:] = ['check', '.']; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", run], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    imported = done.stderr.split()
    own = {name.removeprefix("session_guard.") for name in imported if "session_guard." in name}
    assert {name for name in own if not name.startswith("rules")} == OF_A_CLEAN_RUN


def test_a_clean_file_costs_no_heavy_import(project: Path) -> None:
    lay({".gitignore": "*.log\n/out/\n", ".git/HEAD": ""})
    lay({"pyproject.toml": '[tool.session-guard]\nhandler = "app.db"\nselect = ["SG1"]\n'})
    lay({"lib/a.py": "x = 1\n", "lib/b/c.py": "y = 2\n"})
    for paths in (["app/clean.py"], ["lib"]):
        done = subprocess.run(
            [sys.executable, "-P", "-X", "importtime", "-m", "session_guard", "check", *paths],
            capture_output=True,
            text=True,
            check=True,
        )
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "session_guard.runner" in imported
        assert not {name for name in imported if name.partition(".")[0] in HEAVY}
