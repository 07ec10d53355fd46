"""`[tool.session-guard]` of pyproject.toml -> `Settings`; every default stands here, once."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from session_guard import patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    KnownCodes = Callable[[], frozenset[str]]

ALL = "ALL"
"""The prefix of every code, the plug-ins' included."""

UNREADABLE = "SG001"
"""A file that cannot be read or parsed: reported whatever is selected."""

DEFAULT_BASELINE = ".session-guard-baseline"

DEFAULT_EXCLUDE = frozenset(
    {
        ".bzr",
        ".direnv",
        ".eggs",
        ".git",
        ".hg",
        ".hypothesis",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pyenv",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
        ".vscode",
        "__pycache__",
        "__pypackages__",
        "_build",
        "build",
        "dist",
        "node_modules",
        "site-packages",
        "venv",
    }
)
"""Names of folders that are passed by; plain names, so that matching them costs nothing."""

POOLERS = ("auto", "supavisor", "pgbouncer", "direct")
"""What may stand between the program and PostgreSQL."""

# What tests and Alembic's environments are not held to.
OUTSIDE_THE_STANDARD = ("SG1", "SG2", "SG302", "SG303", "SG304")
DEFAULT_PER_FILE_IGNORES: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
    (pattern, OUTSIDE_THE_STANDARD)
    for pattern in (
        "**/tests/**",
        "**/test/**",
        "**/test_*.py",
        "**/*_test.py",
        "**/tests.py",
        "**/conftest.py",
        "**/alembic/env.py",
        "**/alembic/versions/**",
        "**/migrations/env.py",
        "**/migrations/versions/**",
    )
)
"""Tests and Alembic's environments make engines and sessions of their own, and are not behind a
pooler; tests provoke errors."""
_OF_NO_STANDARD = tuple(pattern for pattern, _ in DEFAULT_PER_FILE_IGNORES)


class ConfigError(Exception):
    """The configuration is wrong; the message names the file and the key."""


class Settings(NamedTuple):
    """The settings of one project.

    `root` is absolute; patterns and file paths are relative to it. `exclude` comes on top of
    `DEFAULT_EXCLUDE`; `per_file_ignores` has the defaults in it.
    """

    root: Path
    handler: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    select: tuple[str, ...] = (ALL,)
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = DEFAULT_PER_FILE_IGNORES
    baseline: str = DEFAULT_BASELINE
    pooler: str = "auto"
    sqlalchemy_version: str | None = None
    asyncpg_version: str | None = None

    def is_selected(self, code: str) -> bool:
        """Return whether `code` is reported at all: the longer of two prefixes decides."""
        if code == UNREADABLE:
            return True
        return _longest(code, self.select) > _longest(code, self.ignore)

    def ignored_for(self, path: str) -> tuple[str, ...]:
        """Return the prefixes that `per-file-ignores` has for `path`, relative and with `/`."""
        return tuple(
            prefix
            for pattern, prefixes in self.per_file_ignores
            if patterns.covers((pattern,), path)
            for prefix in prefixes
        )

    def is_ignored(self, code: str, path: str) -> bool:
        """Return whether `per-file-ignores` silences `code` in `path`, relative and with `/`."""
        return code != UNREADABLE and _longest(code, self.ignored_for(path)) >= 0

    def is_outside_the_standard(self, path: str) -> bool:
        """Return whether a file is a test or of a migration, by where and what it is called."""
        return patterns.covers(_OF_NO_STANDARD, path)

    def excludes(self, path: str) -> bool:
        """Return whether `exclude` names `path` itself, relative and with `/`.

        A folder's path ends in `/`; whether a folder above is excluded is not looked at.
        """
        named = patterns.verdict(self.exclude, path)
        if named is not None:
            return named
        return path.endswith("/") and path[:-1].rpartition("/")[2] in DEFAULT_EXCLUDE


def _longest(code: str, prefixes: Iterable[str]) -> int:
    """Return the length of the longest of `prefixes` that `code` has, -1 where it has none."""
    return max(
        (0 if prefix == ALL else len(prefix) for prefix in prefixes if _has(code, prefix)),
        default=-1,
    )


def _has(code: str, prefix: str) -> bool:
    return prefix == ALL or code.startswith(prefix)


class Configuration:
    """The settings of each project that a run meets, read once."""

    def __init__(self, overrides: Sequence[str], known_codes: KnownCodes) -> None:
        """Take the texts given as `--config`; `known_codes` is called when a code is named.

        Raises ConfigError.
        """
        self._known_codes = known_codes
        self._overrides: dict[str, Any] = {}
        for text in overrides:
            # Its value may be a URL that is in the wrong place.
            origin = f"--config {text.partition('=')[0].strip()!r}"
            self._overrides |= _read(_parse(text, origin), origin, known_codes)
        self._settings: dict[str, Settings] = {}

    def settings(self, root: str) -> Settings:
        """Return the settings of the project at `root`, an absolute path. Raises ConfigError."""
        if root not in self._settings:
            origin = f"{_pyproject(root)}: [tool.session-guard]"
            values = _read(_table(root) or {}, origin, self._known_codes) | self._overrides
            values["per_file_ignores"] = (
                *DEFAULT_PER_FILE_IGNORES,
                *values.get("per_file_ignores", ()),
            )
            self._settings[root] = Settings(root=Path(root), **values)
        return self._settings[root]


def has_table(folder: str) -> bool:
    """Return whether the folder's pyproject.toml has our table. Raises ConfigError."""
    return _table(folder) is not None


def _pyproject(folder: str) -> str:
    return os.path.join(folder, "pyproject.toml")


@cache
def _table(folder: str) -> dict[str, Any] | None:
    path = _pyproject(folder)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    # Most pyproject.toml files of a large tree are not ours, and need not be valid either.
    if b"session-guard" not in data:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: invalid TOML: not UTF-8 (at line {line})") from error
    tool = _parse(text, path).get("tool")
    if not isinstance(tool, dict) or "session-guard" not in tool:
        return None
    table = tool["session-guard"]
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: `tool.session-guard` must be a table, not {_kind(table)}")
    return table


def _read(table: dict[str, Any], origin: str, known_codes: KnownCodes) -> dict[str, Any]:
    """Turn a table as it is written into fields of Settings."""
    values = {}
    for key, value in table.items():
        if key not in _KEYS:
            raise ConfigError(f"{origin}: unknown key `{key}`{_nearest(key, _KEYS)}")
        try:
            values[key.replace("-", "_")] = _KEYS[key](value, known_codes)
        except _InvalidError as error:
            raise ConfigError(f"{origin}: `{key}`: {error}") from error
    return values


def _parse(text: str, origin: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: invalid TOML: {error}") from error


class _InvalidError(Exception):
    """What is wrong with a key's value."""


def _strings(value: object, _: object = None) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _InvalidError(f"must be a list of strings, not {_kind(value)}")
    for item in value:
        if not isinstance(item, str):
            raise _InvalidError(f"must be a list of strings, and has {_kind(item)} in it")
        if not item.strip():
            raise _InvalidError("has an empty string in it")
    return tuple(value)


def _string_or_strings(value: object, _: object) -> tuple[str, ...]:
    if not isinstance(value, str | list):
        raise _InvalidError(f"must be a string or a list of strings, not {_kind(value)}")
    return _strings([value] if isinstance(value, str) else value)


def _dotted_names(value: object, _: object) -> tuple[str, ...]:
    names = _strings(value)
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")) or "." not in name:
            raise _InvalidError(f"`{name}` is not a dotted name such as `app.db.engine`")
    return names


def _codes(value: object, known_codes: KnownCodes) -> tuple[str, ...]:
    prefixes = _strings(value)
    for prefix in prefixes:
        known = known_codes()
        if not any(_has(code, prefix) for code in known):
            raise _InvalidError(f"no rule has the code `{prefix}`{_nearest(prefix, known)}")
    return prefixes


def _ignored_codes(value: object, known_codes: KnownCodes) -> tuple[str, ...]:
    prefixes = _codes(value, known_codes)
    if UNREADABLE in prefixes:
        raise _InvalidError(f"{UNREADABLE} is always reported; leave the file out with `exclude`")
    return prefixes


def _patterns(value: object, _: object = None) -> tuple[str, ...]:
    of = _strings(value)
    for pattern in of:
        if pattern.startswith("#"):
            raise _InvalidError(f"`{pattern}` is a comment in a pattern; write `\\{pattern}`")
        if not pattern.strip("!/\\ "):
            raise _InvalidError(f"`{pattern}` names nothing")
    return of


def _patterns_to_codes(
    value: object, known_codes: KnownCodes
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise _InvalidError(f"must be a table from pattern to codes, not {_kind(value)}")
    pairs = []
    for pattern, codes in value.items():
        _patterns([pattern])
        if pattern.startswith("!"):
            raise _InvalidError(f"`{pattern}` would match nothing, since it begins with `!`")
        try:
            pairs.append((pattern, _ignored_codes(codes, known_codes)))
        except _InvalidError as error:
            raise _InvalidError(f"`{pattern}`: {error}") from error
    return tuple(pairs)


def _pooler(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _InvalidError(f"must be a string, not {_kind(value)}")
    if value not in POOLERS:
        choices = ", ".join(f'"{name}"' for name in POOLERS)
        raise _InvalidError(f"`{value}` is none of {choices}{_nearest(value, POOLERS)}")
    return value


def _path_within(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _InvalidError(f"must be a string, not {_kind(value)}")
    parts = value.replace("\\", "/").split("/")
    if not value.strip() or os.path.isabs(value) or ".." in parts:
        raise _InvalidError(f"`{value}` is not the path of a file within the project")
    return value


def _version(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _InvalidError(f'must be a string such as "2.0", not {_kind(value)}')
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?((a|b|rc)\d+)?", value):
        raise _InvalidError(f'`{value}` is not a version such as "2.0" or "2.1.9"')
    return value


_KEYS: dict[str, Callable[[Any, KnownCodes], Any]] = {
    "handler": _string_or_strings,
    "engines": _dotted_names,
    "select": _codes,
    "ignore": _ignored_codes,
    "exclude": _patterns,
    "per-file-ignores": _patterns_to_codes,
    "baseline": _path_within,
    "pooler": _pooler,
    "sqlalchemy-version": _version,
    "asyncpg-version": _version,
}


def _kind(value: object) -> str:
    """Name the TOML type of `value`, with its article."""
    kinds = {bool: "a boolean", int: "an integer", float: "a float", str: "a string"}
    return {**kinds, list: "an array", dict: "a table"}.get(type(value), "a date or time")


def _nearest(name: str, among: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, sorted(among), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""
