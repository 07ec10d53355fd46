"""A team's own rules, in a package of its own that is built and installed: as good as ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-session-rules"
version = "1.0"

[project.entry-points."session_guard.rules"]
acme = "acme_session_rules"

[tool.setuptools]
packages = ["acme_session_rules", "acme_session_rules.tasks"]
"""
RULE = '''\
"""ACME001: a pause that stops the event loop."""

from session_guard.rule import Applicability, Invalid, Rewrite, Rule, Valid, Violation


class BlockingSleep(Rule):
    code = "ACME001"
    name = "blocking-sleep"
    summary = "`time.sleep` where sessions are open"
    why = "It stops the event loop, and every session with it."
    fix_safety = "*Safe*: `asyncio.sleep` waits as long."
    since = "acme 1.0"
    tokens = (b"sleep",)
    node_types = ("Call",)
    valid = (Valid("await asyncio.sleep(1)"),)
    invalid = (Invalid("time.sleep(1)", fixed="await asyncio.sleep(1)"),)

    def check(self, node, module):
        import libcst as cst

        if module.code(node.func) == "time.sleep":
            yield Violation(
                node,
                "`time.sleep` stops the event loop",
                "wait with `asyncio.sleep`",
                Rewrite(
                    Applicability.SAFE,
                    "wait with `asyncio.sleep`",
                    ((node.func, cst.parse_expression("asyncio.sleep")),),
                ),
            )
'''
JOB = "import asyncio, time\n\n\ndef job():\n    return time.sleep(1)\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to look for modules in, in which the package is installed."""
    source, target = tmp_path_factory.mktemp("acme"), tmp_path_factory.mktemp("installed")
    package = source / "acme_session_rules"
    (package / "tasks").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").write_text("")
    (package / "tasks" / "__init__.py").write_text("")
    (package / "tasks" / "blocking_sleep.py").write_text(RULE)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--target", str(target), str(source)], check=True)
    return target


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed), known]))
    Path("pyproject.toml").write_text("[tool.session-guard]\n")
    Path("job.py").write_text(JOB)
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "session_guard", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def codes(*arguments: str) -> list[str]:
    done = run("check", "--output-format", "json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return [found["code"] for found in json.loads(done.stdout)]


def test_its_rules_are_listed_and_explained(project: Path) -> None:
    assert "ACME001  blocking-sleep: `time.sleep` where sessions are open" in run("rule").stdout
    page = run("rule", "ACME001").stdout
    assert page.startswith("# blocking-sleep (ACME001)\n")
    assert "After `session-guard fix`:\n\n    await asyncio.sleep(1)\n" in page
    assert "\n## Why\n\nIt stops the event loop, and every session with it.\n" in page
    assert "did you mean `ACME001`" in run("rule", "ACME01").stderr


def test_its_rules_find_and_mend(project: Path) -> None:
    done = run("check")
    assert done.returncode == 1
    assert done.stdout.startswith("job.py:5:12: ACME001 `time.sleep` stops the event loop\n")
    assert run("fix").returncode == 0
    assert Path("job.py").read_text() == JOB.replace("time.sleep", "asyncio.sleep").replace(
        "asyncio, time", "asyncio"
    )
    assert codes() == []


def test_its_codes_are_selected_and_ignored(project: Path) -> None:
    Path("job.py").write_text(f"{JOB}x = 1  # noqa: SG101\n")
    assert codes() == ["ACME001", "SG002"]
    assert codes("--config", 'select = ["ACME"]') == ["ACME001"]
    assert codes("--config", 'select = ["SG"]') == ["SG002"]
    assert codes("--config", 'ignore = ["ACME001"]') == ["SG002"]
    assert codes("--config", 'per-file-ignores = { "job.py" = ["ACME"] }') == ["SG002"]
    wrong = run("check", "--config", 'select = ["ACME2"]')
    assert (wrong.returncode, "did you mean `ACME001`" in wrong.stderr) == (2, True)


def test_its_findings_are_suppressed_and_its_suppressions_judged(project: Path) -> None:
    Path("job.py").write_text(JOB.replace("(1)\n", "(1)  # noqa: ACME001\n"))
    assert codes() == []
    Path("job.py").write_text("x = 1  # noqa: ACME001, ACME002\n")
    assert codes() == ["SG002"]
    assert codes("--config", 'ignore = ["ACME"]') == []
    assert run("fix").returncode == 0
    assert Path("job.py").read_text() == "x = 1  # noqa: ACME002\n"


def test_its_findings_are_frozen(project: Path) -> None:
    assert run("check", "--write-baseline").returncode == 0
    assert "job.py ACME001 " in Path(".session-guard-baseline").read_text()
    assert codes() == []


def test_without_it_its_codes_are_someone_elses(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("check", "--write-baseline")
    monkeypatch.delenv("PYTHONPATH")
    Path("job.py").write_text("x = 1  # noqa: ACME001\n")
    done = run("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no rule has the code `ACME`" in run("check", "--config", 'ignore = ["ACME"]').stderr
