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
from session_guard.rendering import comments, indentation, line_of, rendered
from session_guard.rule import Appended
from session_guard.spans import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Place
    from session_guard.rule import Import, Rewrite
    from session_guard.spans import Lines

# Comments that keep a name which nothing uses.
_KEEPS = re.compile(
    r"noqa(?!\s*:\s*[A-Z]+[0-9])|noqa[^#]*\bF401\b|unused|W0611|re-?export|nopycln|pragma|side.effect",
    re.IGNORECASE,
)
# Functions whose string arguments are types.
_TAKE_TYPES = frozenset(
    "cast assert_type TypeVar ForwardRef NewType NamedTuple TypedDict TypeAliasType".split()
)
_GENERICS = frozenset({"dict", "frozenset", "list", "set", "tuple", "type", "deque", "defaultdict"})


def import_changes(module: Module, rewrites: Sequence[Rewrite], lines: Lines) -> list[Change]:
    """Return the changes to imports that go with `rewrites`, all of them applied together."""
    statements: dict[int, _Statement] = {}
    changes: list[Change] = []
    for wanted in _distinct(item for rewrite in rewrites for item in rewrite.imports):
        node = _statement_for(module, wanted, lines)
        if node is None:
            changes.append(_new_statement(module, wanted, lines))
        else:
            statements.setdefault(id(node), _Statement(node)).add.append(wanted.name)
    for unused in _unused(module, rewrites):
        for holder, alias in _aliases(module, unused):
            statement = statements.setdefault(id(holder), _Statement(holder))
            statement.drop.append(alias)
            statement.may_go &= unused.always_ran
    emptied = []
    for statement in statements.values():
        changed = _changed(module, statement, lines)
        if changed is not None:
            changes.extend(changed)
        elif statement.may_go:
            emptied.append(statement.node)
    changes.extend(_without(module, emptied, lines))
    return changes


@dataclass(slots=True)
class _Statement:
    """An import statement, and what is to happen to it."""

    node: ImportStatement
    add: list[str] = field(default_factory=list)
    drop: list[cst.ImportAlias] = field(default_factory=list)
    may_go: bool = True
    """Whether it ran in any case before each use of what it imports that is gone."""


@dataclass(slots=True)
class _Unused:
    """A name that nothing uses any more, and all of its bindings, which are imports."""

    name: str
    bindings: list[Binding]
    always_ran: bool = True


def _distinct(imports: Iterable[Import]) -> list[Import]:
    """Return imports without those that another one makes needless."""
    return list({(i.module, i.name, id(i.beside)): i for i in imports}.values())


# -- adding ---------------------------------------------------------------------------------------


def _statement_for(module: Module, wanted: Import, lines: Lines) -> cst.ImportFrom | None:
    """Return the statement that the name is to be added to."""
    candidates: list[cst.CSTNode] = [wanted.beside] if wanted.beside is not None else []
    local = wanted.beside if candidates and _is_local(module, candidates[0]) else None
    if local is None:
        candidates.extend(module.nodes("ImportFrom"))
    for node in candidates:
        if (
            isinstance(node, cst.ImportFrom)
            and not isinstance(node.names, cst.ImportStar)
            and module_name(node) == wanted.module
            and (not has_comment(node) or _listed(module, node, lines) is not None)
            and (node is local or _is_at_top(module, node))
        ):
            return node
    return None


def _is_local(module: Module, node: cst.CSTNode) -> bool:
    return module.place(node).scope.kind != "module"


def _is_at_top(module: Module, node: cst.CSTNode) -> bool:
    """Return whether a statement stands at the module's top level, in no branch."""
    return isinstance(module.parent(node), cst.SimpleStatementLine) and any(
        module.parent(node) is line for line in module.tree.body
    )


def always_runs(binding: Binding, place: Place) -> bool:
    """Return whether a binding is made in every run that comes to `place`."""
    if binding.place.scope is not place.scope:
        return binding.place.branches == ()
    branches = binding.place.branches
    return branches == place.branches[: len(branches)] and binding.place.order < place.order


def _new_statement(module: Module, wanted: Import, lines: Lines) -> Change:
    text = f"from {wanted.module} import {wanted.name}"
    newline = module.tree.default_newline
    if wanted.beside is not None and _is_local(module, wanted.beside):
        indent = indentation(module, wanted.beside)
        at = lines.start(module.position(line_of(module, wanted.beside)).end.line + 1)
        if at == len(module.text) and not module.text.endswith(("\n", "\r")):
            return Change(at, at, f"{newline}{indent}{text}")
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


def _unused(module: Module, rewrites: Sequence[Rewrite]) -> Iterator[_Unused]:
    """Yield the imported names whose last use the rewrites remove.

    Names that are exported stay, and so do those in a file that exists to re-export.
    """
    if module.path.name == "__init__.py":
        return
    gone: dict[int, cst.Name] = {}
    used: set[int] = set()
    for rewrite in rewrites:
        for old, new in rewrite.replacements:
            held = {} if isinstance(new, Appended) else {id(name): name for name in _names(old)}
            written = new.item if isinstance(new, Appended) else new
            for name in _names(written) if written is not None else ():
                # What stays in its place is looked at there.
                if held.pop(id(name), None) is None:
                    used.update(map(id, module.bindings(module.expr(name), module.place(old))))
            gone.update(held)
    found: dict[tuple[int, str], _Unused] = {}
    for name in gone.values():
        place = module.place(name)
        bindings = module.bindings(module.expr(name), place)
        if bindings:
            scope = bindings[0].place.scope
            unused = _Unused(name.value, scope.bindings.get(name.value, []))
            unused = found.setdefault((id(scope), name.value), unused)
            unused.always_ran &= all(always_runs(binding, place) for binding in bindings)
    spelled = {unused.name for unused in found.values()}
    for node in module.nodes("Name"):
        assert isinstance(node, cst.Name)
        if node.value in spelled and id(node) not in gone and is_use(module, node):
            used.update(map(id, module.bindings(module.expr(node), module.place(node))))
    quoted = _quoted_names(module) if found else frozenset()
    for unused in found.values():
        if unused.name not in quoted and all(
            binding.kind == "import" and id(binding) not in used for binding in unused.bindings
        ):
            is_global = any(b.place.scope.kind == "module" for b in unused.bindings)
            if not (is_global and module.project.is_taken_from(module.path, unused.name)):
                yield unused


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
    waiting = [str(node.evaluated_value) for node in collector.found if _is_code(module, node)]
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


class _Strings(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[cst.SimpleString | cst.ConcatenatedString] = []

    def visit_SimpleString(self, node: cst.SimpleString) -> None:  # noqa: N802 - LibCST's name
        self.found.append(node)

    def visit_ConcatenatedString(  # noqa: N802 - LibCST's name
        self, node: cst.ConcatenatedString
    ) -> None:
        self.found.append(node)


def _aliases(module: Module, unused: _Unused) -> Iterator[tuple[ImportStatement, cst.ImportAlias]]:
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


# -- rewriting a statement ------------------------------------------------------------------------


def _changed(module: Module, statement: _Statement, lines: Lines) -> list[Change] | None:
    """Return the changes to one statement, or None where none of its names is to stay."""
    node = statement.node
    assert not isinstance(node.names, cst.ImportStar)
    listed = _listed(module, node, lines)
    drop = [a for a in statement.drop if _may_be_dropped(module, node, a, listed)]
    names = [alias for alias in node.names if alias not in drop]
    present = {alias.evaluated_name for alias in names if alias.asname is None}
    add = [name for name in dict.fromkeys(statement.add) if name not in present]
    if not add and not drop:
        return []
    if not names and not add:
        return None
    old_names = [alias.evaluated_name for alias in node.names]
    in_order = old_names == sorted(old_names, key=_import_order)
    if listed is not None:
        return _changed_list(module, listed, drop, add, lines, in_order=in_order)
    texts = [(alias.name, alias.asname) for alias in names]
    texts.extend((cst.Name(name), None) for name in add)
    if in_order:
        texts.sort(key=lambda item: _import_order(module.tree.code_for_node(item[0])))
    start, end = lines.span(module.position(node))
    new = node.with_changes(names=_laid_out(node, texts), semicolon=cst.MaybeSentinel.DEFAULT)
    return [Change(start, end, rendered(module, new, node))]


@dataclass(slots=True)
class _Entry:
    """A name on a line of its own in a list in parentheses."""

    alias: cst.ImportAlias
    line: int
    match: re.Match[str]
    is_told_of: bool
    """Whether the line above is a comment."""


_OPENING = re.compile(r"from\b[\w\s.]*\bimport\s*\(\s*(?:#.*)?")
_ENTRY = re.compile(
    r"(?P<indent>\s*)(?P<name>\w+(?:\s+as\s+\w+)?)\s*(?P<comma>,?)\s*(?P<comment>#.*)?"
)


def _listed(module: Module, statement: ImportStatement, lines: Lines) -> list[_Entry] | None:
    """Return the names of an import that has each on a line of its own, in parentheses."""
    position = module.position(statement)
    first, last = position.start, position.end
    opening = lines.text(first.line)[first.column :]
    closing = lines.text(last.line)[: last.column]
    if isinstance(statement.names, cst.ImportStar) or not _OPENING.fullmatch(opening):
        return None
    aliases, entries = list(statement.names), list[_Entry]()
    is_told_of = False
    for line in range(first.line + 1, last.line):
        text = lines.text(line)
        is_comment = text.lstrip().startswith("#")
        if text.strip() and not is_comment:
            match = _ENTRY.fullmatch(text)
            if match is None or len(entries) == len(aliases):
                return None
            entries.append(_Entry(aliases[len(entries)], line, match, is_told_of))
        is_told_of = is_comment
    return entries if closing.strip() == ")" and len(entries) == len(aliases) else None


def _changed_list(
    module: Module,
    entries: Sequence[_Entry],
    drop: Sequence[cst.ImportAlias],
    add: Sequence[str],
    lines: Lines,
    *,
    in_order: bool,
) -> list[Change]:
    """Return the changes to a list of names; a comment goes and stays with its name."""
    changes = []
    for entry in entries:
        if entry.alias in drop:
            start, end = lines.start(entry.line), lines.start(entry.line + 1)
            changes.append(Change(start, end, ""))
    for name in add:
        text = f"{entries[0].match['indent']}{name},{module.tree.default_newline}"
        behind = [
            entry
            for entry in entries
            if in_order and _import_order(entry.alias.evaluated_name) > _import_order(name)
        ]
        if behind:
            line = behind[0].line
            while lines.text(line - 1).lstrip().startswith("#"):
                line -= 1
        else:
            last = entries[-1]
            line = last.line + 1
            if not last.match["comma"] and last.alias not in drop:
                at = lines.start(last.line) + last.match.end("name")
                changes.append(Change(at, at, ","))
        changes.append(Change(lines.start(line), lines.start(line), text))
    return changes


def _may_be_dropped(
    module: Module,
    statement: ImportStatement,
    alias: cst.ImportAlias,
    listed: Sequence[_Entry] | None,
) -> bool:
    """Return whether no comment says that a name is to stay, or would lose what it is about."""
    line = module.parent(statement)
    assert isinstance(line, (cst.SimpleStatementLine, cst.SimpleStatementSuite))
    about = [line.trailing_whitespace.comment]
    if listed is None:
        if has_comment(statement):
            return False
    else:
        assert isinstance(statement, cst.ImportFrom)
        if statement.lpar is not None and isinstance(
            statement.lpar.whitespace_after, cst.ParenthesizedWhitespace
        ):
            about.append(statement.lpar.whitespace_after.first_line.comment)
        [entry] = [entry for entry in listed if entry.alias is alias]
        if entry.is_told_of or _KEEPS.search(entry.match["comment"] or ""):
            return False
    return not any(comment is not None and _KEEPS.search(comment.value) for comment in about)


def _without(
    module: Module, statements: Sequence[ImportStatement], lines: Lines
) -> Iterator[Change]:
    """Yield what removes statements, but for those without which a block would be empty."""
    gone = {id(statement) for statement in statements}
    lines_left: dict[int, int] = {}
    for line in dict.fromkeys(module.parent(statement) for statement in statements):
        assert isinstance(line, (cst.SimpleStatementLine, cst.SimpleStatementSuite))
        body: Sequence[cst.BaseSmallStatement] = line.body
        last_to_stay = max((i for i, part in enumerate(body) if id(part) not in gone), default=-1)
        if last_to_stay >= 0:
            for number, part in enumerate(body):
                if id(part) in gone and number < last_to_stay:
                    start, _ = lines.span(module.position(part))
                    yield Change(start, lines.span(module.position(body[number + 1]))[0], "")
                elif id(part) in gone:
                    _, end = lines.span(module.position(part))
                    yield Change(lines.span(module.position(body[number - 1]))[1], end, "")
            continue
        block = module.parent(line)
        if isinstance(line, cst.SimpleStatementLine) and block is not None:
            left = lines_left.setdefault(id(block), len(getattr(block, "body", ())))
            if left > 1 or isinstance(block, cst.Module):
                lines_left[id(block)] -= 1
                yield without_line(module, line, lines)


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
    return next(comments(node), None) is not None
