"""Positions are LibCST's own, whichever statement is asked for, and in whatever order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import libcst as cst
import pytest
from libcst.metadata import (
    MetadataWrapper,
    PositionProvider,
    WhitespaceInclusivePositionProvider,
)

from session_guard.positions import Positions

if TYPE_CHECKING:
    from libcst.metadata import CodeRange

HERE = Path(__file__).parent
LAYOUTS = {
    "comments round statements": (
        "# head\n\n# above\na = 1  # beside\n\n\n# below\nb = (\n    2\n)\n# end\n"
    ),
    "statements on one line": "a = 1; b = 2\nif a: b = 3; c = 4\nd = 5;\n",
    "decorators": (
        "@one\n# between\n@two(\n    3\n)\n\nasync def f(a,\n  b): pass\n\n\n"
        "@one\nclass A:\n    @two\n    def g(self): ...\n"
    ),
    "other line ends": "a = 1\r\nb = '''\r\nx\r\n'''\r\n\r\ndef f():\r\n\treturn 1\r\n",
    "no line end": "def f():\n    return 1\n    # end",
    "continued lines": "a = 1 + \\\n    2\nb = [\n    3,\n]; c = 4\nassert (\n  a\n), b\n",
    "nothing": "",
    "comments alone": "# one\n\n# two",
    "a docstring": '"""One.\n\nTwo.\n"""\nfrom a import (\n    b,  # c\n)\n',
    # Which this interpreter cannot parse, or LibCST not give back.
    "newer syntax": "type A = int\n\ndef f[T](a: T) -> T:\n    return a\n",
    "a form feed": "a = 1\n\x0c\nb = 2\n",
}


def texts() -> list[object]:
    paths = [*(HERE.parent / "session_guard").rglob("*.py")][::12]
    files = [pytest.param(path.read_text(), id=path.name) for path in paths]
    return [*files, *(pytest.param(text, id=name) for name, text in LAYOUTS.items())]


@pytest.mark.parametrize("text", texts())
def test_positions_are_libcsts(text: str) -> None:
    tree = cst.parse_module(text)
    wrapper = MetadataWrapper(tree, unsafe_skip_copy=True)
    own = wrapper.resolve(PositionProvider)
    whole = wrapper.resolve(WhitespaceInclusivePositionProvider)
    tops = {id(part): top for top in tree.body for part in parts(top)}

    from_the_end = Positions(tree, text)
    at_once = Positions(tree, text)
    for node in reversed([*parts(tree)]):
        top = tops.get(id(node))
        for positions in (from_the_end, at_once):
            assert_same(positions.of(node, top), own[node], node)
            assert_same(positions.whole(node, top), whole[node], node)
            top = None


def parts(node: cst.CSTNode) -> list[cst.CSTNode]:
    return [node, *(part for child in node.children for part in parts(child))]


def assert_same(found: CodeRange, expected: CodeRange, node: cst.CSTNode) -> None:
    assert found == expected, f"{type(node).__name__}: {found} is not {expected}"
