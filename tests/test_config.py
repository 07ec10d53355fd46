"""`[tool.session-guard]`: what its keys mean, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_guard import config
from session_guard.config import ConfigError, Configuration, Settings

DOCS = Path(__file__).parents[1] / "docs/configuration.md"
KNOWN = frozenset({"SG001", "SG101", "SG102", "SG201", "ACME1"})


def read(folder: Path, table: str, *overrides: str) -> Settings:
    (folder / "pyproject.toml").write_text(f"[tool.session-guard]\n{table}\n")
    return Configuration(overrides, lambda: KNOWN).settings(str(folder))


def test_defaults(tmp_path: Path) -> None:
    settings = Configuration((), lambda: KNOWN).settings(str(tmp_path))
    assert settings == Settings(root=tmp_path)
    assert settings.is_selected("SG101")
    assert settings.is_selected("ACME1")
    assert settings.pooler == "auto"
    assert settings.sqlalchemy_version is None
    assert settings.asyncpg_version is None


def test_every_key(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
        handler = "app.db"
        engines = ["app.db.engine"]
        select = ["SG"]
        ignore = ["SG2"]
        exclude = ["gen/"]
        per-file-ignores = { "scripts/*.py" = ["SG101"] }
        baseline = "ci/known"
        pooler = "pgbouncer"
        sqlalchemy-version = "2.1.9"
        asyncpg-version = "0.30"
        """,
    )
    assert settings.handler == ("app.db",)
    assert settings.engines == ("app.db.engine",)
    assert settings.select == ("SG",)
    assert settings.ignore == ("SG2",)
    assert settings.exclude == ("gen/",)
    assert settings.per_file_ignores[-1] == ("scripts/*.py", ("SG101",))
    assert settings.baseline == "ci/known"
    assert settings.pooler == "pgbouncer"
    assert settings.sqlalchemy_version == "2.1.9"
    assert settings.asyncpg_version == "0.30"


def test_several_handlers(tmp_path: Path) -> None:
    assert read(tmp_path, 'handler = ["a.b", "src/c.py"]').handler == ("a.b", "src/c.py")


@pytest.mark.parametrize(
    ("table", "selected", "left"),
    [
        ("", "SG101 SG102 SG201 ACME1 SG001", ""),
        ('select = ["SG1"]', "SG101 SG102 SG001", "SG201 ACME1"),
        ('ignore = ["SG1"]', "SG201 ACME1 SG001", "SG101 SG102"),
        ('select = ["SG101"]\nignore = ["SG1"]', "SG101", "SG102 SG201"),
        ('select = ["SG1"]\nignore = ["SG101"]', "SG102", "SG101"),
        ('select = ["SG101"]\nignore = ["SG101"]', "SG001", "SG101"),
        ('select = ["ALL"]\nignore = ["SG"]', "ACME1", "SG101"),
        ('ignore = ["ALL"]\nselect = ["SG2"]', "SG201", "SG101 ACME1"),
        ("select = []", "SG001", "SG101"),
    ],
)
def test_the_longer_prefix_decides(tmp_path: Path, table: str, selected: str, left: str) -> None:
    settings = read(tmp_path, table)
    assert all(settings.is_selected(code) for code in selected.split())
    assert not any(settings.is_selected(code) for code in left.split())


@pytest.mark.parametrize(
    "path",
    [
        "tests/a.py",
        "pkg/tests/deep/a.py",
        "test/a.py",
        "test_a.py",
        "pkg/test_a.py",
        "a_test.py",
        "app/tests.py",
        "conftest.py",
        "pkg/conftest.py",
        "alembic/env.py",
        "src/app/migrations/env.py",
        "migrations/versions/0001_a.py",
    ],
)
def test_tests_and_migrations_are_left_alone_by_default(tmp_path: Path, path: str) -> None:
    settings = read(tmp_path, 'per-file-ignores = { "x.py" = ["SG101"] }')
    assert settings.is_ignored("SG101", path)
    assert settings.is_ignored("SG201", path)
    assert not settings.is_ignored("SG001", path)
    assert not settings.is_ignored("SG301", path)


@pytest.mark.parametrize(
    "path", ["a.py", "env.py", "app/env.py", "latest_a.py", "contests/a.py", "tests_of.py"]
)
def test_other_files_are_not_left_alone(tmp_path: Path, path: str) -> None:
    assert not Settings(root=tmp_path).is_ignored("SG101", path)


def test_a_users_table_extends_the_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path, 'per-file-ignores = { "jobs/" = ["SG1"], "/b.py" = ["ALL"] }')
    assert settings.ignored_for("jobs/deep/a.py") == ("SG1",)
    assert settings.is_ignored("SG102", "pkg/jobs/a.py")
    assert not settings.is_ignored("SG201", "jobs/a.py")
    assert settings.is_ignored("ACME1", "b.py")
    assert not settings.is_ignored("ACME1", "a/b.py")
    assert settings.is_ignored("SG101", "tests/a.py")


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        'handler = "a.b"\nignore = ["SG1"]\nexclude = ["c"]',
        'handler = ["d.e"]',
        "ignore = []\nexclude = ['f']",
        'handler = "g.h"',
    )
    assert settings.handler == ("g.h",)
    assert settings.ignore == ()
    assert settings.exclude == ("f",)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("handlr = 'a'", "unknown key `handlr`; did you mean `handler`?"),
        ("xyz = 1", "unknown key `xyz`"),
        ("handler = 1", "`handler`: must be a string or a list of strings, not an integer"),
        ("handler = ''", "`handler`: has an empty string in it"),
        ("handler = ['a', 2]", "`handler`: must be a list of strings, and has an integer in it"),
        ("engines = 'a.b'", "`engines`: must be a list of strings, not a string"),
        ("engines = ['engine']", "`engines`: `engine` is not a dotted name"),
        ("select = ['SG1011']", "`select`: no rule has the code `SG1011`; did you mean `SG101`?"),
        ("select = ['direct']", "`select`: no rule has the code `direct`"),
        ("ignore = ['SG001']", "`ignore`: SG001 is always reported"),
        ("ignore = true", "`ignore`: must be a list of strings, not a boolean"),
        ("exclude = {a = 1}", "`exclude`: must be a list of strings, not a table"),
        ("exclude = ['#x']", "`exclude`: `#x` is a comment"),
        ("exclude = ['/']", "`exclude`: `/` names nothing"),
        ("per-file-ignores = ['a']", "`per-file-ignores`: must be a table"),
        ("per-file-ignores.'a' = 'SG1'", "`per-file-ignores`: `a`: must be a list of strings"),
        ("per-file-ignores.'a' = ['SX']", "`per-file-ignores`: `a`: no rule has the code `SX`"),
        ("per-file-ignores.'!a' = ['SG1']", "`per-file-ignores`: `!a` would match nothing"),
        ("baseline = []", "`baseline`: must be a string, not an array"),
        ("baseline = ''", "`baseline`: `` is not the path of a file within the project"),
        ("baseline = '/a'", "`baseline`: `/a` is not the path of a file within"),
        ("baseline = '../a'", "`baseline`: `../a` is not the path of a file within"),
        ("pooler = 1", "`pooler`: must be a string, not an integer"),
        ("pooler = 'pgbouncr'", '`pooler`: `pgbouncr` is none of "auto", "supavisor", "pgbouncer"'),
        ("asyncpg-version = '0'", "`asyncpg-version`: `0` is not a version"),
        ("sqlalchemy-version = 2.0", '`sqlalchemy-version`: must be a string such as "2.0"'),
        ("sqlalchemy-version = '2'", "`sqlalchemy-version`: `2` is not a version"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, table)
    start = f"{tmp_path / 'pyproject.toml'}: [tool.session-guard]: {message}"
    assert str(raised.value).startswith(start)
    with pytest.raises(ConfigError) as raised:
        Configuration((table,), lambda: KNOWN)
    assert str(raised.value).startswith(f"--config {table.partition(' = ')[0]!r}: {message}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[tool.session-guard]\nhandler = \n", "invalid TOML: .*line 2"),
        (b"[tool.session-guard]\n\n# \xff\n", r"invalid TOML: not UTF-8 \(at line 3\)"),
        (b"[tool]\nsession-guard = 1\n", "`tool.session-guard` must be a table, not an integer"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"{path}: {message}"):
        Configuration((), lambda: KNOWN).settings(str(tmp_path))


def test_known_codes_are_asked_for_only_where_a_code_is_named(tmp_path: Path) -> None:
    def never() -> frozenset[str]:
        raise AssertionError

    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\nhandler = 'a'\nselect = []\n")
    Configuration(("engines = []",), never).settings(str(tmp_path))


def test_every_key_and_default_is_documented() -> None:
    text = DOCS.read_text()
    headings = [line.strip("# `") for line in text.splitlines() if line.startswith("## `")]
    assert headings == list(config._KEYS)
    for name in (*config.DEFAULT_EXCLUDE, *(p for p, _ in config.DEFAULT_PER_FILE_IGNORES)):
        assert f"`{name}`" in text
