"""Which names may hold objects that the session loaded or was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import openings
from session_guard.names.bindings import (
    Await,
    Call,
    Constant,
    Display,
    Element,
    Ref,
    Sequence,
    TextBeginning,
)
from session_guard.names.from_libcst import children, walk
from session_guard.names.values import External, LocalClass
from session_guard.project.setters import may_be_mapped
from session_guard.safety.called import called_with
from session_guard.safety.columns import is_column, is_fetched_later
from session_guard.safety.spelling import is_setattr
from session_guard.safety.statements import PURE_BUILTINS, statement_kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from session_guard.module import Module
    from session_guard.names.bindings import Expr
    from session_guard.safety.called import Called

READS = frozenset({"execute", "scalar", "scalars", "stream", "stream_scalars", "exec"})
# What takes objects into the session.
TAKES = frozenset({"add", "add_all", "delete", "refresh", "merge"})
# Methods of a result that give another one.
_RESULTS = frozenset("scalars mappings unique columns partitions tuples yield_per".split())
_SQLMODEL = frozenset({"sqlmodel.SQLModel", "sqlmodel.main.SQLModel"})
_PYDANTIC = _SQLMODEL | {"pydantic.BaseModel", "pydantic.main.BaseModel", "typing.Generic"}
_VALIDATING = frozenset({"from_orm", "model_validate"})
_PLAIN_TYPES = frozenset(
    "str int float bool bytes date datetime time timedelta UUID Decimal uuid.UUID".split()
)
# What makes an empty collection, or a shallow copy of one.
_COLLECTIONS = frozenset({"list", "set", "dict", "defaultdict", "deque", "OrderedDict", "Counter"})
_READS_OF_COLLECTIONS = frozenset({"count", "get", "index", "sort"})
_VIEWS = frozenset({"items", "keys", "values"})
FILLS = frozenset({"append", "appendleft", "add", "extend", "insert", "setdefault", "update"})
"""What puts something into a collection."""
EMPTIES = frozenset({"clear", "discard", "pop", "popleft", "popitem", "remove"})
"""What takes something out of a collection."""
# What may give a name an object.
_BINDING = frozenset(
    {
        *(cst.Assign, cst.AugAssign, cst.AnnAssign, cst.NamedExpr, cst.AssignTarget),
        *(cst.For, cst.CompFor, cst.WithItem, cst.Match, cst.Call),
    }
)
# Builtins whose result holds what went in.
_CONTAINERS = frozenset(
    """
    list tuple set frozenset dict sorted enumerate zip reversed min max iter next sum
    """.split()
)


def is_own_collection(module: Module, name: cst.Name) -> bool:
    """Return whether a name only ever holds lists, sets and dictionaries that its function made."""
    scope = module.place(name).scope
    bindings = scope.bindings.get(name.value, ())
    return (
        bool(bindings)
        and all(
            binding.kind == "assign"
            and (
                isinstance(binding.value, (Display, Sequence))
                or (
                    isinstance(binding.value, Call)
                    and isinstance(binding.value.function, Ref)
                    and len(binding.value.function.parts) == 1
                    and binding.value.function.parts[0] in _COLLECTIONS
                )
            )
            for binding in bindings
        )
        and all(
            _is_filled_or_read(module, use)
            for use in module.named(name.value)
            if module.place(use).scope is scope
        )
    )


def _is_filled_or_read(module: Module, name: cst.Name) -> bool:
    """Return whether a name of a collection stands where nobody else gets the collection."""
    parent = module.parent(name)
    holder = module.parent(parent) if parent is not None else None
    match parent:
        case cst.AssignTarget():
            return isinstance(holder, cst.Assign) and len(holder.targets) == 1
        case cst.Attribute():
            if not isinstance(holder, cst.Call) or holder.func is not parent:
                return False
            user = module.parent(holder)
            if parent.attr.value in _VIEWS:
                call = module.parent(user) if isinstance(user, cst.Arg) else None
                return isinstance(user, (cst.For, cst.CompFor)) or (
                    isinstance(call, cst.Call)
                    and isinstance(call.func, cst.Name)
                    and call.func.value in PURE_BUILTINS
                )
            return parent.attr.value in FILLS | EMPTIES | _READS_OF_COLLECTIONS
        case cst.Subscript():
            if isinstance(holder, cst.AssignTarget):
                assigned = module.parent(holder)
                return isinstance(assigned, cst.Assign) and len(assigned.targets) == 1
            return not isinstance(holder, (cst.For, cst.CompFor, cst.AnnAssign, cst.AugAssign))
        case cst.Arg():
            function = holder.func if isinstance(holder, cst.Call) else None
            return (isinstance(function, cst.Name) and function.value in PURE_BUILTINS) or (
                isinstance(function, cst.Attribute) and function.attr.value == "add_all"
            )
        case cst.Element():
            return isinstance(holder, cst.Tuple) and isinstance(module.parent(holder), cst.Return)
        case cst.BooleanOperation():
            return isinstance(holder, (cst.If, cst.While, cst.Return))
    return isinstance(
        parent,
        (
            *(cst.Return, cst.If, cst.While, cst.For, cst.CompFor),
            *(cst.AnnAssign, cst.Comparison, cst.UnaryOperation),
        ),
    )


def tracked_names(
    module: Module,
    block: cst.BaseSuite,
    session: str | None,
    columns_of: Collection[LocalClass] | None = None,
    known: frozenset[str] = frozenset(),
) -> frozenset[str]:
    """Return the names that may hold objects of the session at any place of the block.

    What is read of an object counts for it, but for the columns of classes that are given. The
    names that are `known` have such objects from the start.
    """
    answers = module.once(_tracked_so_far)
    key = id(block), session, known, _keys(columns_of)
    if key not in answers:
        answers[key] = _tracked_names(module, block, session, columns_of, known)
    return answers[key]


def _keys(classes: Collection[LocalClass] | None) -> frozenset[object] | None:
    """Return what some classes are known by, as a part of a key for what is kept."""
    return None if classes is None else frozenset(owner.key for owner in classes)


def _tracked_so_far(module: Module) -> dict[object, frozenset[str]]:
    """Return where answers are kept, by the `id` of blocks of the module's tree."""
    return {}


def _tracked_names(
    module: Module,
    block: cst.BaseSuite,
    session: str | None,
    columns_of: Collection[LocalClass] | None,
    tracked: frozenset[str],
) -> frozenset[str]:
    binding = [node for node in walk(block) if type(node) in _BINDING]
    joined = list(_joined(module, binding))

    def carries(node: cst.CSTNode) -> bool:
        return carries_objects(module, node, session, tracked, columns_of)

    def bound(target: cst.CSTNode, value: cst.BaseExpression) -> Iterator[str]:
        """Yield the names of a target that get objects, of a tuple by their positions."""
        targets, values, held = _items(target), _items(value), None
        if values is not None:
            held = [carries(item) for item in values]
        elif isinstance(value, cst.Await) and isinstance(value.expression, cst.Call):
            called = called_with(module, value.expression, session)
            held = _items_given(called, columns_of) if called is not None else None
        if targets is None or held is None or len(targets) != len(held):
            yield from _bound(target)
            return
        for item, is_held in zip(targets, held, strict=True):
            if is_held:
                yield from _bound(item)

    while True:
        found = set(tracked)
        for owner, names in joined:
            if carries(owner):
                found.update(names)
        for node in binding:
            match node:
                case cst.Assign() if carries(node.value):
                    for target in node.targets:
                        found.update(bound(target.target, node.value))
                case cst.AugAssign() if carries(node.value):
                    found.update(_bound(node.target))
                case cst.AnnAssign() if node.value is not None and carries(node.value):
                    found.update(_bound(node.target))
                case cst.NamedExpr() if carries(node.value):
                    found.update(_bound(node.target))
                case cst.For() | cst.CompFor() if carries(node.iter):
                    found.update(_bound(node.target))
                case cst.WithItem() if node.asname is not None and carries(node.item):
                    found.update(_bound(node.asname.name))
                case cst.Match() if carries(node.subject):
                    for part in walk(node):
                        if isinstance(part, (cst.MatchAs, cst.MatchStar)) and part.name:
                            found.add(part.name.value)
                case cst.Call(func=cst.Attribute(value=cst.Name(value=of), attr=method)) if (
                    of == session and method.value in TAKES
                ):
                    for argument in node.args:
                        values = columns_of is None and module.project.tracks_mutations
                        found.update(reachable(module, argument.value, values=values))
                case cst.Call(func=cst.Attribute(value=cst.Name() as owner, attr=method)) if (
                    method.value in FILLS
                    and any(carries(argument.value) for argument in node.args)
                    and is_own_collection(module, owner)
                ):
                    found.add(owner.value)
                case cst.AssignTarget(target=cst.Subscript(value=cst.Name() as owner)):
                    assigned = module.parent(node)
                    if (
                        isinstance(assigned, cst.Assign)
                        and carries(assigned.value)
                        and is_own_collection(module, owner)
                    ):
                        found.add(owner.value)
                case _:
                    pass
        found.discard(session or "")
        if found == tracked:
            return tracked
        tracked = frozenset(found)


def _items(node: cst.CSTNode | None) -> list[cst.BaseExpression] | None:
    """Return the items of a tuple or a list, or None where one of them is `*more`."""
    if not isinstance(node, (cst.Tuple, cst.List)):
        return None
    items = [element.value for element in node.elements if isinstance(element, cst.Element)]
    return items if len(items) == len(node.elements) else None


def _items_given(called: Called, columns_of: Collection[LocalClass] | None) -> list[bool] | None:
    """Return of each item of the tuple that a function gives whether it may hold objects.

    None where it does not give tuples of one length alone.
    """
    module, session = called.module, called.session
    known = module.once(_given_so_far)
    key = id(called.function), session, _keys(columns_of)
    if key not in known:
        known[key] = None  # for one that calls itself
        body, given = called.function.body, frozenset(called.given)
        tracked = tracked_names(module, body, session, columns_of, given)
        returned = [_items(part.value) for part in walk(body) if isinstance(part, cst.Return)]
        tuples = [items for items in returned if items is not None]
        if tuples and len(tuples) == len(returned) and len({*map(len, tuples)}) == 1:
            known[key] = [
                any(carries_objects(module, item, session, tracked, columns_of) for item in items)
                for items in zip(*tuples, strict=True)
            ]
    return known[key]


def _given_so_far(module: Module) -> dict[object, list[bool] | None]:
    """Return where answers are kept, by the `id` of functions, with what they depend on."""
    return {}


def cascaded(module: Module, block: cst.BaseSuite, names: frozenset[str]) -> frozenset[str]:
    """Return the names of a block's objects that a session takes in with those of some names."""
    joined = list(_joined(module, [*walk(block)]))
    while True:
        found = set(names)
        for owner, given in joined:
            if any(held_names(owner, names)):
                found.update(given)
        if found == names:
            return names
        names = frozenset(found)


def _joined(
    module: Module, nodes: Collection[cst.CSTNode]
) -> Iterator[tuple[cst.BaseExpression, frozenset[str]]]:
    """Yield what nodes of a block give objects to keep, and the names of these.

    `user.orders.append(order)` and `order.user = user`, of which each cascades to the other, and
    `orders.append(order)` of a list of the function's own.
    """
    made_here = {id(node) for node in nodes}
    for node in nodes:
        for target, value in _kept(node):
            place = target.value if isinstance(target, cst.Subscript) else target
            if isinstance(place, cst.Attribute):
                owner, attribute = place.value, place.attr.value
            elif isinstance(place, cst.Name) and is_own_collection(module, place):
                owner, attribute = place, ""
            else:
                continue
            every = frozenset(part.value for part in walk(value) if isinstance(part, cst.Name))
            held = [
                name
                for name in held_names(value, every)
                if _is_made(module, name)
                or (attribute in module.project.relationships and not is_plain(module, name))
            ]
            yield owner, frozenset(name.value for name in held)
            if isinstance(owner, cst.Name) and attribute and _is_row(module, owner, made_here):
                yield from ((name, frozenset({owner.value})) for name in held)


def _kept(node: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """Yield where a statement, or a part of one, puts something, and what it puts there."""
    match node:
        case cst.Assign():
            yield from ((target.target, node.value) for target in node.targets)
        case cst.AugAssign():
            yield node.target, node.value
        case cst.Call(func=cst.Attribute() as function) if function.attr.value in FILLS:
            yield from ((function.value, argument.value) for argument in node.args)
        case cst.Call() if is_setattr(node):
            owner, field, value = (argument.value for argument in node.args)
            name = field.raw_value if isinstance(field, cst.SimpleString) else "any"
            yield cst.Attribute(owner, cst.Name(name)), value


def _is_made(module: Module, name: cst.Name) -> bool:
    """Return whether a name may hold an object, or a collection, that the program made."""
    waiting = list(module.bindings(module.expr(name), module.place(name)))
    for binding in waiting:
        match binding.value:
            case Call(function=Ref(parts)) if parts[-1][:1].isupper():
                return True
            case Display() | Sequence():
                return True
            case Element(Ref() as of):
                waiting.extend(b for b in module.bindings(of, binding.place) if b not in waiting)
    return False


def _is_row(module: Module, name: cst.Name, made_here: Collection[int]) -> bool:
    """Return whether a name only holds objects of mapped classes, made in one block."""
    bindings = module.bindings(module.expr(name), module.place(name))
    return bool(bindings) and all(
        isinstance(binding.value, Call)
        and id(binding.value.node) in made_here
        and all(
            isinstance(owner, LocalClass) and may_be_mapped(owner)
            for owner in module.names.evaluate(binding.value.function, binding.place)
        )
        for binding in bindings
    )


def reachable(module: Module, node: cst.CSTNode, *, values: bool = True) -> Iterator[str]:
    """Yield the names whose objects the session takes in with `node`, by cascades too.

    Without `values`, not those that are given to columns. Of a loop's variable, the name of the
    list too.
    """
    if isinstance(node, cst.Name):
        for binding in module.bindings(module.expr(node), module.place(node)):
            match binding.value:
                case Element(Ref((of,))):
                    yield of
    waiting, seen = [node], set()
    while waiting:
        for part in given_names(module, waiting.pop(), values=values):
            if part.value in seen:
                continue
            seen.add(part.value)
            if is_plain(module, part):
                continue
            yield part.value
            for binding in module.bindings(module.expr(part), module.place(part)):
                made_by = getattr(binding.value, "node", None)
                if isinstance(made_by, cst.Call) and module.parent(made_by) is not None:
                    waiting.append(made_by)


def given_names(module: Module, node: cst.CSTNode, *, values: bool = False) -> Iterator[cst.Name]:
    """Yield the names that an expression's value may be, or hold, an object of.

    A text holds none, nor does what is cut out of a sequence hold the numbers that say where, or
    a list what it was made for each of; without `values`, what a column is given is none.
    """
    match node:
        case cst.Name():
            if not _is_callee(module, node):
                yield node
        case cst.FormattedString() | cst.SimpleString() | cst.ConcatenatedString() | cst.Slice():
            pass
        case cst.Arg() if not values and is_given_to_column(module, node):
            pass
        case cst.Call() if not values and makes_of_values(module, node):
            pass
        case cst.ListComp() | cst.SetComp() | cst.GeneratorExp() if not any(
            given_names(module, node.elt, values=values)
        ):
            pass
        case _:
            for child in children(node):
                yield from given_names(module, child, values=values)


def is_given_to_column(module: Module, argument: cst.Arg) -> bool:
    """Return whether an argument is what a column gets: `User(name=name)`."""
    call = module.parent(argument)
    if argument.keyword is None:
        return False
    owners = module.evaluate(call.func) if isinstance(call, cst.Call) else ()
    return bool(owners) and all(
        isinstance(owner, LocalClass)
        and _is_column(module, [owner], argument.keyword.value)
        # A constructor of its own may give it to another attribute.
        and not any("__init__" in one.definition.scope.bindings for one in openings.lineage(owner))
        for owner in owners
    )


def reads_attributes(module: Module, call: cst.Call) -> bool:
    """Return whether a call is pydantic's `UserOut.model_validate(user)`, and no validator sees it.

    It reads the attributes that its class has fields for, and keeps no object.
    """
    if not isinstance(call.func, cst.Attribute) or call.func.attr.value not in _VALIDATING:
        return False
    project, owners = module.project, module.evaluate(call.func.value)
    return (
        bool(owners)
        and not project.validates_objects
        and all(
            isinstance(owner, LocalClass)
            and openings.ancestry(owner) <= _PYDANTIC
            and not any(_may_be_table(one) for one in openings.lineage(owner))
            and not any(
                not _VALIDATING.isdisjoint(one.definition.scope.bindings)
                or not project.setting_properties.isdisjoint(one.definition.scope.annotations)
                for one in openings.lineage(owner)
            )
            for owner in owners
        )
    )


def _may_be_table(owner: LocalClass) -> bool:
    """Return whether a class may be mapped by SQLModel, which takes related objects over too."""
    return not _SQLMODEL.isdisjoint(openings.ancestry(owner)) and (
        owner.definition.is_made_over or "model_config" in owner.definition.scope.bindings
    )


def makes_of_values(module: Module, call: cst.Call) -> bool:
    """Return whether a call is SQLModel's `User.model_validate(data)`, which makes a new object.

    What it takes from `data` is given to columns: neither has relationships, or not both.
    """
    match call:
        case cst.Call(func=cst.Attribute(value=owner, attr=method), args=[data, *more]) if (
            method.value in _VALIDATING and data.keyword is None and data.star == ""
        ):
            owners = module.evaluate(owner)
        case _:
            return False
    return (
        bool(owners)
        and all(
            isinstance(one, LocalClass)
            and openings.ancestry(one) <= _SQLMODEL
            and _VALIDATING.isdisjoint(_members(one))
            and (
                module.project.relationships.isdisjoint(_members(one))
                or _has_values_alone(module, data.value)
            )
            for one in owners
        )
        and all(_is_update_of_values(module, argument) for argument in more)
    )


def _members(owner: LocalClass) -> frozenset[str]:
    """Return the names that a class of the project has, and those that it derives from."""
    scopes = [one.definition.scope for one in openings.lineage(owner)]
    return frozenset(name for one in scopes for name in {*one.bindings, *one.annotations})


def _has_values_alone(module: Module, node: cst.BaseExpression) -> bool:
    """Return whether an expression is a dictionary, or annotated as one or a class of values."""
    if isinstance(node, cst.Dict):
        return True
    if not isinstance(node, cst.Name):
        return False
    bindings = module.bindings(module.expr(node), module.place(node))
    annotation = _annotation_of(module, node)
    if annotation is None or not all(binding.kind == "parameter" for binding in bindings):
        return False
    found = module.evaluate(annotation)
    return bool(found) and all(
        isinstance(one, LocalClass)
        and openings.ancestry(one) <= _PYDANTIC
        and module.project.relationships.isdisjoint(_members(one))
        for one in found
    )


def _is_update_of_values(module: Module, argument: cst.Arg) -> bool:
    """Return whether an argument is `update={"name": name}`, of no relationship."""
    match argument:
        case cst.Arg(keyword=cst.Name("update"), value=cst.Dict(elements=elements)):
            return all(
                isinstance(one, cst.DictElement)
                and isinstance(one.key, cst.SimpleString)
                and one.key.evaluated_value not in module.project.relationships
                for one in elements
            )
    return False


def _is_callee(module: Module, name: cst.Name) -> bool:
    parent = module.parent(name)
    return isinstance(parent, cst.Call) and parent.func is name


def is_plain(module: Module, name: cst.Name) -> bool:
    """Return whether a name surely holds a plain value: a literal, or a parameter of such."""
    bindings = module.bindings(module.expr(name), module.place(name))
    if not bindings:
        return False
    for binding in bindings:
        if binding.kind == "parameter":
            if _annotation(module, name) not in _PLAIN_TYPES:
                return False
        elif not isinstance(binding.value, (Constant, TextBeginning)):
            return False
    return True


def _annotation(module: Module, name: cst.Name) -> str:
    annotation = _annotation_of(module, name)
    return module.code(annotation) if annotation is not None else ""


def _annotation_of(module: Module, name: cst.Name) -> cst.BaseExpression | None:
    """Return the annotation of the parameter that a name may be, or None."""
    for holder in module.ancestors(name):
        if isinstance(holder, cst.FunctionDef):
            parameters = holder.params
            for parameter in (
                *parameters.posonly_params,
                *parameters.params,
                *parameters.kwonly_params,
            ):
                if parameter.name.value == name.value and parameter.annotation is not None:
                    return parameter.annotation.annotation
            return None
    return None


def result_names(module: Module, block: cst.BaseSuite, session: str | None) -> frozenset[str]:
    """Return the names that hold nothing but results of the session's queries in the block."""
    results: frozenset[str] = frozenset()
    while True:
        found: set[str] = set()
        others: set[str] = set()
        for node in walk(block):
            targets: list[cst.CSTNode] = []
            if isinstance(node, cst.Assign):
                targets = [target.target for target in node.targets]
            elif isinstance(node, (cst.AnnAssign, cst.NamedExpr)):
                targets = [node.target]
            elif isinstance(node, (cst.For, cst.CompFor, cst.AugAssign)):
                others.update(_bound(node.target))
            for target in targets:
                value = getattr(node, "value", None)
                into = found if value and is_result(value, session, results) else others
                into.update(_bound(target))
        found -= others
        if found <= results:
            return results
        results = results | found


def is_result(node: cst.CSTNode, session: str | None, results: frozenset[str]) -> bool:
    """Return whether an expression is the result of a query, not yet an object of it."""
    match node:
        case cst.Await():
            return is_result(node.expression, session, results)
        case cst.Name():
            return node.value in results
        case cst.Call(func=cst.Attribute(value=owner, attr=method)):
            if isinstance(owner, cst.Name) and owner.value == session:
                return method.value in READS - {"scalar"}
            return method.value in _RESULTS and is_result(owner, session, results)
    return False


def is_list_of_result(
    module: Module, node: cst.CSTNode, session: str | None, results: frozenset[str]
) -> bool:
    """Return whether a name only ever holds lists that were made of results of queries."""
    if not isinstance(node, cst.Name):
        return False

    def is_list(call: object) -> bool:
        match call:
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name("all" | "fetchall"))):
                return is_result(owner, session, results)
            case cst.Call(func=cst.Name() as function):
                return module.evaluate(function) in ((External("list"),), (External("sorted"),))
        return False

    bindings = module.place(node).scope.bindings.get(node.value, ())
    return bool(bindings) and all(
        binding.kind == "assign" and isinstance(binding.value, Call) and is_list(binding.value.node)
        for binding in bindings
    )


def _bound(target: cst.CSTNode) -> Iterator[str]:
    if isinstance(target, cst.Name):
        yield target.value
    elif isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            yield from _bound(element.value)


def carries_objects(
    module: Module,
    node: cst.CSTNode,
    session: str | None,
    tracked: frozenset[str],
    columns_of: Collection[LocalClass] | None = None,
) -> bool:
    """Return whether an expression's value may be, or hold, an object that the session knows.

    Values of columns hold none where the classes are given that have them.
    """

    def carries(part: cst.CSTNode) -> bool:
        match part:
            case cst.Name():
                return part.value in tracked
            case cst.Await():
                return carries(part.expression)
            case cst.Call(func=cst.Attribute(value=cst.Name(value=owner), attr=method)) if (
                owner == session
            ):
                name = method.value
                if name in READS:
                    return not part.args or (
                        statement_kind(module, part.args[0].value) in ("read", "other")
                    )
                return name not in ("flush", "commit", "rollback", "close", "refresh")
            case cst.Call(func=cst.Name(value=name)) if name in PURE_BUILTINS:
                return name in _CONTAINERS and any(carries(a.value) for a in part.args)
            case cst.Call():
                inside = isinstance(part.func, cst.Attribute) and carries(part.func.value)
                return inside or any(
                    carries(a.value) or (isinstance(a.value, cst.Name) and a.value.value == session)
                    for a in part.args
                )
            case (
                cst.FormattedString()
                | cst.SimpleString()
                | cst.ConcatenatedString()
                | cst.Comparison()
                | cst.UnaryOperation()
                | cst.Lambda()
            ):
                return False
            case cst.ListComp() | cst.SetComp() | cst.GeneratorExp():
                return carries(part.elt)
            case cst.DictComp():
                return carries(part.key) or carries(part.value)
            case cst.Attribute() if columns_of is not None and is_column_value(
                module, part, columns_of
            ):
                return False
            case cst.Attribute() | cst.Subscript():
                return carries(part.value)
            case cst.IfExp():
                return carries(part.body) or carries(part.orelse)
            case _:
                return any(carries(child) for child in children(part))

    return carries(node)


def held_names(node: cst.CSTNode, names: frozenset[str]) -> Iterator[cst.Name]:
    """Yield the names by which an expression's value is, or holds, an object as a whole."""
    match node:
        case cst.Name():
            if node.value in names:
                yield node
        case cst.Call(func=cst.Name(value=name)) if name in _CONTAINERS:
            for argument in node.args:
                yield from held_names(argument.value, names)
        case cst.Call() | cst.Attribute() | cst.Comparison() | cst.Lambda() | cst.UnaryOperation():
            pass
        case cst.FormattedString() | cst.ConcatenatedString():
            pass
        case cst.ListComp() | cst.SetComp() | cst.GeneratorExp():
            yield from held_names(node.elt, names)
        case cst.IfExp():
            yield from held_names(node.body, names)
            yield from held_names(node.orelse, names)
        case cst.Subscript():
            yield from held_names(node.value, names)
        case _:
            for child in children(node):
                yield from held_names(child, names)


def bound_names(node: cst.CSTNode) -> tuple[cst.CSTNode | None, list[str]]:
    """Return what a statement or a part of one binds to names, and these."""
    match node:
        case cst.Assign():
            return node.value, [n for target in node.targets for n in _bound(target.target)]
        case cst.AnnAssign() | cst.NamedExpr() if node.value is not None:
            return node.value, [*_bound(node.target)]
        case cst.For() | cst.CompFor():
            return node.iter, [*_bound(node.target)]
    return None, []


def classes_named(module: Module, block: cst.CSTNode) -> list[LocalClass]:
    """Return the project's classes that a block names."""
    found = {
        owner.definition: owner
        for part in walk(block)
        if isinstance(part, cst.Name)
        for owner in module.evaluate(part)
        if isinstance(owner, LocalClass)
    }
    return list(found.values())


def classes_held(
    module: Module, node: cst.BaseExpression, session: str | None
) -> list[LocalClass | None]:
    """Return the classes of the objects that an expression may give; None is one not known.

    Known is what the function makes, or loads by `session.get(User, key)`.
    """
    found: list[LocalClass | None] = []
    expr, place = module.expr(node), module.place(node)
    values = [(b.value, b.place) for b in module.bindings(expr, place)] or [(expr, place)]
    for value, at in values:
        owner: Expr | None = None
        match value:
            case Call(function=Ref((*_, name))) if name[:1].isupper():
                owner = value.function
            case Await(Call(function=Ref((of, "get" | "get_one")), arguments=(given, *_))) if (
                of == session
            ):
                owner = given
        classes = module.names.evaluate(owner, at) if owner is not None else ()
        found += [one if isinstance(one, LocalClass) else None for one in classes or (None,)]
    return found


def is_column_value(module: Module, node: cst.CSTNode, classes: Collection[LocalClass]) -> bool:
    """Return whether `user.name` is a column's value, by all of some classes."""
    return (
        isinstance(node, cst.Attribute)
        and isinstance(node.value, cst.Name)
        and _is_column(module, classes, node.attr.value)
    )


def is_loaded_value(module: Module, node: cst.CSTNode, classes: Collection[LocalClass]) -> bool:
    """Return whether `user.name` is a column's value that is loaded with its object, and stays so.

    No query of the project leaves columns out, no savepoint of it expires any, and no flush has
    this one fetched anew.
    """
    return (
        isinstance(node, cst.Attribute)
        and not module.project.unloads_columns
        and is_column_value(module, node, classes)
        and not is_fetched_later(classes, node.attr.value)
    )


def _is_column(module: Module, owners: Collection[LocalClass], name: str) -> bool:
    """Return whether a name is a column's, and leads to no other object.

    No class of the project must have a relationship of that name: whose object it is is not known.
    """
    return name not in module.project.relationships and is_column(owners, name)
