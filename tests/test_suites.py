"""A block in the place of a block: the changes make what LibCST would write, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import pytest

from session_guard import sources
from session_guard.config import Settings
from session_guard.module import Module
from session_guard.project.project import Project
from session_guard.rewriting.arguments import NotFixableError
from session_guard.rewriting.edits import plan
from session_guard.rule import Applicability, Rewrite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = '''\
"""Every layout that a block may have."""
import os


async def first(a, b=1): # here

    # above
    x = """one
  two""" + f"""
{a
   }
"""; y = 2

    try:  # tried
        z = (a +
  b)
# far left
        if a:
            return \\
  z
        # below

    except* ValueError as e: raise
    else:
        pass
    # before the end
    finally:
        print(
            # inside
            b,

        )  # behind
        # at the end

    class Inner:
        def method(self): return self; 1
        @property
        def other(self):
            match self:
                case 1: pass
                case _:
                    while a: b(); break
                    else:
                        del a
            # of the method
    with a as c, b: pass
    return c



def last():
  for x in y:
    if x:
      """a string
    of two lines"""
    elif y: z
    # what is left
  else:
    return 'a\\
 b'
'''
LAYOUTS = {
    "LF, and a comment at the end": SOURCE + "  # the end\n",
    "mixed": SOURCE.replace(":\n", ":\r\n"),
    "tabs": SOURCE.replace("  ", "\t"),
    "CRLF, and no newline at the end": SOURCE.rstrip("\n").replace("\n", "\r\n"),
}


class _Blocks(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[cst.IndentedBlock] = []

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:  # noqa: N802 - LibCST's name
        self.found.append(node)


def rebuilt(block: cst.IndentedBlock) -> Iterator[cst.IndentedBlock]:
    """Yield blocks of a block's statements: without one, with some of them deeper, or less deep."""
    lines = list(block.body)
    for first in range(len(lines)):
        if len(lines) > 1:
            yield block.with_changes(body=[*lines[:first], *lines[first + 1 :]])
        for last in range(first, len(lines)):
            inner = cst.IndentedBlock(lines[first : last + 1], indent=block.indent)
            made = cst.With([cst.WithItem(cst.Name("made"))], inner)
            yield block.with_changes(body=[*lines[:first], made, *lines[last + 1 :]])
        line = lines[first]
        alone = line.with_changes(leading_lines=[])
        inner = cst.IndentedBlock([alone], indent=block.indent)
        made = cst.With([cst.WithItem(cst.Name("made"))], inner)
        yield block.with_changes(body=[*lines[:first], made, *lines[first + 1 :]])
        if isinstance(line, (cst.Try, cst.TryStar, cst.With, cst.For, cst.If)) and isinstance(
            line.body, cst.IndentedBlock
        ):
            yield block.with_changes(body=[*lines[:first], *line.body.body, *lines[first + 1 :]])


@pytest.mark.parametrize("source", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_changes_make_what_libcst_would_write(source: str, tmp_path: Path) -> None:
    project = Project(Settings(root=tmp_path))
    module = Module(tmp_path / "a.py", sources.decode(source.encode()), project, frozenset())
    assert module.round_trips
    blocks = _Blocks()
    module.tree.visit(blocks)
    done, refused = 0, set[str]()
    for old in blocks.found:
        for new in rebuilt(old):
            rewrite = Rewrite(Applicability.SAFE, "", ((old, new),))
            try:
                changes = plan(module, rewrite).changes
            except NotFixableError as error:
                refused.add(str(error))
                continue
            text, behind = "", 0
            for change in changes:
                text += source[behind : change.start] + change.text
                behind = change.end
            tree = module.tree.deep_replace(old, new)
            assert isinstance(tree, cst.Module)
            assert text + source[behind:] == tree.code
            done += 1
    assert done > 30
    assert refused == {"a comment in it would be lost"}
