"""What a run that finds nothing to look at imports: every commit waits for each module."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Beside the rules, each of which is one module.
OURS = frozenset(
    """
    session_guard session_guard.cli session_guard.cli.check session_guard.cli.files
    session_guard.config session_guard.gate session_guard.output session_guard.output.masking
    session_guard.output.text session_guard.patterns session_guard.registry session_guard.rule
    session_guard.runner session_guard.sources session_guard.texts
    """.split()
)
DEAR = frozenset({"libcst", "sqlalchemy", "asyncio", "multiprocessing", "dataclasses", "json"})
SCRIPT = """
import click, sys
before = set(sys.modules)
from session_guard.cli import main
try:
    main()
finally:
    print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""


def test_a_clean_run_imports_no_more_than_it_must(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import os\n\nprint(os.getcwd())\n")
    (tmp_path / "pyproject.toml").touch()
    run = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, "check", "one.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.stdout == "All checks passed: 1 file.\n"
    imported = set(run.stderr.split())
    ours = {name for name in imported if name.partition(".")[0] == "session_guard"}
    assert {name for name in ours if not name.startswith("session_guard.rules")} == OURS
    assert not {name.partition(".")[0] for name in imported} & DEAR
