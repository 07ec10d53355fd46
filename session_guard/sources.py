"""Finding files, and decoding what is in them."""

from __future__ import annotations

import functools
import operator
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from session_guard import patterns
from session_guard.config import DEFAULT_EXCLUDE, has_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from session_guard.config import Settings

_MARKS = (".git", "pyproject.toml", ".gitignore")
"""What makes a folder more than a folder: looked for in each one."""


class PathError(Exception):
    """A path that was named cannot be checked; the message names it."""


class SourceError(Exception):
    """The bytes are no Python source: `message`, and the `line` it is about, counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


# Finding


class Source(NamedTuple):
    """A file to check, as plain data.

    `path` is absolute, with symbolic links resolved; `shown` is how it is printed; `relative` is
    the path from `settings.root`, with `/` between its parts.
    """

    path: str
    shown: str
    relative: str
    settings: Settings


class Unreadable(NamedTuple):
    """A folder that cannot be listed, and why."""

    shown: str
    reason: str


class _Folder(NamedTuple):
    """What holds for the entries of one folder: its project's root and the ignore files."""

    path: str
    table: str | None = None
    git: str | None = None
    project: str | None = None
    given: str | None = None
    ignore_files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The folder of each, and its patterns; the outermost first."""
    is_excluded: bool = False
    """Whether the project's `exclude` names it, or a folder above it."""
    is_ignored: bool = False
    """Whether an ignore file names it, or a folder above it."""

    @property
    def root(self) -> str | None:
        return self.table or self.git or self.project or self.given

    def ignores(self, path: str) -> bool:
        """Return whether the ignore files name the entry `path`; a folder's ends in a separator."""
        floor = self.git or self.root
        if floor is None:
            return False
        for folder, lines in reversed(self.ignore_files):
            if len(folder) < len(floor):
                break
            named = patterns.verdict(lines, _relative(path, folder))
            if named is not None:
                return named
        return False


class Finder:
    """Finds files, and for each one the project that it belongs to.

    What project a file belongs to, and whether it is ignored, is read from its own ancestors, so
    that it does not matter which other files are named.
    """

    def __init__(
        self, settings_of: Callable[[str], Settings], *, force_exclude: bool = True
    ) -> None:
        """Take what gives a root's settings; `force_exclude` passes named files by as well."""
        self._settings_of = settings_of
        self._force_exclude = force_exclude
        self._working_folder = os.getcwd()
        self._folders: dict[str, _Folder] = {}
        self._given_roots: set[str] = set()
        self.whole: dict[str, list[str]] = {}
        """The projects that were walked from their root down, with the files of each."""

    def find(self, paths: Iterable[str]) -> Iterator[Source | Unreadable]:
        """Yield each file once: in the order of `paths`, and sorted by name within a folder.

        Raises PathError for a path that does not exist, before the first file, and ConfigError.
        """
        named = [(path, _is_folder(path)) for path in paths]
        if len(named) == 1:
            [(path, is_folder)] = named
            yield from self._in_folder(path) if is_folder else self._file(path)
            return
        seen: set[str] = set()
        for path, is_folder in named:
            for source in self._in_folder(path) if is_folder else self._file(path):
                key = source.path if isinstance(source, Source) else source.shown
                if key not in seen:
                    seen.add(key)
                    yield source

    def place(self, path: str) -> Source | None:
        """Return the file `path`, which need not exist, or None where it is excluded.

        Raises ConfigError.
        """
        real = os.path.realpath(path)
        folder = self._anchored(os.path.dirname(real), is_folder=False)
        if self._force_exclude and (_is_passed_by(folder) or self._passes_by(folder, real)):
            return None
        root = folder.root or folder.path
        return Source(
            real, _printable(self._shown(path)), _relative(real, root), self._settings_of(root)
        )

    def project_files(self, root: Path) -> Iterator[str]:
        """Yield the absolute paths of a project's own Python files, whatever files are checked."""
        top = self._folder(str(root))
        if top.root != top.path:
            top = top._replace(table=top.path)
        for folder, _, files in self._walk(top):
            if isinstance(folder, _Folder) and folder.root == top.path:
                yield from files

    def _file(self, path: str) -> Iterator[Source]:
        if not path.endswith(".pyi"):
            source = self.place(path)
            if source is not None:
                yield source

    def _in_folder(self, path: str) -> Iterator[Source | Unreadable]:
        real = os.path.realpath(path)
        top = self._anchored(real, is_folder=True)
        if self._force_exclude and _is_passed_by(top):
            return
        shown = self._shown(path)
        prefix = "" if shown == "." else os.path.join(shown, "")
        behind = len(os.path.join(real, ""))
        entered: set[str] = set()
        for folder, found, files in self._walk(top):
            if not isinstance(folder, _Folder):
                name = prefix + found[behind:]
                yield Unreadable(name or shown, folder.strerror or str(folder))
                continue
            root = folder.root or folder.path
            if root not in entered and root.startswith(top.path):
                # The walk came in through its root, and goes through all of it.
                entered.add(root)
                self.whole[root] = []
            if root in entered:
                self.whole[root] += files
            if files:
                settings, within = self._settings_of(root), len(os.path.join(root, ""))
            for path in files:
                relative = path[within:].replace(os.sep, "/")
                yield Source(path, _printable(prefix + path[behind:]), relative, settings)

    def _walk(self, top: _Folder) -> Iterator[tuple[_Folder | OSError, str, list[str]]]:
        """Yield each folder, or why it is not listed, with its path and its Python files'."""
        todo: list[tuple[str, _Folder | None]] = [(top.path, None)]
        while todo:
            path, parent = todo.pop()
            try:
                with os.scandir(path) as scan:
                    entries = sorted(scan, key=_name)
            except OSError as error:
                yield error, path, []
                continue
            folder = top
            if parent is not None:
                marks = {entry.name for entry in entries if entry.name in _MARKS}
                folder = parent
                if marks or path in self._given_roots:
                    folder = self._enter(parent, path, marks)
            passes_by = self._passing_by(folder)
            inner: list[tuple[str, _Folder | None]] = []
            files: list[str] = []
            for entry in entries:
                # As in git, no symbolic link is followed: what it leads to is found where it is.
                if entry.is_dir(follow_symlinks=False):
                    is_left_out = (
                        entry.name in DEFAULT_EXCLUDE
                        if passes_by is None
                        else passes_by(entry.path + os.sep)
                    )
                    if not is_left_out:
                        inner.append((entry.path, folder))
                elif (
                    entry.name.endswith(".py")
                    and entry.is_file(follow_symlinks=False)
                    and (passes_by is None or not passes_by(entry.path))
                ):
                    files.append(entry.path)
            yield folder, path, files
            todo.extend(reversed(inner))

    def _passes_by(self, folder: _Folder, path: str) -> bool:
        """Return whether the entry `path` is left out; a folder's ends in a separator."""
        return self._excludes(folder, path) or folder.ignores(path)

    def _passing_by(self, folder: _Folder) -> Callable[[str], bool] | None:
        """Return what tells whether an entry of a folder is left out.

        None stands for most folders: those of `DEFAULT_EXCLUDE` are, by their plain names.
        """
        root = folder.root
        if folder.ignore_files or root is None or self._settings_of(root).exclude:
            return functools.partial(self._passes_by, folder)
        return None

    def _excludes(self, folder: _Folder, path: str) -> bool:
        root = folder.root
        return root is not None and self._settings_of(root).excludes(_relative(path, root))

    def _anchored(self, path: str, *, is_folder: bool) -> _Folder:
        """Return the folder `path`, which then has a root."""
        if self._folder(path).root is None:
            self._given_roots.add(self._root_without_marks(path, is_folder=is_folder))
            self._folders.clear()
        return self._folder(path)

    def _root_without_marks(self, path: str, *, is_folder: bool) -> str:
        if os.path.join(path, "").startswith(os.path.join(self._working_folder, "")):
            return self._working_folder
        while not is_folder and os.path.exists(os.path.join(path, "__init__.py")):
            path = os.path.dirname(path)
        return path

    def _folder(self, path: str) -> _Folder:
        """Return any folder, read from its ancestors."""
        if path not in self._folders:
            marks = {name for name in _MARKS if os.path.lexists(os.path.join(path, name))}
            above = os.path.dirname(path)
            parent = self._folder(above) if above != path else _Folder(above)
            folder = self._enter(parent, path, marks)
            entry = os.path.join(path, "")
            # Neither a project nor a repository is bound by what lies above it.
            self._folders[path] = folder._replace(
                is_excluded=path != folder.root
                and (parent.is_excluded or self._excludes(parent, entry)),
                is_ignored=path != (folder.git or folder.root)
                and (parent.is_ignored or parent.ignores(entry)),
            )
        return self._folders[path]

    def _enter(self, parent: _Folder, path: str, marks: set[str]) -> _Folder:
        is_git = ".git" in marks
        has_pyproject = "pyproject.toml" in marks
        ignore_files = parent.ignore_files
        if is_git:
            ignore_files = _with_ignore_file(ignore_files, path, _git_exclude(path))
        if ".gitignore" in marks:
            ignore_files = _with_ignore_file(ignore_files, path, os.path.join(path, ".gitignore"))
        return _Folder(
            path,
            table=path if has_pyproject and has_table(path) else parent.table,
            git=path if is_git else parent.git,
            project=path if has_pyproject else parent.project,
            given=path if path in self._given_roots else parent.given,
            ignore_files=ignore_files,
        )

    def _shown(self, path: str) -> str:
        """Return how a path that was named is printed: relative where it is below us."""
        full = os.path.abspath(path)
        below = full.removeprefix(os.path.join(self._working_folder, ""))
        return "." if full == self._working_folder else below


def walk(root: Path, settings: Settings) -> Iterator[Path]:
    """Yield the absolute paths of the Python files of the project at `root`, in a fixed order.

    What is excluded or ignored, and projects within it, are left out. Raises ConfigError.
    """
    for path in Finder(lambda _: settings).project_files(root):
        yield Path(path)


def _is_passed_by(folder: _Folder) -> bool:
    return folder.is_excluded or folder.is_ignored


_name = operator.attrgetter("name")


def _is_folder(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise PathError(f"{path}: {error.strerror}") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise PathError(f"{path}: neither a file nor a folder; `-` reads standard input")
    return stat.S_ISDIR(mode)


def _relative(path: str, folder: str) -> str:
    return path[len(folder) :].lstrip(os.sep).replace(os.sep, "/")


def _printable(path: str) -> str:
    """Replace what is not text in a path: file names are bytes on most systems."""
    if path.isascii():
        return path
    return path.encode(errors="surrogateescape").decode(errors="replace")


_IgnoreFiles = tuple[tuple[str, tuple[str, ...]], ...]


def _with_ignore_file(files: _IgnoreFiles, folder: str, path: str) -> _IgnoreFiles:
    lines = re.split(r"\r?\n", _text(path).removeprefix("\ufeff") + "\n")
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    return (*files, (folder, tuple(lines))) if lines else files


def _git_exclude(folder: str) -> str:
    """Return the path of a repository's own exclude file."""
    git = os.path.join(folder, ".git")
    if os.path.isfile(git):  # in a worktree or a submodule
        git = os.path.join(folder, _text(git).removeprefix("gitdir:").strip())
    common = _text(os.path.join(git, "commondir")).strip()
    return os.path.join(git, common, "info", "exclude")


def _text(path: str) -> str:
    """Return what a file of git's says, nothing where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="surrogateescape")
    except OSError:
        return ""


# Decoding


class Decoded(NamedTuple):
    """A file's text with its line ends as they are, without the byte order mark `bom`."""

    data: bytes
    """The file as it was read."""
    text: str
    encoding: str
    bom: bytes


_BOM = b"\xef\xbb\xbf"
# Compiled by `re` when they are first used: most runs decode no file.
_LINE_END = rb"\r\n|\r|\n"
_COOKIE = rb"(?a)[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)"
_NO_CODE = rb"[ \t\f]*(#|$)"


def decode(data: bytes) -> Decoded:
    """Decode a file as Python does (PEP 263).

    Raises SourceError for bytes that Python would not read.
    """
    bom = _BOM if data.startswith(_BOM) else b""
    body = data[len(bom) :]
    if b"\0" in body:
        raise SourceError(_line_of(body, body.index(b"\0")), "it has a null byte")
    cookie, line = _cookie(body)
    if bom and cookie not in (None, "utf-8"):
        raise SourceError(line, f"it begins with a UTF-8 byte order mark but says {cookie!r}")
    encoding = cookie or "utf-8"
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        raise SourceError(
            _line_of(body, error.start), f"byte {body[error.start]:#04x} is not {encoding}"
        ) from error
    except (LookupError, UnicodeError) as error:
        raise SourceError(line, f"its encoding {encoding!r} is not known") from error
    return Decoded(data, text, encoding, bom)


def encode(decoded: Decoded) -> bytes:
    """Return the bytes of `text`: those that `decode` was given, but for a few odd encodings."""
    return decoded.bom + decoded.text.encode(decoded.encoding)


def _cookie(body: bytes) -> tuple[str | None, int]:
    """Return the encoding that one of the first two lines names, and that line's number."""
    for number, line in enumerate(re.split(_LINE_END, body, maxsplit=2)[:2], start=1):
        found = re.match(_COOKIE, line)
        if found:
            return _normal(found[1].decode()), number
        if not re.match(_NO_CODE, line):
            break
    return None, 1


def _normal(encoding: str) -> str:
    """Spell UTF-8 and Latin-1 in one way, as Python's tokenizer does; leave the others."""
    name = encoding[:12].lower().replace("_", "-")
    if name == "utf-8" or name.startswith("utf-8-"):
        return "utf-8"
    latin = ("latin-1", "iso-8859-1", "iso-latin-1")
    if name in latin or name.startswith(tuple(f"{other}-" for other in latin)):
        return "iso-8859-1"
    return encoding


def _line_of(body: bytes, offset: int) -> int:
    return len(re.findall(_LINE_END, body[:offset])) + 1
