"""Whether, and how surely, a session opened elsewhere can come from the handler instead."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import libcst as cst

from session_guard import import_cycles
from session_guard.arguments import NotFixableError
from session_guard.handler import CONTEXT_MANAGER
from session_guard.import_order import module_of
from session_guard.imports import has_comment
from session_guard.names import openings, values
from session_guard.names.bindings import Constant, Ref, end_of, lookup
from session_guard.names.from_libcst import children, walk
from session_guard.rule import Applicability, Import, Rewrite, Violation
from session_guard.safety.block import Terms, reasons_against
from session_guard.unused_imports import always_runs, is_use

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.handler import Handler
    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Expr, Place
    from session_guard.names.from_libcst import ImportStatement
    from session_guard.names.openings import Opening
    from session_guard.names.values import Located, Namespace

_ROUTE_METHODS = frozenset(
    "get post put patch delete head options route websocket api_route trace".split()
)
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


def report_opening(call: cst.Call, opening: Opening, module: Module, message: str) -> Violation:
    """Return the violation that a session's opening is, with its fix or the reason for none."""
    help_text = f"open it with `async with {CONTEXT_MANAGER}() as session:`"
    try:
        rewrite = rewrite_opening(call, opening, module)
    except NotFixableError as error:
        return Violation(call, message, f"{help_text}; not fixed: {error}")
    if rewrite.applicability is Applicability.UNSAFE:
        help_text = f"{rewrite.message} (`--unsafe-fixes` does it)"
    return Violation(call, message, help_text, rewrite)


def is_no_async_session(call: cst.Call, module: Module) -> bool:
    """Return whether what a call opens cannot be an async session, whatever else it may be.

    A plain `with` enters none; a name that is also a sync factory makes sync sessions in a `def`.
    """
    item = module.parent(call)
    statement = module.parent(item) if isinstance(item, cst.WithItem) else None
    found = module.evaluate(call)
    if isinstance(statement, cst.With):
        is_certain = all(openings.opening(value) is not None for value in found)
        return statement.asynchronous is None and not is_certain
    function = next((a for a in module.ancestors(call) if isinstance(a, cst.FunctionDef)), None)
    return (
        function is not None
        and function.asynchronous is None
        and any(map(openings.is_sync_session, found))
    )


def rewrite_opening(call: cst.Call, opening: Opening, module: Module) -> Rewrite:
    """Return the rewrite of a session's opening into the handler's context manager.

    Raises:
        NotFixableError: it is not known to use the handler's engine, its class differs, or it is
            not opened in a form that can be rewritten.
    """
    handler = module.handler
    if handler is None:
        raise NotFixableError(
            f"no handler is known: the one module that defines `{CONTEXT_MANAGER}()`, or that is "
            "named in [tool.session-guard]"
            if not module.project.handlers
            else f"the project's handlers do not define exactly one `{CONTEXT_MANAGER}()`"
        )
    statement, item = _async_with(call, module)
    every = _all_openings(call, module)
    _check_attribute(module.expr(call.func), module.place(call), module)
    for one in every:
        if one.bind is not None and one.bind.home is module.names:
            _check_attribute(one.bind.expr, one.bind.place, module)
        _check_engine(one, handler, module)
        _check_class(one, handler)
    if has_comment(call):
        raise NotFixableError("a comment stands inside the call")
    reasons = [
        *(reason for one in every for reason in _argument_reasons(one, handler)),
        *_block_reasons(statement, item, opening, handler, module),
    ]
    function, imports = _reference(handler, module, call)
    replacement = cst.Call(func=function, lpar=call.lpar, rpar=call.rpar)
    if reasons:
        return Rewrite(
            Applicability.UNSAFE,
            f"open it with `{CONTEXT_MANAGER}()`; not safe, since {'; '.join(reasons)}",
            ((call, replacement),),
            imports,
        )
    return Rewrite(
        Applicability.SAFE,
        f"open it with `{CONTEXT_MANAGER}()`",
        ((call, replacement),),
        imports,
    )


# -- the form -------------------------------------------------------------------------------------


def _async_with(call: cst.Call, module: Module) -> tuple[cst.With, cst.WithItem]:
    item = module.parent(call)
    statement = module.parent(item) if item is not None else None
    if not isinstance(item, cst.WithItem) or not isinstance(statement, cst.With):
        raise NotFixableError("the session is not opened by an `async with`")
    if statement.asynchronous is None:
        raise NotFixableError("a plain `with` cannot open an async session")
    if item.asname is not None and not isinstance(item.asname.name, cst.Name):
        raise NotFixableError("the session is stored elsewhere than in a local name")
    function = next(
        (a for a in module.ancestors(statement) if isinstance(a, (cst.FunctionDef, cst.Lambda))),
        None,
    )
    if function is not None and _yields(statement.body):
        raise NotFixableError(
            "the block yields the session: a request dependency uses `get_session()` or "
            "`get_session_dependency()`"
        )
    return statement, item


def _yields(node: cst.CSTNode) -> bool:
    """Return whether a block yields, but for the functions defined in it."""
    if isinstance(node, cst.Yield):
        return True
    if isinstance(node, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
        return False
    return any(_yields(child) for child in children(node))


# -- what it opens --------------------------------------------------------------------------------


def _all_openings(call: cst.Call, module: Module) -> list[Opening]:
    """Return all that a call may open."""
    found = [openings.opening(value) for value in module.evaluate(call)]
    known = [opening for opening in found if opening is not None]
    if len(known) < len(found):
        raise NotFixableError(f"`{module.code(call.func)}` may also stand for something else")
    return known


def _check_attribute(expr: Expr, place: Place, module: Module) -> None:
    """Refuse what is an attribute of an object, and may be set elsewhere to another."""
    parts = expr.parts if isinstance(expr, Ref) else ()
    if parts[-1:] == ("begin",):
        parts = parts[:-1]
    if len(parts) < 2:
        return
    owners = module.names.evaluate(Ref(parts[:-1]), place)
    is_module = all(isinstance(owner, values.External) for owner in owners)
    if not is_module and module.project.may_be_set_anew(parts[-1]):
        raise NotFixableError(f"`{parts[-1]}` may be set to another in more than one place")


# -- which database -------------------------------------------------------------------------------


def _check_engine(opening: Opening, handler: Handler, module: Module) -> None:
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
    if changed is None and openings.reconfigures_factories(module.names):
        changed = "this file"
    if changed is not None:
        raise NotFixableError(f"{changed} configures a session factory anew")
    for name in _last_names(bind, handler.engine):
        changed = module.project.assigned_elsewhere(name)
        if changed is not None:
            raise NotFixableError(f"{changed} assigns another value to `{name}`")
    if bind is None:
        raise NotFixableError("no engine is given where it is opened")
    if _is_named_in_settings(bind, module):
        return
    found = [value for value in bind.values() if value != values.Literal(None)]
    if not any(isinstance(v, (values.Result, values.External)) for v in handler.engines()):
        raise NotFixableError(f"the engine of {handler.dotted} could not be followed")
    if found and all(handler.binds(value) for value in found):
        return
    if any(
        isinstance(value, (values.Result, values.Method)) and not handler.binds(value)
        for value in found
    ):
        raise NotFixableError("its engine is another than the handler's")
    raise NotFixableError(
        "its engine is not known to be the handler's; if it is, name it in [tool.session-guard]: "
        'engines = ["package.module.name"]'
    )


def _last_names(*engines: Located | None) -> set[str]:
    """Return the names under which engines are looked up."""
    return {
        engine.expr.parts[-1]
        for engine in engines
        if engine is not None and isinstance(engine.expr, Ref)
    }


def _is_named_in_settings(bind: Located, module: Module) -> bool:
    """Return whether the configuration names this engine as the handler's."""
    names = module.project.settings.engines
    if not names or not isinstance(bind.expr, Ref):
        return False
    first, *rest = bind.expr.parts
    bindings = lookup(first, bind.place)
    if not bindings:
        return False
    for binding in bindings:
        if binding.kind == "import":
            dotted = bind.home.absolute(binding.target)
        elif binding.place.scope.kind == "module":
            dotted = f"{module.project.module_name(bind.home.path)}.{first}"
        else:
            return False
        dotted = ".".join((dotted, *rest))
        if not any(_is_one_name(dotted, name, module) for name in names):
            return False
    return True


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


def _check_class(opening: Opening, handler: Handler) -> None:
    if handler.opening is None:
        raise NotFixableError(
            f"what `{CONTEXT_MANAGER}()` of {handler.dotted} opens could not be followed"
        )
    if not openings.is_same_or_subclass(handler.opening.session_class, opening.session_class):
        raise NotFixableError("its class is not the one that the handler's sessions have")


def _argument_reasons(opening: Opening, handler: Handler) -> list[str]:
    """Return which arguments the handler's sessions lack."""
    assert handler.opening is not None
    reasons = []
    for name, given in opening.options.items():
        here = given.expr.value if isinstance(given.expr, Constant) else given
        theirs = _option(handler.opening, name)
        if theirs is _UNKNOWN or here != theirs:
            reasons.append(f"the handler's sessions do not have its `{name}`")
    reasons.extend(
        f"the handler's sessions have a `{name}` of their own"
        for name in sorted(handler.opening.options.keys() - opening.options.keys() - _MINDED)
        if _option(handler.opening, name) != _option(opening, name)
    )
    return reasons


_UNKNOWN = object()


def _option(opening: Opening, name: str) -> object:
    """Return an option in force: a constant, or what compares equal to nothing."""
    given = opening.options.get(name)
    if given is None:
        return _UNKNOWN if opening.unknown_arguments else _DEFAULTS.get(name, _UNKNOWN)
    return given.expr.value if isinstance(given.expr, Constant) else _UNKNOWN


# -- what the block does --------------------------------------------------------------------------


def _block_reasons(
    statement: cst.With,
    item: cst.WithItem,
    opening: Opening,
    handler: Handler,
    module: Module,
) -> list[str]:
    assert handler.opening is not None
    reasons: list[str] = []
    if handler.shortfall is not None:
        reasons.append(f"`{CONTEXT_MANAGER}()` of {handler.dotted} {handler.shortfall}")
    if handler.opening.begins:
        reasons.append(
            f"`{CONTEXT_MANAGER}()` of {handler.dotted} begins the transaction itself, which "
            "neither a `begin()` nor a read after a `commit()` in the block survives"
        )
    if _option(handler.opening, "expire_on_commit") is not False:
        reasons.append("the handler's factory does not set `expire_on_commit=False`")
    function = next(
        (a for a in module.ancestors(statement) if isinstance(a, cst.FunctionDef)), None
    )
    if function is not None and is_request_handler(function, module):
        reasons.append("it stands in a request handler, which uses `get_session()`")
    name = None
    if item.asname is not None:
        assert isinstance(item.asname.name, cst.Name)
        name = item.asname.name.value
    position = statement.items.index(item)
    terms = Terms(
        autoflush_ends=_option(opening, "autoflush") is not False
        and _option(handler.opening, "autoflush") is not True,
        expiry_ends=_option(opening, "expire_on_commit") is not False,
        commits_itself=opening.begins,
    )
    reasons.extend(
        reasons_against(module, statement.body, name, statement.items[position + 1 :], terms)
    )
    if name is not None and _used_elsewhere(name, statement, function, module):
        reasons.append(f"`{name}` is used outside the block too")
    return reasons


def _used_elsewhere(
    name: str, statement: cst.With, function: cst.FunctionDef | None, module: Module
) -> bool:
    """Return whether the session's name is used round the block, in a way that may mean it.

    Other blocks that bind the name anew are no such use.
    """
    inside = {id(part) for part in walk(statement)}
    around: cst.CSTNode = function.body if function is not None else module.tree
    for part in walk(around):
        if (
            isinstance(part, cst.Name)
            and part.value == name
            and id(part) not in inside
            and not isinstance(module.parent(part), (cst.AsName, cst.AssignTarget))
            and any(
                binding.kind == "assign" and _binds_here(binding, statement, module)
                for binding in module.bindings(module.expr(part), module.place(part))
            )
        ):
            return True
    return False


def _binds_here(binding: Binding, statement: cst.With, module: Module) -> bool:
    """Return whether a binding is made by one of the items of `statement`."""
    first = module.place(statement)
    later = [module.place(item).order for item in statement.items]
    return (
        binding.place.scope is first.scope
        and first.order <= binding.place.order <= max(later, default=first.order) + 1
    )


# -- how the file calls it ------------------------------------------------------------------------


def _reference(
    handler: Handler, module: Module, call: cst.Call
) -> tuple[cst.BaseExpression, tuple[Import, ...]]:
    """Return the expression for the context manager, and the import that it needs."""
    place = module.place(call)
    for root in _roots(call, module):
        bindings = lookup(root[0], place) or []
        for end in range(1, len(root)):
            if bindings and all(_is_module(b, root[1:end], handler, module) for b in bindings):
                # The module itself: `db.engine` becomes `db.get_background_session()`.
                return _attribute((*root[:end], CONTEXT_MANAGER)), ()
        for binding in bindings:
            if binding.kind != "import" or binding.type_checking:
                continue
            found = module.names.find_module(module.names.absolute(binding.target))
            if found is None or len(found[1]) != 1 or not _has_it(found[0], handler):
                continue
            if _is_bound(module, place):
                return cst.Name(CONTEXT_MANAGER), ()
            if not always_runs(binding, place):
                raise NotFixableError("its engine is imported in a branch, which may not have run")
            written = binding.target[: -len(found[1][0])]
            spelled = written if written.strip(".") == "" else written.rstrip(".")
            beside = _statement_of(binding, module)
            return cst.Name(CONTEXT_MANAGER), (
                _imported(spelled, beside, found[0].path, call, module),
            )
    if _is_bound(module, place):
        return cst.Name(CONTEXT_MANAGER), ()
    beside = _model(call, module)
    spelled = _spelling(handler, beside, module)
    return cst.Name(CONTEXT_MANAGER), (_imported(spelled, beside, handler.path, call, module),)


def _imported(
    spelled: str, beside: ImportStatement | None, source: Path, call: cst.Call, module: Module
) -> Import:
    """Return the import of the context manager from the file `source`, at the top if it can be.

    Raises NotFixableError.
    """
    is_local = beside is not None and module.place(beside).scope.kind != "module"
    if is_local or not import_cycles.runs(source, module.path, module.project):
        return Import(spelled, CONTEXT_MANAGER, beside)
    around = (holder for holder in module.ancestors(call) if isinstance(holder, cst.FunctionDef))
    function = next(around, None)
    if function is None:
        raise NotFixableError(f"an import of {spelled} would close a cycle")
    return Import(spelled, CONTEXT_MANAGER, function=function)


def _is_module(binding: Binding, rest: tuple[str, ...], handler: Handler, module: Module) -> bool:
    """Return whether a binding, with what follows it, is a module that has the context manager."""
    if binding.kind != "import" or binding.type_checking:
        return False
    dotted = ".".join((module.names.absolute(binding.target), *rest))
    found = module.names.find_module(dotted)
    return found is not None and not found[1] and _has_it(found[0], handler)


def _model(call: cst.Call, module: Module) -> ImportStatement | None:
    """Return the import that the handler's is to stand beside: a local one before any other."""
    place = module.place(call)
    bindings = [
        binding
        for root in _roots(call, module)
        for binding in lookup(root[0], place) or ()
        if binding.kind == "import" and not binding.type_checking
    ]
    local = [binding for binding in bindings if binding.place.scope.kind != "module"]
    for binding in bindings:
        is_ours = module.names.find_module(module.names.absolute(binding.target)) is not None
        if (is_ours or binding in local) and not always_runs(binding, place):
            raise NotFixableError("its imports stand in a branch, which may not have run")
    chosen = local or [binding for binding in bindings if always_runs(binding, place)]
    return _statement_of(chosen[0], module) if chosen else None


def _attribute(parts: tuple[str, ...]) -> cst.BaseExpression:
    node: cst.BaseExpression = cst.Name(parts[0])
    for part in parts[1:]:
        node = cst.Attribute(node, cst.Name(part))
    return node


def _roots(call: cst.Call, module: Module) -> list[tuple[str, ...]]:
    """Return the dotted names in a call, its arguments first: the engine's import is the model."""
    expressions = [*(argument.value for argument in call.args), call.func]
    refs = [module.expr(expression) for expression in expressions]
    return [ref.parts for ref in refs if isinstance(ref, Ref)]


def _is_handlers(binding: Binding, handler: Handler, module: Module) -> bool:
    if binding.kind != "import" or binding.type_checking:
        return False
    found = module.names.find_module(module.names.absolute(binding.target))
    return found is not None and found[1] == (CONTEXT_MANAGER,) and _has_it(found[0], handler)


def _has_it(names: Namespace, handler: Handler) -> bool:
    """Return whether a module has the handler's context manager, its own or passed on."""
    return any(
        isinstance(value, values.LocalFunction) and value.home is handler.namespace
        for value in names.evaluate(Ref((CONTEXT_MANAGER,)), end_of(names.scope))
    )


def _is_bound(module: Module, place: Place) -> bool:
    """Return whether the context manager's name means the handler's at `place` already.

    Raises NotFixableError where it means something else there or elsewhere in the file, or nothing
    in some runs.
    """
    handler = module.handler
    assert handler is not None
    own = lookup(CONTEXT_MANAGER, place) or []
    bindings = [*module.names.scope.bindings.get(CONTEXT_MANAGER, ()), *own]
    for node in module.nodes("Name"):
        assert isinstance(node, cst.Name)
        if node.value == CONTEXT_MANAGER and is_use(module, node):
            bindings.extend(module.bindings(module.expr(node), module.place(node)))
    meant = [
        value
        for value in module.names.evaluate(Ref((CONTEXT_MANAGER,)), place)
        if value != values.External(CONTEXT_MANAGER)  # what is bound nowhere
    ]
    if not all(_is_handlers(binding, handler, module) for binding in bindings) or not all(
        isinstance(value, values.LocalFunction) and value.home is handler.namespace
        for value in meant
    ):
        raise NotFixableError(f"the file has another `{CONTEXT_MANAGER}`")
    if own and not any(always_runs(binding, place) for binding in own):
        raise NotFixableError(
            f"`{CONTEXT_MANAGER}` is imported in a branch, which may not have run"
        )
    return bool(own or meant)


def _statement_of(binding: Binding, module: Module) -> ImportStatement | None:
    """Return the import statement that made a binding."""
    for node in (*module.nodes("ImportFrom"), *module.nodes("Import")):
        place = module.place(node)
        if place.scope is binding.place.scope and place.order == binding.place.order:
            assert isinstance(node, (cst.Import, cst.ImportFrom))
            return node
    return None


def _spelling(handler: Handler, beside: ImportStatement | None, module: Module) -> str:
    """Return the handler's name as this file would write it, after its other imports.

    It is relative where the import `beside` is, or else all that the file has of its project.
    """
    is_relative = isinstance(beside, cst.ImportFrom) and bool(beside.relative)
    if not is_relative and (beside is None or not _is_of_project(module_of(beside), module)):
        own = [
            binding.target.startswith(".")
            for bindings in module.names.scope.bindings.values()
            for binding in bindings
            if binding.kind == "import" and _is_of_project(binding.target, module)
        ]
        is_relative = bool(own) and all(own)
    relative = _relative(handler, module) if is_relative else None
    if relative is not None:
        return relative
    parts = handler.dotted.split(".")
    full = module.project.module_name(handler.path).split(".")
    firsts = {
        binding.target.split(".", 1)[0]
        for bindings in module.names.scope.bindings.values()
        for binding in bindings
        if binding.kind == "import"
    }
    if parts[0] in firsts:
        return ".".join(parts)
    for start in range(len(full)):
        if full[start] in firsts and len(full) - start > 1:
            return ".".join(full[start:])
    return ".".join(parts)


def _is_of_project(target: str, module: Module) -> bool:
    return module.names.find_module(module.names.absolute(target)) is not None


def _relative(handler: Handler, module: Module) -> str | None:
    """Return the handler's name from within the package that both are in, or None."""
    package, parts = module.names.package, module.project.modules.parts(handler.path)
    pairs = zip(package, parts[:-1], strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    if not shared or not module.project.modules.is_package(parts[:shared]):
        return None
    return "." * (len(package) - shared + 1) + ".".join(parts[shared:])


def is_request_handler(function: cst.FunctionDef, module: Module) -> bool:
    """Return whether a function is decorated like a web framework's route."""
    for decorator in function.decorators:
        call = decorator.decorator
        if not isinstance(call, cst.Call):
            continue
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in _ROUTE_METHODS:
            return True
        if any(  # Litestar's are plain functions: `@get("/users")`
            isinstance(value, values.External) and value.dotted.rpartition(".")[2] in _ROUTE_METHODS
            for value in module.evaluate(call.func)
        ):
            return True
    return False
