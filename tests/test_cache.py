"""The cache: right after every change that an answer depends on, the user's alone, and harmless."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import session_guard
from session_guard import cache, config, output, rules
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_guard.rule import Finding

JOB = """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def job():
    async with AsyncSession(engine) as session:
        await session.commit()
"""
DB = """\
from contextlib import asynccontextmanager
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app")
factory = async_sessionmaker(engine, expire_on_commit=False)

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
TABLE = "[tool.session-guard]\n"
PLANTED = "put there"


def lay(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a repository with others; the cache is beside it."""
    repository = tmp_path / "repository"
    (repository / ".git").mkdir(parents=True)
    lay(
        repository / "service",
        {"pyproject.toml": TABLE, "app/__init__.py": "", "app/db.py": DB, "app/jobs.py": JOB}
        | {"app/other.py": "x = 1\n", "requirements.txt": "-r ../common.txt\n"},
    )
    lay(repository, {"common.txt": "asyncpg==0.30.0\n"})
    monkeypatch.chdir(repository / "service")
    return repository / "service"


Answer = tuple[list["Finding"], list[str]]


def answer(*overrides: str, paths: tuple[str, ...] = (".",), folder: str | None = None) -> Answer:
    """Return what a run says, which begins as a new process does."""
    config._table.cache_clear()
    run = Run(Options(paths, overrides, cache_dir=folder))
    findings = [finding for found in run.check() for finding in found]
    return findings, run.notices


def cached(*overrides: str, paths: tuple[str, ...] = (".",)) -> Answer:
    return answer(*overrides, paths=paths, folder="../../cache")


def entries() -> list[Path]:
    return sorted(Path("../../cache").glob("*.json"))


def plant() -> None:
    """Change what is stored: what a run takes over is seen by that."""
    assert entries()
    for entry in entries():
        content = json.loads(entry.read_text())
        for items in content["findings"].values():
            for item in items:
                item[7] = PLANTED
        content["notices"].append(PLANTED)
        entry.write_text(json.dumps(content))


def is_planted(said: Answer) -> bool:
    findings, notices = said
    assert {finding.message == PLANTED for finding in findings} == {PLANTED in notices}
    return PLANTED in notices


def keep(paths: tuple[str, ...] = (".",)) -> Answer:
    """Fill the cache, plant in it, and see that it is used."""
    time.sleep(0.05)  # what changes while a run is on its way is not kept
    found = cached(paths=paths)
    assert found[0]
    plant()
    assert is_planted(cached(paths=paths))
    return found


# -- what is noticed ----------------------------------------------------------------------------


def rewrite(path: str, text: str) -> None:
    """Write as many bytes, and put the time of modification back."""
    before = os.stat(path)
    Path(path).write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (before.st_size, before.st_mtime_ns) == (
        os.stat(path).st_size,
        os.stat(path).st_mtime_ns,
    )


def swap(one: str, other: str) -> None:
    os.rename(one, "kept")
    os.rename(other, one)
    os.rename("kept", other)


# Whoever asks for versions lists folders, and would see much else by that.
NO_VERSIONS = {"pyproject.toml": TABLE + 'select = ["SG101"]\n'}
CHANGES: dict[str, tuple[dict[str, str], Callable[[], object]]] = {
    "a text, of as many bytes and at the same time": (
        {},
        lambda: rewrite("app/jobs.py", JOB.replace("AsyncSession(engine)", "AsyncSessiom(engine)")),
    ),
    "another file that has to do with it": (
        {},
        lambda: Path("app/db.py").write_text(DB.replace("factory() as", "factory.begin() as")),
    ),
    "a file is new": ({}, lambda: lay(Path(), {"app/more.py": JOB})),
    "a file is gone": ({}, lambda: Path("app/db.py").unlink()),
    "a file has another name": ({}, lambda: os.rename("app/db.py", "app/database.py")),
    "two files have changed places": (
        {"app/jobs.py": JOB, "app/later.py": JOB.replace("job", "jab")},
        lambda: swap("app/jobs.py", "app/later.py"),
    ),
    "the configuration": (
        {},
        lambda: Path("pyproject.toml").write_text(TABLE + 'ignore = ["SG1"]\n'),
    ),
    "what is ignored": ({}, lambda: Path(".gitignore").write_text("db.py\n")),
    "what is required": ({}, lambda: Path("requirements.txt").write_text("asyncpg==0.31.0\n")),
    "what is required, in a file outside": (
        {},
        lambda: rewrite("../common.txt", "asyncpg==0.31.0\n"),
    ),
    "what is required, in a file outside that is gone": ({}, lambda: os.unlink("../common.txt")),
    "what is required, in a new file": ({}, lambda: Path("requirements-x.txt").write_text("x\n")),
    "what is locked, in a new file outside": (
        {},
        lambda: Path("../uv.lock").write_text(
            '[[package]]\nname = "asyncpg"\nversion = "0.29.0"\n'
        ),
    ),
    "what is required, in pyproject.toml": (
        {"requirements.txt": ""},
        lambda: Path("pyproject.toml").write_text(
            TABLE + '[project]\ndependencies = ["asyncpg==0.31.0"]\n'
        ),
    ),
    "how imports are written": ({}, lambda: Path("../ruff.toml").write_text("line-length = 30\n")),
    "a repository within": (NO_VERSIONS, lambda: Path("app/.git").mkdir()),
    "no repository round it": (NO_VERSIONS, lambda: Path("../.git").rmdir()),
    "a package round it": (
        NO_VERSIONS | {"__init__.py": ""},
        lambda: Path("../__init__.py").touch(),
    ),
    "the handler, which is not checked": (
        {
            "pyproject.toml": TABLE + 'handler = "build/db.py"\nselect = ["SG301"]\n',
            "build/db.py": DB,
            "app/jobs.py": "import asyncio\n"
            + JOB.replace("session.commit()", "asyncio.gather(session.get(1), session.get(2))"),
        },
        lambda: rewrite("build/db.py", DB.replace("async with factory", "async with fuctory")),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_answer_depends_on_is_noticed(change: str, project: Path) -> None:
    files, make = CHANGES[change]
    lay(project, files)
    keep()
    make()
    now = answer()
    assert cached() == now
    time.sleep(0.05)
    assert cached() == cached() == now


def test_changes_are_noticed_in_files_that_are_old(project: Path) -> None:
    lay(project, NO_VERSIONS | {"main.py": JOB})
    newest = max(path.stat().st_ctime for path in project.rglob("*.py"))
    while time.time() < newest + 2.1:
        time.sleep(0.1)
    before = keep(paths=("main.py",))
    [content] = [json.loads(entry.read_text()) for entry in entries()]
    assert content["fresh"] == []
    # Another name of a folder, whose files stay as they are.
    os.rename("app", "lib")
    assert cached(paths=("main.py",)) == answer(paths=("main.py",))
    os.rename("lib", "app")
    # An edit that keeps size and time.
    assert keep(paths=("main.py",)) == before
    rewrite("main.py", JOB.replace("AsyncSession(engine)", "AsyncSessiom(engine)"))
    assert len(cached(paths=("main.py",))[0]) < len(before[0])


def test_an_edit_in_the_same_tick_of_the_clock_is_noticed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow this machine is, the files are new.
    monkeypatch.setattr(cache, "_TOO_FRESH", 10**13)
    before = keep()
    [entry] = entries()
    content = json.loads(entry.read_text())
    assert {path for path, _ in content["fresh"]} == set(map(str, project.rglob("*.py")))
    # As if the file had said something else, and had then been written again at once.
    for pair in content["fresh"]:
        pair[1] = "0" * 32
    entry.write_text(json.dumps(content))
    assert cached()[0] == before[0]


def test_where_one_file_changed_it_alone_is_checked_again(project: Path) -> None:
    lay(project, {"app/jobs.py": JOB + JOB.replace("job", "jab")})
    before = keep()
    with Path("app/jobs.py").open("a") as file:
        file.write("# A comment, which nothing depends on.\n")
    findings, _ = cached()
    assert {finding.path for finding in findings if finding.message == PLANTED} == {"app/db.py"}
    assert [finding.path for finding in findings] == [finding.path for finding in before[0]]
    # What is found now is kept, and what was asked then with it.
    time.sleep(0.05)
    lay(project, {"app/other.py": "x = 1\ny = 2\n"})
    findings, _ = cached()
    assert {finding.path for finding in findings if finding.message == PLANTED} == {"app/db.py"}
    assert len(findings) == len(before[0])
    time.sleep(0.05)
    lay(project, {"app/other.py": "from app import db\ndb.engine = None\n"})
    assert cached() == answer()


def test_a_change_of_what_is_excluded_and_named_is_noticed(project: Path) -> None:
    lay(project, {"pyproject.toml": TABLE + 'handler = "build/db.py"\n', "build/db.py": DB})
    lay(project, {"app/jobs.py": JOB.replace("app.db", "build.db")})

    def found(folder: str | None) -> list[Finding]:
        config._table.cache_clear()
        options = Options((".", "build/db.py"), force_exclude=False, cache_dir=folder)
        return [finding for found in Run(options).check() for finding in found]

    said = set()
    for text in (DB, DB.replace("get_background_session", "open_session"), DB):
        lay(project, {"build/db.py": text})
        assert found("../../cache") == found(None)
        time.sleep(0.05)
        said.add(repr([one for one in found("../../cache") if one.path == "app/jobs.py"]))
        assert found("../../cache") == found(None)
    assert len(said) == 2


def test_a_change_of_what_nothing_was_said_for_is_noticed(project: Path) -> None:
    """A project in which nothing had to be looked at has nothing to say, until something has."""
    lay(project, {"pyproject.toml": TABLE + 'select = ["SG1"]\n', "app/jobs.py": "x = 1\n"})
    lay(project, {"app/db.py": DB.replace("get_background_session", "open_session")})
    for text in (JOB, "x = 1\n", JOB):
        time.sleep(0.05)
        assert cached() == cached() == answer()
        lay(project, {"app/jobs.py": text})
    assert cached() == answer()


def test_what_the_command_line_says_is_noticed(project: Path) -> None:
    lay(project, {"main.py": JOB})
    keep()
    for overrides in (('ignore = ["SG1"]',), ('asyncpg-version = "0.31"',)):
        assert cached(*overrides) == cached(*overrides) == answer(*overrides)
    for path in ("app", "app/jobs.py", "app/db.py"):
        assert cached(paths=(path,)) == cached(paths=(path,)) == answer(paths=(path,))
    os.chdir("app")
    try:
        assert answer(paths=("..",), folder="../../../cache") == answer(paths=("..",))
    finally:
        os.chdir("..")
    assert is_planted(cached())


def test_a_change_during_the_run_is_noticed(project: Path) -> None:
    for path, text in (("app/db.py", DB + "x = 1\n"), ("../common.txt", "asyncpg==0.31.0\n")):
        time.sleep(0.05)
        run = Run(Options((".",), cache_dir="../../cache"))
        before = list(run.check())  # to see that there are findings to come
        assert before
        shutil.rmtree("../../cache")
        run = Run(Options((".",), cache_dir="../../cache"))
        findings = run.check()
        next(findings)
        Path(path).write_text(text)
        assert list(findings)
        assert not entries()


def test_a_baseline_is_held_against_what_is_kept(project: Path) -> None:
    time.sleep(0.05)
    before = cached()
    config._table.cache_clear()
    assert not list(Run(Options((".",), cache_dir="../../cache")).check(freeze=True))
    assert Path(".session-guard-baseline").read_text().count("app/jobs.py SG101") == 1
    assert cached()[0] == cached()[0] == []
    Path(".session-guard-baseline").unlink()
    assert cached() == before


# -- the code and the versions ------------------------------------------------------------------


RULE = """\
import team_words
from session_guard.rule import Rule


class Team(Rule):
    code = "TEAM001"
    name = "team-rule"
    summary = why = fix_safety = "The team's own."
    since = "1"
    tokens = team_words.TOKENS
    node_types = ("Name",)
    valid = invalid = ()

    def check(self, node, module):
        return iter(())
"""


def install_again(package: Path) -> None:
    shutil.copytree(package, package.with_name("new"))
    shutil.rmtree(package)
    package.with_name("new").rename(package)


def test_another_version_or_code_is_noticed(project: Path) -> None:
    site, own = project.parents[1] / "site-packages", project.parents[1] / "own"
    leave = shutil.ignore_patterns("__pycache__")
    package = site / "session_guard"
    shutil.copytree(Path(session_guard.__file__).parent, package, ignore=leave, dirs_exist_ok=True)
    shutil.copytree(rules.__path__[0], package / "rules", ignore=leave, dirs_exist_ok=True)
    team = site / "team-1.dist-info"
    lay(
        site,
        {
            "team-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: team\nVersion: 1\n",
            "team-1.dist-info/entry_points.txt": "[session_guard.rules]\nteam = team_rules\n",
            "team_rules.py": RULE,
        },
    )
    lay(own, {"team_words.py": 'TOKENS = (b"no such word",)\n'})
    command = [sys.executable, "-P", "-m", "session_guard", "check", "--cache-dir", "../../cache"]

    def run() -> str:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{own}", "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1, done.stderr
        return done.stdout

    time.sleep(0.05)
    said = run()
    plant()
    assert PLANTED in run()
    [rule] = package.glob("rules/**/direct_async_session.py")
    for change in (
        lambda: rewrite(str(rule), rule.read_text()),
        lambda: (package / "__init__.py").write_text('"""Another."""\n\n__version__ = "9"\n'),
        lambda: team.rename(site / "team-2.dist-info"),
        lambda: install_again(site / "team-2.dist-info"),
        lambda: rewrite(str(site / "team_rules.py"), RULE),
        lambda: rewrite(str(own / "team_words.py"), (own / "team_words.py").read_text()),
    ):
        change()
        assert run() == said
        plant()


# -- whose it is, and what it may hold ----------------------------------------------------------


def test_it_is_the_users_alone(project: Path) -> None:
    keep()
    [entry] = entries()
    assert stat.S_IMODE(entry.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert (entry.parent / ".gitignore").read_text() == "*\n"
    assert (entry.parent / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f")


BROKEN = ["", "[]", "null", "{", '{"format": 1}', "[" * 100_000, "9" * 5_000, '{"format": "', "\0"]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_entry_is_passed_by(text: str, project: Path) -> None:
    before = keep()
    [entry] = entries()
    entry.write_text(text)
    assert cached() == before
    plant()  # and there is an entry again
    assert is_planted(cached())


@pytest.mark.parametrize("text", BROKEN)
def test_questions_that_cannot_be_read_are_passed_by(text: str, project: Path) -> None:
    time.sleep(0.05)
    cached()
    [asked] = Path("../../cache").glob("*.asked")
    asked.write_text(text)
    with Path("app/jobs.py").open("a") as file:
        file.write("# changed\n")
    assert cached() == answer()


def test_something_else_among_the_questions_ends_no_run(project: Path) -> None:
    time.sleep(0.05)
    cached()
    [asked] = Path("../../cache").glob("*.asked")
    [entry] = entries()
    text, kept = asked.read_text(), entry.read_text()
    with Path("app/jobs.py").open("a") as file:
        file.write("# changed\n")
    for number in range(0, len(_values(json.loads(text))), 7):
        content = json.loads(text)
        holder, key = _values(content)[number]
        holder[key] = "7" if isinstance(holder[key], int) else 7
        asked.write_text(json.dumps(content))
        entry.write_text(kept)
        findings, notices = cached()
        assert all("".join(output.render(name, findings)) for name in output.FORMATS)
        assert all(isinstance(notice, str) for notice in notices)


def _values(content: object) -> list[tuple[Any, Any]]:
    """Return all that an entry holds, as containers with keys."""
    found: list[tuple[Any, Any]] = []
    if isinstance(content, dict | list):
        keys = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in list(keys):
            found += [(content, key), *_values(value)]
    return found


def test_an_entry_with_something_else_in_a_place_ends_no_run(project: Path) -> None:
    keep()
    [entry] = entries()
    content = json.loads(entry.read_text())
    content["findings"] = {path: items[:1] for path, items in content["findings"].items()}
    text = json.dumps(content)
    for number in range(len(_values(content))):
        content = json.loads(text)
        holder, key = _values(content)[number]
        holder[key] = "7" if isinstance(holder[key], int) else 7
        entry.write_text(json.dumps(content))
        findings, notices = cached()
        # What was taken over can be printed.
        for name in output.FORMATS:
            assert "".join(output.render(name, findings)) or not findings
        assert all(isinstance(notice, str) for notice in notices)


def test_what_others_could_have_written_is_passed_by(project: Path) -> None:
    before = keep()
    [entry] = entries()
    forged = entry.read_text()
    other = project.parents[1] / "forged.json"
    other.write_text(forged)
    other.chmod(0o600)

    def lead_elsewhere() -> None:
        entry.unlink()
        entry.symlink_to(other)

    for change, undo in (
        (lambda: entry.chmod(0o640), lambda: None),
        (lambda: entry.chmod(0o604), lambda: None),
        (lambda: entry.chmod(0o602), lambda: None),
        (lead_elsewhere, lambda: None),
        (lambda: entry.parent.chmod(0o770), lambda: entry.parent.chmod(0o700)),
        (lambda: entry.parent.chmod(0o707), lambda: entry.parent.chmod(0o700)),
    ):
        change()
        assert cached() == before
        undo()
        entry.unlink(missing_ok=True)
        entry.write_text(forged)
        entry.chmod(0o600)
        assert is_planted(cached())
    folder = entry.parent
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")
    assert cached() == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to others")
def test_what_belongs_to_others_is_passed_by(project: Path) -> None:
    before = keep()
    [entry] = entries()
    forged = entry.read_text()
    os.chown(entry, 65534, 65534)
    assert cached() == before
    entry.write_text(forged)
    os.chown(entry, 0, 0)
    os.chown(entry.parent, 65534, 65534)
    assert cached() == before


def test_a_folder_that_is_there_keeps_what_it_holds(project: Path) -> None:
    folder = project.parents[1] / "cache"
    old = {"data.json": "1", "x.tmp": "1", "0" * 32 + ".txt": "1", "f" * 31 + ".json": "1"}
    lay(folder, old)
    for name in old:
        os.truncate(folder / name, 40_000_000)
        os.utime(folder / name, (0, 0))
    time.sleep(0.05)
    assert cached()[0]
    assert {path.name for path in folder.iterdir()} > set(old)
    assert not (folder / ".gitignore").exists()


def test_its_size_is_bounded(project: Path) -> None:
    folder = project.parents[1] / "cache"
    folder.mkdir(mode=0o700)
    for number in range(1_005):
        (folder / f"{number:032x}.json").touch()
        os.utime(folder / f"{number:032x}.json", (number, number))
    (folder / f"{'a' * 32}.7.tmp.json").touch()  # of a run that was killed
    os.utime(folder / f"{'a' * 32}.7.tmp.json", (1, 1))
    answer(folder=str(folder))
    kept = {path.name for path in folder.iterdir()}
    assert len(kept) == 1_000
    assert f"{1_004:032x}.json" in kept
    assert f"{5:032x}.json" not in kept
    assert f"{'a' * 32}.7.tmp.json" not in kept
    for number in range(900, 904):
        os.truncate(folder / f"{number:032x}.json", 20_000_000)
    Path("app/other.py").write_text("x = 2\n")
    answer(folder=str(folder))
    kept = {path.name for path in folder.iterdir()}
    assert sum((folder / name).stat().st_size for name in kept) <= 64_000_000
    assert f"{901:032x}.json" in kept
    assert f"{900:032x}.json" not in kept


# -- whatever becomes of it, a run gives the same -----------------------------------------------


def test_many_runs_at_once(project: Path) -> None:
    time.sleep(0.05)
    said = answer()
    others = answer('ignore = ["SG1"]')
    with multiprocessing.get_context("fork").Pool(6) as pool:
        arguments = [(), ('ignore = ["SG1"]',)] * 9
        assert pool.starmap(cached, arguments, chunksize=1) == [said, others] * 9
    assert len(list(Path("../../cache").iterdir())) == 6  # none is left half written
    plant()
    assert is_planted(cached())


def test_a_folder_that_cannot_be_made_or_written_to_is_no_error(project: Path) -> None:
    said = answer()
    Path("file").touch()
    for folder in ("file", "file/below", "/proc/session-guard"):
        assert answer(folder=folder) == said


def test_a_disk_that_is_full_is_no_error(project: Path) -> None:
    time.sleep(0.05)
    said = check("--no-cache")
    assert said.returncode == 1
    full = check("--cache-dir", "../../cache", limit=0)
    assert (full.returncode, full.stdout, full.stderr) == (1, said.stdout, said.stderr)
    assert not entries()


def check(*options: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-P", "-m", "session_guard", "check", *options]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=restrict)


@pytest.mark.parametrize("arguments", [("fix", "."), ("check", "--no-cache"), ("check", "-")])
def test_some_commands_never_use_it(
    arguments: tuple[str, ...], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep()
    monkeypatch.setenv("SESSION_GUARD_CACHE_DIR", "../../cache")
    [entry] = entries()
    text = entry.read_text()
    command = [sys.executable, "-P", "-m", "session_guard", *arguments]
    done = subprocess.run(command, input=JOB, capture_output=True, text=True)
    assert "SG101" in done.stdout
    assert PLANTED not in done.stdout + done.stderr
    assert [entry] == entries()
    assert entry.read_text() == text
    if arguments[0] == "fix":
        assert "get_background_session()" in Path("app/jobs.py").read_text()
