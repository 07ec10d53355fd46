"""Fixes copies of real projects, and holds what becomes of them against what `fix` promises.

Of every file that is changed: Python parses it as it did before, a second `fix` changes nothing,
what was fixed is found no more, and what is no part of a mended statement or an import is as it
was, byte for byte. Nothing of a project is imported or run.

    python tests/field/fix.py ~/field/*                     folders, each a project
    python tests/field/fix.py --unsafe-fixes ~/field/*      with what may change behaviour too
    python tests/field/fix.py --init ~/field/*              after `session-guard init`

`engines.txt` names the engines that a maintainer would, once `init` has written a handler.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.rule import Finding
    from session_guard.runner import Fixed

# What a project's findings are drawn from.
_KEPT = (".py", ".toml", ".txt", ".cfg", ".lock")
_COMMENT = re.compile(rb"#[^\r\n]*")
_FACTORY = re.compile(r"sessionmaker|async_scoped_session")
# What a fix takes out of a mended block because the handler does the same.
_HANDLERS = ("begin", "close", "commit", "rollback")


@dataclass
class Report:
    """What was seen of all projects."""

    files: int = 0
    changed: int = 0
    applied: Counter[str] = field(default_factory=Counter)
    remaining: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Count what was seen of another project too."""
        self.files += other.files
        self.changed += other.changed
        self.applied.update(other.applied)
        self.remaining.update(other.remaining)
        self.broken.extend(other.broken)

    def __str__(self) -> str:
        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{code} {count}" for code, count in sorted(counts.items())) or "none"

        return (
            f"{self.files} files, {self.changed} changed; {len(self.broken)} promises broken\n"
            f"fixed: {listed(self.applied)}\nnot fixed: {listed(self.remaining)}"
        )


def fix(project: Path, report: Report, *, unsafe: bool, init: bool = False) -> None:
    """Fix a copy of the project, and add what was seen to the report."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary).resolve() / project.name
        shutil.copytree(project, copy, ignore=_others, symlinks=True)
        (copy / "pyproject.toml").touch()
        if init:
            _write_handler(copy)
        known = _found_by_ruff(copy)
        first = Run(Options((str(copy),)))
        changed: dict[str, Fixed] = {}
        for result in first.fix(unsafe=unsafe, write=True):
            path = Path(result.shown).resolve().relative_to(copy)
            report.applied.update(item.code for item in result.applied)
            report.remaining.update(item.code for item in result.remaining)
            for item in result.remaining:
                if "please report" in item.help:
                    report.broken.append(f"{project.name}/{path}:{item.line}: {item.help}")
            if result.before != result.after:
                changed[result.shown] = result
                for broken in broken_promises(result):
                    report.broken.append(f"{project.name}/{path}: {broken}")
        for (name, code), count in (_found_by_ruff(copy) - known).items():
            report.broken.append(f"{project.name}/{name}: ruff finds {count} more {code}")
        report.files += first.checked
        report.changed += len(changed)
        report.broken.extend(f"{project.name}: {failure}" for failure in first.failures)
        if changed:
            for again in Run(Options(tuple(changed))).fix(unsafe=unsafe, write=False):
                path = Path(again.shown).resolve().relative_to(copy)
                if again.after != changed[again.shown].after or again.applied:
                    report.broken.append(f"{project.name}/{path}: a second fix changes it")
                # Another file's fix may have changed what is known of this one.
                elif _kinds(again.remaining) - _kinds(changed[again.shown].remaining):
                    report.broken.append(f"{project.name}/{path}: something new is found in it")


def _write_handler(project: Path) -> None:
    """Write a handler where there is none, and name the engines that lead to its database."""
    command = [sys.executable, "-P", "-m", "session_guard", "init"]
    if subprocess.run(command, cwd=project, capture_output=True, check=False).returncode:
        return
    engines = [
        dotted
        for name, dotted in map(str.split, (Path(__file__).parent / "engines.txt").open())
        if name == project.name.partition("==")[0]
    ]
    if engines:
        with (project / "pyproject.toml").open("a") as file:
            file.write(f"engines = {json.dumps(engines)}\n")


def _found_by_ruff(project: Path) -> Counter[tuple[str, str]]:
    """Return how often ruff's rules F and I find something in each file: no fix adds to that."""
    command = [sys.executable, "-P", "-m", "ruff", "check", "--isolated", "--no-cache"]
    arguments = ["--select", "F,I", "--exit-zero", "--output-format", "json", "."]
    done = subprocess.run([*command, *arguments], cwd=project, capture_output=True, check=True)
    return Counter(
        (str(Path(item["filename"]).relative_to(project)), str(item["code"]))
        for item in json.loads(done.stdout)
    )


def _others(folder: str, names: list[str]) -> Iterator[str]:
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.isdir(path) and not name.endswith(_KEPT):
            yield name


def _kinds(findings: Iterable[Finding]) -> Counter[tuple[str, str]]:
    return Counter((item.code, item.message) for item in findings)


def broken_promises(result: Fixed) -> Iterator[str]:
    """Yield what of one changed file is not as it should be."""
    try:
        tree = ast.parse(result.before)
    except (SyntaxError, ValueError):
        yield "it could not be parsed, and was changed: look at it"
        return
    try:
        ast.parse(result.after)
    except (SyntaxError, ValueError) as error:
        yield f"it can no longer be parsed: {error}"
    before, after = result.before.splitlines(keepends=True), result.after.splitlines(keepends=True)
    concerned = set(_concerned_lines(tree, result))
    for line, moved in _lost(before, after):
        text = before[line - 1].strip()
        if line in concerned or not text or moved:
            continue
        yield f"line {line} is changed, and nothing was to be fixed in it: {text.decode('latin-1')}"
    imports = set(_import_lines(tree))
    kept = Counter(
        comment
        for number, line in enumerate(before, start=1)
        if number not in imports
        for comment in _COMMENT.findall(line)
        if b"noqa" not in comment
    )
    for comment in kept - Counter(_COMMENT.findall(result.after)):
        yield f"a comment is gone: {comment.decode('latin-1')}"


def _lost(before: list[bytes], after: list[bytes]) -> Iterator[tuple[int, bool]]:
    """Yield the lines that are not there any more, and whether only their indentation changed."""
    there = Counter(line.strip() for line in after)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, first, last, start, end in matcher.get_opcodes():
        if tag in ("replace", "delete"):
            new = Counter(line.strip() for line in after[start:end])
            for number in range(first, last):
                text = before[number].strip()
                yield number + 1, new[text] > 0 and there[text] > 0


def _concerned_lines(tree: ast.Module, result: Fixed) -> Iterator[int]:
    """Yield the lines of imports, of the statements that had a finding, and what ends these."""
    found = [range(item.line, item.end_line + 1) for item in result.applied]
    codes = {item.code for item in result.applied}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            lines = _header(node)
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from lines
            elif any(set(lines) & set(at) for at in found):
                yield from lines
                yield from _handlers_lines(tree, node)
            elif "SG102" in codes and _makes_factory(node):
                yield from lines
    for at in found:
        yield from at


def _makes_factory(node: ast.stmt) -> bool:
    """Return whether it builds a factory, whose place is another once sessions are rewritten."""
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return value is not None and _FACTORY.search(ast.unparse(value)) is not None


def _handlers_lines(tree: ast.Module, opening: ast.stmt) -> Iterator[int]:
    """Yield the lines that end a session's transaction, in the function that opens it.

    And those that made what it is opened with.
    """
    names = set(_bound(opening))
    given = _loaded(opening.items if isinstance(opening, ast.AsyncWith) else [opening])
    within = min(
        (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module)
            and (isinstance(node, ast.Module) or opening.lineno in _lines(node))
        ),
        key=lambda node: math.inf if isinstance(node, ast.Module) else len(_lines(node)),
    )
    for node in ast.walk(within):
        if isinstance(node, ast.Expr) and _ends(node, names):
            yield from _lines(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and given.intersection(_bound(node)):
            given |= _loaded([node])
            yield from _lines(node)
        elif isinstance(node, ast.Try) and any(
            _ends(last, names)
            for suite in (node.finalbody, *(handler.body for handler in node.handlers))
            for last in ast.walk(ast.Module(suite, []))
        ):
            yield node.lineno
            if node.finalbody:
                yield from range(_end(node.body), node.finalbody[0].lineno)
            for handler in node.handlers:
                yield handler.lineno
                if isinstance(handler.body[-1], ast.Raise) and not handler.body[-1].exc:
                    yield from _lines(handler.body[-1])


def _loaded(nodes: Iterable[ast.AST]) -> set[str]:
    parts = (part for node in nodes for part in ast.walk(node))
    return {part.id for part in parts if isinstance(part, ast.Name) and part.id != "self"}


def _bound(opening: ast.stmt) -> Iterator[str]:
    if isinstance(opening, ast.AsyncWith | ast.With):
        yield from (ast.unparse(item.optional_vars) for item in opening.items if item.optional_vars)
    elif isinstance(opening, ast.Assign):
        yield from map(ast.unparse, opening.targets)
    elif isinstance(opening, ast.AnnAssign):
        yield ast.unparse(opening.target)


def _ends(node: ast.AST, names: set[str]) -> bool:
    """Return whether a statement ends the transaction of one of the sessions."""
    value = node.value if isinstance(node, ast.Expr) else None
    call = value.value if isinstance(value, ast.Await) else value
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in _HANDLERS
        and ast.unparse(call.func.value) in names
    )


def _end(body: list[ast.stmt]) -> int:
    return (body[-1].end_lineno or body[-1].lineno) + 1


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _header(node: ast.stmt) -> range:
    body = getattr(node, "body", None)
    return range(node.lineno, max(body[0].lineno, node.lineno + 1)) if body else _lines(node)


def _import_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _lines(node)


def main(arguments: Iterable[str] | None = None) -> int:
    """Fix, print the report, and return 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("projects", nargs="+", type=Path, help="folders, each a project")
    parser.add_argument("--unsafe-fixes", action="store_true")
    parser.add_argument("--init", action="store_true", help="write a handler where there is none")
    options = parser.parse_args(None if arguments is None else list(arguments))
    sys.setrecursionlimit(5000)
    report = Report()
    for project in options.projects:
        of_project = Report()
        fix(project.resolve(), of_project, unsafe=options.unsafe_fixes, init=options.init)
        for broken in of_project.broken:
            print(broken)
        fixed, left = of_project.applied.total(), of_project.remaining.total()
        print(
            f"{project.name}: {of_project.files} files, {fixed} fixed in {of_project.changed}, "
            f"{left} not fixed",
            flush=True,
        )
        report.add(of_project)
    print(report)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
