"""What is known across files: which module is the handler, and what its names stand for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from session_guard import sources
from session_guard.handler import (
    CONTEXT_MANAGER,
    Handler,
    context_manager,
    is_context_manager,
    read_context_manager,
)
from session_guard.names import openings, values
from session_guard.names.bindings import Ref, Scope, end_of
from session_guard.names.from_ast import build_table
from session_guard.names.values import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.config import Settings

_REFERENCE = "session_guard.async_session"
_REFERENCE_FILE = Path(__file__).with_name("async_session.py")
# Folders that may hold a copy of a handler which is not the project's own.
_NOT_THE_PROJECT = frozenset(
    {"tests", "test", "testing", "examples", "example", "vendor", "vendored", "_vendor"}
    | {"third_party", "fixtures", "docs", "site-packages"}
)


class Project:
    """One project root: its settings, its handler, and the names that its files share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.notices: list[str] = []
        """What concerns the whole run; the command line prints it once."""
        self._reading_handlers = False

    # -- the handler ------------------------------------------------------------------------

    @cached_property
    def handlers(self) -> tuple[Handler, ...]:
        """The modules that may build engines and open sessions."""
        self._reading_handlers = True
        try:
            if self.settings.handler:
                return tuple(self._configured())
            found = list(self._discovered())
        finally:
            self._reading_handlers = False
        if len(found) > 1:
            names = ", ".join(str(h.path.relative_to(self.settings.root)) for h in found)
            self.notices.append(
                f"several modules define {CONTEXT_MANAGER}(): {names}; none of them counts as the "
                'handler and nothing is fixed until [tool.session-guard] says which: handler = "…"'
            )
            return ()
        return tuple(found)

    @cached_property
    def handler(self) -> Handler | None:
        """The handler whose `get_background_session` fixes point to, if there is exactly one."""
        usable = [h for h in self.handlers if CONTEXT_MANAGER in h.namespace.scope.bindings]
        return usable[0] if len(usable) == 1 else None

    def is_handler(self, path: Path) -> bool:
        """Return whether the file is a handler."""
        return any(handler.path == path for handler in self.handlers)

    def _configured(self) -> Iterator[Handler]:
        for name in self.settings.handler:
            path = self._configured_path(name)
            if path is None:
                self.notices.append(
                    f'the handler "{name}" of [tool.session-guard] is no file of this project'
                )
                continue
            handler = self._read(path, None if _is_path(name) else name)
            if handler is None:
                self.notices.append(f'the handler "{name}" cannot be parsed: {path}')
            else:
                yield handler

    def _configured_path(self, name: str) -> Path | None:
        root = self.settings.root
        if _is_path(name):
            path = root / name
            return path if path.is_file() else None
        relative = Path(*name.split("."))
        for base in (root, root / "src", *_folders(root)):
            for path in (base / relative.with_suffix(".py"), base / relative / "__init__.py"):
                if path.is_file():
                    return path
        return _REFERENCE_FILE if name == _REFERENCE else None

    def _discovered(self) -> Iterator[Handler]:
        root = self.settings.root
        for path in sources.walk(root, self.settings):
            folders = path.relative_to(root).parts[:-1]
            if not _NOT_THE_PROJECT.isdisjoint(folders) or path.name.startswith("test_"):
                continue
            try:
                data = path.read_bytes()
            except OSError:
                continue
            if CONTEXT_MANAGER.encode() in data and b"asynccontextmanager" in data:
                handler = self._read(path, None, data)
                if handler is not None and is_context_manager(handler.namespace):
                    yield handler

    def _read(self, path: Path, dotted: str | None, data: bytes | None = None) -> Handler | None:
        try:
            text = sources.decode(path.read_bytes() if data is None else data).text
        except (OSError, sources.SourceError):
            return None
        scope = _table(text)
        if scope is None:
            return None
        namespace = self.namespace(path, scope)
        function = context_manager(namespace)
        opened, commits = read_context_manager(namespace, function) if function else (None, False)
        return Handler(path, dotted or self._dotted(path), namespace, opened, commits)

    # -- modules and names ------------------------------------------------------------------

    def namespace(self, path: Path, scope: Scope) -> Namespace:
        """Return a file's names, with the way to the project's other modules."""
        parts = self._parts(path)
        package = parts if path.name == "__init__.py" else parts[:-1]
        return Namespace(scope, package, lambda dotted: self._find_module(dotted, path))

    def module_name(self, path: Path) -> str:
        """Return a file's dotted name, counted from the project's root."""
        return ".".join(self._parts(path))

    def exported_names(self) -> frozenset[bytes]:
        """Return the names under which files reach the handler's factories and session classes."""
        return self._exported_names

    @cached_property
    def _exported_names(self) -> frozenset[bytes]:
        names: set[str] = set()
        for handler in self.handlers:
            scope = handler.namespace.scope
            for name in scope.bindings:
                for value in handler.namespace.evaluate(Ref((name,)), end_of(scope)):
                    if isinstance(value, values.LocalFunction):
                        returned = values.returned(value)
                    else:
                        returned = (value,)
                    if any(
                        openings.factory(v)
                        or (isinstance(v, values.LocalClass) and openings.is_session_class(v))
                        for v in returned
                    ):
                        names.add(name)
        return frozenset(name.encode() for name in names)

    def may_call_sessions(self, path: Path, text: str) -> bool:
        """Return whether a file may call what makes sessions, factories or engines.

        Where this interpreter cannot parse the text the answer is yes.
        """
        try:
            scope = build_table(text)
        except (SyntaxError, ValueError, RecursionError):
            return True
        names = self.namespace(path, scope)
        return any(
            openings.concerns_sessions(value)
            for call, place in scope.calls
            for value in names.evaluate(call, place)
        )

    def is_mentioned_elsewhere(self, name: str, path: Path) -> bool:
        """Return whether another file of the project has `name` anywhere in its text."""
        wanted = name.encode()
        for other in sources.walk(self.settings.root, self.settings):
            if other != path:
                try:
                    if wanted in other.read_bytes():
                        return True
                except OSError:
                    return True  # what cannot be read may well mention it
        return False

    def _find_module(self, dotted: str, importer: Path) -> tuple[Namespace, tuple[str, ...]] | None:
        """Return the handler that an import names, and what of the name is left."""
        if self._reading_handlers:
            return None
        wanted = tuple(dotted.split("."))
        for handler in self.handlers:
            if handler.path == _REFERENCE_FILE:
                reference = tuple(_REFERENCE.split("."))
                if wanted[: len(reference)] == reference:
                    return handler.namespace, wanted[len(reference) :]
            parts = self._parts(handler.path)
            for length in range(len(parts), 0, -1):
                if wanted[:length] == parts[-length:] and self._importable_from(
                    parts[:-length], importer
                ):
                    return handler.namespace, wanted[length:]
        return None

    def _importable_from(self, folder: tuple[str, ...], importer: Path) -> bool:
        """Return whether a folder can stand on the import path of `importer`.

        The root can, any folder above the importing file, and any folder that is no package.
        """
        base = self.settings.root.joinpath(*folder)
        return not folder or base in importer.parents or not (base / "__init__.py").exists()

    def _parts(self, path: Path) -> tuple[str, ...]:
        try:
            relative = path.relative_to(self.settings.root)
        except ValueError:
            relative = Path(path.name)
        parts = relative.with_suffix("").parts
        return parts[:-1] if parts[-1] == "__init__" else parts

    def _dotted(self, path: Path) -> str:
        """Return the likeliest dotted name of a module: from the topmost package that holds it."""
        if path == _REFERENCE_FILE:
            return _REFERENCE
        parts = self._parts(path)
        root = self.settings.root
        for start in range(len(parts)):
            folders = [root.joinpath(*parts[: end + 1]) for end in range(start, len(parts) - 1)]
            if folders and all((folder / "__init__.py").exists() for folder in folders):
                return ".".join(parts[start:])
        return ".".join(parts[1:] if parts[0] == "src" and len(parts) > 1 else parts)


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name


def _folders(root: Path) -> Iterable[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def _table(text: str) -> Scope | None:
    """Return a module's names; from LibCST where the interpreter is older than the syntax."""
    try:
        return build_table(text)
    except (SyntaxError, ValueError, RecursionError):
        import libcst as cst

        from session_guard.names.from_libcst import index_tree

        try:
            return index_tree(cst.parse_module(text), frozenset()).scope
        except (cst.ParserSyntaxError, RecursionError):
            return None
