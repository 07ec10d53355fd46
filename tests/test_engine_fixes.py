"""Fixes of engines' settings, to the letter: where they write, and what they leave as it is."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import pytest

from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "from sqlalchemy.ext.asyncio import create_async_engine\n\n"
URL = '"postgresql+asyncpg://app@db/app"'
CONFIG = """\
[tool.session-guard]
select = ["SG104", "SG202", "SG203", "SG204", "SG205", "SG206"]
pooler = "supavisor"
sqlalchemy-version = "2.0.40"
asyncpg-version = "0.30.0"
"""
NAMES = '"prepared_statement_name_func": lambda: ""'
NO_CACHE = '"statement_cache_size": 0'
NO_OTHER_CACHE = '"prepared_statement_cache_size": 0'
ALL = f"{NAMES}, {NO_CACHE}, {NO_OTHER_CACHE}"


def fixed(folder: Path, code: str, *select: str, config: str = "") -> tuple[str, list[str]]:
    """Return the code after `fix --unsafe-fixes`, and the help of what is left."""
    (folder / "pyproject.toml").write_text(f"{CONFIG}{config}")
    if not (folder / "ruff.toml").exists():
        (folder / "ruff.toml").write_text("line-length = 300\n")
    overrides = (f"select = {list(select)}",) if select else ()
    file = folder / "jobs.py"
    file.write_text(HEAD + code)
    options = Options((str(file),), overrides)
    [result] = Run(options).fix(unsafe=True, write=True)
    once = file.read_bytes()
    assert [item.after for item in Run(options).fix(unsafe=True, write=True)] == [once]
    text = once.decode().removeprefix(HEAD)
    compile(text, "jobs.py", "exec")
    return text, [finding.help for finding in result.remaining]


SETTINGS = {
    "a cache size that is the last item": (
        f'create_async_engine({URL}, connect_args={{"timeout": 1, "statement_cache_size": 9}})\n',
        f'create_async_engine({URL}, connect_args={{"timeout": 1, {NO_CACHE}, {NAMES}, '
        f"{NO_OTHER_CACHE}}})\n",
    ),
    "a size that what is unpacked overrides": (
        'BASE = {"statement_cache_size": 9}\n'
        f'create_async_engine({URL}, connect_args={{"statement_cache_size": 0, **BASE}})\n',
        'BASE = {"statement_cache_size": 9}\n'
        f"create_async_engine({URL}, connect_args={{**BASE, {ALL}}})\n",
    ),
    "a size that what is unpacked leaves": (
        'BASE = {"timeout": 9}\n'
        f'create_async_engine({URL}, connect_args={{"statement_cache_size": 9, **BASE}})\n',
        'BASE = {"timeout": 9}\n'
        f"create_async_engine({URL}, connect_args={{{NO_CACHE}, **BASE, {NAMES}, "
        f"{NO_OTHER_CACHE}}})\n",
    ),
    "a condition": (
        f'create_async_engine({URL}, connect_args={{"ssl": True}} if tls else {{}})\n',
        f"create_async_engine({URL}, connect_args={{"
        f'**({{"ssl": True}} if tls else {{}}), {ALL}}})\n',
    ),
    "a condition with None": (
        f'create_async_engine({URL}, connect_args={{"ssl": True}} if tls else None)\n',
        f"create_async_engine({URL}, connect_args={{"
        f'**(({{"ssl": True}} if tls else None) or {{}}), {ALL}}})\n',
    ),
    "a condition in parentheses": (
        f'create_async_engine({URL}, connect_args=(\n    {{"ssl": True}}\n    if tls\n'
        "    else {}\n))\n",
        f'create_async_engine({URL}, connect_args={{**(\n    {{"ssl": True}}\n    if tls\n'
        f"    else {{}}\n), {ALL}}})\n",
    ),
    "None": (
        f"create_async_engine({URL}, connect_args=None)\n",
        f"create_async_engine({URL}, connect_args={{{ALL}}})\n",
    ),
    "two dictionaries": (
        f'create_async_engine({URL}, connect_args={{"ssl": True}} | {{"timeout": 1}})\n',
        f'create_async_engine({URL}, connect_args={{**({{"ssl": True}} | {{"timeout": 1}}), '
        f"{ALL}}})\n",
    ),
    "an attribute": (
        f"class C:\n    args = {{}}\n\n\ncreate_async_engine({URL}, connect_args=C.args)\n",
        "class C:\n    args = {}\n\n\n"
        f"create_async_engine({URL}, connect_args={{**C.args, {ALL}}})\n",
    ),
    "a call of dict": (
        f"create_async_engine(\n    {URL},\n    connect_args=dict(\n        timeout=1,\n"
        "    ),\n)\n",
        f"create_async_engine(\n    {URL},\n    connect_args=dict(\n        timeout=1,\n"
        '        prepared_statement_name_func=lambda: "",\n        statement_cache_size=0,\n'
        "        prepared_statement_cache_size=0,\n    ),\n)\n",
    ),
    "a call of dict with such a key in what is unpacked": (
        'BASE = {"statement_cache_size": 9}\n'
        f"create_async_engine({URL}, connect_args=dict(timeout=1, **BASE))\n",
        'BASE = {"statement_cache_size": 9}\n'
        f"create_async_engine({URL}, connect_args={{**dict(timeout=1, **BASE), {ALL}}})\n",
    ),
    "a name": (
        f"ARGS = dict(timeout=1)\ncreate_async_engine({URL}, connect_args=ARGS)\n",
        'ARGS = dict(timeout=1, prepared_statement_name_func=lambda: "", statement_cache_size=0, '
        f"prepared_statement_cache_size=0)\ncreate_async_engine({URL}, connect_args=ARGS)\n",
    ),
    "in a method, behind lines with comments": (
        "class Database:\n\tdef __init__(self) -> None:\n\t\tself.engine = create_async_engine(\n"
        f"\t\t\t{URL},  # from the secret store\n\t\t\t# size of the pool\n"
        "\t\t\tpool_size=5,  # five\n\t\t)\n",
        "class Database:\n\tdef __init__(self) -> None:\n\t\tself.engine = create_async_engine(\n"
        f"\t\t\t{URL},  # from the secret store\n\t\t\t# size of the pool\n"
        f"\t\t\tpool_size=5,  # five\n\t\t\tconnect_args={{{ALL}}},\n\t\t)\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_are_completed(before: str, after: str, tmp_path: Path) -> None:
    assert fixed(tmp_path, before) == (after, [])


# `SET` stands for the three settings, each on a line of its own.
LAYOUTS = {
    "behind the arguments": (
        'def make():\n    return create_async_engine("x", echo=True)\n',
        'def make():\n    return create_async_engine("x", echo=True, connect_args={\n'
        "        SET,\n    })\n",
    ),
    "on a line of its own": (
        'create_async_engine(\n    "x",\n)\n',
        'create_async_engine(\n    "x",\n    connect_args={\n        SET,\n    },\n)\n',
    ),
    "among others": (
        'if True:\n\tcreate_async_engine("x", connect_args={"timeout": 5}, echo=True)  # why\n',
        'if True:\n\tcreate_async_engine("x", connect_args={\n\t\t"timeout": 5,\n'
        "\t\tSET,\n\t}, echo=True)  # why\n",
    ),
    "behind tabs, where other blocks have spaces": (
        "if True:\n    pass\nif True:\n\t"
        'create_async_engine("x", connect_args={"timeout": 5}, echo=True)\n',
        "if True:\n    pass\nif True:\n\t"
        'create_async_engine("x", connect_args={\n\t\t"timeout": 5,\n\t\tSET,\n\t}, echo=True)\n',
    ),
    "instead of nothing": (
        'create_async_engine("x", connect_args=None, echo=True)\n',
        'create_async_engine("x", connect_args={\n    SET,\n}, echo=True)\n',
    ),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("before", "after"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_settings_get_lines_of_their_own_where_one_line_would_be_too_long(
    before: str, after: str, newline: str, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    indent = re.search(r"\n([ \t]*)SET,", after)
    assert indent is not None
    after = after.replace("SET", f",\n{indent[1]}".join((NAMES, NO_CACHE, NO_OTHER_CACHE)))
    file = tmp_path / "jobs.py"
    file.write_text((HEAD + before).replace('"x"', URL), newline=newline)
    list(Run(Options((str(file),))).fix(unsafe=True, write=True))
    assert file.read_bytes().decode() == (HEAD + after).replace('"x"', URL).replace("\n", newline)


MOVES = {
    "in the place where it stood": (
        """\
        def build():
            return create_async_engine(
                URL,
                # pooler: nothing may be prepared
                statement_cache_size=0,  # at all
                # every transaction sees what others committed
                execution_options={"isolation_level": "READ COMMITTED"},
            )
        """,
        """\
        def build():
            return create_async_engine(
                URL,
                # pooler: nothing may be prepared
                connect_args={"statement_cache_size": 0},  # at all
                # every transaction sees what others committed
                execution_options={"isolation_level": "READ COMMITTED"},
            )
        """,
    ),
    "one behind the other": (
        """\
        create_async_engine(
            URL,
            statement_cache_size=0,
            pool_size=5,
            prepared_statement_cache_size=0,
        )
        """,
        """\
        create_async_engine(
            URL,
            connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0},
            pool_size=5,
        )
        """,
    ),
    "with its lines and comments": (
        """\
        def build():
            return create_async_engine(
                URL,
                server_settings={
                    "jit": "off",  # slow
                },
                connect_args={
                    "timeout": 1,
                },
            )
        """,
        """\
        def build():
            return create_async_engine(
                URL,
                connect_args={
                    "timeout": 1,
                    "server_settings": {
                    "jit": "off",  # slow
                },
                },
            )
        """,
    ),
    "beside other server settings": (
        """\
        create_async_engine(
            URL,
            server_settings={"jit": "off", "search_path": "app"},
            connect_args={"server_settings": {"application_name": "api", "jit": "off"}},
        )
        """,
        """\
        create_async_engine(
            URL,
            connect_args={"server_settings": {"application_name": "api", "jit": "off", \
"search_path": "app"}},
        )
        """,
    ),
    "where the same is there": (
        "create_async_engine(URL, statement_cache_size=0, "
        'connect_args={"statement_cache_size": 0})',
        'create_async_engine(URL, connect_args={"statement_cache_size": 0})',
    ),
    "beside a condition": (
        "create_async_engine(URL, connect_args=given or {}, statement_cache_size=0)",
        'create_async_engine(URL, connect_args={**(given or {}), "statement_cache_size": 0})',
    ),
    "from execution options": (
        """\
        create_async_engine(
            URL,
            execution_options={
                # no plans
                "statement_cache_size": 0,
            },
        )
        """,
        """\
        create_async_engine(
            URL,
            connect_args={
                # no plans
                "statement_cache_size": 0,
            },
        )
        """,
    ),
    "out of a URL that is given by its name": (
        'create_async_engine(echo=True, url="postgresql+asyncpg://db/a?statement_cache_size=0")',
        'create_async_engine(echo=True, url="postgresql+asyncpg://db/a", '
        'connect_args={"statement_cache_size": 0})',
    ),
}


@pytest.mark.parametrize(("before", "after"), MOVES.values(), ids=MOVES.keys())
def test_settings_are_moved(before: str, after: str, tmp_path: Path) -> None:
    before, after = (textwrap.dedent(text).replace("URL", URL) for text in (before, after))
    assert fixed(tmp_path, before, "SG203") == (after, [])


NOT_MOVED = {
    "another value": (
        "create_async_engine(URL, statement_cache_size=0, "
        'connect_args={"statement_cache_size": 9})',
        "`connect_args` has another value for it",
    ),
    "another server setting": (
        'create_async_engine(URL, server_settings={"jit": "off"}, '
        'connect_args={"server_settings": {"jit": "on"}})',
        "`connect_args` has another value for `jit`, or may have",
    ),
    "server settings in one arm": (
        'create_async_engine(URL, server_settings={"jit": "off"}, '
        'connect_args={"server_settings": {}} if a else {})',
        "`connect_args` has such settings too, or may have",
    ),
    "server settings that are not known": (
        'create_async_engine(URL, server_settings={"jit": "off"}, connect_args=other())',
        "`connect_args` has such settings too, or may have",
    ),
    "a URL in several parts": (
        'create_async_engine("postgresql+asyncpg://db/a?" "statement_cache_size=0")',
        "its URL is written in several parts",
    ),
    "a URL, where `connect_args` is not known": (
        'create_async_engine("postgresql+asyncpg://db/a?statement_cache_size=0", '
        "connect_args=other())",
        "`connect_args`, which has the last word, may have it too",
    ),
    "a comment beside it": (
        "create_async_engine(\n    URL,\n    execution_options={\n        # no plans\n"
        '        "statement_cache_size": 0,\n        "a": 1,\n    },\n)\n',
        "a comment stands beside it",
    ),
    "a comment of a call that goes": (
        "statement.execution_options(\n    statement_cache_size=0,  # pgb\n)\n",
        "a comment in it would be lost",
    ),
}


@pytest.mark.parametrize(("code", "reason"), NOT_MOVED.values(), ids=NOT_MOVED.keys())
def test_settings_that_stay_where_they_are(code: str, reason: str, tmp_path: Path) -> None:
    code = code.replace("URL", URL)
    text, [help_text] = fixed(tmp_path, code, "SG203")
    assert text == code
    assert help_text.endswith(f"; not fixed: {reason}")


USE = f"create_async_engine({URL}, connect_args=args)\n"
WRONG = {
    "an item that is assigned": (
        f'args = {{}}\nargs["raw_sql"] = True\n{USE}',
        f"args = {{}}\n{USE}",
    ),
    "the only item of an update": (
        f"args = {{}}\nargs.update(raw_sql=True)\n{USE}",
        f"args = {{}}\n{USE}",
    ),
    "one item of an update": (
        f"args = {{}}\nargs.update(raw_sql=True, timeout=1)\n{USE}",
        f"args = {{}}\nargs.update(timeout=1)\n{USE}",
    ),
    "a default that is set": (
        f'args = {{}}\nargs.setdefault("raw_sql", True)\n{USE}',
        f"args = {{}}\n{USE}",
    ),
    "an argument of dict": (
        f"args = dict(raw_sql=True, timeout=1)\n{USE}",
        f"args = dict(timeout=1)\n{USE}",
    ),
    "another name of an item that is assigned": (
        f'args = {{}}\nargs["sslmode"] = "require"\n{USE}',
        f'args = {{}}\nargs["ssl"] = "require"\n{USE}',
    ),
    "another name of a default that is set": (
        f'args = {{}}\nargs.setdefault("sslmode", "require")\n{USE}',
        f'args = {{}}\nargs.setdefault("ssl", "require")\n{USE}',
    ),
    "a number that is assigned in quotes": (
        f'args = {{}}\nargs["statement_cache_size"] = "0"\n{USE}',
        f'args = {{}}\nargs["statement_cache_size"] = 0\n{USE}',
    ),
    "two names in one display": (
        f"create_async_engine({URL}, connect_args=dict(connect_timeout=1, connection_timeout=2))\n",
        f"create_async_engine({URL}, connect_args=dict(timeout=1, connection_timeout=2))\n",
    ),
    "beside comments of others": (
        f'args = {{\n    "timeout": 1,  # one\n    "raw_sql": True,\n    # end\n}}\n{USE}',
        f'args = {{\n    "timeout": 1,  # one\n    # end\n}}\n{USE}',
    ),
}


@pytest.mark.parametrize(("before", "after"), WRONG.values(), ids=WRONG.keys())
def test_wrong_keys_are_mended_where_they_are_set(before: str, after: str, tmp_path: Path) -> None:
    text, remaining = fixed(tmp_path, before, "SG204")
    assert text == after
    assert all("there as well" in help_text for help_text in remaining)


WRONG_AND_LEFT = {
    "set in another file": (f"from settings import args\n{USE}", "it is not set in this file"),
    "its name in a constant": (
        f'NAME = "raw_sql"\nargs = {{NAME: True}}\n{USE}',
        "its name is not written out where it is set",
    ),
    "set twice": (
        f'args = {{}}\nif x:\n    args["raw_sql"] = True\nelse:\n    args["raw_sql"] = 1\n{USE}',
        "it is not set in one place alone",
    ),
    "all of its block": (
        f'args = {{}}\nif x:\n    args["raw_sql"] = True\n{USE}',
        "nothing would be left of its block or line",
    ),
    "a statement that does more": (
        f'args = {{}}\nargs["raw_sql"] = x = True\n{USE}',
        "its statement does more than to set it",
    ),
    "a value with an effect": (
        f'args = {{}}\nargs["raw_sql"] = load()\n{USE}',
        "its statement does more than to set it",
    ),
    "a comment above": (
        f'args = {{}}\n# for Supavisor\nargs["raw_sql"] = True\n{USE}',
        "a comment stands beside it",
    ),
    "a comment behind": (
        f'args = {{\n    "raw_sql": True,  # for Supavisor\n}}\n{USE}',
        "a comment stands beside it",
    ),
}


@pytest.mark.parametrize(("code", "reason"), WRONG_AND_LEFT.values(), ids=WRONG_AND_LEFT.keys())
def test_wrong_keys_that_are_left_say_why(code: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text('args = {"raw_sql": True}\n')
    text, [help_text] = fixed(tmp_path, code, "SG204")
    assert text == code
    assert help_text.endswith(f"; not fixed: {reason}")


FACTORIES = {
    "beside a comment of another argument": (
        """\
        def sessions():
            return async_sessionmaker(
                engine,  # the handler's
                execution_options={"statement_cache_size": 0},
                autoflush=False,
            )
        """,
        """\
        def sessions():
            return async_sessionmaker(
                engine,  # the handler's
                autoflush=False,
            )
        """,
    ),
    "with a level that moves to the engine": (
        """\
        def sessions():
            engine = create_async_engine(
                URL,  # ours
                pool_size=5,  # five
            )
            return async_sessionmaker(
                engine,
                execution_options={"isolation_level": "SERIALIZABLE"},
            )
        """,
        """\
        def sessions():
            engine = create_async_engine(
                URL,  # ours
                pool_size=5,  # five
                execution_options={"isolation_level": "SERIALIZABLE"},
            )
            return async_sessionmaker(
                engine,
            )
        """,
    ),
}
FACTORIES |= {
    f"that come with {name}": (textwrap.dedent(before), textwrap.dedent(after))
    for name, before, after in (
        (
            "a dictionary",
            """\
            OPTIONS = {"autoflush": False, "execution_options": {"statement_cache_size": 0}}
            make = async_sessionmaker(engine, **OPTIONS)
            """,
            """\
            OPTIONS = {"autoflush": False}
            make = async_sessionmaker(engine, **OPTIONS)
            """,
        ),
        (
            "a display",
            'make = async_sessionmaker(engine, **{"execution_options": {"no_prepare": 1}})\n',
            "make = async_sessionmaker(engine)\n",
        ),
        (
            "a class",
            """\
            from sqlalchemy.ext.asyncio import AsyncSession
            from sqlalchemy.orm import sessionmaker
            make = sessionmaker(**dict(class_=AsyncSession, execution_options={"a": 1}))
            """,
            """\
            from sqlalchemy.ext.asyncio import AsyncSession
            from sqlalchemy.orm import sessionmaker
            make = sessionmaker(**dict(class_=AsyncSession))
            """,
        ),
        (
            "what is put in later",
            """\
            def make():
                kwargs = dict(autoflush=False)
                kwargs["execution_options"] = {"isolation_level": "AUTOCOMMIT"}
                return async_sessionmaker(engine, **kwargs)
            """,
            """\
            def make():
                kwargs = dict(autoflush=False)
                return async_sessionmaker(engine, **kwargs)
            """,
        ),
    )
}


@pytest.mark.parametrize(("before", "after"), FACTORIES.values(), ids=FACTORIES.keys())
def test_options_of_factories_go(before: str, after: str, tmp_path: Path) -> None:
    imports = "from sqlalchemy.ext.asyncio import async_sessionmaker\n\n"
    before, after = (
        imports + textwrap.dedent(text).replace("URL", URL) for text in (before, after)
    )
    assert fixed(tmp_path, before, "SG104") == (after, [])


OPTIONS_LEFT = {
    "`OPTIONS` has other users": (
        'OPTIONS = {"autoflush": False, "execution_options": {"a": 1}}\n'
        'make = async_sessionmaker(engine, **OPTIONS)\nprint(OPTIONS["autoflush"])\n'
    ),
    "it is not set in this file": (
        "from settings import OPTIONS\nmake = async_sessionmaker(engine, **OPTIONS)\n"
    ),
    "it is not set in one place alone": (
        "options = {}\nif one:\n    options.update(execution_options={1: 1})\nelse:\n"
        "    options.update(execution_options={2: 2})\n"
        "make = async_sessionmaker(engine, **options)\n"
    ),
}


@pytest.mark.parametrize(("reason", "code"), OPTIONS_LEFT.items(), ids=OPTIONS_LEFT.keys())
def test_options_that_come_with_a_dictionary_of_others_stay(
    reason: str, code: str, tmp_path: Path
) -> None:
    code = f"from sqlalchemy.ext.asyncio import async_sessionmaker\n\n{code}"
    (tmp_path / "settings.py").write_text('OPTIONS = {"execution_options": {"a": 1}}\n')
    text, [help_text] = fixed(tmp_path, code, "SG104")
    assert text == code
    assert help_text.endswith(f"not fixed: {reason}")


SHARED = {
    "SG202": (
        f'ARGS = {{"timeout": 5}}\nengine = create_async_engine({URL}, connect_args=ARGS)\n',
        f'ARGS = {{"timeout": 5}}\nengine = create_async_engine({URL}, connect_args={{**ARGS, '
        f"{ALL}}})\n",
    ),
    "SG203": (
        'ARGS = {"server_settings": {"jit": "off"}}\n'
        f'engine = create_async_engine({URL}, server_settings={{"search_path": "app"}}, '
        "connect_args=ARGS)\n",
        "ARGS` too, or may",
    ),
    "SG204": (
        'ARGS = {"timeout": "5", "raw_sql": True, "sslmode": "require", '
        '"server_settings": {"work_mem": 9}}\n'
        f"engine = create_async_engine({URL}, connect_args=ARGS)\n",
        "ARGS` too, or may",
    ),
    "SG205": (
        f"ARGS = {{{NAMES}, {NO_CACHE}}}\nengine = create_async_engine({URL}, connect_args=ARGS)\n",
        f"ARGS = {{{NAMES}, {NO_CACHE}}}\n"
        f"engine = create_async_engine({URL}, connect_args={{**ARGS, {NO_OTHER_CACHE}}})\n",
    ),
    "SG206": (
        'ARGS = {"server_settings": {"prepared_statement_cache_size": "0"}}\n'
        f"engine = create_async_engine({URL}, connect_args=ARGS)\n",
        "ARGS` too, or may",
    ),
    "SG208": (
        f'from uuid import uuid4\nARGS = {{"prepared_statement_name_func": lambda: str(uuid4()), '
        f"{NO_CACHE}, {NO_OTHER_CACHE}}}\n"
        f'engine = create_async_engine({URL}, connect_args=ARGS, isolation_level="AUTOCOMMIT")\n',
        f'from uuid import uuid4\nARGS = {{"prepared_statement_name_func": lambda: str(uuid4()), '
        f"{NO_CACHE}, {NO_OTHER_CACHE}}}\n"
        f"engine = create_async_engine({URL}, connect_args={{**ARGS, {NAMES}}}, "
        'isolation_level="AUTOCOMMIT")\n',
    ),
}
USERS = {
    "tests/test_jobs.py": "def test():\n    from jobs import ARGS\n    assert ARGS\n",
    "raw.py": "import jobs as j\n\n\ndef connect(driver):\n    return driver.connect(**j.ARGS)\n",
    "late.py": "from jobs import *\n\nprint(ARGS)\n",
    "by_name.py": 'import jobs\n\nprint(getattr(jobs, "ARGS"))\n',
}


@pytest.mark.parametrize(
    ("code", "user"),
    [*((code, "raw.py") for code in SHARED), *(("SG204", user) for user in USERS)],
)
def test_a_dictionary_that_another_file_uses_stays(code: str, user: str, tmp_path: Path) -> None:
    before, after = SHARED[code]
    (tmp_path / "tests").mkdir()
    (tmp_path / user).write_text(USERS[user])
    text, remaining = fixed(tmp_path, before, code)
    if after.startswith(("ARGS =", "from")):
        assert (text, remaining) == (after, [])
    else:
        assert text == before
        assert remaining
        assert all(help_text.endswith(after) for help_text in remaining)


def test_a_file_that_is_excluded_is_a_user_too(tmp_path: Path) -> None:
    before, after = SHARED["SG202"]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_jobs.py").write_text(USERS["tests/test_jobs.py"])
    text, _ = fixed(tmp_path, before, "SG202", config='exclude = ["tests"]\n')
    assert text == after


@pytest.mark.parametrize(("before", "after"), SHARED.values(), ids=SHARED.keys())
def test_a_dictionary_that_the_engine_alone_uses_is_edited(
    before: str, after: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    code = request.node.callspec.id
    (tmp_path / "other.py").write_text("def use(ARGS):\n    return sorted(ARGS)\n")
    text, remaining = fixed(tmp_path, before, code)
    assert text not in (before, after)
    assert "{**ARGS" not in text
    assert remaining == []


OTHER_USERS = {
    "of a function": (
        f'def made():\n    return {{"timeout": "5"}}\n\nprint(made())\nargs = made()\n{USE}'
    ),
    "of a class": (
        'class Database:\n    args = {"timeout": "5"}\n\nprint(Database.args)\n'
        f"create_async_engine({URL}, connect_args=Database.args)\n"
    ),
    "in the same file": f'args = {{"timeout": "5"}}\n{USE}print(args["timeout"])\n',
    "an alias": f'other = args = {{"timeout": "5"}}\n{USE}use(other)\n',
    "what holds it": f'args = {{"timeout": "5"}}\nHELD = {{"args": args}}\nprint(HELD)\n{USE}',
}


@pytest.mark.parametrize("code", OTHER_USERS.values(), ids=OTHER_USERS.keys())
def test_a_dictionary_with_other_users_is_not_corrected(code: str, tmp_path: Path) -> None:
    text, [help_text] = fixed(tmp_path, code, "SG204")
    assert text == code
    assert "not fixed" in help_text


def test_engines_that_share_a_dictionary_are_corrected_together(tmp_path: Path) -> None:
    code = f'ARGS = {{"raw_sql": True}}\n{USE}{USE}'.replace("=args", "=ARGS")
    text, remaining = fixed(tmp_path, code, "SG204")
    assert (text, remaining) == (code.replace('"raw_sql": True', ""), [])


def test_an_import_that_another_file_has_from_here_stays(tmp_path: Path) -> None:
    before, _ = SHARED["SG208"]
    engine = before[before.index("engine") :]
    (tmp_path / "other.py").write_text("from jobs import uuid4\n\nprint(uuid4())\n")
    text, _ = fixed(tmp_path, before, "SG208")
    assert text == f"from uuid import uuid4  # noqa: F401\nARGS = {{{ALL}}}\n{engine}"
    (tmp_path / "other.py").write_text("from uuid import uuid4\n\nprint(uuid4())\n")
    text, _ = fixed(tmp_path, before, "SG208")
    assert text == f"ARGS = {{{ALL}}}\n{engine}"


def test_a_setting_that_a_listener_has_the_last_word_on_is_not_given(tmp_path: Path) -> None:
    code = (
        f"from sqlalchemy import event\nengine = create_async_engine({URL})\n\n"
        '@event.listens_for(engine.sync_engine, "do_connect")\n'
        "def connect(dialect, record, cargs, cparams):\n"
        '    cparams["statement_cache_size"] = 100\n'
    )
    text, [help_text] = fixed(tmp_path, code, "SG202")
    assert text == code
    assert help_text.endswith("to `do_connect` sets `statement_cache_size` when it connects")
