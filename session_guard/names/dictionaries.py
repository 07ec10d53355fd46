"""What is in a dictionary at the place where it is used, as far as the source tells.

A key is there, is not there, or may be; a value is one of several, or not known. A dictionary into
which something unknown was put is open: a key that is not seen in it may be there all the same.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Call,
    Constant,
    Display,
    Ref,
    Sequence,
    Store,
    end_of,
    lookup,
)
from session_guard.names.values import Dictionary, External, Literal, LocalFunction, Located
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Several

    from session_guard.names.bindings import Binding, Branches, Expr, Place
    from session_guard.names.values import Namespace, Value

_READING_METHODS = frozenset({"copy", "get", "items", "keys", "values"})
_READING_FUNCTIONS = frozenset(
    {"bool", "dict", "isinstance", "len", "list", "print", "repr", "sorted", "str", "type"}
    | {"sqlalchemy.ext.asyncio.create_async_engine", "sqlalchemy.create_engine"}
)
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One way in which a key gets its value; without a value it is not known which."""

    value: Located | None
    node: object
    """The display, the call or the item's assignment that sets it, in its front end's own form."""


@dataclass(slots=True)
class Contents:
    """Keys with the entries that may set them; the last of several certain ones is left alone."""

    entries: dict[str, list[Entry]] = field(default_factory=dict)
    certain: set[str] = field(default_factory=set)
    """Keys that are there whatever happens."""
    is_open: bool = False
    """Whether there may be keys that are not seen."""

    def is_absent(self, key: str) -> bool:
        """Return whether `key` is known not to be there."""
        return not self.is_open and key not in self.entries

    def is_present(self, key: str) -> bool:
        """Return whether `key` is known to be there."""
        return key in self.certain

    def values(self, key: str) -> tuple[Value, ...] | None:
        """Return what `key` may stand for, or None where that is not known."""
        found: list[Value] = []
        for entry in self.entries.get(key, ()):
            if entry.value is None:
                return None
            found.extend(entry.value.values())
        return tuple(found) if key in self.certain else None

    def literal(self, key: str) -> object | None:
        """Return the one literal that `key` stands for, or None where it is no known literal."""
        found = self.values(key)
        if found is None or len(found) != 1 or not isinstance(found[0], Literal):
            return None
        return found[0].value

    # -- building ---------------------------------------------------------------------------

    def write(self, key: str, entry: Entry, *, is_certain: bool) -> None:
        """Set a key, surely or perhaps."""
        if is_certain:
            self.entries[key] = [entry]
            self.certain.add(key)
        else:
            self.entries.setdefault(key, []).append(entry)

    def remove(self, key: str, *, is_certain: bool) -> None:
        """Take a key out, surely or perhaps."""
        self.certain.discard(key)
        if is_certain:
            self.entries.pop(key, None)
        else:
            self.is_open = True

    def disturb(self, node: object) -> None:
        """Put something in of which nothing is known."""
        self.is_open = True
        for entries in self.entries.values():
            entries.append(Entry(None, node))

    def merge(self, others: Several[Contents], node: object, *, is_certain: bool) -> None:
        """Lay one of `others` over this, which of them is not known."""
        if any(other.is_open for other in others):
            self.disturb(node)
        for key in {key for other in others for key in other.entries}:
            everywhere = all(key in other.certain for other in others)
            entries = [entry for other in others for entry in other.entries.get(key, ())]
            if everywhere and is_certain:
                self.entries[key] = entries
                self.certain.add(key)
            else:
                self.entries.setdefault(key, []).extend(entries)


def contents(located: Located, depth: int = 0) -> Contents:
    """Return what is in the dictionary that an expression stands for; None counts as empty."""
    result = Contents()
    options: list[Contents] = []
    for value in located.values():
        if isinstance(value, Dictionary) and depth < _DEEPEST:
            options.append(_of_dictionary(value, depth + 1))
        else:
            options.append(Contents(is_open=value != Literal(None)))
    if options:
        result.merge(options, None, is_certain=True)
    return result


def of_display(display: Display, place: Place, home: Namespace, depth: int = 0) -> Contents:
    """Return what is in a dictionary as its display writes it."""
    result = Contents()
    for key, value in display.items:
        located = Located(value, place, home)
        if key is None:
            result.merge([contents(located, depth)], display.node, is_certain=True)
            continue
        name = _literal_key(Located(key, place, home))
        if name is None:
            result.disturb(display.node)
        else:
            result.write(name, Entry(located, display.node), is_certain=True)
    return result


def keywords(call: Call, place: Place, home: Namespace) -> Contents:
    """Return the keyword arguments of a call; what comes with `**` where it is known."""
    items = tuple((None if k is None else Constant(k), v) for k, v in call.keywords)
    return of_display(Display(items, call.node), place, home)


def apply_function(result: Contents, function: LocalFunction, name: str) -> None:
    """Apply to a dictionary what a function does to it, which is given it as `name`."""
    given = Dictionary(Display((), None), function.definition.place, function.home)
    at = end_of(function.definition.scope)
    _follow_name(result, given, name, at, function.home, 0)


def is_list(entries: Iterable[Entry]) -> bool:
    """Return whether each of some entries is known to be a list or a tuple."""
    found = [_is_list(entry.value) for entry in entries]
    return bool(found) and all(found)


def _is_list(located: Located | None) -> bool:
    expr = located.expr if located is not None else None
    if located is not None and isinstance(expr, Ref) and len(expr.parts) == 1:
        bindings = lookup(expr.parts[0], located.place) or ()
        return bool(bindings) and all(isinstance(b.value, Sequence) for b in bindings)
    return isinstance(expr, Sequence)


def _of_dictionary(value: Dictionary, depth: int) -> Contents:
    result = of_display(value.display, value.place, value.home, depth)
    for parts, at, home in value.names:
        if len(parts) == 1:
            _follow_name(result, value, parts[0], at, home, depth)
        elif _is_changed_as_attribute(parts[-1], (home, value.home)):
            result.disturb(None)
    return result


def _literal_key(key: Located) -> str | None:
    found = key.values()
    if len(found) == 1 and isinstance(found[0], Literal) and isinstance(found[0].value, str):
        return found[0].value
    return None


def _follow_name(
    result: Contents, value: Dictionary, name: str, at: Place, home: Namespace, depth: int
) -> None:
    """Apply what happens to a dictionary under one of its names before it is used at `at`."""
    bindings = lookup(name, at) or []
    own = [binding for binding in bindings if binding.value is value.display] or bindings
    events: list[tuple[float, Place, Store | Call]] = [
        (store.place.order, store.place, store)
        for store in home.scope.stores
        if isinstance(store.owner, Ref) and store.owner.parts == (name,)
    ]
    events.extend(
        (place.order, place, call) for call, place in home.scope.calls if _concerns(call, name)
    )
    for _, place, event in sorted(events, key=lambda item: item[0]):
        moment = _moment(own, name, place, at)
        if moment is not None:
            is_certain = moment == "certain"
            _apply(result, event, name, place, home, depth, is_certain=is_certain)


def _concerns(call: Call, name: str) -> bool:
    if isinstance(call.function, Ref) and call.function.parts[:-1] == (name,):
        return True
    # SQLAlchemy copies its options, whatever takes them; `**` copies too.
    read = (None, "execution_options")
    given = (*call.arguments, *(value for key, value in call.keywords if key not in read))
    return any(isinstance(item, Ref) and item.parts == (name,) for item in given)


def _moment(bindings: list[Binding], name: str, place: Place, at: Place) -> str | None:
    """Return whether what stands at `place` surely or perhaps happens before `at`, or None."""
    reached = lookup(name, place) or []
    binding = next((binding for binding in bindings if binding in reached), None)
    if binding is None:
        return None
    if place.scope is not binding.place.scope:
        return "perhaps"
    if at.scope is not place.scope:
        return "certain" if place.branches == binding.place.branches else "perhaps"
    if place.order >= at.order or not _may_both_run(place.branches, at.branches):
        return None
    return "certain" if place.branches == at.branches[: len(place.branches)] else "perhaps"


def _may_both_run(one: Branches, other: Branches) -> bool:
    for (statement, arm), (other_statement, other_arm) in zip(one, other, strict=False):
        if statement != other_statement:
            return True
        if arm != other_arm:
            return False
    return True


def _apply(
    result: Contents,
    event: Store | Call,
    name: str,
    place: Place,
    home: Namespace,
    depth: int,
    *,
    is_certain: bool,
) -> None:
    """Apply one assignment to an item, or one call that concerns the dictionary `name`."""
    if isinstance(event, Store):
        key = _literal_key(Located(event.key, place, home))
        if key is None:
            result.disturb(event.node)
        elif event.value is None:
            result.remove(key, is_certain=is_certain)
        else:
            entry = Entry(Located(event.value, place, home), event.node)
            result.write(key, entry, is_certain=is_certain)
        return
    function = event.function
    if not isinstance(function, Ref) or function.parts[:-1] != (name,):
        if not _only_reads(event, name, place, home):
            result.disturb(event.node)
        return
    method = function.parts[-1]
    if method == "update":
        items: list[tuple[Expr | None, Expr]] = [(None, item) for item in event.arguments]
        for keyword, value in event.keywords:
            items.append((None if keyword is None else Constant(keyword), value))
        added = of_display(Display(tuple(items), event.node), place, home, depth)
        result.merge([added], event.node, is_certain=is_certain)
    elif method in ("setdefault", "pop") and event.arguments:
        key = _literal_key(Located(event.arguments[0], place, home))
        if key is None:
            result.disturb(event.node)
        elif method == "pop":
            result.remove(key, is_certain=is_certain)
        elif key not in result.certain:
            default = Located((*event.arguments, Constant(None))[1], place, home)
            is_new = result.is_absent(key) and is_certain
            result.write(key, Entry(default, event.node), is_certain=is_new)
            if is_certain:
                result.certain.add(key)
    elif method not in _READING_METHODS:
        result.disturb(event.node)


def _only_reads(call: Call, name: str, place: Place, home: Namespace, depth: int = 0) -> bool:
    """Return whether what a call is given as `name` is known to stay as it is."""
    return depth < _DEEPEST and all(
        (isinstance(function, External) and function.dotted in _READING_FUNCTIONS)
        or (isinstance(function, LocalFunction) and _leaves_alone(function, call, name, depth))
        for function in home.evaluate(call.function, place)
    )


def _leaves_alone(function: LocalFunction, call: Call, name: str, depth: int) -> bool:
    """Return whether a known function reads and copies the dictionary `name` that it is given."""
    definition, home, scope = function.definition, function.home, function.definition.scope
    given = dict(zip(definition.given_by_position, call.arguments, strict=False))
    given |= {key: value for key, value in call.keywords if key is not None}
    own = [key for key, value in given.items() if isinstance(value, Ref) and value.parts == (name,)]
    if call.unpacks or len(own) != 1 or len(scope.bindings.get(own[0], ())) != 1:
        return False
    [parameter] = own

    def is_it(expr: Expr | None, place: Place) -> bool:
        return (
            isinstance(expr, Ref)
            and expr.parts[0] == parameter
            and lookup(parameter, place) == scope.bindings[parameter]
        )

    def is_read(inner: Call, place: Place) -> bool:
        if isinstance(inner.function, Ref) and is_it(inner.function, place):
            return inner.function.parts[-1] in _READING_METHODS
        return _only_reads(inner, parameter, place, home, depth + 1)

    # Under another name it may be changed as well, or handed on.
    attributes = scope.parent.attributes if scope.parent is not None else {}
    named = [
        (binding.value, binding.place)
        for bound in (*scope.bindings.values(), *attributes.values())
        for binding in bound
        if isinstance(binding.value, Ref)
    ]
    return not (
        any(is_it(store.owner, store.place) for store in home.scope.stores)
        or any(is_it(expr, place) for expr, place in (*named, *definition.returns))
    ) and all(
        is_read(inner, place)
        for inner, place in home.scope.calls
        if _concerns(inner, parameter) and is_it(Ref((parameter,)), place)
    )


def _is_changed_as_attribute(name: str, homes: Iterable[Namespace]) -> bool:
    """Return whether `….name` is changed, or handed to what may change it, anywhere in a module."""
    for home in homes:
        if any(_ends_in(store.owner, name) for store in home.scope.stores):
            return True
        for call, _ in home.scope.calls:
            function = call.function
            if (
                isinstance(function, Ref)
                and len(function.parts) > 2
                and function.parts[-2] == name
                and function.parts[-1] not in _READING_METHODS
            ):
                return True
    return False


def _ends_in(owner: Expr, name: str) -> bool:
    return isinstance(owner, Ref) and owner.parts[-1] == name
