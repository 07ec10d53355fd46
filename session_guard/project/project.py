"""What is known across files: which module is the handler, and what names stand for."""

from __future__ import annotations

import functools
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from session_guard import sources
from session_guard.config import ConfigError
from session_guard.execution_options import gives_options
from session_guard.gate import ASYNC_SESSION_WORDS, ProjectNames, Subject
from session_guard.names import evaluation, events, openings, values
from session_guard.names.bindings import Call, Constant, Function, Ref, Scope, end_of
from session_guard.names.from_ast import build_table
from session_guard.names.held import Holders
from session_guard.names.values import Namespace
from session_guard.project import assigning, class_making, replacing
from session_guard.project.asked import ALL, OWN, STANDING, Asked, scopes_of
from session_guard.project.assigning import SETS_BY_NAME
from session_guard.project.elsewhere import ProjectElsewhere
from session_guard.project.handing import Use, functions_in, handed_to_routes
from session_guard.project.handler import (
    CONTEXT_MANAGER,
    Handler,
    context_manager,
    is_context_manager,
    is_same_engine,
    opening_of,
    shortfall_of,
)
from session_guard.project.import_names import name_after
from session_guard.project.making import (
    built_in,
    handler_names,
    made_or_provided,
    making_names,
)
from session_guard.project.modules import ModuleIndex, binds_another
from session_guard.project.questions import (
    Answer,
    Every,
    Found,
    Has,
    Makes,
    Matches,
    Question,
    Some,
    Sources,
)
from session_guard.project.replacing import Replaced, replaced_in, replaces
from session_guard.project.routes import ADDS_ROUTES, HANDS_OVER, SERVES, is_run_of_object
from session_guard.project.setters import READING_METHODS, Setters
from session_guard.project.takers import TESTING, Taken, parsed, taken_in
from session_guard.project.taking import taken_from_others
from session_guard.texts import Texts

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterable, Iterator

    from session_guard.config import Settings
    from session_guard.names.bindings import Expr, Place
    from session_guard.names.values import Result, Value
    from session_guard.sources import Decoded

_REFERENCE = "session_guard.async_session"
REFERENCE_FILE = Path(__file__).parents[1] / "async_session.py"
"""The reference handler, as it is installed."""
_USES_REFERENCE = Matches(rb"\bsession_guard(\.async_session\b|\s+import\s+async_session\b)")
_RECONFIGURES = Matches(rb"\.configure\b|[.\"'](?:kw|class_)\b")
_RELATES = Found(
    rb"(?m)^[ \t]*(\w+)[ \t]*(?::[^=\n]*)?=[ \t]*\(?\s*[\w.]*"
    rb"(?:[Rr]elationship|association_proxy|composite|synonym|column_property)\s*\("
    rb"|\bbackref\s*=\s*(?:[\w.]*\(\s*)?[\"'](\w+)"
)
# One that is loaded together with what has it; `re` gives the name alone.
_LOADS_TOGETHER = Found(
    rb"(?m)^[ \t]*(\w+)[ \t]*(?::[^=\n]*)?=[ \t]*\(?\s*[\w.]*[Rr]elationship\s*\("
    rb"(?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*"
    rb"[\"']?\blazy[\"']?\s*[=:]\s*(?![\"'](?:select\b|raise|noload|write_only|dynamic)|True|None)"
)
# SQLAlchemy's `MutableDict` and what other packages call theirs.
_MUTABLE = Matches(rb"(?i)(?<![iI]m)mutable(?!Mapping|Sequence|Set\b)")
_UNLOADS = Matches(rb"\b(un)?defer(red|_group)?\b|load_only|with_entities|begin_nested")
# `User.__init__ = make`, `setattr(User, "__init__", make)`, `wrap(User, "__init__")(make)`
_MAKES_OTHERWISE = Matches(rb"\.__init__\s*=[^=]|[\"']__init__[\"']")
_LOOPS = Matches(rb"\bfor\b.+\bin\b")
_READ_BY_METHODS = Matches(
    rb"\b(?:def\s+)?(%s)\s*[(=]" % b"|".join(name.encode() for name in sorted(READING_METHODS))
)
# What is in a file that maps classes, in whatever style.
_MAPS = Matches(
    rb"__table(name)?__|\bMapped\b|[Cc]olumn\b|declarative|Declarative|SQLModel|map_imperatively"
    rb"|\btable\s*=\s*True"
)
_METACLASS = Matches(rb"\bmetaclass\s*=\s*(?!(?:abc\.)?ABCMeta\b)")
_TAKES_OBJECTS = Every(
    (Matches(rb"\.\s*(merge|add|add_all)\s*\("), Matches(rb"(?i)session|sqlalchemy|\b(db|uow)\b"))
)
_REFUSES = Matches(rb"\bvalidates\b|\blistens_for\b|\bevent\.listen\b")
_DUMPS_OBJECTS = Matches(
    rb"arbitrary_types_allowed|\bdef\s+model_dump\b|\w+_serializer\b|(Plain|Wrap)Serializer"
    rb"|SkipValidation"
)
_VALIDATES = Matches(
    rb"(root|model)_validator|(Before|Wrap|Plain)Validator|GetterDict|\bpre\s*=\s*True"
    rb"|\bmode\s*=\s*[\"'](before|wrap|plain)"
)
_INJECTS = Matches(rb"Depends|Security|Provide")
_MAKING_CODES = ("SG101", "SG102", "SG103", "SG201")
_TRANSACTIONS = frozenset({"after_transaction_create", "after_transaction_end"})
_COMMITS_OF_SESSIONS = frozenset({"before_commit", "after_commit", *_TRANSACTIONS})
_COMMITS = frozenset({*_COMMITS_OF_SESSIONS, "commit"})
_ROLLBACKS_OF_SESSIONS = (
    frozenset(
        """
    after_rollback after_soft_rollback expire deleted_to_persistent deleted_to_detached
    pending_to_transient persistent_to_transient persistent_to_detached
    """.split()
    )
    | _TRANSACTIONS
)
_ROLLBACKS = frozenset({*_ROLLBACKS_OF_SESSIONS, "rollback"})
_READS_OF_SESSIONS = frozenset({"after_begin", "do_orm_execute"})
# What is given an object that was made or stored, or a session that has it, and may keep it.
_OBJECTS = frozenset(
    """
    before_commit after_commit
    init after_attach before_attach transient_to_pending pending_to_persistent
    persistent_to_deleted before_flush after_flush after_flush_postexec before_insert
    after_insert before_update after_update before_delete after_delete refresh_flush set append
    """.split()
)
_READS = _READS_OF_SESSIONS | frozenset(
    """
    begin before_cursor_execute after_cursor_execute before_execute after_execute
    """.split()
)
# What sets a name of another module or object by a string has one of these in it.
_PLAIN_BASES = frozenset(map(values.External, ("object", "abc.ABC", "typing.Generic")))
# How a class may give its objects, or those that derive from it, other methods.
_GIVES_METHODS = frozenset({"__getattr__", "__getattribute__", "__init_subclass__"})
_REPLACING = Has((b"patch", b"setattr", b"__dict__", b"__globals__", b"vars("))
# Of the project's own files, those that replace something, or may be tests.
_REPLACES = Has((*_REPLACING.words, *sorted(name.encode() for name in TESTING)))
# What may replace names that are not in the file's text.
_REPLACES_ANY = Matches(
    rb"\bmultiple\s*\(|__globals__|(?:__dict__[\"']?|\bvars\s*\([^)]*\))\s*(?:[\[,]|\.update)"
)
_SYS_MODULES = Matches(rb"\bmodules\b")
_REPLACES_MAKERS = Every(
    (
        Has((b"sqlalchemy", b"sqlmodel")),
        Has(tuple(sorted(name.encode() for name in openings.MAKERS))),
        Matches(
            rb"patch|setattr|__dict__|\.(?:%s)\s*=[^=]" % "|".join(sorted(openings.MAKERS)).encode()
        ),
    )
)
_ADDS_ROUTES, _HANDS_OVER = Matches(ADDS_ROUTES.pattern), Matches(HANDS_OVER.pattern)
_HAS_MODULES = rb"(?:\bmodules\s*\[|\b(?:import_module|__import__)\s*\()"
_SERVES, _SETS_BY_NAME = Matches(SERVES.pattern), Matches(SETS_BY_NAME.pattern)

# A function, or the name of a method of an object that is not known, and the packages told of it.
_Injected = tuple[values.LocalFunction | str, set[str]]


class Calling(NamedTuple):
    """The packages of the frameworks that are told to call a function for parameters."""

    known: frozenset[str]
    possible: frozenset[str]
    """Those that are told to call a method of its name, of what object is not known."""


class Project:
    """One project root: its settings, its handler, and the names that its files share."""

    def __init__(
        self,
        settings: Settings,
        texts: Texts | None = None,
        exported_names: ProjectNames | None = None,
    ) -> None:
        """Take what is known of the project's files; where nothing is, they are looked for.

        `exported_names` are known where an earlier run found them, and nothing changed in them.
        """
        if exported_names is not None:
            self.exported_names = exported_names
        self.settings = settings
        self._given_texts = texts
        self.notices: list[str] = []
        """What concerns the whole run; the command line prints it once."""
        self._namespaces: dict[Path, Namespace | None] = {}
        self._assigned: dict[str, str | None] = {}
        self._set_anew: dict[str, bool] = {}
        self._handed: dict[Path, tuple[Namespace, tuple[values.LocalFunction | str, ...]]] = {}
        self._injected: dict[Path, tuple[Namespace, dict[str, list[_Injected]]]] = {}
        self._taken: dict[Path, Taken | None] = {}
        self._set_by_names: dict[Path, tuple[Namespace, tuple[tuple[Expr, str, Place], ...]]] = {}
        self._named: dict[Path, tuple[Namespace, dict[str, list[tuple[str, Expr, Place]]]]] = {}
        self._replaced: dict[Path, dict[str, set[Replaced]]] = {}
        self._mentions: dict[str, tuple[Path, ...]] = {}
        self._holders = Holders()
        self._setters = Setters()
        self._read_texts: dict[Path, int] = {}
        """The hash of the text that a namespace was made of."""

    # -- the handler ------------------------------------------------------------------------

    @cached_property
    def handlers(self) -> tuple[Handler, ...]:
        """The modules that may build engines and open sessions, as configured or found.

        Raises ConfigError where one that is configured cannot be read.
        """
        if self.settings.handler:
            return tuple(self._configured())
        found = list(self._discovered())
        if not found and any(self._own_files(_USES_REFERENCE)):
            found = [handler for handler in [self._read(REFERENCE_FILE, _REFERENCE)] if handler]
        if len(found) > 1:
            names = ", ".join(self.shown(handler.path) for handler in found)
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

    @cached_property
    def request_handler(self) -> Handler | None:
        """The handler as its `get_session` opens sessions, if that can be entered."""
        return self.handler.for_requests() if self.handler is not None else None

    def is_handler(self, path: Path) -> bool:
        """Return whether a file is a handler, or builds what one opens sessions from.

        Where there is none, what alone builds engine and factories is taken for it.
        """
        return path in self._lone_builders or path in self._handler_modules

    @cached_property
    def _handler_modules(self) -> frozenset[Path]:
        """The handlers, with the module that has the engine or the factory of one."""
        found = {handler.path for handler in self.handlers}
        for handler in self.handlers:
            engines = [v for v in handler.engines() if isinstance(v, values.Result)]
            building = {engine.home.path for engine in engines if openings.is_engine(engine)}
            # Of engines in several modules none is the handler's for sure.
            if handler.engine is not None and len(building) < 2:
                found |= building | {handler.engine.home.path}
        return frozenset(found)

    @cached_property
    def _lone_builders(self) -> frozenset[Path]:
        """Where there is no handler: what alone builds PostgreSQL's engine, and the factory.

        A team that only wants its pooler settings right is not told off for its database module.
        """
        if not self._has_async_sessions:
            return frozenset()
        if self.settings.handler or self.handlers or self.notices:
            return frozenset()
        built = list(self.built())
        engines = {value.home.path for value in built if openings.is_engine(value)}
        factories = {value.home.path for value in built if not openings.is_engine(value)}
        builders = engines | factories
        # A database package may have its engine in one module and the factory on it in another.
        if len(engines) > 1 or len(factories) > 1 or not builders:
            return frozenset()
        self.notices.append(
            f"{' and '.join(sorted(map(self.shown, builders)))} alone "
            f"{'builds' if len(builders) == 1 else 'build'} the project's engine or session "
            "factories, and may do so; "
            f"{'it defines' if len(builders) == 1 else 'they define'} no {CONTEXT_MANAGER}(), so "
            "that nothing is rewritten to use one until there is one, or [tool.session-guard] "
            'names a handler: handler = "…"'
        )
        return frozenset(builders)

    def built(self) -> Iterator[Result]:
        """Yield the engines and factories that may be PostgreSQL's, where the project builds them.

        Tests, migrations and files that may build what they like are left out.
        """
        for path in self._own_files(Makes()):
            names = self.names_of(path)
            if (
                names is not None
                and not self._may_build(path)
                and not is_migration_environment(names)
            ):
                yield from built_in(names)

    def imports(self, name: str) -> bool:
        """Return whether one of the project's own modules imports what has the dotted `name`."""
        last = Has((name.rpartition(".")[2].encode(),))
        return any(
            binding.kind == "import" and binding.target == name
            for path in self._own_files(last)
            if (names := self.names_of(path)) is not None
            for bindings in names.scope.bindings.values()
            for binding in bindings
        )

    def _may_build(self, path: Path) -> bool:
        """Return whether the configuration lets a file make sessions and engines as it likes."""
        shown = self.shown(path)
        return all(self.settings.is_ignored(code, shown) for code in _MAKING_CODES)

    def _own_files(self, question: Question) -> Iterator[Path]:
        """Yield the project's own files whose answer to a question is not false."""
        return (path for path, _ in self._own_answers(question))

    def _own_answers(self, question: Question) -> Iterator[tuple[Path, Answer]]:
        return self.asked.in_turn(OWN, question, self._every_own_file, self._data)

    def _found_in_own_files(self, question: Found) -> frozenset[str]:
        """Return what a question finds in all of them."""
        answers = (found for _, found in self._own_answers(question))
        return frozenset(one for found in answers if isinstance(found, tuple) for one in found)

    def _ask(self, question: Question, path: Path) -> Answer:
        """Return what one file answers."""
        return self.asked.one(question, path, self._data(path))

    @cached_property
    def asked(self) -> Asked:
        """What was asked of the project's files so far, and what they answered."""
        return Asked(self._texts.paths)

    @cached_property
    def _every_own_file(self) -> dict[Path, None]:
        """The project's own files, in order: no tests, examples or copies."""
        return dict.fromkeys(self._of(OWN))

    @cached_property
    def _standing(self) -> tuple[Path, ...]:
        """The files that the standard is meant for: no tests and no migrations."""
        return tuple(self._of(STANDING))

    def _of(self, scope: str) -> Iterator[Path]:
        files = self.modules.files
        return (path for path in files if scope in scopes_of(self.shown(path), self.settings))

    def _configured(self) -> Iterator[Handler]:
        for name in self.settings.handler:
            path = self._configured_path(name)
            where = f"{self.settings.root / 'pyproject.toml'}: [tool.session-guard] `handler`"
            if path is None:
                raise ConfigError(f'{where}: "{name}" is no module of this project')
            handler = self._read(path, None if _is_path(name) else name)
            if handler is None:
                raise ConfigError(f'{where}: "{name}" cannot be parsed: {path}')
            yield handler

    def _configured_path(self, name: str) -> Path | None:
        root = self.settings.root
        if _is_path(name):
            path = root / name
            return path if path.is_file() else None
        found = self.modules.find(name, root / "pyproject.toml")
        if found is not None and not found[1]:
            return self._defining(found[0])
        return REFERENCE_FILE if name == _REFERENCE else None

    def _defining(self, path: Path) -> Path:
        """Return the module that a package has its context manager from, or else the package."""
        names = self.names_of(path)
        for value in names.evaluate(Ref((CONTEXT_MANAGER,)), end_of(names.scope)) if names else ():
            if isinstance(value, values.LocalFunction):
                return value.home.path
        return path

    def _discovered(self) -> Iterator[Handler]:
        words = (CONTEXT_MANAGER.encode(), b"contextmanager")
        for path in self._own_files(Every(tuple(Has((word,)) for word in words))):
            handler = None if self.modules.is_hidden(path) else self._read(path, None)
            if handler is not None and is_context_manager(handler.namespace):
                yield handler

    def _read(self, path: Path, dotted: str | None) -> Handler | None:
        names = self.names_of(path)
        if names is None:
            return None
        if dotted is None:
            dotted = self.modules.likeliest_name(path)
        function = context_manager(names)
        if function is None or not function.definition.is_async:
            return Handler(path, dotted, names, None, "is no async context manager")
        shortfall = shortfall_of(function)
        return Handler(path, dotted, names, opening_of(function), shortfall)

    # -- modules and names ------------------------------------------------------------------

    @cached_property
    def _has_async_sessions(self) -> bool:
        return bool(self.settings.handler) or self._texts.have_one(ASYNC_SESSION_WORDS)

    @cached_property
    def _texts(self) -> Texts:
        if self._given_texts is not None:
            return self._given_texts
        return Texts(tuple(map(str, sources.walk(self.settings.root, self.settings))))

    @cached_property
    def modules(self) -> ModuleIndex:
        """The project's modules."""
        return ModuleIndex(self.settings.root, map(Path, self._texts.paths))

    def _data(self, path: Path) -> bytes:
        """Return a file's bytes, for questions alone; of one that cannot be read, nothing.

        That is reported elsewhere.
        """
        try:
            return self._texts.read(str(path))
        except OSError:
            return b""

    def decoded(self, path: Path) -> Decoded | None:
        """Return what a file holds as text, or None where it cannot be read or is no text."""
        self.asked.used.add(str(path))
        return self._decoded(path)

    def _decoded(self, path: Path) -> Decoded | None:
        try:
            return sources.decode(self._texts.read(str(path)))
        except (OSError, sources.SourceError):
            return None

    def _text_to_parse(self, path: Path) -> str | None:
        """Return a file's text, of which nothing is to be known but the syntax tree."""
        self.asked.parsed.add(str(path))
        decoded = self._decoded(path)
        return decoded.text if decoded is not None else None

    def tree(self, path: Path) -> ast.Module | None:
        """Return a file's syntax tree, of which positions must not count; None without one."""
        text = self._text_to_parse(path)
        return parsed(text) if text is not None else None

    def names_of(self, path: Path) -> Namespace | None:
        """Return the names of one of the project's modules, or None where it cannot be parsed."""
        if path not in self._namespaces:
            text = self._text_to_parse(path)
            scope = None if text is None else _table(text)
            self._namespaces[path] = None if scope is None else self.namespace(path, scope)
            self._read_texts[path] = hash(text)
        return self._namespaces[path]

    def namespace(self, path: Path, scope: Scope) -> Namespace:
        """Return a file's names, with the way to the project's other modules."""
        find = functools.cache(functools.partial(self._find_module, importer=path))
        return Namespace(scope, self.modules.package_of(path), path, find, self._elsewhere)

    @cached_property
    def _elsewhere(self) -> ProjectElsewhere:
        return ProjectElsewhere(
            tuple(self._every_own_file),
            self.asked,
            self._data,
            self.names_of,
            self.is_mentioned_elsewhere,
        )

    def import_name(self, path: Path, importer: Namespace) -> str:
        """Return the dotted name under which a file that imports a module would name it.

        It is counted from where the file's other imports are; where it has none of the project,
        from where others count what stands beside the module.
        """
        found = name_after([importer], path, self.modules)
        if found is None:
            stems = {one.stem.encode() for one in self.modules.files if one.parent == path.parent}
            naming = self._own_files(Has(tuple(sorted(stems))))
            found = name_after(self._parsed(naming), path, self.modules, beside=True)
        return found or self.modules.likeliest_name(path)

    def module_name(self, path: Path) -> str:
        """Return a file's dotted name, counted from the project's root."""
        return ".".join(self.modules.parts(path))

    def _find_module(self, dotted: str, importer: Path) -> tuple[Namespace, tuple[str, ...]] | None:
        """Return the module that an import names, and what of the name is left."""
        found = self.modules.find(dotted, importer)
        if found is None and dotted.startswith(_REFERENCE):
            rest = dotted.removeprefix(_REFERENCE).split(".")
            found = (REFERENCE_FILE, tuple(rest[1:])) if not rest[0] else None
        if found is None:
            return None
        held = None if found[1] else self._held_by_package(dotted, importer)
        if held is not None:
            return held
        names = self.names_of(found[0])
        return (names, found[1]) if names is not None else None

    def _held_by_package(
        self, dotted: str, importer: Path
    ) -> tuple[Namespace, tuple[str, ...]] | None:
        """Return what a package binds under the name of its submodule, which hides that."""
        names, name = self.package_round(dotted, importer), dotted.rpartition(".")[2]
        if names is None or not binds_another(names, name, dotted):
            return None
        return names, (name,)

    def package_round(self, dotted: str, importer: Path) -> Namespace | None:
        """Return the package of the project that has a module of a name, as imported somewhere.

        None where it is a folder without an `__init__.py`, or cannot be parsed.
        """
        package = dotted.rpartition(".")[0]
        found = self.modules.find(package, importer) if package else None
        if found is None or found[1] or found[0].name != "__init__.py":
            return None
        return self.names_of(found[0])

    def find_configured(self, dotted: str) -> tuple[Namespace, tuple[str, ...]] | None:
        """Return the module that a dotted name of the configuration means, and what is left."""
        return self._find_module(dotted, self.settings.root / "pyproject.toml")

    @cached_property
    def named_engines(self) -> tuple[Value, ...]:
        """What the engines that the configuration names are, where they could be followed."""
        return tuple(value for name in self.settings.engines for value in self.engines_of(name))

    def is_named_engine(self, engine: Value) -> bool:
        """Return whether the configuration names an engine, or a class whose objects have it."""
        return any(is_same_engine(own, engine) for own in self.named_engines) or any(
            isinstance(own, values.Result)
            and isinstance(engine, values.Result)
            and own.is_made_where(engine)
            for name in self.settings.engines
            if self.class_named(name) is not None
            for own in self.engines_of(name)
        )

    def class_named(self, dotted: str) -> values.LocalClass | None:
        """Return the class of which the configuration names an attribute by `dotted`, or None."""
        namespace, rest = self.find_configured(dotted) or (None, ())
        if namespace is None or len(rest) < 2:
            return None
        owners = namespace.evaluate(Ref(rest[:-1]), end_of(namespace.scope))
        return next((owner for owner in owners if isinstance(owner, values.LocalClass)), None)

    def engines_of(self, dotted: str) -> Iterator[Value]:
        """Yield what a dotted name of the configuration stands for.

        Of a function or a method that is what it returns when it is called without arguments.
        """
        namespace, rest = self.find_configured(dotted) or (None, ())
        if namespace is None or not rest:
            return
        place = end_of(namespace.scope)
        for value in namespace.evaluate(Ref(rest), place):
            if isinstance(value, (values.LocalFunction, values.Method)):
                yield from namespace.evaluate(Call(Ref(rest), (), (), None), place)
            else:
                yield value

    @cached_property
    def exported_names(self) -> ProjectNames:
        """The names under which files reach the project's factories, session classes and sessions.

        Found to a fixed point: a file that only re-exports has none of the fixed words.
        """
        if not self._has_async_sessions:
            return ProjectNames()
        makers: set[str] = set()
        managers: set[str] = set()
        # What tests and migrations make is nobody else's.
        paths = self._standing
        if self.handler is not None and self.handler.path == REFERENCE_FILE:
            paths = (*paths, REFERENCE_FILE)
        matters: Question = Makes(renames=True)
        while True:
            known = makers | managers
            for path, _ in self.asked.in_turn(STANDING, matters, paths, self._data):
                exporting = self.names_of(path)
                if exporting is not None:
                    makers.update(making_names(exporting, frozenset(makers)))
                    managers.update(handler_names(exporting, frozenset(managers)))
            fresh = (makers | managers) - known
            if not fresh:
                return ProjectNames(
                    frozenset(name.encode() for name in makers),
                    frozenset(name.encode() for name in managers),
                )
            matters = Has(tuple(sorted(name.encode() for name in fresh)))

    def names_in(self, path: Path, text: str) -> Namespace | None:
        """Return the names of a file that has `text`; None where this interpreter cannot parse it.

        The file may be none of the project's, or have another text by now.
        """
        if self._read_texts.get(path) == hash(text):
            return self._namespaces[path]
        try:
            return self.namespace(path, build_table(text))
        except (SyntaxError, ValueError, RecursionError):
            return None

    def may_be_about(self, subjects: Iterable[Subject], names: Namespace) -> set[Subject]:
        """Return which of some subjects a file's findings may be about."""
        return {subject for subject in subjects if self._may_be_about(subject, names)}

    def _may_be_about(self, subject: Subject, names: Namespace) -> bool:
        match subject:
            case Subject.MAKERS:
                return any(
                    openings.concerns_sessions(value)
                    for call, place in names.scope.calls
                    for value in made_or_provided(call, place, names)
                )
            case Subject.SESSIONS:
                return self._holders.has_any(names)
            case Subject.OPTIONS:
                return gives_options(names) or self._may_be_about(Subject.MAKERS, names)
            case Subject.HANDLER:
                return any(
                    handler.function_of(value) is not None
                    for call, place in names.scope.calls
                    for value in names.evaluate(call.function, place)
                    for handler in self.handlers
                )

    @cached_property
    def reconfigured_factory(self) -> str | None:
        """Where a session factory gets another engine or other options after it was built, if any.

        `factory.configure(...)` and `factory.kw` change all that is opened from it later, in tests
        too: what these run would reach the real database. What they made themselves is theirs.
        """
        own = self._every_own_file
        for path, _ in self.asked.in_turn(ALL, _RECONFIGURES, self._every_file, self._data):
            names = self.names_of(path)
            if names is None:
                if path in own:
                    return self.shown(path)
                continue
            for factory in openings.reconfigured_factories(names):
                home = factory.home.path if isinstance(factory, values.Result) else None
                if path in own or home is None or home in own:
                    return self.shown(path)
        return None

    @cached_property
    def listening(self) -> tuple[Namespace, ...]:
        """The modules that may listen to what engines connect with."""
        return tuple(self._parsed(self._own_files(Has((b"do_connect",)))))

    def assigned_elsewhere(self, name: str) -> str | None:
        """Return the file that assigns to `name` of an imported module, or None."""
        if name not in self._assigned:
            self._assigned[name] = self._assigning(name)
        return self._assigned[name]

    def _assigning(self, name: str) -> str | None:
        had = Matches(rb"%s[^\n]*[\])]\.%s\s*=[^=]" % (_HAS_MODULES, re.escape(name.encode())))
        for path in self._having_modules:
            if self._ask(had, path):
                return self.shown(path)
        for path in self._elsewhere.may_set(name):
            names = self.names_of(path)
            if names is None or assigning.assigns_in_modules(names, name):
                return self.shown(path)
        for path in self._setting_by_name:
            names = self.names_of(path)
            if names is None or assigning.sets_in_modules(names, name, self._set_in(names)):
                return self.shown(path)
        for path in self._elsewhere.names_in_string(name):
            names = self.names_of(path)
            if names is not None and assigning.names_of_module(
                names, name, self._named_to_others(names).get(name, ())
            ):
                return self.shown(path)
        return None

    @cached_property
    def _having_modules(self) -> tuple[Path, ...]:
        """The files that may have modules by their names."""
        return tuple(self._own_files(Matches(_HAS_MODULES)))

    @cached_property
    def _setting_by_name(self) -> tuple[Path, ...]:
        """The files that may set attributes by names that are no part of the source."""
        return tuple(self._own_files(_SETS_BY_NAME))

    def _set_in(self, names: Namespace) -> tuple[tuple[Expr, str, Place], ...]:
        """Return what a file sets by names that are no part of the source."""
        known = self._set_by_names.get(names.path)
        if known is None or known[0] is not names:
            found = tuple(assigning.set_by_name(names))
            known = self._set_by_names[names.path] = names, found
        return known[1]

    def _named_to_others(self, names: Namespace) -> dict[str, list[tuple[str, Expr, Place]]]:
        """Return by their last names what calls get in strings beside what may be a module."""
        known = self._named.get(names.path)
        if known is None or known[0] is not names:
            by_name: dict[str, list[tuple[str, Expr, Place]]] = {}
            for text, module, place in assigning.named_to_others(names):
                by_name.setdefault(text.rpartition(".")[2], []).append((text, module, place))
            known = self._named[names.path] = names, by_name
        return known[1]

    def may_be_set_anew(self, attribute: str) -> bool:
        """Return whether the project's files give objects more than one value for an attribute."""
        if attribute not in self._set_anew:
            self._set_anew[attribute] = self._may_be_set_anew(attribute)
        return self._set_anew[attribute]

    def _may_be_set_anew(self, attribute: str) -> bool:
        quoted = Matches(rb"[\"']%s[\"']" % re.escape(attribute.encode()))
        count = 0
        owners: list[values.LocalClass] = []
        for path in self._own_files(Has((attribute.encode(),))):
            names = self.names_of(path)
            if names is None or self._ask(quoted, path):
                return True
            count += sum(parts[-1] == attribute for parts in names.scope.assigned_attributes)
            for definition in names.scope.classes:
                owner = definition.scope
                own = owner.bindings.get(attribute, [])
                if own or attribute in owner.attributes:
                    owners.append(values.LocalClass(definition, names))
                if own and attribute in owner.annotations and self._may_have_fields(owners[-1]):
                    return True  # of a dataclass, each object may be given another
                set_to = (binding.value for binding in (*own, *owner.attributes.get(attribute, ())))
                count += sum(
                    not (isinstance(value, Constant) and value.value is None) for value in set_to
                )
        return count > 1 or self._are_set_by_name(owners)

    def _may_have_fields(self, owner: values.LocalClass) -> bool:
        """Return whether what a class annotates may be given as an argument where it is called.

        A decorator or a base may see to that, as of a dataclass, and a base that stands beside it.
        """
        return not all(map(_is_plain, self._kin(owner)))

    def _kin(self, owner: values.LocalClass) -> Iterator[values.LocalClass]:
        """Yield a class, those that it derives from, and those that derive from it with theirs."""
        yield from openings.lineage(owner)
        for names in self._parsed(dict.fromkeys(self._elsewhere.below(owner.definition.name))):
            for definition in names.scope.classes:
                line = list(openings.lineage(values.LocalClass(definition, names)))
                if owner.key in [one.key for one in line]:
                    yield from line

    def may_run_another(self, owner: values.LocalClass, name: str) -> bool:
        """Return whether calling a method of an object may run another than its class has.

        It may be overridden, set by its name, or wrapped by what makes or decorates the class.
        """
        return (
            self.is_overridden(owner, name)
            or any(
                not _is_plain(one) or not _GIVES_METHODS.isdisjoint(one.definition.scope.bindings)
                for one in self._kin(owner)
            )
            or any("__class__" in one.definition.scope.attributes for one in self._kin(owner))
            or self._are_set_by_name([owner])
            or bool(self._elsewhere.quotes(name))
            or any(class_making.may_derive(made, owner, names) for made, names in self._made)
        )

    @cached_property
    def _made(self) -> tuple[tuple[class_making.Made, Namespace], ...]:
        """The classes that the project makes otherwise than by `class X(A, B)`."""
        return tuple(
            (made, names)
            for path in self._own_files(Matches(class_making.MAKES_CLASSES))
            if (tree := self.tree(path)) is not None and (names := self.names_of(path)) is not None
            for made in class_making.made_in(tree)
        )

    def is_borrowed(self, owner: values.LocalClass, method: str) -> bool:
        """Return whether a method of a class may run for an object of another class.

        Another class may have it as its own, or it may be called with whatever object.
        """
        known = {one.definition.name for one in self._kin(owner)}
        taken = rb"\b(?:%s)\s*\.\s*%s\b" % ("|".join(sorted(known)).encode(), method.encode())
        for path in self._elsewhere.may_use(method):
            if self._ask(Matches(taken), path):
                tree, names = self.tree(path), self.names_of(path)
                if (
                    tree is None
                    or names is None
                    or class_making.borrows(tree, method, owner, known, names)
                ):
                    return True
        return False

    def is_overridden(self, owner: values.LocalClass, name: str) -> bool:
        """Return whether a class of the project has, or is given, another for a class's method."""
        line = list(openings.lineage(owner))
        bound = (one.definition.scope.bindings.get(name) for one in line)
        found = next((bindings for bindings in bound if bindings), None)
        if found is None or not isinstance(found[-1].value, Function):
            return False
        own = {one.key for one in line}
        naming = self._own_files(Has((name.encode(),)))
        below = self._elsewhere.below(owner.definition.name)
        for names in self._parsed(dict.fromkeys((*naming, *below))):
            if any(parts[-1] == name for parts in names.scope.assigned_attributes):
                return True
            for definition in names.scope.classes:
                derived = list(openings.lineage(values.LocalClass(definition, names)))
                if derived[0].key not in own and owner.key in [one.key for one in derived]:
                    # A class beside the owner may come before it: `class A(Mixin, Owner)`.
                    beside = (one.definition.scope for one in derived if one.key not in own)
                    if any(name in scope.bindings or name in scope.attributes for scope in beside):
                        return True
        return False

    def has_metaclass(self, owner: values.LocalClass) -> bool:
        """Return whether a class of the project may make a class, and what that has, otherwise."""
        return any(
            one.definition.is_made_over and bool(self._ask(_METACLASS, one.home.path))
            for one in openings.lineage(owner)
        )

    def _are_set_by_name(self, owners: list[values.LocalClass]) -> bool:
        """Return whether objects of some classes, or of kins of theirs, get any attributes."""
        lines = [set(_keys(owner)) for owner in owners]
        return any(
            setter.key in line or owner.key in _keys(setter)
            for setter in self._set_by_name
            for owner, line in zip(owners, lines, strict=True)
        )

    @cached_property
    def _set_by_name(self) -> tuple[values.LocalClass, ...]:
        """The classes whose methods set attributes of their object by names not written out."""
        return tuple(
            c
            for names in self._parsed(self._setting_by_name)
            for c in assigning.classes_set_by_name(names)
        )

    @cached_property
    def listener_to_commits(self) -> Path | None:
        """A file that has something run at each commit: of sessions, or of an engine."""
        return self._listener_to(_COMMITS_OF_SESSIONS, _COMMITS)

    @cached_property
    def listener_to_rollbacks(self) -> Path | None:
        """A file that has something run at each rollback, or at what that does to objects."""
        return self._listener_to(_ROLLBACKS_OF_SESSIONS, _ROLLBACKS)

    @cached_property
    def listener_to_objects(self) -> Path | None:
        """A file that has something run with objects that are made or stored, and may keep them."""
        return self._listener_to(_OBJECTS, _OBJECTS)

    @cached_property
    def writer_in_reads(self) -> Path | None:
        """A file that may have something written as a session, or its connection, reads."""
        from session_guard.project.hearing import may_write  # most runs do without LibCST

        return self._listener_to(_READS_OF_SESSIONS, _READS, may_write)

    def _listener_to(
        self,
        of_sessions: frozenset[str],
        all_of: frozenset[str],
        matters: Callable[[Call, Place, Namespace], bool] = lambda *_: True,
    ) -> Path | None:
        """Return a file that has something run at one of some events, if that matters.

        What the handler itself sees of its engine is its own bookkeeping. A file that cannot be
        parsed, and an event whose name could not be followed, may be one.
        """
        own = self.handler.path if self.handler is not None else None
        for path in self._own_files(Has((b"listen",))):
            names, wanted = self.names_of(path), of_sessions if path == own else all_of
            if (
                bool(self._ask(Has(tuple(event.encode() for event in sorted(wanted))), path))
                if names is None
                else any(
                    {None, *wanted} & heard and matters(call, place, names)
                    for call, place, heard in events.listening(names)
                )
            ):
                return path
        return None

    def taker_of(self, owner: values.LocalClass | None) -> str | None:
        """Return a file that gives sessions objects of a class which it has not made, or None.

        They come from parameters, attributes and other functions; None stands for any class.
        """
        return next(
            (
                self.shown(path)
                for path, taken in self._takers
                if owner is None
                or taken is None
                or taken.key in _keys(owner)
                or owner.key in _keys(taken)
            ),
            None,
        )

    @cached_property
    def _takers(self) -> tuple[tuple[Path, values.LocalClass | None], ...]:
        """The files that give sessions what they have not made, and of what classes."""
        found = dict[tuple[Path, object], tuple[Path, values.LocalClass | None]]()
        for path in self._own_files(_TAKES_OBJECTS):
            names, tree = self.names_of(path), self.tree(path)
            classes = (None,) if names is None or tree is None else taken_from_others(tree, names)
            for owner in classes:
                found[path, owner.key if owner is not None else None] = path, owner
        return tuple(found.values())

    @cached_property
    def relationships(self) -> frozenset[str]:
        """The names of attributes that lead from a class of the project to other objects."""
        return self._found_in_own_files(_RELATES)

    @cached_property
    def eager_relationships(self) -> frozenset[str]:
        """The names of those attributes whose objects are loaded together with their owner."""
        return self._found_in_own_files(_LOADS_TOGETHER)

    @cached_property
    def tracks_mutations(self) -> bool:
        """Whether columns may have values that tell their object when they are changed."""
        return any(self._own_files(_MUTABLE))

    @cached_property
    def replaces_constructors(self) -> bool:
        """Whether classes may be given another constructor than is written in them."""
        return any(self._own_files(_MAKES_OTHERWISE))

    @cached_property
    def unloads_columns(self) -> bool:
        """Whether objects may lack columns: a query left them out, or a savepoint expired them."""
        return any(self._own_files(_UNLOADS))

    @cached_property
    def validates_values(self) -> bool:
        """Whether models of the project may refuse a value that an attribute is given."""
        return any(self._own_files(_REFUSES))

    @cached_property
    def dumps_objects(self) -> bool:
        """Whether `model_dump()` may give objects of the program, and not data alone."""
        return any(self._own_files(_DUMPS_OBJECTS))

    @cached_property
    def validates_objects(self) -> bool:
        """Whether pydantic may hand objects to functions of the project, before it reads them."""
        return any(self._own_files(_VALIDATES))

    @cached_property
    def setting_properties(self) -> frozenset[str]:
        """The names of the project's properties that change something when they are read."""
        # A class's own way to be read may be another file's.
        having: Question = Has((b"property",))
        if any(self._own_files(Has((b"__get__",)))):
            having = Some((having, _MAPS))
        spaces = self._parsed(self._own_files(having))
        return frozenset(name for names in spaces for name in self._setters.properties(names))

    @cached_property
    def setting_methods(self) -> frozenset[str]:
        """The names of the methods that set something where Python calls them to read an object.

        Those of the project's models alone: `__str__`, `__len__` and the like.
        """
        having = self._parsed(self._own_files(_READ_BY_METHODS))
        if not any(map(self._setters.may_set_when_read, having)):
            return frozenset()  # before all models are parsed
        spaces = self._parsed(self._own_files(_MAPS))
        return frozenset(name for names in spaces for name in self._setters.reading_methods(names))

    def frameworks_calling(self, function: tuple[str, ...], home: Namespace) -> Calling:
        """Return the packages that the project tells to call a function of a module for parameters.

        `Depends(get_db)` tells `fastapi`, wherever in the project it stands. The function is known
        by its qualified name.
        """
        found, unsure = set[str](), set[str]()
        for names in self._naming(function, home, self._injecting):
            for given, packages in self._injected_by(names).get(function[-1], ()):
                if _is_named(given, function, home):
                    found |= packages
                elif given == function[-1] and len(function) > 1:
                    unsure |= packages
        return Calling(frozenset(found), frozenset(unsure))

    def _injected_by(self, names: Namespace) -> dict[str, list[_Injected]]:
        """Return what a module has frameworks call for parameters, by its last name."""
        known = self._injected.get(names.path)
        if known is None or known[0] is not names:
            by_name: dict[str, list[_Injected]] = {}
            for given, packages in _injected(names):
                name = given if isinstance(given, str) else given.definition.name
                by_name.setdefault(name, []).append((given, packages))
            known = self._injected[names.path] = names, by_name
        return known[1]

    @cached_property
    def _injecting(self) -> tuple[Path, ...]:
        """The files that may tell a framework what to call for parameters."""
        return tuple(self._own_files(_INJECTS))

    def handed_to_routes(self, function: tuple[str, ...], home: Namespace) -> Use:
        """Return whether the project hands a function of a module to what adds routes.

        It is known by its qualified name; of a method it may be unknown.
        """
        use = Use.OTHER
        naming = self._naming(function, home, self._handing_over)
        for names in dict.fromkeys((*naming, *self._that_may_add(function))):
            for handed in self._handed_by(names):
                if _is_named(handed, function, home):
                    return Use.REQUESTS
                if handed == function[-1] and len(function) > 1:
                    use = Use.UNKNOWN
        return use

    @cached_property
    def _handing_over(self) -> dict[Path, None]:
        """The files that may hand functions to what adds routes, in order."""
        return dict.fromkeys(self._own_files(_HANDS_OVER))

    def _that_may_add(self, function: tuple[str, ...]) -> Iterator[Namespace]:
        """Yield the modules that may add a route for a function in another way.

        They add what another module has in a list, or give the function to one that adds it.
        """
        if not self._serves:
            return
        wanted = function[-1].encode()
        given = Matches(rb"[(,=.\s]%s\s*[,)]" % re.escape(wanted))
        yield from self._parsed(self._adding_many)
        yield from self._parsed(self._own_files(Every((Has((wanted,)), given))))

    @cached_property
    def _adding_many(self) -> tuple[Path, ...]:
        """The files that may add routes in a loop."""
        return tuple(
            path
            for path in self._handing_over
            if self._ask(_LOOPS, path) and self._ask(_ADDS_ROUTES, path)
        )

    @cached_property
    def _serves(self) -> bool:
        """Whether the project has anything to do with a web framework."""
        return any(self._own_files(_SERVES))

    def _naming(
        self, function: tuple[str, ...], home: Namespace, paths: Iterable[Path]
    ) -> Iterator[Namespace]:
        """Yield the module that has a function, and those of some files that have its name.

        An object's methods that are run by their names go by the name of the object, which may
        have any.
        """
        wanted = Has((function[-1].encode(),))
        by_object = len(function) > 1 and is_run_of_object(function[-1])
        yield home
        yield from self._parsed(
            p for p in paths if p != home.path and (by_object or self._ask(wanted, p))
        )

    def _parsed(self, paths: Iterable[Path]) -> Iterator[Namespace]:
        return (names for path in paths if (names := self.names_of(path)) is not None)

    def _handed_by(self, names: Namespace) -> tuple[values.LocalFunction | str, ...]:
        known = self._handed.get(names.path)
        if known is None or known[0] is not names:
            known = self._handed[names.path] = (
                names,
                tuple(handed_to_routes(names, self._handing_over.__contains__)),
            )
        return known[1]

    def is_mentioned_elsewhere(self, name: str, path: Path) -> bool:
        """Return whether another file of the project has the word `name` anywhere in its text."""
        word = Matches(rb"\b%s\b" % re.escape(name.encode()))
        return any(other != path and self._ask(word, other) for other in self._mentioning(name))

    def user_of(self, name: str, path: Path) -> str | None:
        """Return a file, a test too, that may use what another binds to a name, or None.

        It imports the name, has it as an attribute of something, or in a string for `getattr`.
        """
        wanted = re.escape(name.encode())
        attribute = Matches(rb"\.\s*%s\b" % wanted)
        in_string = Matches(
            rb"[\"'][\w.:]*[.:]%s[\"']|(?:attr|globals|vars|__dict__)\b[^\n]*[\"']%s[\"']"
            % (wanted, wanted)
        )
        for other in self._mentioning(name):
            if other != path and (
                self._ask(attribute, other)
                or self._ask(in_string, other)
                or any(
                    self.modules.find(source, other) == (path, ())
                    for source in self._sources_of(name.encode(), other)
                )
            ):
                return self.shown(other)
        return None

    def _mentioning(self, name: str) -> tuple[Path, ...]:
        """The files that have a name anywhere in their text, what is excluded among them."""
        if name not in self._mentions:
            wanted = Has((name.encode(),))
            mentioning = self.asked.in_turn(ALL, wanted, self._every_file, self._data)
            self._mentions[name] = tuple(path for path, _ in mentioning)
        return self._mentions[name]

    @cached_property
    def _every_file(self) -> tuple[Path, ...]:
        """The project's files; what is excluded is not checked, and must not break either."""
        if not self.settings.exclude:
            return self.modules.files
        return tuple(sources.walk(self.settings.root, self.settings._replace(exclude=())))

    def _sources_of(self, name: bytes, path: Path) -> Iterator[str]:
        """Yield the absolute names of the modules that a file may have a name from."""
        package = self.modules.package_of(path)
        sources = self._ask(Sources(name), path)
        for source in sources if isinstance(sources, tuple) else ():
            level = len(source) - len(source.lstrip("."))
            base = package[: len(package) - level + 1] if level else ()
            yield ".".join((*base, source.lstrip("."))).rstrip(".")

    def is_taken_from(self, path: Path, name: str) -> bool:
        """Return whether another file, a test too, has `name` from the module at `path`.

        The module is no package, which others may import from without its name. Such a name is part
        of what the module offers, though it may only import it.
        """
        return any(
            taken is None or taken.takes(name, is_module)
            for _, taken, is_module in self._that_may_take(path, name)
        )

    def replaced_by(self, owner: Path | values.LocalClass, name: str) -> Path | None:
        """Return a file that may replace what a module or a class has under a name, or None.

        Tests do, to have the code work with another (`patch("app.jobs.engine")`).
        """
        home = owner.home.path if isinstance(owner, values.LocalClass) else owner
        own = self.handler.path if self.handler is not None else None
        return next(
            (
                path
                for path in dict.fromkeys((*self._mentioning(name), *self._replacing_any))
                # The handler's own `engine` may be called as a module is.
                if path not in (home, own) and self._may_replace(path, owner, name)
            ),
            None,
        )

    @cached_property
    def _replacing_any(self) -> tuple[Path, ...]:
        """The files that may replace names that they do not have in their text."""
        asked = self.asked.in_turn(ALL, _REPLACES_ANY, self._every_file, self._data)
        return tuple(path for path, _ in asked)

    def replaced_module_by(self, path: Path) -> Path | None:
        """Return a file that may put another module in the place of the one at `path`, or None.

        Tests do: `sys.modules["app.db"] = MagicMock()`.
        """
        return next(
            (
                by
                for by, names, replaced in self._replaced_modules
                if by != path and any(self._has_module(dotted, path, names) for dotted in replaced)
            ),
            None,
        )

    def is_another_module(self, path: Path) -> bool:
        """Return whether the project's own code may put another module in the place of one.

        It may be the module itself that does, or a package that it is in.
        """
        for by, names, replaced in self._replaced_modules:
            taken = self._taken_by(by)
            if taken is None or self._is_test(by, taken):
                continue
            for dotted in replaced:
                if dotted != replacing.ITSELF:
                    found = self._has_module(dotted, path, names)
                else:
                    found = by == path or (by.name == "__init__.py" and by.parent in path.parents)
                if found:
                    return True
        return False

    def _has_module(self, dotted: str, path: Path, importer: Namespace) -> bool:
        """Return whether a dotted name means a module, or a package that it is in."""
        found = self.modules.find(importer.absolute(dotted), importer.path)
        if found is None or found[1]:
            return False
        package = found[0].parent if found[0].name == "__init__.py" else None
        return found[0] == path or package in path.parents

    @cached_property
    def _replaced_modules(self) -> tuple[tuple[Path, Namespace, frozenset[str]], ...]:
        """The files that put modules in the place of others, and the names of these."""
        found = []
        for path, _ in self.asked.in_turn(ALL, _SYS_MODULES, self._every_file, self._data):
            taken, tree, names = self._taken_by(path), self.tree(path), self.names_of(path)
            if taken is not None and tree is not None and names is not None:
                replaced = frozenset(replacing.replaced_modules(tree, taken))
                if replaced:
                    found.append((path, names, replaced))
        return tuple(found)

    @cached_property
    def replaced_of_libraries(self) -> tuple[Path, str] | None:
        """A file that replaces what makes sessions or engines in SQLAlchemy itself, and its name.

        What the handler makes later, or made before, is another's then.
        """
        for by, _, replaced in self._replaced_modules:
            for dotted in sorted(replaced):
                if dotted.split(".", 1)[0] in openings.LIBRARIES:
                    return by, dotted
        for path, _ in self.asked.in_turn(ALL, _REPLACES_MAKERS, self._every_file, self._data):
            if self._taken_by(path) is not None:
                for name in sorted(openings.MAKERS & self._replaced[path].keys()):
                    for owner in sorted(one.owner or "" for one in self._replaced[path][name]):
                        if owner.split(".", 1)[0] in openings.LIBRARIES:
                            return path, f"{owner}.{name}"
        return None

    def _may_replace(self, path: Path, owner: Path | values.LocalClass, name: str) -> bool:
        if path in self._every_own_file and not self._ask(_REPLACES, path):
            return False
        taken, names = self._taken_by(path), self.names_of(path)
        if taken is None or names is None:
            return False
        every = self._replaced[path]
        for replaced in (*every.get(name, ()), *every.get(replacing.ANY, ())):
            if replaced.owner is not None:
                if replaces(replaced.owner, owner, names):
                    return True
            elif isinstance(owner, values.LocalClass):
                if self._is_test(path, taken):
                    return True
            elif taken.names_any or taken.has(functools.partial(self._leads_to, owner, names)):
                return True
        return False

    def _that_may_take(
        self, path: Path, name: str
    ) -> Iterator[tuple[Path, Taken | None, Callable[[str], bool]]]:
        """Yield the other files that have a name in them, and what they take, if it is known.

        It is not of a file that cannot be parsed, which counts where it names the module as well.
        """
        wanted = Has((name.encode(),))
        module = Matches(rb"\b%s\b" % re.escape(path.stem.encode()))
        naming = Every((Has((*wanted.words, b"*")), module))
        for other, _ in self.asked.in_turn(ALL, naming, self.modules.files, self._data):
            if other == path:
                continue
            taken, names = self._taken_by(other), self.names_of(other)
            if taken is not None and names is not None:
                yield other, taken, functools.partial(self._leads_to, path, names)
            elif self._ask(wanted, other):
                yield other, None, lambda _: False

    def _taken_by(self, path: Path) -> Taken | None:
        """Return what a file takes, or None where it cannot be parsed; keep what it replaces."""
        if path not in self._taken:
            tree = self.tree(path)
            taken = self._taken[path] = taken_in(tree) if tree is not None else None
            if tree is not None and taken is not None:
                self._replaced[path] = self._replaced_in(path, tree, taken)
        return self._taken[path]

    def _replaced_in(self, path: Path, tree: ast.Module, taken: Taken) -> dict[str, set[Replaced]]:
        """Return by its name what a file may replace: of no test, what it names in strings."""
        by_string = bool(self._ask(_REPLACING, path))
        is_test = self._is_test(path, taken)
        found = replaced_in(tree, taken.modules) if by_string or is_test else {}
        return {
            name: {one for one in every if (by_string if one.by_string else is_test)}
            for name, every in found.items()
        }

    def _is_test(self, path: Path, taken: Taken) -> bool:
        return taken.is_test or path not in self._every_own_file

    def _leads_to(self, path: Path, importer: Namespace, dotted: str) -> bool:
        """Return whether a dotted name in a file means the module at `path`."""
        absolute = importer.absolute(dotted)
        return bool(absolute) and self.modules.find(absolute, importer.path) == (path, ())

    def shown(self, path: Path) -> str:
        """Return a file's path from the root, as it is printed."""
        return path.relative_to(self.settings.root).as_posix()


def is_migration_environment(names: Namespace) -> bool:
    """Return whether a file is an Alembic environment, wherever it is kept."""
    return names.path.name == "env.py" and any(
        binding.kind == "import" and binding.target == "alembic.context"
        for bindings in names.scope.bindings.values()
        for binding in bindings
    )


def _injected(names: Namespace) -> Iterator[_Injected]:
    """Yield what calls of a module tell frameworks to call for parameters."""
    for call, place in names.scope.calls:
        makers = names.evaluate(call.function, place)
        packages = set(filter(None, map(evaluation.injecting_package, makers)))
        wanted = evaluation.dependency(call) if packages else None
        if wanted is not None:
            at = end_of(place.scope)
            for given in functions_in(wanted, at, names, lambda name: name == "__call__"):
                yield given, packages


def _is_named(function: values.LocalFunction | str, name: tuple[str, ...], home: Namespace) -> bool:
    """Return whether a function is that of a module with a qualified name.

    By name: a file's own table has other objects than the project's.
    """
    return (
        isinstance(function, values.LocalFunction)
        and function.home.path == home.path
        and function.definition.qualified_name == name
    )


def _is_plain(owner: values.LocalClass) -> bool:
    """Return whether a class is made as it is written, as far as it itself says."""
    definition = owner.definition
    bases = [owner.home.evaluate(base, definition.place) for base in definition.bases]
    return not definition.is_made_over and all(
        found and all(isinstance(one, values.LocalClass) or one in _PLAIN_BASES for one in found)
        for found in bases
    )


def _keys(owner: values.LocalClass) -> Iterator[tuple[Path, str]]:
    return (one.key for one in openings.lineage(owner))


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name


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
