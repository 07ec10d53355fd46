"""What a fix changes in a file's imports: the names it needs, and those it left without a use.

LibCST's own import visitors rebuild the whole file's imports and lose comments and layout; here
only the statements concerned change, and each keeps its layout.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import field
from typing import TYPE_CHECKING, TypeGuard

import libcst as cst

from session_guard.names.from_ast import is_type_checking
from session_guard.names.from_libcst import ImportStatement, module_name
from session_guard.records import dataclass
from session_guard.rewriting.arguments import NotFixableError
from session_guard.rewriting.import_order import Order, is_related
from session_guard.rewriting.rendering import comments, indentation, line_of, rendered
from session_guard.rewriting.spans import Change
from session_guard.rewriting.unused_imports import aliases, unused_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from session_guard.module import Module
    from session_guard.rewriting.spans import Lines
    from session_guard.rule import Import, Rewrite

# Comments that keep a name which nothing uses.
_KEEPS = re.compile(
    r"noqa(?!\s*:\s*[A-Z]+[0-9])|noqa[^#]*\bF401\b|unused|W0611|re-?export|nopycln|pragma|side.effect",
    re.IGNORECASE,
)
# Comments that tell a tool how to treat the lines below.
_DIRECTIVE = re.compile(r"\s*#\s*(isort|fmt|ruff|yapf|pylint|flake8|type|mypy|pyright)\s*:")
# Comments about where an import stands, which hold for one beside it too.
_SKIPS_ISORT = re.compile(r"#\s*isort:\s*skip\b")
_NOQA = re.compile(r"#\s*noqa\s*:([\w\s,]*)", re.IGNORECASE)
_OF_PLACE = frozenset({"E402", "I001"})
_NO_COMMA = cst.MaybeSentinel.DEFAULT


def import_changes(module: Module, rewrites: Sequence[Rewrite], lines: Lines) -> list[Change]:
    """Return the changes to imports that go with `rewrites`, all of them applied together.

    Raises NotFixableError where a name that nothing uses any more could not go without a comment
    that may be about others.
    """
    statements: dict[int, _Statement] = {}
    marked: dict[int, Change] = {}
    for unused in unused_names(module, rewrites):
        for holder, alias in aliases(module, unused):
            if unused.is_taken:
                marked[id(holder)] = _marked(module, holder, lines)
            elif not _is_kept(module, holder, alias, _listed(module, holder, lines), lines):
                statement = statements.setdefault(id(holder), _Statement(holder))
                statement.drop.append(alias)
                statement.may_go &= unused.always_ran
    order = module.once(Order)
    new: list[list[Import]] = []
    every = _distinct((item for rewrite in rewrites for item in rewrite.imports), module)
    for wanted in sorted(every, key=lambda item: (item.module, order.name_key(item.name))):
        node = _statement_for(module, wanted, statements, order, lines)
        if node is None:
            together = (group for group in new if _is_one_place(module, group[0], wanted))
            group = next((g for g in together if _go_together([*g, wanted], order)), None)
            if group is not None:
                group.append(wanted)
            else:
                new.append([wanted])
        else:
            statements.setdefault(id(node), _Statement(node)).add.append(wanted)
    changes = [change for change in marked.values() if change.text]
    emptied = []
    for statement in statements.values():
        changed = _changed(module, statement, order, lines)
        if changed is not None:
            changes.extend(changed)
        elif statement.may_go:
            emptied.append(statement.node)
    gone = [id(module.parent(node)) for node in emptied]
    names = {key: statement.names_left for key, statement in statements.items()}
    changes.extend(_new_statement(module, group, gone, names, order, lines) for group in new)
    changes.extend(_without(module, emptied, lines))
    return changes


@dataclass(slots=True)
class _Statement:
    """An import statement, and what is to happen to it."""

    node: ImportStatement
    add: list[Import] = field(default_factory=list)
    drop: list[cst.ImportAlias] = field(default_factory=list)
    may_go: bool = True
    """Whether it ran in any case before each use of what it imports that is gone."""

    @property
    def names_left(self) -> list[str]:
        """What it imports in the end."""
        assert not isinstance(self.node.names, cst.ImportStar)
        kept = [alias.evaluated_name for alias in self.node.names if alias not in self.drop]
        return [*kept, *(new.name for new in self.add)]


def _distinct(imports: Iterable[Import], module: Module) -> list[Import]:
    """Return imports without those that another one makes needless, however it is spelled."""

    def key(wanted: Import) -> tuple[object, ...]:
        beside = wanted.beside
        local = beside if beside is not None and _is_local(module, beside) else None
        source = module.names.absolute(wanted.module)
        return source, wanted.written, id(local), id(wanted.function)

    found: dict[tuple[object, ...], Import] = {}
    for wanted in imports:
        found.setdefault(key(wanted), wanted)
    return list(found.values())


# -- adding ---------------------------------------------------------------------------------------


def _statement_for(
    module: Module,
    wanted: Import,
    statements: Mapping[int, _Statement],
    order: Order,
    lines: Lines,
) -> cst.ImportFrom | None:
    """Return the statement that the name is to be added to, or None where it gets its own."""
    if wanted.function is not None:
        candidates: list[cst.CSTNode] = [
            line.body[0] for line in _imports_at_start(wanted.function)
        ]
    elif wanted.beside is not None and _is_local(module, wanted.beside):
        candidates = [wanted.beside]
    else:
        found = module.nodes("ImportFrom")
        candidates = [node for node in found if _is_at_top(module, node)]
        candidates.sort(key=lambda node: node is not wanted.beside)
    emptied = None
    for node in candidates:
        if (
            not isinstance(node, cst.ImportFrom)
            or isinstance(node.names, cst.ImportStar)
            or module_name(node) != wanted.module
            or (has_comment(node) and _listed(module, node, lines) is None)
        ):
            continue
        statement = statements.get(id(node))
        left = [a for a in node.names if statement is None or a not in statement.drop]
        if not left:
            # What it gets besides has to go into one statement with this, too.
            beside = statement.add if statement is not None else []
            if not beside or _go_together([*beside, wanted], order):
                emptied = emptied or node
        elif not order.is_single_line and (
            order.combines_aliases
            or (wanted.alias is None and any(alias.asname is None for alias in left))
        ):
            return node
    return emptied


def _is_one_place(module: Module, one: Import, other: Import) -> bool:
    """Return whether two imports of one module would stand in one place."""
    local = [i.beside for i in (one, other) if i.beside is not None and _is_local(module, i.beside)]
    return (
        one.module == other.module
        and one.function is other.function
        and (not local or one.beside is other.beside)
    )


def _go_together(imports: Sequence[Import], order: Order) -> bool:
    """Return whether one statement may import all of some names."""
    plain = all(item.alias is None for item in imports)
    return not order.is_single_line and (plain or order.combines_aliases)


def _is_local(module: Module, node: cst.CSTNode) -> bool:
    return module.place(node).scope.kind != "module"


def _is_at_top(module: Module, node: cst.CSTNode) -> bool:
    """Return whether a statement stands at the module's top level, in no branch."""
    line = module.parent(node)
    return isinstance(line, cst.SimpleStatementLine) and module.parent(line) is module.tree


def _imports_at_start(function: cst.FunctionDef) -> list[cst.SimpleStatementLine]:
    """Return the lines of imports with which a function begins, its docstring apart."""
    found: list[cst.SimpleStatementLine] = []
    for line in _without_docstring(function.body.body):
        if not _is_import(line):
            break
        found.append(line)
    return found


def _without_docstring(body: Sequence[cst.CSTNode]) -> Sequence[cst.CSTNode]:
    return body[1:] if body and _is_docstring(body[0]) else body


def _is_docstring(line: cst.CSTNode) -> bool:
    match line:
        case cst.SimpleStatementLine(
            body=[cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString()), *_]
        ):
            return True
    return False


def _is_import(line: cst.CSTNode) -> TypeGuard[cst.SimpleStatementLine]:
    return isinstance(line, cst.SimpleStatementLine) and isinstance(
        line.body[0], (cst.Import, cst.ImportFrom)
    )


def _new_statement(
    module: Module,
    group: Sequence[Import],
    gone: Collection[int],
    names: Mapping[int, Sequence[str]],
    order: Order,
    lines: Lines,
) -> Change:
    """Return the change that adds a statement for some names of one module.

    Others take the lines `gone` away, and leave statements the `names` that these import then.
    """
    wanted = group[0]
    block: Sequence[cst.CSTNode] = module.tree.body
    near = _run_at_top(module, wanted)
    if wanted.function is not None:
        block, near = wanted.function.body.body, _imports_at_start(wanted.function)
    elif wanted.beside is not None and _is_local(module, wanted.beside):
        line = line_of(module, wanted.beside)
        near = _run_of(module, line)
        if not near:  # the import is not the first on its line
            return _inserted(module, line, group, order, lines, before=False)
    spot = order.spot(wanted.module, wanted.name, near, gone, names)
    if spot is not None:
        return _inserted(
            module, spot.line, group, order, lines, before=spot.before, is_apart=spot.is_apart
        )
    first = next(iter(_without_docstring(block)), None)
    if first is not None:
        is_definition = isinstance(first, (cst.FunctionDef, cst.ClassDef))
        blank = 2 if is_definition and block is module.tree.body else 1
        return _inserted(module, first, group, order, lines, before=True, blank=blank)
    at = len(module.text)
    return Change(at, at, f"{module.tree.default_newline}{_written(group)}")


def _written(group: Sequence[Import]) -> str:
    return f"from {group[0].module} import {', '.join(one.written for one in group)}"


def _run_at_top(module: Module, wanted: Import) -> list[cst.SimpleStatementLine]:
    """Return the imports among which one at the top of the file goes, without others between them.

    What stands between two runs may have to be done before the second, such as reading `.env`.
    """
    if wanted.beside is not None and _is_at_top(module, wanted.beside):
        return _run_of(module, line_of(module, wanted.beside))
    runs = module.once(_runs)
    related = [run for run in runs if any(is_related(wanted.module, line) for line in run)]
    return next(iter((*reversed(related), *runs)), [])


def _runs(module: Module) -> list[list[cst.SimpleStatementLine]]:
    """Return the runs of imports at the top of the file."""
    return [
        [line for line in lines if _is_import(line)]
        for is_run, lines in itertools.groupby(module.tree.body, _is_import)
        if is_run
    ]


def _run_of(module: Module, line: cst.CSTNode) -> list[cst.SimpleStatementLine]:
    """Return the lines of imports round a line, in its block, without any other between them."""
    body = list(getattr(module.parent(line), "body", ()))
    if not _is_import(line):
        return []
    at = next(number for number, other in enumerate(body) if other is line)
    before = list(itertools.takewhile(_is_import, reversed(body[:at])))
    behind = list(itertools.takewhile(_is_import, body[at:]))
    return [*reversed(before), *behind]


def _inserted(
    module: Module,
    line: cst.CSTNode,
    group: Sequence[Import],
    order: Order,
    lines: Lines,
    *,
    before: bool,
    is_apart: bool = False,
    blank: int = 0,
) -> Change:
    """Return the change that puts a statement before a line, or behind it.

    Where `is_apart`, a blank line goes between the two; `blank` lines do behind the statement.
    """
    newline, indent = module.tree.default_newline, indentation(module, line)
    beside = group[0].beside
    marker = _marker(line, line_of(module, beside) if beside is not None else None)
    text = _written(group) + marker
    if len(indent) + len(text) > order.style.line_length:
        names = [one.written for one in group]
        text = _one_to_a_line(module, group[0].module, names, indent, marker)
    gap = newline if is_apart else newline * blank
    if before:
        number = module.position(line).start.line
        while _is_comment_about(lines, number, to_a_section=not blank):
            number -= 1
        at = lines.start(number)
        return Change(at, at, f"{indent}{text}{newline}{gap}")
    at = lines.start(module.position(line).end.line + 1)
    if at == len(module.text) and not module.text.endswith(("\n", "\r")):
        return Change(at, at, f"{newline}{gap}{indent}{text}")
    return Change(at, at, f"{gap}{indent}{text}{newline}")


def _marker(*lines: cst.CSTNode | None) -> str:
    """Return the comment that tells linters of a new import's place as of those on some lines."""
    found = [
        line.trailing_whitespace.comment.value
        for line in lines
        if isinstance(line, cst.SimpleStatementLine)
        and line.trailing_whitespace.comment is not None
    ]
    told = {
        code
        for text in found
        for codes in _NOQA.findall(text)
        for code in re.split(r"[\s,]+", codes)
    }
    codes = sorted(told & _OF_PLACE)
    marker = "  # isort:skip" if any(map(_SKIPS_ISORT.search, found)) else ""
    return f"{marker}  # noqa: {', '.join(codes)}" if codes else marker


def _is_comment_about(lines: Lines, number: int, *, to_a_section: bool) -> bool:
    """Return whether the line above one is a comment that belongs to it.

    A comment at the head of the file, or of a section of imports, belongs to all of that.
    """
    if number < 2 or not lines.text(number - 1).lstrip().startswith("#"):
        return False
    first = number - 1
    while first > 1 and lines.text(first - 1).lstrip().startswith("#"):
        first -= 1
    return first > 1 and not (to_a_section and not lines.text(first - 1).strip())


# -- rewriting a statement ------------------------------------------------------------------------


def _changed(
    module: Module, statement: _Statement, order: Order, lines: Lines
) -> list[Change] | None:
    """Return the changes to one statement, or None where none of its names is to stay."""
    node = statement.node
    assert not isinstance(node.names, cst.ImportStar)
    listed = _listed(module, node, lines)
    drop = statement.drop
    names = [alias for alias in node.names if alias not in drop]
    present = {(alias.evaluated_name, alias.evaluated_alias) for alias in names}
    wanted = {new.written: new for new in statement.add}.values()
    add = [new for new in wanted if (new.name, new.alias) not in present]
    if not add and not drop:
        return []
    if not names and not add:
        return None
    old_names = [alias.evaluated_name for alias in node.names]
    in_order = old_names == sorted(old_names, key=order.name_key)
    if listed is not None:
        return _changed_list(module, listed, drop, add, order if in_order else None, lines)
    texts = [(alias.name, alias.asname) for alias in names]
    texts.extend(
        (cst.Name(new.name), cst.AsName(cst.Name(new.alias)) if new.alias is not None else None)
        for new in add
    )
    if in_order:
        texts.sort(key=lambda item: order.name_key(module.tree.code_for_node(item[0])))
    start, end = lines.span(module.position(node))
    changed = node.with_changes(names=_laid_out(node, texts), semicolon=cst.MaybeSentinel.DEFAULT)
    text = rendered(module, changed, node)
    line = lines.before(start) + text + lines.behind(end)
    if add and len(line) > order.style.line_length and not line.removeprefix(text).strip():
        assert isinstance(changed, cst.ImportFrom)
        assert not isinstance(changed.names, cst.ImportStar)
        aliases = [a.with_changes(comma=_NO_COMMA) for a in changed.names]
        written = [module.tree.code_for_node(alias) for alias in aliases]
        text = _one_to_a_line(module, module_name(changed), written, indentation(module, node))
    return [Change(start, end, text)]


def _one_to_a_line(
    module: Module, source: str, names: Iterable[str], indent: str, marker: str = ""
) -> str:
    newline, deeper = module.tree.default_newline, module.deeper(indent)
    listed = "".join(f"{deeper}{name},{newline}" for name in names)
    return f"from {source} import ({marker}{newline}{listed}{indent})"


@dataclass(slots=True)
class _Entry:
    """A name on a line of its own in a list in parentheses."""

    alias: cst.ImportAlias
    line: int
    match: re.Match[str]
    first: int
    """The first of the lines of comments right above, or the name's own."""
    is_alone: bool = True
    """Whether no other name stands right below, which the comment may be about too."""


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
    above = first.line + 1
    for line in range(first.line + 1, last.line):
        text = lines.text(line)
        if text.lstrip().startswith("#"):
            continue
        if text.strip():
            match = _ENTRY.fullmatch(text)
            if match is None or len(entries) == len(aliases):
                return None
            if entries and entries[-1].line == line - 1:
                entries[-1].is_alone = False
            entries.append(_Entry(aliases[len(entries)], line, match, above))
        above = line + 1
    return entries if closing.strip() == ")" and len(entries) == len(aliases) else None


def _changed_list(
    module: Module,
    entries: Sequence[_Entry],
    drop: Sequence[cst.ImportAlias],
    add: Sequence[Import],
    order: Order | None,
    lines: Lines,
) -> list[Change]:
    """Return the changes to a list of names, which are in `order` if there is one.

    A comment goes and stays with its name.
    """
    changes = []
    for entry in entries:
        if entry.alias in drop:
            start, end = lines.start(entry.first), lines.start(entry.line + 1)
            changes.append(Change(start, end, ""))
    for new in add:
        text = f"{entries[0].match['indent']}{new.written},{module.tree.default_newline}"
        behind = [
            entry
            for entry in entries
            if order is not None
            and order.name_key(entry.alias.evaluated_name) > order.name_key(new.name)
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


def _is_kept(
    module: Module,
    statement: ImportStatement,
    alias: cst.ImportAlias,
    listed: Sequence[_Entry] | None,
    lines: Lines,
) -> bool:
    """Return whether a comment says that a name is to stay.

    Raises NotFixableError where one stands by it that may be about other names too.
    """
    line = module.parent(statement)
    assert isinstance(line, (cst.SimpleStatementLine, cst.SimpleStatementSuite))
    trailing = line.trailing_whitespace.comment
    about, above = [trailing.value if trailing is not None else ""], list[str]()
    is_clear = True
    if listed is None:
        within = [comment.value for comment in comments(statement)]
        about += within
        is_clear = not within
    else:
        assert isinstance(statement, cst.ImportFrom)
        if statement.lpar is not None and isinstance(
            statement.lpar.whitespace_after, cst.ParenthesizedWhitespace
        ):
            opening = statement.lpar.whitespace_after.first_line.comment
            about.append(opening.value if opening is not None else "")
        [entry] = [entry for entry in listed if entry.alias is alias]
        above = [lines.text(number) for number in range(entry.first, entry.line)]
        about += [entry.match["comment"] or "", *above]
        names = re.compile(rf"\b{re.escape(alias.evaluated_alias or alias.evaluated_name)}\b")
        is_clear = not above or (
            (entry.is_alone or any(map(names.search, above)))
            and not any(map(_DIRECTIVE.match, above))
        )
    if any(map(_KEEPS.search, about)):
        return True
    if not is_clear:
        raise NotFixableError(
            f"a comment in the import of `{alias.evaluated_name}`, which would go, may be about "
            "other names"
        )
    return False


def _marked(module: Module, statement: ImportStatement, lines: Lines) -> Change:
    """Return the change that tells linters of a name that stays for another file's sake."""
    position = module.position(statement)
    number, text = position.start.line, lines.text(position.start.line).rstrip()
    if text.endswith("\\"):  # no comment can stand there
        number, text = position.end.line, lines.text(position.end.line).rstrip()
    at = lines.start(number) + len(text)
    return Change(at, at, "" if _KEEPS.search(text) else "  # noqa: F401")


def _without(
    module: Module, statements: Sequence[ImportStatement], lines: Lines
) -> Iterator[Change]:
    """Yield what removes statements, but for those without which a block would be empty.

    An `if TYPE_CHECKING` has nothing but its imports, and keeps a `pass`.
    """
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
            elif _is_type_checking(module, block):
                start, _ = lines.span(module.position(body[0]))
                yield Change(start, lines.span(module.position(body[-1]))[1], "pass")


def _is_type_checking(module: Module, block: cst.CSTNode) -> bool:
    """Return whether a block is that of an `if TYPE_CHECKING`."""
    match module.parent(block):
        case cst.If(test=test, body=body) if body is block:
            return is_type_checking(module.expr(test))
    return False


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
