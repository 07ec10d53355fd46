"""The engine that a project has had so far: where its URL comes from, and what it was set to.

A handler that takes its place reads the URL from the same place. Nothing of a URL is repeated.
"""

from __future__ import annotations

import ast
import builtins
import copy
import io
import re
import sys
import tokenize
from dataclasses import dataclass
from typing import TYPE_CHECKING

from session_guard import sources, standard
from session_guard.engine.facts import Engine
from session_guard.names import values
from session_guard.names.bindings import Constant, Function, Ref, end_of, lookup
from session_guard.names.from_ast import FunctionText, Spot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from session_guard.names.bindings import Binding, Place
    from session_guard.names.database_url import DatabaseUrl
    from session_guard.names.dictionaries import Contents
    from session_guard.names.values import Namespace, Result
    from session_guard.project.project import Project

DATABASE_URL = 'os.environ.get("DATABASE_URL")'
"""What the reference handler reads where nobody tells it the URL."""

# What an expression may be made of that gives the same wherever it is evaluated.
_FORMS = (
    *(ast.Attribute, ast.Call, ast.keyword, ast.Constant, ast.Subscript, ast.Dict),
    *(ast.JoinedStr, ast.FormattedValue, ast.BinOp, ast.Add, ast.BoolOp, ast.Or, ast.Load),
)
_READS_DATABASE_URL = frozenset(
    f"os.{read}" for read in ("environ['DATABASE_URL']", "environ.get('DATABASE_URL')")
) | {"os.getenv('DATABASE_URL')"}
_WRITTEN_OUT = re.compile(r"://.", re.DOTALL)
_LISTENS = re.compile(rb"\blisten(s_for)?\s*\([^)]*\bsync_engine\b")
# Arguments that change neither the database nor the rows that come from it.
_ABOUT_THE_POOL = frozenset(
    "echo echo_pool future hide_parameters logging_name max_overflow pool_logging_name "
    "pool_pre_ping pool_recycle pool_size pool_timeout pool_use_lifo poolclass "
    "query_cache_size".split()
)
_ABOUT_THE_CONNECTION = frozenset(
    "command_timeout max_cacheable_statement_size max_cached_statement_lifetime ssl timeout".split()
) | set(standard.POOLER_SETTINGS)
_ABOUT_THE_SERVER = frozenset({"application_name", "jit", "statement_cache_size"})
# Arguments that `SessionSettings` has, and under which name.
_FIELDS = {
    "pool_size": "pool_size",
    "max_overflow": "max_overflow",
    "pool_recycle": "pool_recycle",
    "pool_timeout": "connection_timeout",
    "hide_parameters": "hide_parameters",
}
# Arguments that are no settings, or of which the handler has the like.
_THE_HANDLERS_TOO = frozenset({"url", "future", "connect_args", "isolation_level"})
_OTHER_DRIVER = re.compile(r"(?:\bpostgres(?:ql)?|^)\+(?!asyncpg)\w+")
_PART_OF_SCHEME = re.compile(r"postgres|\+|://")
# What the handler takes in the query of a URL.
_IN_QUERIES = frozenset({"host", "port"})
# What takes the place of other parameters, where the handler does not set them itself.
_INSTEAD = {"sslrootcert": "tls_ca_file", "timeout": "connection_timeout"}
_WITHOUT_TLS = frozenset({"disable", "false", "off", "0"})
_DEEPEST = 8


class NotToldError(Exception):
    """Where an engine's URL comes from cannot be written anew; the message says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """Python that gives a database URL."""

    imports: tuple[str, ...]
    """Lines of import statements, in order; those between two sections are empty."""
    expression: str


def name_of(engine: Result, project: Project) -> str | None:
    """Return the dotted name of the module-level name that an engine has, or None."""
    home = engine.home
    for name in home.scope.bindings:
        found = home.evaluate(Ref((name,)), end_of(home.scope))
        if engine.through == () and all(
            isinstance(value, values.Result) and value.is_of_the_same_call(engine)
            for value in found
        ):
            return f"{project.modules.likeliest_name(home.path)}.{name}"
    return None


def kept_as(engine: Result, project: Project) -> str | None:
    """Return the dotted name of the name or attribute that keeps an engine, or of what gives it.

    That is what `engines` of the configuration may name. None where there is none.
    """
    home = engine.home
    top = name_of(engine, project)
    if top is not None:
        return top
    attributes = (
        f"{owner.name}.{name}" for owner in home.scope.classes for name in owner.scope.attributes
    )
    functions = (
        name
        for name, found in home.scope.bindings.items()
        if isinstance(function := found[-1].value, Function) and not function.required_parameters
    )
    for name in (*attributes, *functions):
        dotted = f"{project.modules.likeliest_name(home.path)}.{name}"
        if any(
            isinstance(value, values.Result) and value.is_of_the_same_call(engine)
            for value in project.engines_of(dotted)
        ):
            return dotted
    return None


# -- the URL --------------------------------------------------------------------------------------


def url_source(engine: Result, target: Path, project: Project) -> Source:
    """Return how the module `target` gets the URL that an engine is built from.

    Raises NotToldError.
    """
    spot = engine.call.node
    if not isinstance(spot, Spot):
        raise NotToldError("its module is in syntax that this Python does not know")
    writer = _Writer(engine.home, target, project)
    call = writer.call_at(spot)
    given = call.args[0] if call.args else None
    if given is None:
        given = next((k.value for k in call.keywords if k.arg == "url"), None)
    if given is None or isinstance(given, ast.Starred):
        raise NotToldError("its URL is not an argument of its own")
    if writer.reads_database_url(given, engine.place):
        return Source((), DATABASE_URL)
    written = writer.written(given, engine.place)
    writer.check_driver(written)
    url = facts(engine, project).url
    if url.scheme is not None and _OTHER_DRIVER.match(url.scheme):
        raise NotToldError(f"its driver is not asyncpg: {url.scheme}")
    expression = _with_double_quotes(ast.unparse(written))
    refused = sorted(
        name
        for name in refused_parameters(url)
        if re.search(rf"[?&'\"]{re.escape(name)}\b", expression)
    )
    if refused:
        raise NotToldError(
            f"its URL has {_listed(refused)} in its query, and the handler's has settings"
        )
    return Source(tuple(writer.import_lines()), expression)


def refused_parameters(url: DatabaseUrl) -> dict[str, str]:
    """Return the query parameters that a URL has, or may have, and the handler refuses."""
    found = url.possible_query | url.query
    return {name: value for name, value in found.items() if name not in _IN_QUERIES}


def in_place_of(parameters: Mapping[str, str]) -> Iterator[str]:
    """Yield what stands in the handler's settings in the place of a URL's query parameters."""
    for name, value in sorted(parameters.items()):
        if name in ("ssl", "sslmode"):
            setting = (
                'is `SessionSettings(tls="off")`'
                if value.lower() in _WITHOUT_TLS
                else "is not needed, since the handler verifies TLS"
            )
        elif name in _INSTEAD:
            setting = f"is `{_INSTEAD[name]}` of `SessionSettings`"
        elif name in standard.POOLER_SETTINGS:
            setting = "is not needed, since the handler sets it"
        else:
            setting = "has no setting that is like it"
        yield f"`{name}` {setting}"


def lines_with(parameters: Iterable[str], project: Project) -> list[str]:
    """Return the lines of a project's code, as `path:line`, where a URL has query parameters."""
    names = "|".join(map(re.escape, parameters))
    sought = re.compile(rf"postgres.*://.*[?&](?:{names})=".encode())
    return [
        f"{project.shown(path)}:{number}"
        for path in project.modules.files
        if not project.settings.is_outside_the_standard(project.shown(path))
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if sought.search(line)
    ]


class _Writer:
    """Writes an expression of one module for another, and the imports that it needs there."""

    def __init__(self, home: Namespace, target: Path, project: Project) -> None:
        self._home = home
        self._project = project
        self._is_neighbour = target.parent == home.path.parent
        self._tree = ast.parse(sources.decode(home.path.read_bytes()).text)
        self._modules: set[str] = set()
        self._names: dict[str, set[str]] = {}
        """By module, what is imported from it: `name`, or `name as alias`."""

    def call_at(self, spot: Spot) -> ast.Call:
        """Return the call that stands where the table of names has it."""
        return next(
            node
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Call)
            and (node.lineno, node.col_offset) == (spot.line, spot.column)
            and (node.end_lineno, node.end_col_offset) == (spot.end_line, spot.end_column)
        )

    def reads_database_url(self, node: ast.expr, place: Place) -> bool:
        """Return whether an expression, or the name of one, is what the handler reads anyway."""
        if isinstance(node, ast.Name):
            bindings = lookup(node.id, place) or []
            assigned = _assigned(self._tree, node.id)
            if len(bindings) != 1 or bindings[0].place.scope.parent is not None or not assigned:
                return False
            node, place = assigned, bindings[0].place
        return ast.unparse(node) in _READS_DATABASE_URL and [
            binding.target for binding in lookup("os", place) or ()
        ] == ["os"]

    def check_driver(self, url: ast.expr) -> None:
        """Refuse a URL that is given another driver than asyncpg, or one that is not known.

        What a `replace()` looks for is in the URL no more. Raises NotToldError.
        """
        looked_for: set[int] = set()
        for node in ast.walk(url):
            given: list[ast.expr] = []
            match node:
                case ast.Constant(value=str(text)) if id(node) not in looked_for:
                    if other := _OTHER_DRIVER.search(text):
                        raise NotToldError(f"its driver is not asyncpg: {other[0]}")
                case ast.Call(func=ast.Attribute(attr="replace"), args=[old, new, *_]):
                    looked_for.add(id(old))
                    sought = old.value if isinstance(old, ast.Constant) else None
                    if not isinstance(sought, str) or _PART_OF_SCHEME.search(sought):
                        given = [new]
                case ast.Call(func=ast.Attribute(attr="set"), keywords=keywords):
                    given = [item.value for item in keywords if item.arg == "drivername"]
            for driver in given:
                self._check_given(driver)

    def _check_given(self, driver: ast.expr) -> None:
        """Refuse a driver that is not asyncpg, or not known. Raises NotToldError."""
        match driver:
            case ast.Constant():
                return  # looked at by itself
            case ast.Name() | ast.Attribute():
                parts = ast.unparse(driver).split(".")
                found = self._home.evaluate(Ref(tuple(parts)), end_of(self._home.scope))
            case _:
                found = ()
        for value in found or (values.UNKNOWN,):
            text = value.value if isinstance(value, values.Literal) else None
            if not isinstance(text, str):
                raise NotToldError("its driver is replaced by what could not be followed")
            if other := _OTHER_DRIVER.search(text):
                raise NotToldError(f"its driver is not asyncpg: {other[0]}")

    def written(self, node: ast.expr, place: Place, depth: int = 0) -> ast.expr:
        """Return an expression in which each name is one that `import_lines` brings.

        Raises NotToldError.
        """

        written = _Names(self, place, depth).visit(copy.deepcopy(node))
        assert isinstance(written, ast.expr)
        return written

    def name(self, node: ast.Name, place: Place, depth: int) -> ast.expr:
        """Return what stands for a name in the target. Raises NotToldError."""
        bindings = lookup(node.id, place)
        if bindings is None and hasattr(builtins, node.id):
            return node
        if not bindings or any(binding.type_checking for binding in bindings):
            raise NotToldError(f"its URL depends on `{node.id}`, which could not be followed")
        one = bindings[0] if len(bindings) == 1 else None
        if one is not None and one.kind == "import" and not one.place.branches:
            self._import(one, node.id)
            return node
        if all(binding.place.scope.parent is None for binding in bindings):
            if bindings != lookup(node.id, end_of(self._home.scope)):
                raise NotToldError(f"its URL depends on `{node.id}`, which is set anew afterwards")
            self._import_from(self._own_name(), node.id)
            return node
        function = one.place.scope.function if one is not None else None
        if one is not None and function is not None and one.kind == "assign" and depth < _DEEPEST:
            inside = function.node.parsed() if isinstance(function.node, FunctionText) else None
            assigned = _assigned(inside, node.id)
            if assigned is not None and one.place.branches == ():
                return self.written(assigned, one.place, depth + 1)
        raise NotToldError(f"its URL depends on `{node.id}`, which its function alone knows")

    def _import(self, binding: Binding, name: str) -> None:
        module, dot, attribute = binding.target.rpartition(".")
        if not dot:
            whole = [
                alias.name
                for statement in ast.walk(self._tree)
                if isinstance(statement, ast.Import)
                for alias in statement.names
                if alias.asname is None and alias.name.split(".")[0] == name
            ]
            self._modules.update(
                whole if binding.target == name and whole else [f"{binding.target} as {name}"]
            )
            return
        module = binding.target[: -len(attribute)]
        if module.strip("."):
            module = module.rstrip(".")
        if module.startswith(".") and not self._is_neighbour:
            module = self._absolute(module)
        self._import_from(module, attribute if attribute == name else f"{attribute} as {name}")

    def _import_from(self, module: str, name: str) -> None:
        self._names.setdefault(module, set()).add(name)

    def _absolute(self, relative: str) -> str:
        dotted = self._home.absolute(relative)
        found = self._project.modules.find(dotted, self._home.path)
        if found is None:
            return dotted
        return ".".join((self._project.import_name(found[0], self._home), *found[1]))

    def _own_name(self) -> str:
        """Return the name of the module that has the expression, as the target imports it."""
        bindings = self._home.scope.bindings.values()
        is_relative = any(b.target.startswith(".") for several in bindings for b in several)
        if is_relative and self._is_neighbour:
            return "." if self._home.path.name == "__init__.py" else f".{self._home.path.stem}"
        return self._project.import_name(self._home.path, self._home)

    def import_lines(self) -> Iterator[str]:
        """Yield the lines of the imports, in isort's order."""
        # The handler imports `os` itself.
        modules = self._modules - {"os"}
        statements = [(self._section(name), 0, f"import {name}") for name in modules]
        statements.extend(
            (self._section(module), 1, f"from {module} import {', '.join(sorted(names))}")
            for module, names in self._names.items()
        )
        last = None
        for section, _, text in sorted(statements):
            if last is not None and section != last:
                yield ""
            last = section
            yield text

    def _section(self, module: str) -> int:
        if module.startswith("."):
            return 3
        if module.split(".")[0].split(" ")[0] in sys.stdlib_module_names:
            return 0
        return 1 if self._project.modules.find(module, self._home.path) is None else 2


def _with_double_quotes(code: str) -> str:
    """Return an expression with its strings in double quotes, as formatters have them."""
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(code).readline))):
        text, (_, start), (_, end) = token.string, token.start, token.end
        if token.type == tokenize.STRING and text.startswith("'") and not {'"', "\\"} & {*text}:
            code = f'{code[:start]}"{text[1:-1]}"{code[end:]}'
    return code


class _Names(ast.NodeTransformer):
    """Puts what the writer says in the place of each name; refuses forms that it does not know."""

    def __init__(self, writer: _Writer, place: Place, depth: int) -> None:
        self._writer = writer
        self._place = place
        self._depth = depth

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._writer.name(node, self._place, self._depth)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Refuse what may give another URL elsewhere, and what the text of a URL stands in."""
        if not isinstance(node, _FORMS):
            raise NotToldError("its URL is put together in a way that could not be followed")
        is_password = isinstance(node, ast.keyword) and "pass" in (node.arg or "")
        constant = node.value if isinstance(node, ast.keyword) else node
        text = constant.value if isinstance(constant, ast.Constant) else None
        if isinstance(text, str) and (is_password or _WRITTEN_OUT.search(text)):
            raise NotToldError("its URL is written out where it is built")
        return super().generic_visit(node)


def _assigned(within: ast.AST | None, name: str) -> ast.expr | None:
    """Return what a name is assigned, where that is done once in a module or function."""
    found = [
        statement.value
        for statement in (ast.walk(within) if within is not None else ())
        if (
            isinstance(statement, ast.Assign)
            and [ast.unparse(target) for target in statement.targets] == [name]
        )
        or (isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == name)
    ]
    return found[0] if len(found) == 1 else None


# -- its settings ---------------------------------------------------------------------------------


def facts(engine: Result, project: Project) -> Engine:
    """Return what is known of an engine's settings."""
    text = sources.decode(engine.home.path.read_bytes()).text
    return Engine(engine, project, engine.home.path, text)


def difference(engine: Engine) -> str | None:
    """Return what about an engine may lead to other rows than its URL alone does, or None."""
    if engine.arguments.is_open or engine.connect_args.is_open or engine.execution_options.is_open:
        return "some of its arguments could not be followed"
    odd = engine.arguments.entries.keys() - _ABOUT_THE_POOL
    odd -= {"url", "connect_args", "execution_options", "isolation_level"}
    odd |= engine.connect_args.entries.keys() - _ABOUT_THE_CONNECTION - {standard.SERVER_SETTINGS}
    if not engine.connect_args.is_absent(standard.SERVER_SETTINGS):
        if engine.server_settings.is_open:
            return "its `server_settings` could not be followed"
        odd |= engine.server_settings.entries.keys() - _ABOUT_THE_SERVER
    odd |= engine.execution_options.entries.keys() - {"isolation_level"}
    if odd:
        return f"it has {_listed(sorted(odd))}"
    is_set = not engine.arguments.is_absent("isolation_level") or not (
        engine.execution_options.is_absent("isolation_level")
    )
    if is_set and engine.isolation_level != "READ COMMITTED":
        return "it has an isolation level of its own"
    for path in engine.project.modules.files:
        shown = engine.project.shown(path)
        outside = engine.project.settings.is_outside_the_standard(shown)
        if not outside and _LISTENS.search(path.read_bytes()):
            return f"{shown} listens to events of an engine"
    return None


def carried_over(engine: Engine) -> tuple[dict[str, str], list[str]]:
    """Return an engine's arguments that `SessionSettings` has a field for, and the others.

    The fields come with their values, as far as these are plain.
    """
    fields, others = {}, []
    for name in engine.arguments.entries:
        if name in _FIELDS:
            fields[_FIELDS[name]] = _plain(engine.arguments, name)
        elif name not in _THE_HANDLERS_TOO and engine.arguments.literal(name) is not False:
            others.append(name)
    if engine.isolation_level not in (None, "READ COMMITTED"):
        others.append("isolation_level")
    for name in sorted(engine.connect_args.entries.keys() - set(standard.POOLER_SETTINGS)):
        if name == "timeout":
            fields.setdefault("connection_timeout", _plain(engine.connect_args, name))
        elif name == "ssl" and engine.connect_args.literal(name) in ("disable", False):
            fields["tls"] = '"off"'
        else:
            others.append(f"connect_args[{name!r}]")
    return fields, sorted(others)


def _plain(among: Contents, name: str) -> str:
    """Return an argument's value where it is written as a number, and dots where it is not."""
    [*_, entry] = among.entries[name]
    expr = entry.value.expr if entry.value is not None else None
    is_number = isinstance(expr, Constant) and isinstance(expr.value, (bool, int, float))
    return repr(expr.value) if isinstance(expr, Constant) and is_number else "..."


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
