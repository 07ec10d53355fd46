"""What a spelling stands for: every way to write the class, and every way to shadow it."""

from __future__ import annotations

import ast
import asyncio
import textwrap
from pathlib import Path

import libcst as cst
import pytest
import sqlalchemy

from session_guard.config import Settings
from session_guard.linter import lint
from session_guard.names.bindings import Class, Constant, Function, Scope
from session_guard.names.from_ast import FunctionText, build_table
from session_guard.names.from_libcst import children, index_tree, walk
from session_guard.names.values import Literal, Namespace
from session_guard.project.project import Project
from session_guard.registry import load_rules

RULES = tuple(rule for rule in load_rules() if rule.code.startswith("SG10"))


def codes(tmp_path: Path, code: str) -> list[tuple[str, int]]:
    path = tmp_path / "app" / "jobs.py"
    data = textwrap.dedent(code).encode()
    found = lint("jobs.py", path, data, Project(Settings(root=tmp_path)), RULES)
    return [(item.code, item.line) for item in found]


MANY_STATEMENTS = """\
@decorated(1)
class A[T](B, metaclass=C):
    x: int = 1

    @decorated
    async def f[T](self, a: int, /, b=1, *c, d=2, **e) -> int:
        async with b as c, d:
            async for x, y in z:
                pass
            else:
                pass
        try:
            pass
        except (E, F) as error:
            x = [a for b in c if d async for e in f]
        else:
            x = {**a, b: lambda c, *, d: e}
        finally:
            while a: b
            else: c
        try: pass
        except* E as error: x[1:2:3] = a + b < c
        match a:
            case [b, *c] | D(e, f=1) if g: x = f"{a!r:>{b}}"
            case {1: b, **c}: pass
        del a, b; global c; assert a, b; raise a from b
        return (yield a) if b else c
type X[T] = int
"""


def test_children_come_in_the_order_of_their_code() -> None:
    wrapper = cst.MetadataWrapper(cst.parse_module(MANY_STATEMENTS))
    positions = wrapper.resolve(cst.metadata.PositionProvider)
    for node in walk(wrapper.module):
        if isinstance(node, cst.IfExp):  # in the order of their run
            continue
        starts = [positions[child].start for child in children(node) if child in positions]
        assert starts == sorted(starts, key=lambda at: (at.line, at.column)), node


ROUND_IN_CIRCLES = """\
from sqlalchemy.ext.asyncio import AsyncSession

def taken_again(xs):
    for y in range(3):
        xs = sorted(xs)
        for x in zip(xs, xs):
            x()

class Kept:
    def take(self):
        self.xs = list(self.xs)
        for x in self.xs:
            x()

def one():
    for x in sorted(other()):
        yield x

def other():
    for x in list(one()):
        yield x

for x in reversed(other()):
    x()
AsyncSession(e)
"""


def test_iterations_that_go_round_in_circles_end(tmp_path: Path) -> None:
    assert codes(tmp_path, ROUND_IN_CIRCLES) == [("SG101", 25)]


FOUND = {
    "from import": ("from sqlalchemy.ext.asyncio import AsyncSession\nAsyncSession(e)", 2),
    "alias": ("from sqlalchemy.ext.asyncio import AsyncSession as S\nS(e)", 2),
    "module": ("import sqlalchemy.ext.asyncio\nsqlalchemy.ext.asyncio.AsyncSession(e)", 2),
    "module alias": ("import sqlalchemy.ext.asyncio as sa_async\nsa_async.AsyncSession(e)", 2),
    "module from package": ("from sqlalchemy.ext import asyncio as sa\nsa.AsyncSession(e)", 2),
    "top module": ("import sqlalchemy as sa\nsa.ext.asyncio.AsyncSession(e)", 2),
    "inner module": (
        "import sqlalchemy.ext.asyncio.session\nsqlalchemy.ext.asyncio.session.AsyncSession(e)",
        2,
    ),
    "from inner module": (
        "from sqlalchemy.ext.asyncio.session import AsyncSession\nAsyncSession(e)",
        2,
    ),
    "star": ("from sqlalchemy.ext.asyncio import *\nAsyncSession(e)", 2),
    "sqlmodel": ("from sqlmodel.ext.asyncio.session import AsyncSession\nAsyncSession(e)", 2),
    "another name": ("from sqlalchemy.ext.asyncio import AsyncSession\nS = AsyncSession\nS(e)", 3),
    "two names": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nS = AsyncSession\nT = S\nT(e)",
        4,
    ),
    "unpacked": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nS, x = AsyncSession, 1\nS(e)",
        3,
    ),
    "subclass": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nclass S(AsyncSession): pass\nS(e)",
        3,
    ),
    "subclass of a subclass": (
        "import sqlalchemy.ext.asyncio as a\nclass S(a.AsyncSession): pass\n"
        "class T(int, S): pass\nT(e)",
        4,
    ),
    "generic": ("from sqlalchemy.ext.asyncio import AsyncSession\nAsyncSession[int](e)", 2),
    "partial": (
        "import functools\nfrom sqlalchemy.ext.asyncio import AsyncSession\n"
        "functools.partial(AsyncSession, e)",
        3,
    ),
    "partial, called": (
        "from functools import partial as p\nfrom sqlalchemy.ext.asyncio import AsyncSession\n"
        "p(AsyncSession, e)()",
        3,
    ),
    "import in a function": (
        "def f():\n    from sqlalchemy.ext.asyncio import AsyncSession\n    AsyncSession(e)",
        3,
    ),
    "TYPE_CHECKING": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from sqlalchemy.ext.asyncio import AsyncSession\nAsyncSession(e)",
        4,
    ),
    "try": (
        "try:\n    from sqlalchemy.ext.asyncio import AsyncSession\n"
        "except ImportError:\n    AsyncSession = None\nAsyncSession(e)",
        5,
    ),
    "except": (
        "try:\n    from fast import AsyncSession\n"
        "except ImportError:\n    from sqlalchemy.ext.asyncio import AsyncSession\nAsyncSession(e)",
        5,
    ),
    "one branch": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nif x:\n    AsyncSession = fake\n"
        "AsyncSession(e)",
        4,
    ),
    "before it is shadowed": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nAsyncSession(e)\nAsyncSession = fake",
        2,
    ),
    "conditional": (
        "from sqlalchemy.ext.asyncio import AsyncSession\n(AsyncSession if x else fake)(e)",
        2,
    ),
    "or": ("from sqlalchemy.ext.asyncio import AsyncSession\n(fake or AsyncSession)(e)", 2),
    "walrus": ("from sqlalchemy.ext.asyncio import AsyncSession\n(S := AsyncSession)(e)\nS", 2),
    "class attribute": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nclass A:\n    session = AsyncSession\n"
        "A.session(e)",
        4,
    ),
    "in a lambda": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nf = lambda: AsyncSession(e)",
        2,
    ),
    "in a comprehension": (
        "from sqlalchemy.ext.asyncio import AsyncSession\n[AsyncSession(e) for e in es]",
        2,
    ),
    "as a default": (
        "from sqlalchemy.ext.asyncio import AsyncSession\ndef f(s=AsyncSession(e)): pass",
        2,
    ),
    "in a decorator": (
        "from sqlalchemy.ext.asyncio import AsyncSession\n@use(AsyncSession(e))\ndef f(): pass",
        2,
    ),
    "in match": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nmatch x:\n    case 1:\n"
        "        AsyncSession(e)",
        4,
    ),
    "in except*": (
        "from sqlalchemy.ext.asyncio import AsyncSession\ntry:\n    pass\nexcept* OSError:\n"
        "    AsyncSession(e)",
        5,
    ),
    "global": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nS = None\ndef f():\n    global S\n"
        "    S = AsyncSession\ndef g():\n    S(e)",
        7,
    ),
    "syntax newer than Python 3.11": (
        "from sqlalchemy.ext.asyncio import AsyncSession\ntype T = int\ndef f[X](x: X): pass\n"
        'f"{"quoted"}"\nAsyncSession(e)',
        5,
    ),
    "returned by a function": (
        "from sqlalchemy.ext.asyncio import AsyncSession\ndef session_class():\n"
        "    return AsyncSession\nsession_class()(e)",
        4,
    ),
}


@pytest.mark.parametrize(("code", "line"), FOUND.values(), ids=FOUND.keys())
def test_found(code: str, line: int, tmp_path: Path) -> None:
    assert ("SG101", line) in codes(tmp_path, code)


NOT_FOUND = {
    "parameter": "from sqlalchemy.ext.asyncio import AsyncSession\n"
    "def f(AsyncSession): AsyncSession(e)",
    "keyword parameter": (
        "from sqlalchemy.ext.asyncio import AsyncSession\n"
        "def f(*, AsyncSession=None): AsyncSession(e)"
    ),
    "local": (
        "from sqlalchemy.ext.asyncio import AsyncSession\n"
        "def f():\n    AsyncSession = fake\n    AsyncSession(e)"
    ),
    "bound again": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nAsyncSession = fake\nAsyncSession(e)"
    ),
    "imported again": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nfrom fake import AsyncSession\n"
        "AsyncSession(e)"
    ),
    "loop": "from sqlalchemy.ext.asyncio import AsyncSession\n"
    "for AsyncSession in fakes:\n    AsyncSession(e)",
    "with": "from sqlalchemy.ext.asyncio import AsyncSession\n"
    "def f():\n    with fake() as AsyncSession:\n        AsyncSession(e)",
    "except": "from sqlalchemy.ext.asyncio import AsyncSession\ndef f():\n    try:\n        pass\n"
    "    except E as AsyncSession:\n        AsyncSession(e)",
    "match": "from sqlalchemy.ext.asyncio import AsyncSession\ndef f(x):\n    match x:\n"
    "        case [AsyncSession]:\n            AsyncSession(e)",
    "comprehension": (
        "from sqlalchemy.ext.asyncio import AsyncSession\n"
        "[AsyncSession(e) for AsyncSession in fakes]"
    ),
    "lambda": "from sqlalchemy.ext.asyncio import AsyncSession\n"
    "f = lambda AsyncSession: AsyncSession(e)",
    "class": "from sqlalchemy.ext.asyncio import AsyncSession\n"
    "def f():\n    class AsyncSession: pass\n    AsyncSession(e)",
    "function": "from sqlalchemy.ext.asyncio import AsyncSession\n"
    "def f():\n    def AsyncSession(e): pass\n    AsyncSession(e)",
    "another library": "from neo4j import AsyncSession\nAsyncSession(e)",
    "another module": "import curl_cffi\ncurl_cffi.AsyncSession()",
    "a class of one's own": "class AsyncSession: pass\nAsyncSession(e)",
    "a class's attribute is no name in its methods": (
        "from sqlalchemy.ext.asyncio import AsyncSession as S\nclass A:\n    T = S\n"
        "    def f(self):\n        T(e)"
    ),
    "an item": "from sqlalchemy.ext.asyncio import AsyncSession\n[AsyncSession, other][n](e)",
    "annotation": (
        "from sqlalchemy.ext.asyncio import AsyncSession\ndef f(s: AsyncSession) -> AsyncSession:\n"
        "    x: AsyncSession = s\n    return x"
    ),
    "isinstance": "from sqlalchemy.ext.asyncio import AsyncSession\nisinstance(x, AsyncSession)",
    "unbound": "AsyncSession(e)  # sqlalchemy.ext.asyncio",
    "going round in circles": "A = B\nB = A\nA(e)  # sqlalchemy.ext.asyncio",
}


@pytest.mark.parametrize("code", NOT_FOUND.values(), ids=NOT_FOUND.keys())
def test_not_found(code: str, tmp_path: Path) -> None:
    assert codes(tmp_path, code) == []


FACTORIES = {
    "async_sessionmaker": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\nF = async_sessionmaker(e)\nF()",
        [("SG102", 2), ("SG103", 3)],
    ),
    "generic": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker, AsyncSession\n"
        "F = async_sessionmaker[AsyncSession](e)\nF()",
        [("SG102", 2), ("SG103", 3)],
    ),
    "sessionmaker of async sessions": (
        "from sqlalchemy.orm import sessionmaker\nfrom sqlalchemy.ext.asyncio import AsyncSession\n"
        "F = sessionmaker(e, class_=AsyncSession)\nF()",
        [("SG102", 3), ("SG103", 4)],
    ),
    "sessionmaker": ("from sqlalchemy.orm import sessionmaker\nF = sessionmaker(e)\nF()", []),
    "begin": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\n"
        "F = async_sessionmaker(e)\nF.begin()",
        [("SG102", 2), ("SG103", 3)],
    ),
    "scoped": (
        "from sqlalchemy.ext.asyncio import async_scoped_session\n"
        "S = async_scoped_session(f, g)\nS()",
        [("SG102", 2), ("SG103", 3)],
    ),
    "returned by a function": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\n"
        "def factory():\n    return async_sessionmaker(e)\nfactory()()",
        [("SG102", 3), ("SG103", 4)],
    ),
    "cached": (
        "from functools import lru_cache\nfrom sqlalchemy.ext.asyncio import async_sessionmaker\n"
        "@lru_cache\ndef factory():\n    return async_sessionmaker(e)\nfactory()()",
        [("SG102", 5), ("SG103", 6)],
    ),
    "a local name like the class": (
        "def f(engine):\n    async_sessionmaker = make(engine)\n    return async_sessionmaker()",
        [],
    ),
    "bound to the name of its class": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\n"
        "async_sessionmaker = async_sessionmaker(e)\nasync_sessionmaker()",
        [("SG102", 2), ("SG103", 3)],
    ),
}


@pytest.mark.parametrize(("code", "expected"), FACTORIES.values(), ids=FACTORIES.keys())
def test_factories(code: str, expected: list[tuple[str, int]], tmp_path: Path) -> None:
    assert codes(tmp_path, code) == expected


REAL_FILES = sorted(
    path
    for package in (asyncio, sqlalchemy)
    for path in Path(package.__path__[0]).rglob("*.py")
    if path.stat().st_size < 60_000
)[::4]


LOOPS = {
    "a tuple": "for item in ('a', 'b'): use(item)",
    "a list with a name": "items = ['a', 'b']\nfor item in items: use(item)",
    "a comprehension": "[use(item) for item in ['a', 'b']]",
    "pairs": "for item, number in [('a', 1), ('b', 2)]: use(item)",
    "what was appended": "items = ['a']\nitems.append('b')\nfor item in items: use(item)",
    "a generator": "def f():\n    yield 'a'\n    yield 'b'\nfor item in f(): use(item)",
}


@pytest.mark.parametrize("code", LOOPS.values(), ids=LOOPS.keys())
def test_what_a_loop_takes(code: str) -> None:
    names = Namespace(build_table(code), (), Path("jobs.py"))
    found = [
        value
        for call, place in names.scope.calls
        if call.function.parts == ("use",)
        for value in names.evaluate(call.arguments[0], place)
    ]
    assert {value.value for value in found if isinstance(value, Literal)} == {"a", "b"}


def described(scope: Scope) -> list[object]:
    """A scope's bindings in a form that two front ends can be compared by."""
    found: list[object] = []
    for name, bindings in sorted(scope.bindings.items()):
        for binding in bindings:
            value = binding.value
            found.append((name, binding.kind, binding.target, binding.type_checking))
            found.append(type(value).__name__)
            if isinstance(value, Function):
                found.append((value.required_parameters, value.is_generator, len(value.returns)))
                found.append((len(value.calls), described(value.scope)))
            elif isinstance(value, Class):
                found.append((len(value.bases), described(value.scope)))
    for call, _ in scope.calls:  # in one order, since their numbers tell them apart
        found.append(getattr(call.function, "parts", None))
    return [*found, sorted(scope.attributes), scope.receiver]


def test_both_front_ends_build_the_same_table() -> None:
    assert len(REAL_FILES) > 30
    for path in REAL_FILES:
        text = path.read_text()
        tree = cst.parse_module(text)
        assert described(build_table(text)) == described(index_tree(tree, frozenset()).scope), path


STRINGS = [
    *("''", '"a\'b"', "'''a\n'b'''", '""""a"""', r"'\x41'", r"r'\x41'", "u'a'", "b'a'"),
    "'''a\r\nb'''",
]


@pytest.mark.parametrize("written", STRINGS)
def test_both_front_ends_read_the_same_strings(written: str) -> None:
    text = f"x = {written}\n"
    read = [build_table(text), index_tree(cst.parse_module(text), frozenset()).scope]
    found = [scope.bindings["x"][0].value for scope in read]
    assert [v.value for v in found if isinstance(v, Constant)] == [eval(written)] * 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("blanks", ["", "    ", "\t", "\f", "\f  ", "  \f"])
def test_function_of_a_table_is_parsed_again_as_it_stands(blanks: str, end: str) -> None:
    head = [] if blanks.rpartition("\f")[2] == "" else ["class C:"]
    lines = [*head, f"{blanks}@made", f'{blanks}async def f(x="""', 'a"""):', f"{blanks} return x"]
    text = end.join(["import made", *lines, ""])
    table = build_table(text)
    scope = table.classes[0].scope if head else table
    function = scope.bindings["f"][0].value
    assert isinstance(function, Function)
    assert isinstance(function.node, FunctionText)
    parsed = function.node.parsed()
    [whole] = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.AsyncFunctionDef)]
    whole.decorator_list = []
    assert ast.dump(parsed, include_attributes=True) == ast.dump(whole, include_attributes=True)
