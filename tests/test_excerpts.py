"""The line that is shown of a finding: values masked, and where the node is in what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import pytest

from session_guard import excerpts
from session_guard.config import Settings
from session_guard.module import Module
from session_guard.project.project import Project
from session_guard.sources import decode

if TYPE_CHECKING:
    from pathlib import Path


def module_of(code: str, folder: Path) -> Module:
    project = Project(Settings(root=folder))
    return Module(folder / "a.py", decode(code.encode()), project, frozenset({"Call"}))


def shown(code: str, folder: Path) -> tuple[str, str]:
    """Return the line that is shown of the last call of `f`, and the part of it that is marked."""
    module = module_of(code, folder)
    *_, call = [
        node
        for node in module.nodes("Call")
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "f"
    ]
    line, (start, end) = excerpts.excerpt(module, call)
    return line, line[start:end]


@pytest.mark.parametrize(
    ("code", "line", "spot"),
    [
        ("x = f(a, b.c)\n", "x = f(a, b.c)", "f(a, b.c)"),
        ("f('one')", "f('***')", None),
        ("g('one', f())  # two", "g('***', f())", "f()"),
        ("g(rb'one', f(), u\"two\")", "g(rb'***', f(), u\"***\")", "f()"),
        ("f('postgresql+asyncpg://a:b@c', x)", "f('postgresql+asyncpg://***', x)", None),
        ("f(f'{scheme}://{user}:b@c')", "f(f'***')", None),
        ("f('SELECT 1', ' set x = 1')", "f('SELECT ***', 'set ***')", None),
        ("f('selected', 'settings')", "f('***', '***')", None),
        ("f({'a-b': 'c', 'd e': 1})", "f({'a-b': '***', '***': 1})", None),
        ("f(x['KEY'], os.getenv('KEY', 'b'))", "f(x['KEY'], os.getenv('KEY', '***'))", None),
        ("f(environ.get('KEY'), x.get('b'))", "f(environ.get('KEY'), x.get('***'))", None),
        ("f(ssl='require', level='AUTOCOMMIT')", "f(ssl='require', level='AUTOCOMMIT')", None),
        ("f(a=100, b=48151623, c=1_000_00)", "f(a=100, b=***, c=***)", None),
        ("f(password=123, token='x', pwd = 1)", "f(password=***, token='***', pwd = ***)", None),
        ("f({'password': 123, 'port': 5432})", "f({'password': ***, 'port': 5432})", None),
        ("g('''one\ntwo''', f('x'))", "***, f('***'))", "f('***')"),
        ("f(x, '''one\ntwo''', y)", "f(x, ***", None),
        ("f(x,  # one\n  y)", "f(x,", None),
        ("'one'; f('#'); g('two')  # three", "'***'; f('***'); g('***')", "f('***')"),
        ("f('a' 'b'\n'c')", "f('***' '***'", None),
        ("@g('one')\ndef h(x='two', y=f()): pass", "def h(x='***', y=f()): pass", "f()"),
        ("@g('one', f('two'))\nclass h: pass", "@g('***', f('***'))", "f('***')"),
        ("g(f'{f(1)} one')", "g(f'***')", "f'***'"),
        ("if 1:\n\tg('ä', f('ö'))\r\n", "\tg('***', f('***'))", "f('***')"),
    ],
)
def test_a_line_is_shown_without_its_values(
    tmp_path: Path, code: str, line: str, spot: str | None
) -> None:
    assert shown(code, tmp_path) == (line, line if spot is None else spot)


@pytest.mark.parametrize(
    ("comment", "line"),
    [
        ("# noqa: SG101, E501 since 'x' is y", "x = '***'  # noqa: SG101, E501 ***"),
        ("# noqa", "x = '***'  # noqa"),
        ("# x is y", "x = '***'"),
    ],
)
def test_of_a_comment_the_codes_are_shown(tmp_path: Path, comment: str, line: str) -> None:
    module = module_of(f"x = 'one'  {comment}\n", tmp_path)
    [statement] = module.tree.body
    assert isinstance(statement, cst.SimpleStatementLine)
    node = statement.trailing_whitespace.comment
    assert node is not None
    assert excerpts.excerpt(module, node)[0] == line


def test_a_nodes_text_is_shown_without_its_values(tmp_path: Path) -> None:
    module = module_of("f('one', x['KEY'],\n  g(f\"two{y}\", 'onetwo'))('three')\n", tmp_path)
    call = module.nodes("Call")[0]
    assert module.code(call) == "f('***', x['KEY'], g(f\"***\", '***'))('***')"


def test_a_message_is_shown_without_what_it_quotes_of_the_file(tmp_path: Path) -> None:
    module = module_of("f('one', b\"two\", 'direct')\n", tmp_path)
    assert excerpts.concealed(module, "`f('one', b\"two\")` is 'three', not 'direct'") == (
        "`f('***', b\"***\")` is 'three', not 'direct'"
    )
