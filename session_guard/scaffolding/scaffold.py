"""What `session-guard init` writes into a project that has no handler, and where."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from session_guard.config import has_table
from session_guard.names import openings
from session_guard.project.handler import CONTEXT_MANAGER
from session_guard.project.modules import ModuleIndex
from session_guard.project.project import REFERENCE_FILE
from session_guard.rewriting import import_cycles
from session_guard.scaffolding import former_engine
from session_guard.scaffolding.former_engine import DATABASE_URL, NotToldError, Source
from session_guard.writing import WriteError, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable

    from session_guard.names.values import Namespace, Result
    from session_guard.project.project import Project

OLDEST_PYTHON = (3, 11)
"""What the handler needs: it groups errors."""
_LOWEST_PYTHON = re.compile(r"(?:>=?|~=|\^|==|~)\s*3\.(\d+)")
_FILES = ("async_session.py", "session_handler.py")
"""What the handler is called: the second where its package has something else of the first name."""
_NO_PACKAGES = frozenset("alembic benchmarks docs examples migrations scripts tests test".split())
_HEADER = re.compile(
    r"^[ \t]*\[[ \t]*tool[ \t]*\.[ \t]*session-guard[ \t]*\][^\n]*(\n|$)", re.MULTILINE
)


class ScaffoldError(Exception):
    """There is nothing to be written, or not known what; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to be written: `before` is None where there is none yet."""

    path: Path
    before: bytes | None
    after: bytes


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A handler for a project that has none."""

    handler: File
    configuration: File
    dotted: str
    """The name by which the project imports the handler."""
    keys: str
    """What is added to the configuration, in TOML."""
    url: Source
    """Where the handler gets its URL from."""
    url_not_told: str | None
    """Why that is not where the project's engine has its own from, or None."""
    refused: dict[str, str]
    """The query parameters of the engine's URL with which the handler refuses it."""
    is_sqlmodel: bool
    """Whether its sessions are SQLModel's."""
    engine: Result | None
    """The one engine that the project has had so far, or None."""
    engine_name: str | None
    """The engine's dotted name, where the configuration can say that it is on the same database."""
    engine_not_same: str | None
    """Why the configuration does not say so."""
    engine_hides_parameters: bool
    """Whether its errors have no parameters in their texts, as the handler's have none."""
    url_is_beside_engine: bool
    """Whether the handler imports its URL from the engine's module, which cannot import it then."""
    overwritten: str | None
    """What has the handler's usual name in its package, so that it has another; or None."""
    older_python: str | None
    """The Python versions that the project is for, if some are older than the handler's."""


def root_of(folder: str) -> Path:
    """Return the root of the project to which `folder` belongs.

    That is the nearest folder above with our table; where there is none, the nearest with a
    `pyproject.toml` or a `.git`; where there is none, `folder`. Raises ConfigError.
    """
    above = [Path(folder), *Path(folder).parents]
    marked = [f for f in above if (f / "pyproject.toml").exists() or (f / ".git").exists()]
    ours = [f for f in marked if has_table(str(f))]
    return next(iter((*ours, *marked)), Path(folder))


def plan(project: Project, module: str | None) -> Scaffold:
    """Return the handler for a project, as the module with the dotted name `module` if given.

    Raises ScaffoldError and ConfigError.
    """
    _refuse_second(project)
    built = list(project.built())
    paths = (
        [_path_of(module, project)]
        if module is not None
        else [_place(built, project) / name for name in _FILES]
    )
    overwritten = _overwritten(paths[0], project)
    path = next((path for path in paths if _overwritten(path, project) is None), None)
    if path is None:
        raise ScaffoldError(
            f"{overwritten} is something else, which the first import of "
            f"{project.shown(paths[0])} would overwrite; name another module: "
            "session-guard init --module app.db.handler"
        )
    if os.path.lexists(path):
        raise ScaffoldError(
            f"{project.shown(path)} is there already, and nothing is ever overwritten; name "
            "another module: session-guard init --module app.db.async_session"
        )
    engines = list({id(v.call.node): v for v in built if openings.is_engine(v)}.values())
    engine = engines[0] if len(engines) == 1 else None
    url, not_told = Source((), DATABASE_URL), None
    if engine is not None:
        try:
            url = former_engine.url_source(engine, path, project)
        except NotToldError as error:
            not_told = str(error)
    elif engines:
        homes = sorted({project.shown(value.home.path) for value in engines})
        not_told = f"there are {len(engines)} engines, in {', '.join(homes)}"
    name, not_same = None, not_told
    refused: dict[str, str] = {}
    facts = former_engine.facts(engine, project) if engine is not None else None
    if facts is not None:
        refused = former_engine.refused_parameters(facts.url)
    if engine is not None and facts is not None and not_told is None:
        not_same = former_engine.difference(facts)
        name = former_engine.name_of(engine, project) if not_same is None else None
        if name is None and not_same is None:
            not_same = "it has no name at the top of its module"
        elif name is not None and project.settings.engines:
            name, not_same = None, "[tool.session-guard] has `engines` of its own"
        elif refused:
            name = None  # what is rewritten to the handler would fail
    dotted = _dotted(path, project, module, engine.home if engine is not None else None)
    is_sqlmodel = project.imports(openings.SQLMODEL_SESSION)
    keys = f'handler = "{dotted}"\n'
    if name is not None:
        keys += f'engines = ["{name}"]\n'
    return Scaffold(
        File(path, None, _handler(url, is_sqlmodel=is_sqlmodel).encode()),
        _configuration(project.settings.root / "pyproject.toml", keys),
        dotted,
        keys,
        url,
        not_told,
        refused,
        is_sqlmodel,
        engine,
        name,
        not_same,
        facts is not None and facts.arguments.literal("hide_parameters") is True,
        engine is not None and _imports(url, engine.home.path, path, project),
        overwritten,
        _older_python(project.settings.root / "pyproject.toml"),
    )


def write(scaffold: Scaffold) -> None:
    """Write both files, or neither. Raises ScaffoldError."""
    _create(scaffold.handler)
    try:
        configuration = scaffold.configuration
        if configuration.before is None:
            _create(configuration)
        else:
            write_atomically(configuration.path, configuration.after, configuration.before)
    except BaseException as error:
        scaffold.handler.path.unlink()
        if isinstance(error, WriteError):
            where = scaffold.configuration.path
            raise ScaffoldError(f"nothing was written: {where} {error}") from error
        raise


def _create(file: File) -> None:
    """Write a file that is not there yet, whole or not at all. Raises ScaffoldError."""
    try:
        # To root every folder is writable; that its mode says otherwise is still someone's wish.
        if not file.path.parent.stat().st_mode & 0o222:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with open(file.path, "xb") as stream:
            try:
                stream.write(file.after)
                stream.flush()
                os.fsync(stream.fileno())
            except BaseException:
                with contextlib.suppress(OSError):
                    file.path.unlink()
                raise
    except OSError as error:
        raise ScaffoldError(
            f"nothing was written: {file.path} cannot be written: {error.strerror}"
        ) from error


def _refuse_second(project: Project) -> None:
    if project.settings.handler:
        named = ", ".join(f'"{name}"' for name in project.settings.handler)
        raise ScaffoldError(f"there is a handler already: [tool.session-guard] names {named}")
    for handler in project.handlers:
        where = (
            "the project imports session_guard.async_session"
            if handler.path == REFERENCE_FILE
            else f"{project.shown(handler.path)} defines {CONTEXT_MANAGER}()"
        )
        raise ScaffoldError(f"there is a handler already: {where}")
    if project.notices:  # of several handlers
        raise ScaffoldError(project.notices[0])


# -- where ----------------------------------------------------------------------------------------


def _path_of(module: str, project: Project) -> Path:
    """Return the path of a module that is named. Raises ScaffoldError."""
    *package, name = module.split(".")
    if not all(part.isidentifier() for part in (*package, name)):
        raise ScaffoldError(f"--module: `{module}` is not a dotted name such as app.async_session")
    root = project.settings.root
    above = {root, root / "src"}
    for path in project.modules.files:
        above.update(parent for parent in path.parents if parent.is_relative_to(root))
    folders = {folder.joinpath(*package) for folder in above}
    found = sorted(folder for folder in folders if folder.is_dir())
    if package and root.joinpath(*package) in found:
        found = [root.joinpath(*package)]
    elif not package:
        found = [root]
    if len(found) != 1:
        which = "there is no package" if not found else "more than one package is called"
        raise ScaffoldError(f"--module: {which} `{'.'.join(package)}` in {root}")
    return found[0] / f"{name}.py"


def _place(built: Iterable[Result], project: Project) -> Path:
    """Return the folder where the project keeps its modules of this kind. Raises ScaffoldError."""
    folders = {value.home.path.parent for value in built}
    for found in (folders, _packages(project, ""), _packages(project, "src")):
        if len(found) == 1:
            return found.pop()
    raise ScaffoldError(
        "it is not clear where the project keeps its modules; name the one to write: "
        "session-guard init --module app.db.async_session"
    )


def _overwritten(path: Path, project: Project) -> str | None:
    """Return the name that the first import of a new module would overwrite in its package."""
    modules = ModuleIndex(project.settings.root, (*project.modules.files, path))
    package = import_cycles.package_overwritten(modules.likeliest_name(path), path, project)
    return None if package is None else f"`{path.stem}` of {project.shown(package)}"


def _packages(project: Project, below: str) -> set[Path]:
    """Return the packages in the root, or in a folder of it, that tests and such are not."""
    top = project.settings.root / below
    return {
        path.parent
        for path in project.modules.files
        if path.name == "__init__.py"
        and path.parent.parent == top
        and path.parent.name not in _NO_PACKAGES
    }


def _dotted(path: Path, project: Project, given: str | None, beside: Namespace | None) -> str:
    """Return what to call the handler in the configuration: by its name, or by its path.

    The name is the `given` one, or counted as the imports of the module `beside` it are.
    """
    root = project.settings.root
    modules = ModuleIndex(root, (*project.modules.files, path))
    names = [given, modules.likeliest_name(path)]
    if beside is not None:
        names.insert(1, project.import_name(path, beside))
    found = (
        name
        for name in names
        if name is not None and modules.find(name, root / "pyproject.toml") == (path, ())
    )
    return next(found, project.shown(path))


def _imports(url: Source, module: Path, handler: Path, project: Project) -> bool:
    """Return whether the handler at a path imports something of a module for its URL."""
    for line in url.imports:
        _, name, *_ = (*line.split(), "", "")
        if name.startswith("."):  # it stands beside the handler
            if module.parent == handler.parent and name[1:] in (module.stem, ""):
                return True
            continue
        found = project.modules.find(name, handler)
        if found is not None and found[0] == module:
            return True
    return False


def _older_python(path: Path) -> str | None:
    """Return what a pyproject.toml says of Python versions, where that takes in older ones."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    wanted = table.get("project", {}).get("requires-python")
    if wanted is None:
        poetry = table.get("tool", {}).get("poetry", {})
        wanted = poetry.get("dependencies", {}).get("python")
    if not isinstance(wanted, str):
        return None
    lowest = [int(minor) for minor in _LOWEST_PYTHON.findall(wanted)]
    return wanted if lowest and max(lowest) < OLDEST_PYTHON[1] else None


# -- what -----------------------------------------------------------------------------------------


def _handler(url: Source, *, is_sqlmodel: bool) -> str:
    """Return the reference handler's text, with the project's URL and class of sessions."""
    text = REFERENCE_FILE.read_text(encoding="utf-8")
    if url.expression != DATABASE_URL:
        lines = [f"    {line}".rstrip() for line in url.imports]
        lines += [""] if lines else []
        text = _replaced(
            text,
            f"    return {DATABASE_URL}\n",
            "\n".join([*lines, f"    return {url.expression}", ""]),
        )
    if not re.search(r"\bos\.", text):
        text = _replaced(text, "import os\n", "")
    if is_sqlmodel:
        text = _replaced(text, "        AsyncSession,\n", "")
        before = "    from sqlalchemy.pool import ConnectionPoolEntry\n"
        module = openings.SQLMODEL_SESSION.rpartition(".")[0]
        text = _replaced(text, before, f"{before}    from {module} import AsyncSession\n")
    return text


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def _configuration(path: Path, keys: str) -> File:
    """Return pyproject.toml with `keys` in our table, and all else as it was.

    Raises ScaffoldError.
    """
    by_hand = f"write it yourself: a table [tool.session-guard] with\n{keys}"
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        return File(path, None, f"[tool.session-guard]\n{keys}".encode())
    except OSError as error:
        raise ScaffoldError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = before.decode()
        old = tomllib.loads(text)
    except ValueError as error:
        raise ScaffoldError(f"{path} is no valid TOML: {error}") from error
    newline = "\r\n" if "\r\n" in text else "\n"
    header = _HEADER.search(text)
    if header is not None:
        head = header[0] if header[1] else f"{header[0]}{newline}"
        after = text[: header.start()] + head + keys.replace("\n", newline) + text[header.end() :]
    else:
        gap = "" if not text else newline if text.endswith("\n") else newline * 2
        after = text + gap + f"[tool.session-guard]\n{keys}".replace("\n", newline)
    tool = old.get("tool", {})
    table = {**tool.get("session-guard", {}), **tomllib.loads(keys)}
    expected = {**old, "tool": {**tool, "session-guard": table}}
    try:
        is_right = tomllib.loads(after) == expected
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise ScaffoldError(f"{path} is laid out in a way that is not understood; {by_hand}")
    return File(path, before, after.encode())
