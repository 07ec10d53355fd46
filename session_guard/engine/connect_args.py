"""Edits of an engine's `connect_args`: keys set, moved and taken out, and the rest as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import libcst as cst

from session_guard.engine.facts import engine_of
from session_guard.names.from_libcst import walk
from session_guard.names.values import Dictionary, Literal
from session_guard.project.dictionary_users import ensure_own
from session_guard.rewriting.arguments import NotFixableError, argument, keyword
from session_guard.rewriting.import_style import style_for
from session_guard.rewriting.imports import has_comment, is_removable
from session_guard.rule import Appended
from session_guard.standard import SERVER_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from session_guard.engine.facts import Engine
    from session_guard.module import Module
    from session_guard.names.dictionaries import Contents, Entry
    from session_guard.names.values import Value
    from session_guard.rewriting.arguments import Container
    from session_guard.rule import Replacements

_AnItem = TypeVar("_AnItem", cst.Arg, cst.DictElement, cst.BaseDictElement)
_HAS_SETTINGS = "`connect_args` has such settings too, or may have"
# What needs no parentheses to be unpacked, and is read more easily without.
_UNPACKED_AS_IT_IS = (cst.Name, cst.Attribute, cst.Call, cst.Subscript, cst.Dict)


# -- where a key is set ---------------------------------------------------------------------------


def node_of(contents: Contents, key: str, module: Module) -> cst.CSTNode | None:
    """Return the node that sets a key, or None where that is not in this file."""
    try:
        return _setter(contents, key, module)
    except NotFixableError:
        return None


def node_of_entry(entry: Entry, key: str, module: Module) -> cst.CSTNode | None:
    """Return the node that sets a key in one way, or None where that is not in this file."""
    try:
        return _set_by(entry, key, module)
    except NotFixableError:
        return None


def _setter(contents: Contents, key: str, module: Module) -> cst.CSTNode:
    """Return the item, the argument, the subscript or the call that sets a key.

    Raises NotFixableError where it is set in another file, or not in one place.
    """
    entries = contents.entries.get(key, [])
    if len(entries) != 1:
        raise NotFixableError("it is not set in one place alone")
    return _set_by(entries[0], key, module)


def _set_by(entry: Entry, key: str, module: Module) -> cst.CSTNode:
    node = entry.node
    if not isinstance(node, cst.CSTNode) or module.parent(node) is None:
        raise NotFixableError("it is not set in this file")
    found: cst.CSTNode | None = node
    if isinstance(node, cst.Dict):
        found = element(node, key)
    elif isinstance(node, cst.Call):
        found = argument(node, key) or node
    if found is None:
        raise NotFixableError("its name is not written out where it is set")
    return found


def element(node: cst.Dict, key: str) -> cst.DictElement | None:
    """Return the last item of a dictionary display with a key, or None."""
    found = None
    for item in node.elements:
        if isinstance(item, cst.DictElement) and _text(item.key) == key:
            found = item
    return found


def _text(node: cst.BaseExpression) -> str | None:
    if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
        value = node.evaluated_value
        return value if isinstance(value, str) else None
    return None


def _ensure_asyncpgs(engine: Engine, node: cst.CSTNode, module: Module) -> None:
    """Raise NotFixableError where others than engines on asyncpg may use what a node sets a key of.

    What fails one of these fails them all.
    """

    def is_on_asyncpg(call: cst.Call) -> bool:
        other = engine_of(call, module)
        return other is not None and other.is_on_asyncpg

    ensure_own(engine.call, node, module, is_on_asyncpg)


def _name_of(node: cst.CSTNode) -> cst.BaseExpression | None:
    """Return the key of what sets one, as it is written there."""
    match node:
        case cst.DictElement(key=name):
            return name
        case cst.Subscript(slice=[cst.SubscriptElement(slice=cst.Index(value=name))]):
            return name
        case cst.Call(args=[cst.Arg(keyword=None, star="", value=name), *_]):  # `setdefault`
            return name
    return None


def _value_of(node: cst.CSTNode | None, module: Module) -> cst.BaseExpression | None:
    """Return the value that a node gives a key, or None where other things get it too."""
    match node:
        case cst.DictElement(value=value) | cst.Arg(value=value):
            return value
        case cst.Subscript():
            target = module.parent(node)
            statement = module.parent(target) if target is not None else None
            if isinstance(statement, cst.Assign) and len(statement.targets) == 1:
                return statement.value
        case cst.Call(args=[_, cst.Arg(keyword=None, star="", value=value)]):
            return value
    return None


# -- taking keys out ------------------------------------------------------------------------------


def removal(engine: Engine, contents: Contents, key: str, module: Module) -> Replacements:
    """Return the edits that take a key out of where it is set, for an engine that it fails.

    Raises NotFixableError.
    """
    node = _setter(contents, key, module)
    _ensure_asyncpgs(engine, node, module)
    return _without(node, module)


def argument_removed(
    call: cst.Call, contents: Contents, key: str, module: Module
) -> tuple[cst.BaseExpression | None, Replacements]:
    """Return the value of a keyword argument of a call, and the edits that take it out.

    What comes with `**` is taken out of its dictionary. Raises NotFixableError.
    """
    node = _setter(contents, key, module)
    ensure_own(call, node, module)
    value, holder = _value_of(node, module), module.parent(node)
    if holder is call:
        return value, ((node, None),)
    if isinstance(holder, (cst.Dict, cst.Call)):
        items = holder.elements if isinstance(holder, cst.Dict) else holder.args
        unpacked = module.parent(holder)
        if len(items) == 1 and isinstance(unpacked, cst.Arg) and unpacked in call.args:
            return value, ((unpacked, None),)
    return value, _without(node, module)


def _without(node: cst.CSTNode, module: Module) -> Replacements:
    call = module.parent(node)
    if isinstance(node, cst.DictElement):
        return ((node, None),)
    if isinstance(node, cst.Arg) and isinstance(call, cst.Call):
        is_statement = isinstance(module.parent(call), cst.Expr)
        if len(call.args) > 1 or not is_statement:
            return ((node, None),)
        node = call
    return ((_line_that_sets(node, module), None),)


def _line_that_sets(node: cst.CSTNode, module: Module) -> cst.SimpleStatementLine:
    """Return the line that does nothing but to set a key by a subscript or a method's call.

    Raises NotFixableError.
    """
    statement = line = module.parent(node)
    if isinstance(statement, cst.AssignTarget):
        statement = line = module.parent(statement)
    if line is not None:
        line = module.parent(line)
    parts = walk(statement) if statement is not None else ()
    if (
        not isinstance(line, cst.SimpleStatementLine)
        or not isinstance(statement, (cst.Assign, cst.Expr))
        or (isinstance(statement, cst.Assign) and len(statement.targets) > 1)
        or any(isinstance(p, (cst.Call, cst.Await, cst.NamedExpr)) and p is not node for p in parts)
    ):
        raise NotFixableError("its statement does more than to set it")
    if not is_removable(module, line):
        raise NotFixableError("nothing would be left of its block or line")
    if has_comment(line):
        raise NotFixableError("a comment stands beside it")
    return line


def renamed(engine: Engine, contents: Contents, key: str, new: str, module: Module) -> Replacements:
    """Return the edits that give a key another name, for an engine that it fails.

    Raises NotFixableError.
    """
    if not contents.is_absent(new):
        raise NotFixableError(f"`{new}` is there as well, or may be")
    node = _setter(contents, key, module)
    _ensure_asyncpgs(engine, node, module)
    if isinstance(node, cst.Arg):
        return ((node, _bare(node).with_changes(keyword=cst.Name(new))),)
    name = _name_of(node)
    if name is None or _text(name) != key:
        raise NotFixableError("its name is not written out where it is set")
    literal = cst.SimpleString(f'"{new}"')
    if isinstance(node, cst.DictElement):
        return ((node, _bare(node).with_changes(key=literal)),)
    return ((name, literal),)


def number_without_quotes(
    engine: Engine, node: cst.CSTNode | None, module: Module
) -> Replacements | None:
    """Return the edits that turn the string that an item has into the number in it.

    Raises NotFixableError where others use it.
    """
    value = _value_of(node, module)
    if isinstance(value, cst.SimpleString) and str(value.evaluated_value).isdecimal():
        _ensure_asyncpgs(engine, value, module)
        return ((value, cst.Integer(str(int(value.evaluated_value)))),)
    return None


def number_in_quotes(
    engine: Engine, node: cst.CSTNode | None, module: Module
) -> Replacements | None:
    """Return the edits that turn the number that an item has into a string.

    Raises NotFixableError where others use it.
    """
    value = _value_of(node, module)
    if isinstance(value, (cst.Integer, cst.Float)):
        _ensure_asyncpgs(engine, value, module)
        return ((value, cst.SimpleString(f'"{value.value}"')),)
    return None


# -- setting keys ---------------------------------------------------------------------------------


def setting(engine: Engine, module: Module, wanted: Mapping[str, str]) -> Replacements:
    """Return the edits that give keys of `connect_args` new values, written as code.

    A display is edited where it stands, if this engine alone uses it; otherwise what is given is
    unpacked into a new one, which leaves it alone.

    Raises NotFixableError.
    """
    for key in sorted(engine.set_by_listeners & wanted.keys()):
        raise NotFixableError(f"a listener to `do_connect` sets `{key}` when it connects")
    items = {key: cst.parse_expression(code) for key, code in wanted.items()}
    given = _given(engine)
    own = _own_display(engine, given.value, module) if given is not None else None
    if own is None or not _takes(own, engine.connect_args, items):
        return _with_items(engine, module, items)
    return _in_display(own, engine.connect_args, items)


def _given(engine: Engine) -> cst.Arg | None:
    """Return the argument `connect_args` of an engine's call, or None where there is none.

    Raises NotFixableError.
    """
    given = argument(engine.call, "connect_args")
    if given is None and not engine.arguments.is_absent("connect_args"):
        raise NotFixableError("its `connect_args` come with `**`")
    return given


def _with_items(
    engine: Engine, module: Module, items: Mapping[str, cst.BaseExpression]
) -> Replacements:
    """Return the edits that set keys in the engine's call itself. Raises NotFixableError."""
    given = _given(engine)
    if given is None:
        last = (engine.call, *engine.call.args)[-1]
        new = _laid_out(_display(items), module, last, is_behind=True)
        return ((engine.call, Appended(keyword("connect_args", new))),)
    found = module.evaluate(given.value)
    dictionary = _dictionary(found)
    display = _display_of(dictionary, module) if dictionary is not None else None
    if display is given.value and _takes(display, engine.connect_args, items):
        return _in_display(display, engine.connect_args, items)
    if found == (Literal(None),):
        return ((given.value, _laid_out(_display(items), module, given.value)),)
    unpacked = given.value
    if not isinstance(unpacked, _UNPACKED_AS_IT_IS):
        unpacked = _in_parentheses(unpacked)
    if Literal(None) in found:  # which cannot be unpacked
        unpacked = _in_parentheses(cst.BooleanOperation(unpacked, cst.Or(), cst.Dict([])))
    new = _laid_out(_display(items, unpacked), module, given.value)
    return ((given.value, new),)


def _bare(item: _AnItem) -> _AnItem:
    """Return an argument or an item without its comma, and the layout behind that."""
    changes: dict[str, object] = {"comma": cst.MaybeSentinel.DEFAULT}
    if isinstance(item, cst.Arg):
        changes["whitespace_after_arg"] = cst.SimpleWhitespace("")
    return item.with_changes(**changes)


def _in_parentheses(value: cst.BaseExpression) -> cst.BaseExpression:
    if value.lpar:
        return value
    return value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def _display(
    items: Mapping[str, cst.BaseExpression], unpacked: cst.BaseExpression | None = None
) -> cst.Dict:
    """Return a new display of `items`, behind what is unpacked into it."""
    elements = [_item(key, value) for key, value in items.items()]
    return cst.Dict([*([cst.StarredDictElement(unpacked)] if unpacked else ()), *elements])


def _laid_out(
    display: cst.Dict, module: Module, place: cst.CSTNode, *, is_behind: bool = False
) -> cst.Dict:
    """Return a new display with a line for each item, if its line would be too long.

    It stands instead of an expression or, as an argument, behind another one.
    """
    code, lines, position = module.tree.code_for_node(display), module.lines, module.position(place)
    start, end = position.start, position.end
    length, indent = len(lines.text(end.line).rstrip()), lines.indentation(end.line)
    if not is_behind:
        length += len(code) - (end.column - start.column)
    else:
        begins_line = not lines.text(start.line)[: start.column].strip()
        length = (len(indent) if begins_line else length) + len(f"connect_args={code}, ")
    if length <= style_for(module.path, module.project).line_length or "\n" in code:
        return display

    def new_line(indentation: str) -> cst.ParenthesizedWhitespace:
        spaces = cst.SimpleWhitespace(indentation)
        return cst.ParenthesizedWhitespace(indent=False, last_line=spaces)

    inner = new_line(module.deeper(indent))
    *others, last = display.elements
    return display.with_changes(
        lbrace=cst.LeftCurlyBrace(inner),
        elements=[
            *(one.with_changes(comma=cst.Comma(whitespace_after=inner)) for one in others),
            last.with_changes(comma=cst.Comma(whitespace_after=new_line(indent))),
        ],
    )


def _item(key: str, value: cst.BaseExpression) -> cst.DictElement:
    return cst.DictElement(cst.SimpleString(f'"{key}"'), value)


def _dictionary(found: Sequence[Value]) -> Dictionary | None:
    return found[0] if len(found) == 1 and isinstance(found[0], Dictionary) else None


def _display_of(dictionary: Dictionary, module: Module) -> Container | None:
    """Return the display, or the call of `dict`, in this file that makes a dictionary, or None."""
    match dictionary.display.node:
        case cst.Dict() | cst.Call(func=cst.Name()) as node if module.parent(node) is not None:
            return node
    return None


def _is_set_by(display: Container, contents: Contents, key: str) -> bool:
    """Return whether a display has the last word on a key."""
    return [entry.node for entry in contents.entries.get(key, ())] == [display]


def _takes(display: Container, contents: Contents, items: Collection[str]) -> bool:
    """Return whether keys can be set in a display: a call takes none that is in it already."""
    return isinstance(display, cst.Dict) or all(
        contents.is_absent(key) or _is_set_by(display, contents, key) for key in items
    )


def _in_display(
    display: Container, contents: Contents, items: Mapping[str, cst.BaseExpression]
) -> Replacements:
    """Return the edits that set keys in a display, which `contents` come from."""
    replacements: list[tuple[cst.CSTNode, cst.CSTNode | Appended | None]] = []
    for key, value in items.items():
        old: cst.DictElement | cst.Arg | None
        new: cst.DictElement | cst.Arg
        if isinstance(display, cst.Dict):
            old, new = element(display, key), _item(key, value)
        else:
            old, new = argument(display, key), keyword(key, value)
        if old is not None and _is_set_by(display, contents, key):
            replacements.append((old.value, value))
            continue
        if old is not None:  # what comes behind it has the last word
            replacements.append((old, None))
        replacements.append((display, Appended(new)))
    return tuple(replacements)


def _own_display(engine: Engine, given: cst.BaseExpression, module: Module) -> Container | None:
    """Return the display that a name stands for, if nothing but this engine uses the name."""
    if not isinstance(given, cst.Name):
        return None
    dictionary = _dictionary(module.evaluate(given))
    node = _display_of(dictionary, module) if dictionary is not None else None
    if dictionary is None or len(dictionary.names) != 1:
        return None
    uses = (module.parent(name) for name in module.named(given.value) if name is not given)
    # The name of a keyword argument is no use; what binds the name is none either.
    own = all(
        isinstance(use, (cst.AssignTarget, cst.AnnAssign))
        or (isinstance(use, cst.Arg) and (use.value is given or _is_keyword(use, given.value)))
        for use in uses
    )
    try:
        if node is None or not own:
            return None
        ensure_own(engine.call, node, module)
    except NotFixableError:
        return None
    return node


def _is_keyword(use: cst.Arg, name: str) -> bool:
    """Return whether an argument has a name as its keyword, and another expression as its value."""
    is_value = isinstance(use.value, cst.Name) and use.value.value == name
    return use.keyword is not None and use.keyword.value == name and not is_value


# -- moving keys ----------------------------------------------------------------------------------


def moved(engine: Engine, given: cst.Arg, key: str, module: Module) -> Replacements:
    """Return the edits that move an argument of the engine's call to `connect_args`.

    Raises NotFixableError.
    """
    contents = engine.connect_args
    if contents.is_absent(key) and _given(engine) is None:
        return ((given, keyword("connect_args", _display({key: given.value}))),)
    if key == SERVER_SETTINGS and not contents.is_absent(key):
        return ((given, None), *_merged(engine, given.value, module))
    if not contents.is_present(key):
        return ((given, None), *_with_items(engine, module, {key: given.value}))
    if not _is_the_same(contents, key, given.value, module):
        raise NotFixableError("`connect_args` has another value for it")
    return ((given, None),)


def _merged(engine: Engine, value: cst.BaseExpression, module: Module) -> Replacements:
    """Return the edits that put server settings beside those in `connect_args`.

    Raises NotFixableError.
    """
    item = node_of(engine.connect_args, SERVER_SETTINGS, module)
    there = _value_of(item, module)
    if (
        not engine.connect_args.is_present(SERVER_SETTINGS)
        or not isinstance(there, cst.Dict)
        or not isinstance(value, cst.Dict)
    ):
        raise NotFixableError(_HAS_SETTINGS)
    ensure_own(engine.call, there, module)
    added: list[tuple[cst.CSTNode, Appended]] = []
    for setting in value.elements:
        name = _text(setting.key) if isinstance(setting, cst.DictElement) else None
        if name is None:
            raise NotFixableError(_HAS_SETTINGS)
        if engine.server_settings.is_absent(name):
            added.append((there, Appended(_bare(setting))))
        elif not _is_the_same(engine.server_settings, name, setting.value, module):
            raise NotFixableError(f"`connect_args` has another value for `{name}`, or may have")
    return tuple(added)


def _is_the_same(contents: Contents, key: str, value: cst.BaseExpression, module: Module) -> bool:
    """Return whether a key is known to have a value already."""
    found = module.evaluate(value)
    if len(found) == 1 and isinstance(found[0], Literal):
        return contents.values(key) == found
    there = _value_of(node_of(contents, key, module), module)
    return there is not None and there.deep_equals(value)


def option_moved(
    engine: Engine, given: cst.Arg, item: cst.DictElement, module: Module
) -> Replacements:
    """Return the edits that move an item of the engine's `execution_options` to `connect_args`.

    Raises NotFixableError.
    """
    key = _text(item.key)
    assert key is not None
    assert isinstance(given.value, cst.Dict)
    if len(given.value.elements) == 1 and _given(engine) is None:
        return ((given, _bare(given).with_changes(keyword=cst.Name("connect_args"))),)
    if key == SERVER_SETTINGS and not engine.connect_args.is_absent(key):
        raise NotFixableError(_HAS_SETTINGS)
    added = _with_items(engine, module, {key: item.value})
    return (*without_option(given, item), *added)


def without_option(given: cst.Arg, item: cst.DictElement) -> Replacements:
    """Return the edit that takes an item out of the display that an argument is."""
    assert isinstance(given.value, cst.Dict)
    return ((given if len(given.value.elements) == 1 else item, None),)


def without_method_option(call: cst.Call, gone: cst.Arg, *, is_awaited: bool) -> Replacements:
    """Return the edit that makes `x.execution_options(…)` do without one option.

    Where it was the only one, `x` is left.
    """
    if len(call.args) == 1 and not is_awaited:
        assert isinstance(call.func, cst.Attribute)
        return ((call, call.func.value),)
    return ((gone, None),)


def url_argument(call: cst.Call) -> cst.Arg | None:
    """Return the argument that is an engine's URL, or None where it is not given by itself."""
    first = call.args[0] if call.args else None
    if first is not None and first.keyword is None:
        return None if first.star else first
    return argument(call, "url")


def out_of_url(engine: Engine, key: str, value: str, module: Module) -> Replacements:
    """Return the edits that move a number from a literal URL's query to `connect_args`.

    Raises NotFixableError.
    """
    given = url_argument(engine.call)
    if given is None or not isinstance(given.value, cst.SimpleString):
        is_in_parts = given is not None and isinstance(given.value, cst.ConcatenatedString)
        raise NotFixableError(
            "its URL is written in several parts"
            if is_in_parts
            else "its URL is not a literal in the call"
        )
    if not value.isdecimal():
        raise NotFixableError("its value is no number")
    text = given.value.value
    pair = f"{key}={value}"
    for found, instead in ((f"?{pair}&", "?"), (f"&{pair}", ""), (f"?{pair}", "")):
        if found not in text:
            continue
        literal = cst.SimpleString(text.replace(found, instead, 1))
        shorter: Replacements = ((given.value, literal),)
        if engine.connect_args.is_present(key):
            return shorter
        if not engine.connect_args.is_absent(key):
            raise NotFixableError("`connect_args`, which has the last word, may have it too")
        return (*shorter, *_with_items(engine, module, {key: cst.Integer(str(int(value)))}))
    raise NotFixableError("it is not written plainly in the URL")
