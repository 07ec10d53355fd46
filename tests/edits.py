"""Random edits of a project's files, as people make them and as they do not."""

from __future__ import annotations

import ast
import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

_WORD = re.compile(r"\b[A-Za-z_]\w+\b")
# What other files' answers depend on.
_TELLING = (
    "from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine\n",
    "from sqlalchemy.ext.asyncio import AsyncSession as Session\n",
    "class OwnSession(AsyncSession):\n    pass\n",
    "engine = create_async_engine('postgresql+asyncpg://db/other')\n",
    "factory = async_sessionmaker(engine)\n",
    "db.engine = None\n",
    "setattr(db, 'factory', None)\n",
    "app.state.factory = factory\n",
    "monkeypatch.setattr('app.db.engine', None)\n",
    "factory.configure(bind=None)\n",
    "event.listen(engine, 'commit', print)\n",
    "app.add_api_route('/', work)\n",
    "Depends(work)\n",
    "children = relationship('Child')\n",
    "async def work(engine):\n    async with AsyncSession(engine) as other:\n        pass\n",
    "__all__ = ['engine', 'factory']\n",
    "from .db import *\n",
    "type X = int\n",
    "def broken(:\n",
)


class Editor:
    """Edits the Python files below `root`, and knows how they were at first."""

    def __init__(self, root: Path, choice: random.Random) -> None:
        self._root = root
        self._choice = choice
        self._first = {path: path.read_bytes() for path in self._files()}

    def _files(self) -> list[Path]:
        return sorted(path for path in self._root.rglob("*.py") if path.is_file())

    def edit(self) -> str:
        """Make one edit, and say which."""
        path = self._choice.choice(self._files())
        edit = self._choice.choice(self._edits)
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        edited = edit(self, path, text)
        if edited is not None:
            path.write_text(edited, encoding="utf-8", errors="surrogateescape")
        return f"{edit.__name__} {path.relative_to(self._root)}"

    def _add_comment(self, path: Path, text: str) -> str:
        return f"{text}# {self._choice.choice(_WORD.findall(text) or ['comment'])}\n"

    def _move_down(self, path: Path, text: str) -> str:
        return f"# {'first'}\n\n{text}"

    def _add_statement(self, path: Path, text: str) -> str:
        return f"{text}\n{self._choice.choice(_TELLING)}"

    def _add_statement_first(self, path: Path, text: str) -> str:
        return f"{self._choice.choice(_TELLING)}{text}"

    def _remove_statement(self, path: Path, text: str) -> str:
        try:
            body = ast.parse(text).body
        except (SyntaxError, ValueError):
            return text
        if not body:
            return text
        gone = self._choice.choice(body)
        # Half of the time one within it.
        inner = [node for node in ast.walk(gone) if isinstance(node, ast.stmt)]
        gone = self._choice.choice([gone, self._choice.choice(inner)])
        lines = text.splitlines(keepends=True)
        return "".join(lines[: gone.lineno - 1] + lines[gone.end_lineno :])

    def _rename(self, path: Path, text: str) -> str:
        words = _WORD.findall(text)
        if not words:
            return text
        word = self._choice.choice(words)
        other = self._choice.choice(["renamed", *_WORD.findall(self._another().read_text("utf-8"))])
        return re.sub(rf"\b{word}\b", other, text)

    def _swap_line(self, path: Path, text: str) -> str:
        lines = self._another().read_text("utf-8").splitlines(keepends=True)
        return text + self._choice.choice(lines or ["\n"]).lstrip()

    def _restore(self, path: Path, text: str) -> str:
        return self._first.get(path, text.encode()).decode(errors="surrogateescape")

    def _copy_file(self, path: Path, text: str) -> None:
        shutil.copy(path, path.with_name(f"copy_{len(self._files())}.py"))

    def _remove_file(self, path: Path, text: str) -> None:
        if len(self._files()) > 3:
            path.unlink()

    def _restore_all(self, path: Path, text: str) -> None:
        for one in self._files():
            if one not in self._first:
                one.unlink()
        for one, data in self._first.items():
            if not one.exists() or one.read_bytes() != data:
                one.write_bytes(data)

    def _another(self) -> Path:
        return self._choice.choice(self._files())

    _edits: tuple[Callable[[Editor, Path, str], str | None], ...] = (
        *(_add_comment, _add_comment, _move_down, _add_statement, _add_statement),
        *(_add_statement_first, _remove_statement, _remove_statement, _rename, _rename),
        *(_swap_line, _swap_line, _restore, _restore, _copy_file, _remove_file, _restore_all),
    )
