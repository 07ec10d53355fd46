"""The formats: what a finding looks like to people, programs and GitHub."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from session_guard import output
from session_guard.output.diff import unified
from session_guard.output.masking import masked
from session_guard.rule import Applicability, Edit, Finding, Fix

LINE = "    async with AsyncSession(engine) as session:"
FINDING = Finding(
    path="app/job.py",
    line=12,
    column=16,
    end_line=12,
    end_column=36,
    code="SG101",
    name="direct-async-session",
    message="a session outside the handler",
    help="open it with the handler",
    source_line=LINE,
    spot=(15, 35),
)
FIX = Fix(Applicability.UNSAFE, "open it", (Edit(3, 7, "new\n"), Edit(9, 9, "é")))


def text(finding: Finding) -> list[str]:
    return click.unstyle("".join(output.render("text", [finding]))).splitlines()


def test_text_shows_the_place_the_line_the_spot_and_what_to_do() -> None:
    assert text(FINDING) == [
        "app/job.py:12:16: SG101 a session outside the handler",
        "   |",
        "12 |     async with AsyncSession(engine) as session:",
        "   |                ^^^^^^^^^^^^^^^^^^^^",
        "   = help: open it with the handler",
        "",
    ]


def marked(line: str, start: int, end: int) -> tuple[str, str]:
    """Return the shown line, and what of it stands above the carets; all of it one cell wide."""
    shown, carets = text(FINDING._replace(source_line=line, spot=(start, end)))[2:4]
    return shown[5:], shown[carets.index("^") : carets.rindex("^") + 1]


def test_a_tab_is_four_cells() -> None:
    assert marked("\tx = f()", 5, 8) == ("    x = f()", "f()")


def test_wide_characters_are_two_cells_and_combining_ones_none() -> None:
    finding = FINDING._replace(source_line="x = '漢e\u0301' + f()", spot=(12, 15))
    shown, carets = text(finding)[2:4]
    assert shown == "12 | x = '漢e\u0301' + f()"
    # One wide character and one combining character before it cancel out.
    assert carets == "   |             ^^^"
    finding = FINDING._replace(source_line="'漢漢', f()", spot=(6, 9))
    assert text(finding)[3] == "   |         ^^^"


def test_an_empty_spot_has_one_caret() -> None:
    assert text(FINDING._replace(source_line="x", spot=(1, 1)))[3] == "   |  ^"


def test_without_a_source_line_there_is_none() -> None:
    assert text(FINDING._replace(source_line=""))[1] == "   = help: open it with the handler"


@pytest.mark.parametrize("start", [0, 39, 199, 4989])
def test_a_long_line_is_cut_round_the_spot(start: int) -> None:
    line = "".join(f"{index:05}" for index in range(1000))
    shown, above = marked(line, start, start + 10)
    assert above == line[start : start + 10]
    assert len(shown) <= 112
    assert shown.startswith("…") == (start > 100)
    assert shown.endswith("…") == (start < 4900)


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    evil = "x = '\x1b[31m\u202e' + f()"
    shown, above = marked(evil, evil.index("f()"), evil.index("f()") + 3)
    assert above == "f()"
    assert shown.isprintable()
    finding = FINDING._replace(path="a\x1b.py", message="\x1b[2J", help="\u202e", source_line="")
    assert "".join(text(finding)).isprintable()


SECRETS = [
    'create_async_engine("postgresql+asyncpg://user:hunter2@db/app")',
    'create_async_engine("postgresql+asyncpg://user:hu@n/ter2@db/app")',
    "create_async_engine('postgresql://db/app?user=a&password=hunter2&x=1')",
    'URL.create("postgresql+asyncpg", password="hunter2")',
    "connect_args={'password': 'hunter2'}",
    'PGPASSWORD = "hunter2"',
]


@pytest.mark.parametrize("line", SECRETS)
@pytest.mark.parametrize("output_format", output.FORMATS)
def test_no_format_prints_a_password(line: str, output_format: str) -> None:
    finding = FINDING._replace(message=f"in {line}", help=f"not {line}", fix=FIX)
    printed = "".join(output.render(output_format, [finding]))
    assert "hunter2" not in printed
    assert "ter2" not in printed
    assert "***" in printed


@pytest.mark.parametrize(
    "line",
    [LINE, 'x = "https://example.org/a"', "a @ b", 'password: str = ""', "db(password=password)"],
)
def test_what_is_no_password_is_not_masked(line: str) -> None:
    assert masked(line) == line


def test_edits_that_would_repeat_a_secret_are_none() -> None:
    fix = FIX._replace(edits=())
    [shown] = json.loads("".join(output.render("json", [FINDING._replace(fix=fix)])))
    assert shown["fix"] == {"applicability": "unsafe", "message": "open it", "edits": None}


def test_json_is_one_list_of_objects() -> None:
    assert json.loads("".join(output.render("json", []))) == []
    first, second = json.loads("".join(output.render("json", [FINDING, FINDING._replace(fix=FIX)])))
    assert first == {
        "code": "SG101",
        "name": "direct-async-session",
        "path": "app/job.py",
        "line": 12,
        "column": 16,
        "end_line": 12,
        "end_column": 36,
        "message": "a session outside the handler",
        "help": "open it with the handler",
        "fix": None,
    }
    assert second["fix"] == {
        "applicability": "unsafe",
        "message": "open it",
        "edits": [{"start": 3, "end": 7, "text": "new\n"}, {"start": 9, "end": 9, "text": "é"}],
    }


def test_github_gets_workflow_commands_that_are_escaped() -> None:
    finding = FINDING._replace(path="a,b:c%.py", message="100% x\ny: z,", help="do")
    assert "".join(output.render("github", [finding])) == (
        "::error title=session-guard (SG101),file=a%2Cb%3Ac%25.py,line=12,endLine=12,col=16,"
        "endColumn=36::SG101 100%25 x%0Ay: z,%0Ado\n"
    )


CONTENT = st.lists(
    st.sampled_from([b"a\n", b"b\r\n", b"c\r", b"d", b"\n", b"\xff\n", b"\\ No\n", b"--- a\n"])
).map(b"".join)


@settings(max_examples=60, deadline=None)
@given(before=CONTENT, after=CONTENT, name=st.sampled_from(["a.py", "d/a b.py", "é.py"]))
def test_git_can_apply_a_diff(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes, name: str
) -> None:
    assume(before)
    assume(after)
    folder = tmp_path_factory.mktemp("diff")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(before)
    diff = unified(name, before, after)
    assert bool(diff) == (before != after)
    if diff:
        git = ["git", "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", "-"]
        subprocess.run(git, cwd=folder, input=diff, check=True)
    assert path.read_bytes() == after


def test_a_name_with_a_space_has_an_end_that_patch_sees() -> None:
    assert unified("d/a b.py", b"x\n", b"y\n").startswith(b"--- a/d/a b.py\t\n+++ b/d/a b.py\t\n")
    assert unified("/d/a.py", b"x\n", b"y\n").startswith(b"--- a/d/a.py\n+++ b/d/a.py\n")


def test_every_format_is_documented() -> None:
    usage = (Path(__file__).parents[1] / "docs/usage.md").read_text()
    assert all(f"`{name}`" in usage for name in output.FORMATS)
