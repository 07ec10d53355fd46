"""Which imported names a fix leaves without a use, in code and in strings that are code."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import ImportStatement, dotted_parts, walk
from session_guard.records import dataclass
from session_guard.rule import Appended

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Place
    from session_guard.rule import Rewrite

# Functions whose string arguments are types.
_TAKE_TYPES = frozenset(
    "cast assert_type TypeVar ForwardRef NewType NamedTuple TypedDict TypeAliasType".split()
)
_RUN_TEXT = re.compile(r"^[ \t]*(?:>>>|\.\.\. ).*|#[ \t]*type:.*", re.MULTILINE)
_RUNNING = ("eval", "exec", "globals", "vars")
_GENERICS = frozenset({"dict", "frozenset", "list", "set", "tuple", "type", "deque", "defaultdict"})


@dataclass(slots=True)
class Unused:
    """A name that nothing uses any more, and all of its bindings, which are imports."""

    name: str
    bindings: list[Binding]
    always_ran: bool = True
    is_taken: bool = False
    """Whether another file, or a text in this one, has it by its name, so that it has to stay."""


def always_runs(binding: Binding, place: Place) -> bool:
    """Return whether a binding is made in every run that comes to `place`."""
    if binding.place.scope is not place.scope:
        return binding.place.branches == ()
    branches = binding.place.branches
    return branches == place.branches[: len(branches)] and binding.place.order < place.order


def unused_names(module: Module, rewrites: Sequence[Rewrite]) -> Iterator[Unused]:
    """Yield the imported names whose last use the rewrites remove.

    Names that are exported are left out, and so are those in a file that exists to re-export.
    """
    if module.path.name == "__init__.py":
        return
    gone = taken_out(rewrites)
    used: set[int] = set()
    for rewrite in rewrites:
        for old, new in rewrite.replacements:
            own = set(map(id, _names(old)))
            for written in _names(_written(new)):
                # What stays in its place is looked at there.
                if id(written) not in own:
                    bindings = module.bindings(module.expr(written), module.place(old))
                    used.update(map(id, bindings))
    found: dict[tuple[int, str], Unused] = {}
    for name in (node for node in gone.values() if isinstance(node, cst.Name)):
        place = module.place(name)
        bindings = module.bindings(module.expr(name), place)
        if bindings:
            scope = bindings[0].place.scope
            unused = Unused(name.value, scope.bindings.get(name.value, []))
            unused = found.setdefault((id(scope), name.value), unused)
            unused.always_ran &= all(
                binding.type_checking or always_runs(binding, place) for binding in bindings
            )
    uses = module.once(Uses)
    quoted = module.once(_quoted_names) if found else frozenset()
    for unused in found.values():
        if unused.name not in quoted and all(
            binding.kind == "import"
            and id(binding) not in used
            and all(id(use) in gone for use in uses.of(binding, unused.name))
            for binding in unused.bindings
        ):
            is_global = any(b.place.scope.kind == "module" for b in unused.bindings)
            unused.is_taken = is_global and (
                module.project.is_taken_from(module.path, unused.name)
                or _is_had_by_text(module, unused.name)
            )
            yield unused


def _is_had_by_text(module: Module, name: str) -> bool:
    """Return whether a text that is run may name it: `globals()["x"]`, a doctest, a comment."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    if any(word.search(line) for line in _RUN_TEXT.findall(module.text)):
        return True
    runs = (node for one in _RUNNING for node in module.named(one) if is_use(module, node))
    return next(runs, None) is not None and any(
        isinstance(node, cst.SimpleString) and word.search(node.value) for node in walk(module.tree)
    )


def taken_out(rewrites: Sequence[Rewrite]) -> dict[int, cst.CSTNode]:
    """Return the nodes, by `id`, that rewrites take out of the file."""
    gone: dict[int, cst.CSTNode] = {}
    for rewrite in rewrites:
        # Another rewrite may take out what this one only moves.
        written = {
            id(part)
            for _, new in rewrite.replacements
            if (node := _written(new)) is not None
            for part in walk(node)
        }
        for old, new in rewrite.replacements:
            if not isinstance(new, Appended):
                gone.update((id(part), part) for part in walk(old) if id(part) not in written)
    return gone


def _written(new: cst.CSTNode | Appended | None) -> cst.CSTNode | None:
    return new.item if isinstance(new, Appended) else new


def _names(node: cst.CSTNode | None) -> Iterator[cst.Name]:
    parts = walk(node) if node is not None else ()
    return (part for part in parts if isinstance(part, cst.Name))


class Uses:
    """Where a file's names are looked up."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._found: dict[str, dict[int, list[cst.Name]]] = {}
        """By the name, and the `id` of the binding that is reached."""

    def of(self, binding: Binding, name: str) -> Sequence[cst.Name]:
        """Return the uses of a name that may reach one of its bindings."""
        if name not in self._found:
            found = self._found[name] = dict[int, list[cst.Name]]()
            for node in self._module.named(name):
                if is_use(self._module, node):
                    place = self._module.place(node)
                    for reached in self._module.bindings(self._module.expr(node), place):
                        found.setdefault(id(reached), []).append(node)
        return self._found[name].get(id(binding), ())


def is_use(module: Module, name: cst.Name) -> bool:
    """Return whether a name is looked up: it is no attribute, keyword, target or import."""
    parent = module.parent(name)
    if isinstance(parent, (cst.Param, cst.FunctionDef, cst.ClassDef)) and name is parent.name:
        return False
    if isinstance(parent, cst.AssignTarget):
        return False
    if isinstance(parent, cst.Attribute):
        if name is parent.attr:
            return False
    elif isinstance(parent, cst.Arg) and name is parent.keyword:
        return False
    return not any(
        isinstance(holder, (cst.Import, cst.ImportFrom)) for holder in module.ancestors(name)
    )


def _quoted_names(module: Module) -> frozenset[str]:
    """Return the names in strings that are code: annotations, `__all__`, arguments of `cast`."""
    names: set[str] = set()
    waiting = [
        str(node.evaluated_value)
        for kind in ("SimpleString", "ConcatenatedString")
        for node in module.nodes(kind)
        if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)) and _is_code(module, node)
    ]
    while waiting:
        text = waiting.pop()
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError):
            continue
        for part in ast.walk(tree):
            if isinstance(part, ast.Name):
                names.add(part.id)
            elif isinstance(part, ast.Attribute):
                names.add(part.attr)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                waiting.append(part.value)
    return frozenset(names)


def _is_code(module: Module, node: cst.CSTNode) -> bool:
    """Return whether a string is read as code: by type checkers, or by `import *`."""
    for holder in module.ancestors(node):
        match holder:
            case cst.Annotation() | cst.TypeAlias():
                return True
            case cst.Subscript() if _is_generic(holder.value):
                return True
            case cst.Call():
                parts = dotted_parts(holder.func) or ("",)
                return parts[-1] in _TAKE_TYPES or parts[0] == "__all__"
            case cst.AnnAssign() if "TypeAlias" in (
                dotted_parts(holder.annotation.annotation) or ()
            ):
                return True
            case cst.Assign() | cst.AnnAssign() | cst.AugAssign():
                targets = (
                    [t.target for t in holder.targets]
                    if isinstance(holder, cst.Assign)
                    else [holder.target]
                )
                return any(isinstance(t, cst.Name) and t.value == "__all__" for t in targets)
            case cst.BaseStatement():
                return False
    return False


def _is_generic(node: cst.CSTNode) -> bool:
    """Return whether `node[...]` is a type, by the names that types have."""
    name = (dotted_parts(node) or ("",))[-1]
    return name[:1].isupper() or name in _GENERICS


def aliases(module: Module, unused: Unused) -> Iterator[tuple[ImportStatement, cst.ImportAlias]]:
    """Yield where a name is imported, but for `import name as name`, which exports it."""
    for node in (*module.nodes("ImportFrom"), *module.nodes("Import")):
        assert isinstance(node, (cst.Import, cst.ImportFrom))
        place = module.place(node)
        if isinstance(node.names, cst.ImportStar) or not any(
            binding.place.scope is place.scope and binding.place.order == place.order
            for binding in unused.bindings
        ):
            continue
        for alias in node.names:
            parts = dotted_parts(alias.name)
            bound = alias.evaluated_alias or (parts[0] if parts else "")
            if bound == unused.name and alias.evaluated_alias != alias.evaluated_name:
                yield node, alias
