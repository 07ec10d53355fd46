"""Arguments and items that are taken out and put in: what stands beside them is left as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import pytest

from session_guard import sources
from session_guard.config import Settings
from session_guard.module import Module
from session_guard.project.project import Project
from session_guard.rewriting.arguments import NotFixableError, keyword
from session_guard.rewriting.edits import apply, plan, render
from session_guard.rule import Appended, Applicability, Rewrite

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.rule import Replacements


def module_of(code: str, root: Path) -> Module:
    decoded = sources.decode(code.encode())
    types = frozenset({"Call", "Dict", "Arg", "DictElement", "Name", "Import", "ImportFrom"})
    return Module(root / "a.py", decoded, Project(Settings(root=root)), types)


def rewritten(module: Module, replacements: Replacements) -> str:
    planned = plan(module, Rewrite(Applicability.SAFE, "rewrite", replacements))
    return apply(module.text.encode(), render(module, [planned]), "utf-8").decode()


def is_gone(item: cst.CSTNode) -> bool:
    name = item.keyword if isinstance(item, cst.Arg) else getattr(item, "key", None)
    return name is not None and "gone" in str(getattr(name, "value", ""))


def taken_out(code: str, root: Path) -> str:
    """Take out what is called `gone`."""
    module = module_of(code, root)
    items = [*module.nodes("Arg"), *module.nodes("DictElement")]
    return rewritten(module, tuple((item, None) for item in items if is_gone(item)))


def put_in(code: str, root: Path) -> str:
    """Put something behind the first call or display."""
    module = module_of(code, root)
    lists = [*module.nodes("Call"), *module.nodes("Dict")]
    new: cst.Arg | cst.DictElement = keyword("new", cst.Integer("0"))
    if isinstance(lists[0], cst.Dict):
        new = cst.DictElement(cst.SimpleString('"new"'), cst.Integer("0"))
    return rewritten(module, ((lists[0], Appended(new)),))


OUT = {
    "the only one": ("f(gone=1)", "f()"),
    "the only one, on a line": ("f(\n    gone=1,\n)", "f()"),
    "the first": ("f(gone=1, a=2)", "f(a=2)"),
    "between": ("f(a=1, gone=2, b=3)", "f(a=1, b=3)"),
    "the last": ("f(a=1, gone=2)", "f(a=1)"),
    "the last, with a comma": ("f(a=1, gone=2,)", "f(a=1,)"),
    "several": ("f(gone_1=1, gone_2=1, a=2, gone_3=1, gone_4=1)", "f(a=2)"),
    "all": ("f(gone_1=1, gone_2=1)", "f()"),
    "of a display": ('x = {"gone": 1, "a": 2}', 'x = {"a": 2}'),
    "all of a display": ('x = {\n    "gone": 1,\n}', "x = {}"),
    "beside what is unpacked": ('x = {**a, "gone": 1, **b}', "x = {**a, **b}"),
    "a line": ("f(\n    a=1,\n    gone=2,\n    b=3,\n)", "f(\n    a=1,\n    b=3,\n)"),
    "the last line": ("f(\n    a=1,\n    gone=2,\n)", "f(\n    a=1,\n)"),
    "the last line, without a comma": ("f(\n    a=1,\n    gone=2\n)", "f(\n    a=1\n)"),
    "the last line, with the bracket": ("f(\n    a=1,\n    gone=2)", "f(\n    a=1)"),
    "a block of lines": (
        "f(\n    gone={\n        1: 2,\n    },\n    b=3,\n)",
        "f(\n    b=3,\n)",
    ),
    "in a block, with tabs": (
        "def g():\n\tif a:\n\t\treturn f(\n\t\t\ta=1,\n\t\t\tgone=2,\n\t\t)\n",
        "def g():\n\tif a:\n\t\treturn f(\n\t\t\ta=1,\n\t\t)\n",
    ),
    "the first of an aligned call": ("f(gone=1,\n  a=2)", "f(a=2)"),
    "between, at the end of a line": ("f(a=1, gone=2,\n  b=3)", "f(a=1,\n  b=3)"),
    "between, at the beginning of a line": ("f(a=1,\n  gone=2, b=3)", "f(a=1,\n  b=3)"),
    "a comment of the bracket": ("f(  # c\n    gone=1,\n    a=2,\n)", "f(  # c\n    a=2,\n)"),
    "comments of the others": (
        "f(\n    # 1\n    a=1,  # 2\n    gone=2,\n    # 3\n    b=3,  # 4\n    # 5\n)",
        "f(\n    # 1\n    a=1,  # 2\n    # 3\n    b=3,  # 4\n    # 5\n)",
    ),
    "comments of the others, before the last": (
        "f(\n    a=1,  # 1\n    gone=2\n)",
        "f(\n    a=1  # 1\n)",
    ),
    "comments of the others, before the last with the bracket": (
        "f(\n    a=1,  # 1\n    gone=2)",
        "f(\n    a=1,  # 1\n    )",
    ),
    "a comment of what comes next, at the end of a line": (
        "f(a=1, gone=2,\n  # b\n  b=3)",
        "f(a=1,\n  # b\n  b=3)",
    ),
    "a comment of what comes next, behind the first": (
        "f(gone=1,\n  # b\n  b=3)",
        "f(\n  # b\n  b=3)",
    ),
    "blank lines": (
        "f(\n    a=1,\n\n    gone=2,\n\n    b=3,\n)",
        "f(\n    a=1,\n\n    b=3,\n)",
    ),
    "a hash in a string": ('f(\n    a="#",\n    gone="# 1",\n)', 'f(\n    a="#",\n)'),
    "CRLF": ("f(\r\n    a=1,\r\n    gone=2,\r\n)\r\n", "f(\r\n    a=1,\r\n)\r\n"),
    "parentheses": ("f((a), gone=(1))", "f((a))"),
    "commas in front": ("f(a=1\n  , gone=2\n  , b=3\n)", "f(a=1\n  , b=3\n)"),
}


@pytest.mark.parametrize(("before", "after"), OUT.values(), ids=OUT.keys())
def test_taking_out(before: str, after: str, tmp_path: Path) -> None:
    assert taken_out(before, tmp_path) == after


STAY = {
    "behind it": "f(\n    a=1,\n    gone=2,  # two\n    b=3,\n)",
    "behind the last": "f(\n    a=1,\n    gone=2,  # two\n)",
    "behind the last, without a comma": "f(\n    a=1,\n    gone=2  # two\n)",
    "behind the only one": "f(\n    gone=2,  # two\n)",
    "above it": "f(\n    a=1,\n    # two\n    gone=2,\n    b=3,\n)",
    "above the first": "f(\n    # two\n    gone=2,\n    b=3,\n)",
    "above the last": "f(\n    a=1,\n    # two\n    gone=2\n)",
    "below the only one": "f(\n    gone=2,\n    # two\n)",
    "behind the bracket of the only one": "f(  # two\n    gone=2,\n)",
    "in it": "f(\n    a=1,\n    gone=[  # two\n        2\n    ],\n)",
    "before its comma": "f(\n    a=1,\n    gone=2  # two\n    ,\n    b=3,\n)",
    "between two": "f(\n    a=1,\n    gone_1=2,  # two\n    gone_2=2,\n)",
    "between two of a line": "f(a=1, gone_1=2,  # two\n  gone_2=2)",
}


@pytest.mark.parametrize("code", STAY.values(), ids=STAY.keys())
def test_a_comment_keeps_what_it_is_about(code: str, tmp_path: Path) -> None:
    with pytest.raises(NotFixableError, match="comment"):
        taken_out(code, tmp_path)


IN = {
    "the only one": ("f()", "f(new=0)"),
    "behind another": ("f(a)", "f(a, new=0)"),
    "before a comma": ("f(a, b,)", "f(a, b, new=0,)"),
    "behind what is unpacked": ("f(*a, **b)", "f(*a, **b, new=0)"),
    "the only one of a display": ("x = {}", 'x = {"new": 0}'),
    "in a display": ('x = {"a": 1}', 'x = {"a": 1, "new": 0}'),
    "on a line": ("f(\n    a,\n    b,\n)", "f(\n    a,\n    b,\n    new=0,\n)"),
    "on a line, without a comma": ("f(\n    a,\n    b\n)", "f(\n    a,\n    b,\n    new=0\n)"),
    "on a line, with the bracket": ("f(\n    a,\n    b)", "f(\n    a,\n    b,\n    new=0)"),
    "on the line of the others": ("f(\n    a, b\n)", "f(\n    a, b, new=0\n)"),
    "behind a block": ("f(a, b={\n    1: 2,\n})", "f(a, b={\n    1: 2,\n}, new=0)"),
    "in an aligned call": ("x = f(a,\n      b)", "x = f(a,\n      b,\n      new=0)"),
    "behind a comment": (
        "f(\n    a,  # a\n    b,  # b\n)",
        "f(\n    a,  # a\n    b,  # b\n    new=0,\n)",
    ),
    "behind a comment, without a comma": (
        "f(\n    a,  # a\n    b  # b\n)",
        "f(\n    a,  # a\n    b,  # b\n    new=0\n)",
    ),
    "before a comment of the end": (
        "f(\n    a,\n    # end\n)",
        "f(\n    a,\n    new=0,\n    # end\n)",
    ),
    "behind the comment of the bracket": ("f(  # c\n)", "f(  # c\n    new=0,\n)"),
    "behind a comment alone": ("f(\n  # c\n)", "f(\n  # c\n  new=0,\n)"),
    "behind a comment on the line": ("f(a, b,  # b\n)", "f(a, b, new=0,  # b\n)"),
    "in a block, with tabs": (
        "def g():\n\tif a:\n\t\treturn f(\n\t\t\ta,\n\t\t)\n",
        "def g():\n\tif a:\n\t\treturn f(\n\t\t\ta,\n\t\t\tnew=0,\n\t\t)\n",
    ),
    "CRLF": ("f(\r\n    a,\r\n)\r\n", "f(\r\n    a,\r\n    new=0,\r\n)\r\n"),
    "into an empty line": ("f(\n)", "f(new=0)"),
    "behind a value in parentheses": ("f((a), b=(1))", "f((a), b=(1), new=0)"),
}


@pytest.mark.parametrize(("before", "after"), IN.values(), ids=IN.keys())
def test_putting_in(before: str, after: str, tmp_path: Path) -> None:
    assert put_in(before, tmp_path) == after


BOTH = {
    "behind the others": ("f(gone=1, a=2)", "f(a=2, new=0)"),
    "in the place of the last": ("f(a=1, gone=2)", "f(a=1, new=0)"),
    "in the place of the only one": ("f(\n    gone=2,\n)", "f(\n    new=0,\n)"),
    "in the place of the last line": (
        "f(\n    a=1,  # a\n    gone=2\n)",
        "f(\n    a=1,  # a\n    new=0\n)",
    ),
}


@pytest.mark.parametrize(("before", "after"), BOTH.values(), ids=BOTH.keys())
def test_taking_out_and_putting_in(before: str, after: str, tmp_path: Path) -> None:
    module = module_of(before, tmp_path)
    [call] = module.nodes("Call")
    [gone] = [arg for arg in module.nodes("Arg") if is_gone(arg)]
    new = Appended(keyword("new", cst.Integer("0")))
    assert rewritten(module, ((gone, None), (call, new))) == after


def test_a_whole_call_keeps_the_indentation_of_its_block(tmp_path: Path) -> None:
    before = (
        "class A:\n\tdef f(self):\n\t\treturn (\n\t\t\tg(\n\t\t\t\t# a\n\t\t\t\ta,\n\n"
        "\t\t\t\tb,\n\t\t\t)\n\t\t)\n"
    )
    module = module_of(before, tmp_path)
    [call] = module.nodes("Call")
    assert isinstance(call, cst.Call)
    other = call.with_changes(func=cst.Name("h"), args=[*call.args[:1], call.args[1]])
    assert rewritten(module, ((call, other),)) == before.replace("g(", "h(")


PARENTHESES = {
    "that were copied": (lambda call: call.with_changes(func=cst.Name("h")), "x = (\n    h(a)\n)"),
    "round what is new": (lambda call: cst.Name("h"), "x = (\n    h\n)"),
    "round a part": (lambda call: call.args[0].value, "x = (\n    a\n)"),
    "of what is put into another": (
        lambda call: cst.List([cst.StarredElement(call)]),
        "x = [*(\n    g(a)\n)]",
    ),
}


@pytest.mark.parametrize(("new", "after"), PARENTHESES.values(), ids=PARENTHESES.keys())
def test_parentheses_are_there_once(new, after: str, tmp_path: Path) -> None:
    module = module_of("x = (\n    g(a)\n)", tmp_path)
    [call] = module.nodes("Call")
    assert rewritten(module, ((call, new(call)),)) == after


def test_a_comment_that_would_be_written_twice_is_no_fix(tmp_path: Path) -> None:
    module = module_of("f(\n    [\n        1,  # one\n    ],\n)", tmp_path)
    [call] = module.nodes("Call")
    assert isinstance(call, cst.Call)
    copy = Appended(keyword("new", call.args[0].value))
    with pytest.raises(NotFixableError, match="comment"):
        rewritten(module, ((call, copy),))


def test_what_stands_in_what_is_new_is_no_part_of_the_edits(tmp_path: Path) -> None:
    module = module_of('f(a={"password": "hunter2"})', tmp_path)
    [node] = module.nodes("Dict")
    assert isinstance(node, cst.Dict)
    rewrite = Rewrite(Applicability.SAFE, "", ((node, cst.Dict([cst.StarredDictElement(node)])),))
    edits = render(module, [plan(module, rewrite)])
    assert [edit.text for edit in edits] == ["{**", "}"]
