"""What a fix changes in a file's imports: the names it needs, and those it left without a use.

LibCST's own import visitors rebuild the whole file's imports and lose comments and layout; here
only the statements concerned change, and each keeps its layout.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import ImportStatement, children, dotted_parts, module_name
from session_guard.spans import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Binding
    from session_guard.rule import Import, Rewrite
    from session_guard.spans import Lines

# Comments that keep an import, or say something to a tool about it.
_PRAGMA = re.compile(
    r"noqa|type:|pragma|isort|pylint|ruff|pyright|re-?export|nopycln", re.IGNORECASE
)
# Functions whose string arguments are types.
_TAKE_TYPES = frozenset({"cast", "TypeVar", "ForwardRef", "NewType"})


def import_changes(module: Module, rewrites: Sequence[Rewrite], lines: Lines) -> list[Change]:
    """Return the changes to imports that go with `rewrites`, all of them applied together."""
    statements: dict[int, _Statement] = {}
    changes: list[Change] = []
    for wanted in _distinct(item for rewrite in rewrites for item in rewrite.imports):
        node = _statement_for(module, wanted)
        if node is None:
            changes.append(_new_statement(module, wanted, lines))
        else:
            statements.setdefault(id(node), _Statement(node)).add.append(wanted.name)
    for unused_in, alias in _unused(module, rewrites):
        statements.setdefault(id(unused_in), _Statement(unused_in)).drop.append(alias)
    for statement in statements.values():
        change = _changed(module, statement.node, statement.drop, statement.add, lines)
        if change is not None:
            changes.append(change)
    return changes


@dataclass(slots=True)
class _Statement:
    """An import statement, and what is to happen to it."""

    node: ImportStatement
    add: list[str] = field(default_factory=list)
    drop: list[cst.ImportAlias] = field(default_factory=list)


def _distinct(imports: Iterable[Import]) -> list[Import]:
    """Return imports without those that another one makes needless."""
    return list({(i.module, i.name, id(i.beside)): i for i in imports}.values())


# -- adding ---------------------------------------------------------------------------------------


def _statement_for(module: Module, wanted: Import) -> cst.ImportFrom | None:
    """Return the statement that the name is to be added to."""
    candidates: list[cst.CSTNode] = [wanted.beside] if wanted.beside is not None else []
    if wanted.beside is None or not _is_local(module, wanted.beside):
        candidates.extend(module.nodes("ImportFrom"))
    for node in candidates:
        if (
            isinstance(node, cst.ImportFrom)
            and not isinstance(node.names, cst.ImportStar)
            and module_name(node) == wanted.module
            and not has_comment(node)  # which belongs to one of its names
            and (node is wanted.beside or _always_runs(module, node))
        ):
            return node
    return None


def _is_local(module: Module, node: cst.CSTNode) -> bool:
    return module.place(node).scope.kind != "module"


def _always_runs(module: Module, node: cst.CSTNode) -> bool:
    """Return whether a statement stands at the module's top level, in no branch."""
    return isinstance(module.parent(node), cst.SimpleStatementLine) and any(
        module.parent(node) is line for line in module.tree.body
    )


def _new_statement(module: Module, wanted: Import, lines: Lines) -> Change:
    text = f"from {wanted.module} import {wanted.name}"
    newline = module.tree.default_newline
    if wanted.beside is not None and _is_local(module, wanted.beside):
        position = module.position(wanted.beside)
        indent = lines.text(position.start.line)[: position.start.column]
        at = lines.start(position.end.line + 1)
        return Change(at, at, f"{indent}{text}{newline}")
    before, after = _neighbours(module, wanted.module)
    if before is not None:
        at = lines.start(module.position(before).start.line)
    elif after is not None:
        at = lines.start(module.position(after).end.line + 1)
        if at == len(module.text) and not module.text.endswith(("\n", "\r")):
            return Change(at, at, f"{newline}{text}")
    else:
        first = next(iter(module.tree.body), None)
        at = lines.start(module.position(first).start.line) if first is not None else 0
    return Change(at, at, f"{text}{newline}")


def _neighbours(module: Module, wanted: str) -> tuple[cst.CSTNode | None, cst.CSTNode | None]:
    """Return the import line to stand before, or else the line to stand behind."""
    family = _family(wanted)
    last_related: cst.CSTNode | None = None
    last: cst.CSTNode | None = None
    for line in module.tree.body:
        if not isinstance(line, cst.SimpleStatementLine):
            continue
        statement = line.body[0]
        if not isinstance(statement, (cst.Import, cst.ImportFrom)):
            if last is None and isinstance(statement, cst.Expr):
                last = line  # the module's docstring
            continue
        last = line
        if isinstance(statement, cst.ImportFrom) and _family(module_name(statement)) == family:
            if module_name(statement) > wanted and last_related is None:
                return line, None
            if module_name(statement) <= wanted:
                last_related = line
    return None, last_related if last_related is not None else last


def _family(module: str) -> str:
    return "." if module.startswith(".") else module.split(".", 1)[0]


# -- dropping -------------------------------------------------------------------------------------


def _unused(
    module: Module, rewrites: Sequence[Rewrite]
) -> Iterator[tuple[ImportStatement, cst.ImportAlias]]:
    """Yield the imported names whose last use the rewrites remove.

    Names that are exported or marked stay, and so do those in a file that exists to re-export.
    """
    if module.path.name == "__init__.py":
        return
    gone: dict[int, cst.Name] = {}
    kept: set[str] = set()
    for rewrite in rewrites:
        for old, new in rewrite.replacements:
            gone.update((id(name), name) for name in _names(old))
            if new is not None:
                kept.update(name.value for name in _names(new))
    candidates: dict[int, tuple[cst.Name, Binding]] = {}
    for name in gone.values():
        bindings = module.bindings(module.expr(name), module.place(name))
        if len(bindings) == 1 and bindings[0].kind == "import" and name.value not in kept:
            candidates[id(bindings[0])] = name, bindings[0]
    spelled = {name.value for name, _ in candidates.values()}
    for node in module.nodes("Name"):
        assert isinstance(node, cst.Name)
        if node.value in spelled and id(node) not in gone and is_use(module, node):
            for binding in module.bindings(module.expr(node), module.place(node)):
                candidates.pop(id(binding), None)
    quoted = _quoted_names(module) if candidates else frozenset()
    for name, binding in candidates.values():
        if name.value not in quoted:
            yield from _aliases(module, name.value, binding)


def _names(node: cst.CSTNode) -> Iterator[cst.Name]:
    if isinstance(node, cst.Name):
        yield node
    for child in children(node):
        if isinstance(node, cst.Attribute) and child is node.attr:
            continue
        if isinstance(node, cst.Arg) and child is node.keyword:
            continue
        yield from _names(child)


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
    collector = _Strings()
    module.tree.visit(collector)
    names: set[str] = set()
    for node in collector.found:
        if not _is_code(module, node):
            continue
        try:
            tree = ast.parse(str(node.evaluated_value).strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError):
            continue
        for part in ast.walk(tree):
            if isinstance(part, ast.Name):
                names.add(part.id)
            elif isinstance(part, ast.Attribute):
                names.add(part.attr)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                names.add(part.value)
    return frozenset(names)


def _is_code(module: Module, node: cst.SimpleString) -> bool:
    for holder in module.ancestors(node):
        match holder:
            case cst.Annotation() | cst.Subscript():
                return True
            case cst.Call():
                parts = dotted_parts(holder.func)
                return parts is not None and parts[-1] in _TAKE_TYPES
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


class _Strings(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[cst.SimpleString] = []

    def visit_SimpleString(self, node: cst.SimpleString) -> None:  # noqa: N802 - LibCST's name
        self.found.append(node)


def _aliases(
    module: Module, name: str, binding: Binding
) -> Iterator[tuple[ImportStatement, cst.ImportAlias]]:
    scope = binding.place.scope
    for node in (*module.nodes("ImportFrom"), *module.nodes("Import")):
        assert isinstance(node, (cst.Import, cst.ImportFrom))
        if isinstance(node.names, cst.ImportStar) or module.place(node).scope is not scope:
            continue
        for alias in node.names:
            parts = dotted_parts(alias.name)
            bound = alias.evaluated_alias or (parts[0] if parts else "")
            if bound == name and alias.evaluated_alias != alias.evaluated_name:
                yield node, alias


# -- rewriting a statement ------------------------------------------------------------------------


def _changed(
    module: Module,
    statement: ImportStatement,
    drop: Sequence[cst.ImportAlias],
    add: Sequence[str],
    lines: Lines,
) -> Change | None:
    """Return the change to one statement, or None where nothing is to be changed."""
    assert not isinstance(statement.names, cst.ImportStar)
    line = module.parent(statement)
    if drop and not (
        isinstance(line, cst.SimpleStatementLine) and _may_lose_names(statement, line)
    ):
        drop = ()
    names = [alias for alias in statement.names if alias not in drop]
    present = {alias.evaluated_name for alias in names if alias.asname is None}
    add = [name for name in add if name not in present]
    if not add and len(names) == len(statement.names):
        return None
    if not names and not add:
        assert isinstance(line, cst.SimpleStatementLine)
        in_branch = any(isinstance(h, (cst.If, cst.Try)) for h in module.ancestors(line))
        removable = is_removable(module, line) and not in_branch
        return without_line(module, line, lines) if removable else None
    texts = [(alias.name, alias.asname) for alias in names]
    old_texts = [alias.evaluated_name for alias in statement.names]
    texts.extend((cst.Name(name), None) for name in add)
    if old_texts == sorted(old_texts, key=_import_order):
        texts.sort(key=lambda item: _import_order(module.tree.code_for_node(item[0])))
    start, end = lines.span(module.position(statement))
    new = statement.with_changes(
        names=_laid_out(statement, texts), semicolon=cst.MaybeSentinel.DEFAULT
    )
    return Change(start, end, module.tree.code_for_node(new))


def _may_lose_names(statement: ImportStatement, line: cst.SimpleStatementLine) -> bool:
    """Return whether no comment says why a name is there, or that it is to stay."""
    comment = line.trailing_whitespace.comment
    return not has_comment(statement) and (comment is None or _PRAGMA.search(comment.value) is None)


def _import_order(name: str) -> tuple[int, str]:
    """Return isort's order within one statement: constants, classes, then the rest."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1, name) if name[:1].isupper() else (2, name)


def _laid_out(
    statement: ImportStatement, texts: Sequence[tuple[cst.BaseExpression, cst.AsName | None]]
) -> list[cst.ImportAlias]:
    """Return the aliases in the layout of the old ones."""
    assert not isinstance(statement.names, cst.ImportStar)
    old = list(statement.names)
    if len(old) > 1:
        between = old[0].comma
    elif isinstance(statement, cst.ImportFrom) and statement.lpar is not None:
        between = cst.Comma(whitespace_after=statement.lpar.whitespace_after)
        if isinstance(statement.lpar.whitespace_after, cst.SimpleWhitespace):
            between = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    else:
        between = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    return [
        cst.ImportAlias(
            name=name,  # type: ignore[arg-type]  # it was an alias's name, or is a new one
            asname=asname,
            comma=old[-1].comma if index == len(texts) - 1 else between,
        )
        for index, (name, asname) in enumerate(texts)
    ]


def is_removable(module: Module, line: cst.SimpleStatementLine) -> bool:
    """Return whether a line holds one statement and its block would not be empty without it."""
    block = module.parent(line)
    return len(line.body) == 1 and (
        isinstance(block, cst.Module) or len(getattr(block, "body", ())) > 1
    )


def without_line(module: Module, line: cst.CSTNode, lines: Lines) -> Change:
    """Return the removal of a statement's line."""
    position = module.position(line)
    return Change(lines.start(position.start.line), lines.start(position.end.line + 1), "")


def has_comment(node: cst.CSTNode) -> bool:
    """Return whether a comment stands inside a node."""
    if isinstance(node, cst.Comment):
        return True
    return any(has_comment(child) for child in node.children)
