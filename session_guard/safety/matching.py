"""Whether a session is opened with the handler's own engine, class and arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import openings, values
from session_guard.names.bindings import Attribute, Await, Call, Constant, Ref, end_of, lookup
from session_guard.rewriting.arguments import NotFixableError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import libcst as cst

    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Expr, Place
    from session_guard.names.openings import Opening
    from session_guard.names.values import Located, Namespace
    from session_guard.project.handler import Handler

_DEEPEST = 8
_CHOOSE_THE_DATABASE = frozenset({"binds", "sync_session_class"})
# Options of the handler's that the analysis of the block minds.
_MINDED = frozenset({"expire_on_commit", "autoflush", "autocommit"})
# What the options of a session are where nobody sets them, in SQLAlchemy 2.
_DEFAULTS: dict[str, object] = {
    "autoflush": True,
    "expire_on_commit": True,
    "autocommit": False,
    "future": True,
    "twophase": False,
    "info": None,
    "enable_baked_queries": True,
}
_NAME_IT = 'name it in [tool.session-guard]: engines = ["package.module.name"]'


# -- what it opens --------------------------------------------------------------------------------


def all_openings(call: cst.Call, module: Module) -> list[Opening]:
    """Return all that a call may open."""
    found = [openings.opening(value) for value in module.evaluate(call)]
    known = [opening for opening in found if opening is not None]
    if len(known) < len(found):
        raise NotFixableError(f"`{module.code(call.func)}` may also stand for something else")
    return known


def check_attribute(expr: Expr, place: Place, module: Module, depth: int = 0) -> None:
    """Refuse what is an attribute of an object, and may be set elsewhere to another."""
    match expr:
        case Attribute(value, "begin"):
            expr = value
        case Ref((*owner, "begin")) if owner:
            expr = Ref(tuple(owner))
    match expr:
        case Call(function, (_, Constant(str(name)), *_)):
            # `getattr(x, "maker")()`; what another function gives is followed into it.
            if values.External("getattr") in module.names.evaluate(function, place):
                _check_name(name, module)
        case Call(function) | Await(Call(function)) if depth < _DEEPEST:
            for called in module.names.evaluate(function, place):
                if isinstance(called, values.LocalFunction):
                    _check_assigned(called.definition.name, module)
            if not isinstance(function, Ref):
                check_attribute(function, place, module, depth + 1)
        case Attribute(_, name):
            _check_name(name, module)
        case Ref((name,)):
            for binding in lookup(name, place) or () if depth < _DEEPEST else ():
                if binding.kind == "import" or binding.place.scope.kind == "module":
                    _check_assigned(binding.target.rpartition(".")[2] or name, module)
                if isinstance(binding.value, (Attribute, Call, Ref)):
                    check_attribute(binding.value, binding.place, module, depth + 1)
        case Ref((*parts, name)):
            owners = module.names.evaluate(Ref(tuple(parts)), place)
            _check_assigned(name, module)
            if not all(isinstance(owner, values.External) for owner in owners):
                _check_name(name, module)


def check_way(way: Iterable[tuple[Path | values.LocalClass, str]], module: Module) -> None:
    """Refuse where a name that is looked up on the way is assigned elsewhere, or overridden."""
    for owner, name in way:
        if not isinstance(owner, values.LocalClass):
            _check_assigned(name, module)
        elif module.project.is_overridden(owner, name):
            raise NotFixableError(f"`{name}` is overridden, and may give another")
        elif module.project.has_metaclass(owner):
            raise NotFixableError(
                f"a metaclass may give `{owner.definition.name}` another `{name}`"
            )


def _check_assigned(name: str, module: Module) -> None:
    changed = module.project.assigned_elsewhere(name)
    if changed is not None:
        raise NotFixableError(f"{changed} assigns another value to `{name}`")


def _check_name(attribute: str, module: Module) -> None:
    if module.project.may_be_set_anew(attribute):
        raise NotFixableError(f"`{attribute}` may be set to another in more than one place")


# -- which database -------------------------------------------------------------------------------


def check_engine(opening: Opening, handler: Handler, module: Module) -> None:
    bind = opening.bind
    if opening.unknown_arguments:
        raise NotFixableError("its arguments are unpacked, so its engine is not known")
    for session, whose in ((opening, "its"), (handler.opening, "the handler's")):
        if session is None:
            continue
        if session.unknown_arguments:
            raise NotFixableError(f"{whose} arguments are not known")
        if _CHOOSE_THE_DATABASE & session.options.keys():
            raise NotFixableError(f"{whose} arguments choose the database for each table")
        if session.scoped:
            raise NotFixableError(f"{whose} session is shared within its scope")
    changed = module.project.reconfigured_factory
    if changed is None and module.reconfigures_factories:
        changed = "this file"
    if changed is not None:
        raise NotFixableError(f"{changed} configures a session factory anew")
    for name in _last_names(bind, handler.engine):
        _check_assigned(name, module)
    if bind is None:
        raise NotFixableError("no engine is given where it is opened")
    if _is_named_in_settings(bind, module):
        return
    found = [value for value in bind.values() if value != values.Literal(None)]
    if not any(isinstance(v, (values.Result, values.External)) for v in handler.engines()):
        raise NotFixableError(f"the engine of {handler.dotted} could not be followed")
    project = module.project
    others = [v for v in found if not handler.binds(v) and not project.is_named_engine(v)]
    if found and not others:
        return
    _check_named_class(bind, module)
    if any(isinstance(value, (values.Result, values.Method)) for value in others):
        raise NotFixableError(
            "its engine is another than the handler's; if both lead to one database, " + _NAME_IT
        )
    raise NotFixableError(f"its engine is not known to be the handler's; if it is, {_NAME_IT}")


def _check_named_class(bind: Located, module: Module) -> None:
    """Say what to do where `engines` names a class's attribute that does not tell which engine."""
    match bind.expr:
        case Ref((*owner, attribute)) | Call(Ref((*owner, attribute)), (), ()) if owner:
            objects = bind.home.evaluate(Ref(tuple(owner)), bind.place)
        case _:
            return
    owners = [values.class_of(value) for value in objects]
    for configured in module.project.settings.engines:
        named = module.project.class_named(configured)
        if (
            named is None
            or configured.rpartition(".")[2] != attribute
            or not any(one is not None and one.key == named.key for one in owners)
        ):
            continue
        if not all(isinstance(value, values.Result) for value in objects):
            raise NotFixableError(
                f"its engine is that of an object which could not be followed, and `{configured}` "
                "in [tool.session-guard] is about those that can"
            )
        raise NotFixableError(
            f"`{configured}` in [tool.session-guard] does not tell which engine that is, since "
            f"each object of the class may be given another; name the object's: "
            f'engines = ["{_dotted_object(tuple(owner), bind, module)}.{attribute}"]'
        )


def _dotted_object(parts: tuple[str, ...], bind: Located, module: Module) -> str:
    """Return the dotted name of an object, or the pattern of one where it has none."""
    bindings = lookup(parts[0], bind.place) or []
    if len(bindings) == 1 and bindings[0].kind == "import":
        return ".".join((bind.home.absolute(bindings[0].target), *parts[1:]))
    if len(bindings) == 1 and bindings[0].place.scope.kind == "module":
        return ".".join((module.project.modules.likeliest_name(bind.home.path), *parts))
    return "package.module.object"


def _last_names(*engines: Located | None) -> set[str]:
    """Return the names under which engines are looked up."""
    return {
        engine.expr.parts[-1]
        for engine in engines
        if engine is not None and isinstance(engine.expr, Ref)
    }


def _is_named_in_settings(bind: Located, module: Module) -> bool:
    """Return whether the configuration names this engine, or the function that gives it."""
    return bool(module.project.settings.engines) and _is_named(
        bind.expr, bind.place, bind.home, module
    )


def _is_named(expr: Expr, place: Place, home: Namespace, module: Module, depth: int = 0) -> bool:
    match expr:
        case Await(value) if depth < _DEEPEST:
            return _is_named(value, place, home, module, depth + 1)
        case Call(function, (), ()) if depth < _DEEPEST:
            return _is_named(function, place, home, module, depth + 1)
        case Ref((first, *rest)):
            bindings = lookup(first, place) or ()
            return len(bindings) > 0 and all(
                _leads_to_named(binding, first, tuple(rest), home, module, depth)
                for binding in bindings
            )
    return False


def _leads_to_named(
    binding: Binding, name: str, rest: tuple[str, ...], home: Namespace, module: Module, depth: int
) -> bool:
    if binding.kind == "import":
        dotted = home.absolute(binding.target)
    elif binding.place.scope.kind == "module":
        dotted = f"{module.project.module_name(home.path)}.{name}"
    else:
        value = binding.value
        return (
            binding.kind == "assign"
            and not rest
            and isinstance(value, (Await, Call, Ref))
            and not (binding.entered or binding.deferred)
            and depth < _DEEPEST
            and _is_named(value, binding.place, home, module, depth + 1)
        )
    dotted = ".".join((dotted, *rest))
    return any(_is_one_name(dotted, name, module) for name in module.project.settings.engines)


def _is_one_name(dotted: str, configured: str, module: Module) -> bool:
    """Return whether an import's dotted name and a configured one lead to the same thing."""
    if dotted == configured:
        return True
    one = module.names.find_module(dotted)
    other = module.project.find_configured(configured)
    if one is None or other is None or not one[1] or not other[1]:
        return False
    if one[0].path == other[0].path and one[1] == other[1]:
        return True
    found = [n.evaluate(Ref(rest), end_of(n.scope)) for n, rest in (one, other)]
    return all(found) and all(
        isinstance(a, values.Result) and isinstance(b, values.Result) and a.is_of_the_same_call(b)
        for a in found[0]
        for b in found[1]
    )


# -- which class, which arguments -----------------------------------------------------------------


def check_class(opening: Opening, handler: Handler) -> None:
    if handler.opening is None:
        raise NotFixableError(
            f"what `{handler.manager}()` of {handler.dotted} opens could not be followed"
        )
    if not openings.is_same_or_subclass(handler.opening.session_class, opening.session_class):
        raise NotFixableError("its class is not the one that the handler's sessions have")


def argument_reasons(opening: Opening, handler: Handler) -> list[str]:
    """Return which arguments the handler's sessions lack."""
    assert handler.opening is not None
    reasons = []
    for name, given in opening.options.items():
        here = given.expr.value if isinstance(given.expr, Constant) else given
        theirs = option(handler.opening, name)
        if theirs is _UNKNOWN or here != theirs:
            reasons.append(f"the handler's sessions do not have its `{name}`")
    reasons.extend(
        f"the handler's sessions have a `{name}` of their own"
        for name in sorted(handler.opening.options.keys() - opening.options.keys() - _MINDED)
        if option(handler.opening, name) != option(opening, name)
    )
    return reasons


_UNKNOWN = object()


def option(opening: Opening, name: str) -> object:
    """Return an option in force: a constant, or what compares equal to nothing."""
    given = opening.options.get(name)
    if given is None:
        return _UNKNOWN if opening.unknown_arguments else _DEFAULTS.get(name, _UNKNOWN)
    return given.expr.value if isinstance(given.expr, Constant) else _UNKNOWN
