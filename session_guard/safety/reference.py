"""How a file calls the handler's context manager, and the import that it needs for that."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import values
from session_guard.names.bindings import Ref, end_of, lookup
from session_guard.names.from_libcst import module_name
from session_guard.project.handler import REQUEST_MANAGER
from session_guard.rewriting import import_cycles
from session_guard.rewriting.arguments import NotFixableError
from session_guard.rewriting.import_order import module_of
from session_guard.rewriting.unused_imports import always_runs, is_use
from session_guard.rule import Import

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Place
    from session_guard.names.from_libcst import ImportStatement
    from session_guard.names.values import Namespace
    from session_guard.project.handler import Handler

# What the handler's are called in a file where something else has their name.
_OTHER_NAMES = {REQUEST_MANAGER: ("get_request_session",)}


def reference(
    handler: Handler, module: Module, call: cst.Call
) -> tuple[cst.BaseExpression, tuple[Import, ...]]:
    """Return the expression for the context manager, and the import that it needs."""
    place = module.place(call)
    for root in _roots(call, module):
        bindings = lookup(root[0], place) or []
        for binding in bindings:
            if binding.kind == "import":
                _ensure_one(module.names.absolute(binding.target), module)
        for end in range(1, len(root)):
            if bindings and all(_is_module(b, root[1:end], handler, module) for b in bindings):
                # The module itself: `db.engine` becomes `db.get_background_session()`.
                return _attribute((*root[:end], handler.manager)), ()
        for binding in bindings:
            if binding.kind != "import" or binding.type_checking:
                continue
            found = module.names.find_module(module.names.absolute(binding.target))
            if found is None or len(found[1]) != 1 or not _has_it(found[0], handler):
                continue
            name, is_bound = _called(handler, module, place)
            if is_bound:
                return cst.Name(name), ()
            if not always_runs(binding, place):
                raise NotFixableError("its engine is imported in a branch, which may not have run")
            written = binding.target[: -len(found[1][0])]
            spelled = written if written.strip(".") == "" else written.rstrip(".")
            wanted = Import(spelled, handler.manager, _statement_of(binding, module))
            return _imported(wanted, name, found[0].path, call, module)
    name, is_bound = _called(handler, module, place)
    if is_bound:
        return cst.Name(name), ()
    beside = _model(call, module)
    wanted = Import(_spelling(handler, beside, module), handler.manager, beside)
    return _imported(wanted, name, handler.path, call, module)


def _imported(
    wanted: Import, name: str, source: Path, call: cst.Call, module: Module
) -> tuple[cst.BaseExpression, tuple[Import, ...]]:
    """Return the name that the context manager gets, and its import from the file `source`.

    That stands at the top if it can. Raises NotFixableError.
    """
    if not wanted.module.startswith("."):
        _ensure_one(wanted.module, module)
    _ensure_nothing_overwritten(wanted, module)
    if name != wanted.name:
        wanted = wanted._replace(alias=name)
    beside = wanted.beside
    is_local = beside is not None and module.place(beside).scope.kind != "module"
    if not is_local and import_cycles.runs(source, module.path, module.project):
        around = (a for a in module.ancestors(call) if isinstance(a, cst.FunctionDef))
        function = next(around, None)
        if function is None:
            raise NotFixableError(f"an import of {wanted.module} would close a cycle")
        wanted = wanted._replace(beside=None, function=function)
    return cst.Name(name), (wanted,)


def _ensure_one(dotted: str, module: Module) -> None:
    """Raise NotFixableError where a name may mean one of several modules of the project."""
    if module.project.modules.is_one_of_several(dotted, module.path):
        raise NotFixableError(f"more than one module of the project may be meant by `{dotted}`")


def _ensure_nothing_overwritten(wanted: Import, module: Module) -> None:
    """Raise NotFixableError where the import would take a name from a package.

    What the file imports already, beside the new import or at its top, takes none anew.
    """
    run = [module.names.absolute(source) for source in _imported_before(wanted.beside, module)]
    parts = module.names.absolute(wanted.module).split(".")
    for end in range(2, len(parts) + 1):
        dotted = ".".join(parts[:end])
        if any(f"{one}.".startswith(f"{dotted}.") for one in run):
            continue
        package = import_cycles.package_overwritten(dotted, module.path, module.project)
        if package is not None:
            raise NotFixableError(
                f"the first import of `{dotted}` overwrites `{parts[end - 1]}` of "
                f"{module.project.shown(package)}; give the module another name"
            )


def _imported_before(beside: cst.CSTNode | None, module: Module) -> Iterator[str]:
    """Yield the modules that are imported at the file's top, in no branch, or by one statement."""
    for node in (*module.nodes("ImportFrom"), *module.nodes("Import")):
        line = module.parent(node)
        if node is not beside and (line is None or module.parent(line) is not module.tree):
            continue
        if isinstance(node, cst.ImportFrom):
            yield module_name(node)
        elif isinstance(node, cst.Import):
            yield from (alias.evaluated_name for alias in node.names)


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
    return found is not None and found[1] == (handler.manager,) and _has_it(found[0], handler)


def _has_it(names: Namespace, handler: Handler) -> bool:
    """Return whether a module has the handler's context manager, its own or passed on."""
    return any(
        handler.function_of(value) is not None
        for value in names.evaluate(Ref((handler.manager,)), end_of(names.scope))
    )


def _called(handler: Handler, module: Module, place: Place) -> tuple[str, bool]:
    """Return what the file calls the context manager at `place`, and whether it does so already.

    Raises NotFixableError where the names mean something else there or elsewhere in the file, or
    nothing in some runs.
    """
    for name in (handler.manager, *_OTHER_NAMES.get(handler.manager, ())):
        own = lookup(name, place) or []
        bindings = [*module.names.scope.bindings.get(name, ()), *own]
        for node in module.named(name):
            if is_use(module, node):
                bindings.extend(module.bindings(module.expr(node), module.place(node)))
        meant = [
            value
            for value in module.names.evaluate(Ref((name,)), place)
            if value != values.External(name)  # what is bound nowhere
        ]
        if not all(_is_handlers(binding, handler, module) for binding in bindings) or not all(
            handler.function_of(value) is not None for value in meant
        ):
            continue
        if own and not any(always_runs(binding, place) for binding in own):
            raise NotFixableError(f"`{name}` is imported in a branch, which may not have run")
        return name, bool(own or meant)
    raise NotFixableError(f"the file has another `{handler.manager}`")


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
    project = module.project
    named = project.modules.find(handler.dotted, project.settings.root / "pyproject.toml")
    if named is None or named[1]:
        is_elsewhere = not handler.path.is_relative_to(project.settings.root)
        return handler.dotted if is_elsewhere else project.import_name(handler.path, module.names)
    return project.import_name(named[0], module.names)


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
