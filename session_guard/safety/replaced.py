"""What tests replace of all that a session is opened by: the handler's goes by their replacement.

A name that is looked up as the session is opened can be replaced; what a name was given when its
file was imported, cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from session_guard.names import openings
from session_guard.names.bindings import (
    Attribute,
    Await,
    Call,
    Class,
    Constant,
    Either,
    Element,
    Function,
    Item,
    Ref,
    Star,
    Subscript,
    class_of_receiver,
    end_of,
    lookup,
)
from session_guard.names.values import External, LocalClass, LocalFunction, Result, class_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Expr, Place
    from session_guard.names.values import Namespace, Value


class Way(NamedTuple):
    """What is gone through as an expression is run."""

    names: list[tuple[Path | LocalClass, str]]
    """The names that are looked up, each with its module or class."""
    functions: list[LocalFunction]
    """The functions of the project that it calls itself: what gave a local its value stays."""


def way_to(expr: Expr, place: Place, module: Module) -> Way:
    """Return what is gone through as `expr` is run."""
    way = _Way(module)
    return Way(list(dict.fromkeys(way.names(expr, place, module.names))), way.functions)


def replaced_names(way: Iterable[tuple[Path | LocalClass, str]], module: Module) -> Iterator[str]:
    """Yield, for each name on the way that a test replaces, that it does.

    It may replace the module too that the name was imported from, or what SQLAlchemy has.
    """
    project = module.project
    library = project.replaced_of_libraries
    if library is not None:
        by, dotted = library
        yield f"{project.shown(by)} replaces `{dotted}` by another"
    modules: dict[Path, None] = {}
    for owner, name in way:
        modules.update(dict.fromkeys(_modules_behind(owner, name, module)))
        by_other = project.replaced_by(owner, name)
        if by_other is None:
            continue
        if isinstance(owner, LocalClass):
            of = f"`{owner.definition.name}`"
        else:
            of = "this file" if owner == module.path else project.module_name(owner)
        yield f"{project.shown(by_other)} replaces `{name}` of {of} by another"
    for path in modules:
        by_other = project.replaced_module_by(path)
        if by_other is not None:
            of = project.module_name(path)
            yield f"{project.shown(by_other)} replaces the module {of} by another"


def _modules_behind(owner: Path | LocalClass, name: str, module: Module) -> Iterator[Path]:
    """Yield the other modules that a name leads through: where it stands and is imported from."""
    waiting: list[tuple[Path, str | None]] = (
        [(owner.home.path, None)] if isinstance(owner, LocalClass) else [(owner, name)]
    )
    seen: set[tuple[Path, str | None]] = set()
    while waiting:
        path, last = waiting.pop()
        if (path, last) in seen:
            continue
        seen.add((path, last))
        if path != module.path:
            yield path
        names = module.names if path == module.path else module.project.names_of(path)
        if names is None or last is None:
            continue
        bindings = names.scope.bindings.get(last, ())
        sources = [binding.target for binding in bindings if binding.target]
        stars = [] if bindings else [target for target, _ in names.scope.star_imports]
        for target in (*sources, *stars):
            found = names.find_module(names.absolute(target))
            if found is not None:
                of = last if target in stars else None
                waiting.append((found[0].path, found[1][0] if found[1] else of))


class _Way:
    """The names, each with the module or class that has it, through which a value is reached."""

    def __init__(self, module: Module) -> None:
        self._handler = module.handler
        self._seen: set[Binding | Function] = set()
        self.functions: list[LocalFunction] = []
        self._locals = 0
        """How many local names it is behind."""

    def names(
        self, expr: Expr, place: Place, home: Namespace
    ) -> Iterator[tuple[Path | LocalClass, str]]:
        """Yield the names that are looked up when `expr` is evaluated at `place`."""
        match expr:
            case Call() if not self._builds_handlers_engine(expr, place, home):
                yield from self._called(expr, place, home)
            case Attribute(value, name):
                yield from self.names(value, place, home)
                yield from self._member(home.evaluate(value, place), name, home)
            case Await(value) | Element(value) | Item(value) | Star(value) | Subscript(value):
                yield from self.names(value, place, home)
            case Either(options):
                for option in options:
                    yield from self.names(option, place, home)
            case Ref((first, *rest)):
                yield from self._name(first, place, home)
                of_receiver = class_of_receiver(first, place)
                for end, name in enumerate(rest, start=1):
                    owners = home.evaluate(Ref(expr.parts[:end]), place)
                    if end == 1 and of_receiver is not None and of_receiver.definition is not None:
                        owners = (LocalClass(of_receiver.definition, home),)
                    yield from self._member(owners, name, home)

    def _builds_handlers_engine(self, call: Call, place: Place, home: Namespace) -> bool:
        """Return whether this very call makes the handler's engine, of the same for both."""
        return self._handler is not None and any(
            isinstance(value, Result)
            and value.call.node is call.node
            and self._handler.binds(value)
            and openings.is_engine(value)
            for value in home.evaluate(call, place)
        )

    def _called(
        self, call: Call, place: Place, home: Namespace
    ) -> Iterator[tuple[Path | LocalClass, str]]:
        for part in (call.function, *call.arguments, *(value for _, value in call.keywords)):
            yield from self.names(part, place, home)
        for function in home.evaluate(call.function, place):
            match function, call.arguments:
                case LocalFunction(), _:
                    yield from self._given_back(function)
                case External("getattr"), (owner, Constant(str(name)), *_):
                    yield from self._member(home.evaluate(owner, place), name, home)

    def _given_back(self, function: LocalFunction) -> Iterator[tuple[Path | LocalClass, str]]:
        definition = function.definition
        if definition not in self._seen:
            self._seen.add(definition)
            if not self._locals:
                self.functions.append(function)
            for value, place in (*definition.returns, *definition.yields):
                yield from self.names(value, place, function.home)

    def _name(
        self, name: str, place: Place, home: Namespace
    ) -> Iterator[tuple[Path | LocalClass, str]]:
        """Yield a global, and what stands behind a name that is bound as the program runs."""
        bindings = lookup(name, place)
        if bindings is None and home.scope.star_imports:
            yield home.path, name
        for binding in bindings or ():
            if binding in home.scope.bindings.get(name, ()):
                yield home.path, name
            if binding.place.scope.kind in ("module", "class") or binding in self._seen:
                continue
            self._seen.add(binding)
            if binding.kind == "import":
                found = home.find_module(home.absolute(binding.target))
                if found is not None and found[1]:
                    yield from self._name(found[1][0], end_of(found[0].scope), found[0])
            elif binding.value is not None and not isinstance(binding.value, (Class, Function)):
                self._locals += 1
                yield from self.names(binding.value, binding.place, home)
                self._locals -= 1

    def _member(
        self, owners: Iterable[Value], name: str, home: Namespace
    ) -> Iterator[tuple[Path | LocalClass, str]]:
        """Yield an attribute of modules and objects, and what stands behind it."""
        for owner in owners:
            match owner:
                case External(dotted):
                    found = home.find_module(dotted)
                    if found is not None and not found[1]:
                        yield from self._name(name, end_of(found[0].scope), found[0])
                case _:
                    of = class_of(owner)
                    if of is not None:
                        yield from self._of_class(of, name)

    def _of_class(self, owner: LocalClass, name: str) -> Iterator[tuple[Path | LocalClass, str]]:
        yield owner, name
        for one in openings.lineage(owner):
            scope = one.definition.scope
            for binding in scope.bindings.get(name, ()):
                if isinstance(binding.value, Function):
                    yield from self._given_back(LocalFunction(binding.value, one.home))
            for binding in scope.attributes.get(name, ()):
                if (
                    binding not in self._seen
                    and binding.value is not None
                    and not isinstance(binding.value, (Class, Function))
                ):
                    self._seen.add(binding)
                    yield from self.names(binding.value, binding.place, one.home)
