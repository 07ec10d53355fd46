"""Fixes of any engine's call, however it is written: nothing but what is wrong changes.

`SESSION_GUARD_EXAMPLES=2000` in the environment tries that many calls.
"""

from __future__ import annotations

import ast
import io
import os
import re
import tempfile
import tokenize
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_guard.config import Settings
from session_guard.fixer import FixResult, fix
from session_guard.project.project import Project
from session_guard.registry import load_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    Text = Callable[[int], str]

EXAMPLES = int(os.environ.get("SESSION_GUARD_EXAMPLES", "150"))
CODES = ("SG104", "SG202", "SG203", "SG204", "SG205", "SG206", "SG208")
RULES = tuple(rule for rule in load_rules() if rule.code in CODES)
HEAD = """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine
BASE = {"timeout": 3}
OFF = {"statement_cache_size": 9}
"""
ITEMS = (
    '"timeout": 5',
    '"timeout": None',
    '"statement_cache_size": 0',
    '"statement_cache_size": 100',
    '"statement_cache_size": "0"',
    '"prepared_statement_cache_size": 0',
    '"prepared_statement_name_func": lambda: ""',
    '"prepared_statement_name_func": lambda: "x"',
    '"raw_sql": True',
    '"sslmode": "require"',
    '"comand_timeout": 5',
    '"ssl": True',
    "**BASE",
    "**OFF",
)
SERVER = ('"jit": "off"', '"jit": 1', '"statement_cache_size": "0"', '"application_name": "#"')
OPTIONS = (
    '"isolation_level": "AUTOCOMMIT"',
    '"statement_cache_size": 0',
    '"no_prepare": True',
    '"compiled_cache": None',
)
ARGUMENTS = (
    "pool_size=5",
    'pool_reset_on_return="#"',
    "statement_cache_size=0",
    "prepared_statement_cache_size=0",
    'prepared_statement_name_func=lambda: ""',
    'isolation_level="AUTOCOMMIT"',
    "echo=[\n1,\n2\n]",
)
URLS = (
    '"postgresql+asyncpg://app@db/app"',
    '"postgresql+asyncpg://app@db/app?statement_cache_size=0"',
    '"postgresql+asyncpg://app@db/app?prepared_statement_cache_size=0&ssl=require"',
    "url",
)


# -- programs -------------------------------------------------------------------------------------


@dataclass
class Layout:
    """Writes lists with lines and comments wherever these may be."""

    draw: st.DrawFn
    indent: str
    comments: int = 0
    style: str = field(init=False)

    def __post_init__(self) -> None:
        self.style = self.draw(st.sampled_from(("line", "lines", "any")))

    def comment(self) -> str:
        self.comments += 1
        return f"# c{self.comments} , ) ' it"

    def gap(self, depth: int, *, space: str) -> str:
        """Return what stands between two parts of a list."""
        line = f"\n{self.indent * depth}"
        kinds = {"line": (0,), "lines": (1, 1, 1, 2, 3), "any": (0, 1, 2, 3, 4, 5)}
        match self.draw(st.sampled_from(kinds[self.style])):
            case 0:
                return space
            case 1:
                return line
            case 2:
                return f"  {self.comment()}{line}"
            case 3:
                return f"{line}{self.comment()}{line}"
            case 4:
                return f"\n{line}"
            case _:
                return f"  {self.comment()}{line}{self.comment()}{line}"

    def listed(self, opening: str, items: list[Text], closing: str, depth: int) -> str:
        text = opening + (self.gap(depth + 1, space="") if items else "")
        for number, item in enumerate(items):
            is_last = number == len(items) - 1
            text += item(depth + 1)
            if not is_last or self.draw(st.booleans()):
                text += ","
            text += self.gap(depth if is_last else depth + 1, space="" if is_last else " ")
        return text + closing

    def display(self, items: list[Text], depth: int) -> str:
        return self.listed("{", items, "}", depth)


def plain(text: str) -> Text:
    return lambda depth: text


@st.composite
def programs(draw: st.DrawFn) -> str:
    indent = draw(st.sampled_from(("    ", "\t", "  ")))
    depth = draw(st.integers(0, 2))
    layout = Layout(draw, indent)

    def some(pool: tuple[str, ...]) -> list[str]:
        chosen = draw(st.lists(st.sampled_from(pool), max_size=4))
        return list({re.split("[:=]", text)[0]: text for text in chosen}.values())

    def display(pool: tuple[str, ...], depth: int) -> str:
        items = [plain(text) for text in some(pool)]
        if pool is ITEMS and draw(st.integers(0, 3)) == 0:
            items.append(lambda depth: f'"server_settings": {display(SERVER, depth)}')
        return layout.display(items, depth)

    before, body = "", indent * depth
    arguments: list[Text] = [plain(text) for text in some(ARGUMENTS)]
    match draw(st.integers(0, 8)):
        case 0 | 1 | 2:
            arguments.append(lambda depth: f"connect_args={display(ITEMS, depth)}")
        case 3:
            before = f"{body}args = {display(ITEMS, depth)}\n"
            arguments.append(plain("connect_args=args"))
        case 4:
            before = f'{body}args = {display(ITEMS, depth)}\n{body}args["no_prepare"] = 1\n'
            arguments.append(plain("connect_args=args"))
        case 5:
            arguments.append(lambda d: f"connect_args={display(ITEMS, d)} if flag else {{}}")
        case 6:
            arguments.append(lambda d: f"connect_args=({display(ITEMS, d)} | {{}})")
        case 7:
            arguments.append(plain("connect_args=dict(timeout=1, raw_sql=True)"))
        case _:
            pass
    if draw(st.integers(0, 2)) == 0:
        arguments.append(lambda depth: f"execution_options={display(OPTIONS, depth)}")
    if draw(st.integers(0, 3)) == 0:
        arguments.append(lambda depth: f"server_settings={display(SERVER, depth)}")
    arguments = draw(st.permutations(arguments))
    url: Text = plain(draw(st.sampled_from(("", "", "url="))) + draw(st.sampled_from(URLS)))
    call = layout.listed("create_async_engine(", [url, *arguments], ")", depth)
    lines = f"{before}{body}engine = {call}  {layout.comment()}\n{body}# behind\n"
    for level in range(depth):
        lines = f"{indent * (depth - level - 1)}{'if True' if level else 'for _ in (1,)'}:\n{lines}"
    return HEAD + lines + "last = 1  # last\n"


# -- what is to be so of each ---------------------------------------------------------------------


def fixed(data: bytes, folder: Path) -> FixResult:
    project = Project(
        Settings(
            root=folder,
            pooler="pgbouncer",
            sqlalchemy_version="2.0.40",
            asyncpg_version="0.30.0",
        )
    )
    return fix("a.py", folder / "a.py", data, project, RULES, unsafe=True)


def comments(text: str) -> Counter[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(token.string for token in tokens if token.type == tokenize.COMMENT)


def built(text: str, *, flag: bool) -> dict[str, Any]:
    """Run a program and return what its engine is built with."""
    made: list[dict[str, Any]] = []
    names = {
        "flag": flag,
        "url": "postgresql+asyncpg://app@db/app",
        "create_async_engine": lambda *url, **given: made.append(given),
    }
    exec(compile(re.sub(r"from sqlalchemy.*", "", text), "a.py", "exec"), names)
    [given] = made
    for part in ("connect_args", "execution_options"):
        given[part] = {
            key: "name" if callable(value) else value
            for key, value in (given.get(part) or {}).items()
        }
    return given


POOLER = {"prepared_statement_name_func", "statement_cache_size", "prepared_statement_cache_size"}
WRONG = {"raw_sql", "no_prepare", "sslmode", "comand_timeout"}


def nothing_is_lost(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, value in before.items():
        if key in ("url", "connect_args", "execution_options"):
            continue
        assert key in after or key in after["connect_args"], key
        if key in after:
            assert callable(value) or after[key] == value
        elif key == "server_settings":
            server_settings_are_kept(value, after["connect_args"][key])
    for key, value in before["connect_args"].items():
        if key == "server_settings":
            server_settings_are_kept(value, after["connect_args"][key])
        elif key not in WRONG | POOLER:
            assert after["connect_args"][key] == value, key
        elif key in POOLER:
            assert key in after["connect_args"]
    for key, value in before["execution_options"].items():
        if key not in WRONG | POOLER:
            assert after["execution_options"][key] == value, key


def server_settings_are_kept(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, value in before.items():
        assert key == "statement_cache_size" or after[key] in (value, str(value)), key


ON_ITS_OWN = re.compile(
    r"^([ \t]*)(# [\w ,)']+|pool_size=5|echo=\[|[12](?=,?$)|isolation_level=|last"
    r"|\"timeout\": \w+|\*\*\w+)",
    re.MULTILINE,
)


def indentation(text: str) -> dict[str, set[str]]:
    """Return what the lines begin with that begin with a comment or with what no fix is about."""
    found: dict[str, set[str]] = {}
    for match in ON_ITS_OWN.finditer(text.replace("\r\n", "\n")):
        found.setdefault(match[2], set()).add(match[1])
    return found


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="SESSION_GUARD_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(program=programs(), newline=st.sampled_from(("\n", "\n", "\r\n")))
def test_a_fix_changes_nothing_else(program: str, newline: str) -> None:
    text = program.replace("\n", newline)
    with tempfile.TemporaryDirectory() as folder:
        result = fixed(text.encode(), Path(folder))
        after = result.data.decode()
        ast.parse(after)
        assert not any("please report this" in item.help for item in result.remaining)
        assert fixed(result.data, Path(folder)).data == result.data
        assert not any(item.fix for item in result.remaining)
        assert not {(f.code, f.message) for f in result.applied} & {
            (f.code, f.message) for f in result.remaining
        }
    assert comments(after) == comments(text)
    assert after.count("\r") == after.count("\n") * (newline == "\r\n")
    kept = indentation(after)
    for begins, indents in indentation(text).items():
        assert kept.get(begins, set()) <= indents
        assert begins in kept or not begins.startswith("#")
    for flag in (True, False):
        nothing_is_lost(built(text, flag=flag), built(after, flag=flag))
