"""Finding what users bring of a kind: metrics, analyses, tables, figures and claims, all in the same way.

Each is one Python file, called as the thing is. Settings ask for it by its file, or by its name where a file of that
name lies in the folder of the kind (``tables/``, ``figures/`` ...) or an installed package brings it in the entry-point
group ``bihm_harness.KIND``. What a file says is read from its text; nothing is run until its function is needed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType

from harness.compute.places import ROOT
from harness.errors import ConfigError, HarnessError
from harness.plugins.names import wrong_name
from harness.plugins.registry import module_in
from harness.plugins.sources import module_file, tree

BUILT_IN_ORIGIN = "built in"


@dataclass(frozen=True)
class Place:
    """Where a plugin is. origin: its file, or its package and version. package: that; '' of a mere file."""

    file: Path
    origin: str
    package: str = ""


class Registry:
    """What users bring of one kind.

    kind: as the setting, the folder and the entry-point group are called. word: one of the kind. function: what each
    file must have, by which it is told from other scripts in the folder. taken: names that no user can have.
    """

    def __init__(self, kind: str, word: str, function: str, taken: Callable[[], Collection[str]] = tuple):
        self.kind, self.word, self.function, self.taken = kind, word, function, taken
        self.folder = ROOT / kind
        self._named_files: dict[str, Path] = {}  # of the settings that were read last

    def use(self, asked: Iterable[str]) -> list[str]:
        """Make known what settings ask for: ``*.py`` is a file, relative to the root, all else a name; the names.

        Files of an earlier call are forgotten. Raises ConfigError for what is no such file or name, and for names that
        are taken.
        """
        asked, seen = list(asked), set()
        self._named_files.clear()
        for each in asked:
            name = name_of(each)
            if is_file(each):
                self._named_files[name] = self._file(each, name)
            # file systems that do not tell capitals apart have one file for both
            if name.casefold() in seen:
                raise ConfigError(f"{self.kind}: {each}: expected an unused name, found {name!r} twice")
            seen.add(name.casefold())
            self.place(name)
        return [name_of(each) for each in asked]

    def _file(self, asked: str, name: str) -> Path:
        path = Path(os.path.abspath(ROOT / Path(asked).expanduser()))
        if not path.is_file():
            raise ConfigError(f"{self.kind}: {path}: expected a Python file, found none")
        if wrong := wrong_name(name):
            raise ConfigError(f"{self.kind}: {path}: {wrong}")
        owner = _origin(entry) if (entry := self._published(name)) else self._in_folder(name)
        if owner is not None and owner != path:
            raise ConfigError(f"{self.kind}: {path}: expected an unused name, found {name!r}, that of {owner}")
        return path

    def names(self) -> list[str]:
        """Names of all that can be asked for, sorted."""
        folder = self.folder.glob("*.py") if self.folder.is_dir() else ()
        in_folder = {path.stem for path in folder if not wrong_name(path.stem) and _has(path, self.function)}
        published = {entry.name for entry in _entry_points().select(group=self.group)}
        return sorted({*self._named_files, *in_folder, *published} - set(self.taken()))

    @property
    def group(self) -> str:
        """The entry-point group."""
        return f"bihm_harness.{self.kind}"

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or name in self.taken():
            return False
        return name in self._named_files or self._in_folder(name) is not None or self._published(name) is not None

    def place(self, name: str) -> Place:
        """Where a plugin is. Raises ConfigError for a name that is not known, or that cannot be one's own."""
        if name in self.taken():
            raise ConfigError(f"{self.kind}: {name}: expected a name that the harness has no use for")
        path, entry = self._named_files.get(name) or self._in_folder(name), self._published(name)
        if path is not None and entry is not None:
            raise ConfigError(f"{self.kind}: {path}: expected an unused name, found {name!r}, that of {_origin(entry)}")
        if path is not None:
            return Place(path, str(path))
        if entry is None:
            known = ", ".join(self.names()) or "none is installed"
            expected = f"a file (*.py) or the name of {with_article(self.word)} ({known})"
            raise ConfigError(f"{self.kind}: expected {expected}, found {name!r}")
        try:
            return Place(module_file(entry.module), _origin(entry), _origin(entry))
        except HarnessError as error:
            raise ConfigError(f"{self.kind}: {name} of {_origin(entry)}: {error}") from error

    def module(self, name: str) -> ModuleType:
        """The module of a plugin, which is run; it may raise anything.

        Anew each time where it is a file: a program that goes on, such as a notebook, may have read an earlier text.
        """
        place = self.place(name)
        entry = self._published(name)
        return (
            importlib.import_module(entry.module)
            if place.package and entry
            else module_in.__wrapped__(place.file, self.word)
        )

    def code(self, name: str) -> str:
        """sha256 of the code of a plugin: that of one file; of a package, after its name and version."""
        place = self.place(name)
        return hashlib.sha256(place.package.encode() + place.file.read_bytes()).hexdigest()

    def _in_folder(self, name: str) -> Path | None:
        path = self.folder / f"{name}.py"
        return Path(os.path.abspath(path)) if not wrong_name(name) and path.is_file() else None

    def _published(self, name: str) -> EntryPoint | None:
        return next(iter(_entry_points().select(group=self.group, name=name)), None)


@cache
def _entry_points() -> EntryPoints:
    """Those of all packages, which take a while to find."""
    return entry_points()


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def is_file(asked: str) -> bool:
    """Whether what settings ask for is a file, not a name."""
    return asked.endswith(".py")


def name_of(asked: str) -> str:
    """The name of what settings ask for: a file's without ``.py``, or the word itself."""
    return Path(asked).stem if is_file(asked) else asked


def with_article(word: str) -> str:
    """``a table``, ``an analysis``."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _has(path: Path, function: str) -> bool:
    try:
        return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree(path).body)
    except HarnessError:
        return False
