"""Every rule's own examples are its tests: found, not found, and fixed to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from session_guard.registry import load_rules
from session_guard.rule import Finding, Invalid, ProjectNames, Rule, Valid
from session_guard.runner import Options, Run

STANDARD = Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py"

CASES = [
    pytest.param(rule, example, id=f"{rule.code}-{kind}-{number}")
    for rule in load_rules()
    for kind, examples in (("valid", rule.valid), ("invalid", rule.invalid))
    for number, example in enumerate(examples)
]


def project(folder: Path, rule: Rule, example: Valid | Invalid) -> Path:
    """Lay out the project of an example and return the file to be checked."""
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").write_text("")
    handler = STANDARD.read_text() if example.handler is None else example.handler
    (folder / "app" / "db.py").write_text(handler)
    # A suppression is judged by what the rules that it names find.
    suppressed = re.findall(r"noqa: .*", example.code)
    codes = sorted({rule.code, *re.findall(r"\bSG\d{3}\b", "".join(suppressed))})
    (folder / "pyproject.toml").write_text(
        f"[tool.session-guard]\nselect = {codes}\n{example.config}\n"
    )
    file = folder / "app" / "jobs.py"
    file.write_text(example.code)
    return file


def findings_in(file: Path) -> list[Finding]:
    return [item for found in Run(Options(paths=(str(file),))).check() for item in found]


def fix(file: Path, *, unsafe: bool) -> list[Finding]:
    """Fix the file on disk and return what remains."""
    run = Run(Options(paths=(str(file),)))
    return [item for fixed in run.fix(unsafe=unsafe, write=True) for item in fixed.remaining]


@pytest.mark.parametrize(("rule", "example"), CASES)
def test_example(rule: Rule, example: Valid | Invalid, tmp_path: Path) -> None:
    file = project(tmp_path, rule, example)
    found = findings_in(file)
    assert {item.code for item in found} <= {rule.code}
    if isinstance(example, Valid):
        assert found == []
        return

    assert len(found) == example.count
    texts = [(item.message, item.help, item.fix.message if item.fix else "") for item in found]
    assert any(example.because in text for item in texts for text in item)
    if example.unsafe:
        # An unsafe fix is offered, and not done unasked.
        assert fix(file, unsafe=False)
        assert file.read_text() == example.code
    remaining = fix(file, unsafe=example.unsafe)
    assert file.read_text() == (example.code if example.fixed is None else example.fixed)
    assert len(remaining) == (example.count if example.fixed is None else 0)


@pytest.mark.parametrize("rule", load_rules(), ids=lambda rule: rule.code)
def test_has_examples_enough(rule: Rule) -> None:
    assert len(rule.valid) >= 6
    assert len(rule.invalid) >= 6


@pytest.mark.parametrize("rule", load_rules(), ids=lambda rule: rule.code)
def test_gate_lets_its_findings_through(rule: Rule) -> None:
    names = ProjectNames(
        frozenset(
            {b"engine", b"background_task_session_factory", b"get_background_task_session_factory"}
        ),
        frozenset({b"get_background_session", b"get_session"}),
    )
    for example in rule.invalid:
        assert rule.gate(example.code.encode(), names)
