"""Finding data sets that others bring: by a file in ``datasets/``, by settings, or by the entry point of a package.

Such a file says ``DATA``, what the settings would say of a data set (its paths count from the file's folder), or has a
function ``load()`` that returns the arrays train, valid and test. ``TITLE``, ``SOURCE`` and ``LICENCE`` are words that
lists show; they are read from the text, and nothing is run until the data are asked for.
"""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from harness.compute.places import ROOT
from harness.errors import ConfigError, HarnessError
from harness.plugins.names import wrong_name
from harness.plugins.registry import module_in
from harness.plugins.sources import module_file, tree

ENTRY_POINT_GROUP = "bihm_harness.datasets"
FOLDER = ROOT / "datasets"
DATA, LOAD = "DATA", "load"
WORDS = ("TITLE", "SOURCE", "LICENCE")
_named_files: dict[str, Path] = {}  # data set -> its file, of the settings that were read last


@dataclass(frozen=True)
class ListedData:
    """A data set of a plugin, by its text alone. file: where it is. origin: that, or its package and version."""

    name: str
    file: Path
    origin: str
    title: str
    source: str
    licence: str


def use_dataset_files(paths: Iterable[Path]) -> None:
    """Make known the data set in each of these files, whose name is the file's; files of an earlier call are forgotten.

    Raises ConfigError for what is not a Python file that has a data set, and for a name that is taken.
    """
    _named_files.clear()
    for path in (Path(os.path.abspath(each)) for each in paths):
        if path.suffix != ".py" or not path.is_file():
            raise ConfigError(
                f"datasets: {path}: expected a Python file, found {'another' if path.exists() else 'none'}"
            )
        if wrong := wrong_name(path.stem):
            raise ConfigError(f"datasets: {path}: {wrong}")
        if not _has_data(path):
            raise ConfigError(f"datasets: {path}: expected {DATA} = {{...}} or a function {LOAD}(), found neither")
        taken = next((name for name in plugin_datasets() if name.casefold() == path.stem.casefold()), None)
        if taken is not None and _file_of(taken) != path:
            raise ConfigError(f"datasets: {path}: expected an unused name, found that of {_file_of(taken)}")
        _named_files[path.stem] = path


def plugin_datasets() -> list[str]:
    """Names of all data sets that plugins bring, sorted."""
    return sorted({*_in_folder(), *_named_files, *_published()})


def listed_data(name: str) -> ListedData:
    """The data set of a plugin. Raises HarnessError where its text cannot be found or read."""
    file = _file_of(name)
    entry = _published().get(name) if file is None else None
    if file is None:
        if entry is None:
            raise ConfigError(f"data set: expected one of {', '.join(plugin_datasets())}, found {name!r}")
        file = module_file(entry.module)
    origin = f"{entry.dist.name} {entry.dist.version}" if entry is not None and entry.dist else str(file)
    title, source, licence = (_word(file, word) for word in WORDS)
    return ListedData(name, file, origin, title, source, licence)


def dataset_module(name: str) -> ModuleType:
    """The module of a plugin's data set, which is run. Raises HarnessError where it cannot be imported."""
    file = _file_of(name)
    try:
        return module_in(file, "dataset") if file else importlib.import_module(_published()[name].module)
    except SystemExit as error:
        raise HarnessError(f"data set {name}: expected a module that can be imported, found sys.exit()") from error
    except Exception as error:  # any that the module may raise
        raise HarnessError(f"data set {name}: expected a module that can be imported, found {error!r}") from error


def _file_of(name: str) -> Path | None:
    """The file of a data set that is in no package."""
    return _named_files.get(name) or _in_folder().get(name)


def _in_folder() -> dict[str, Path]:
    """Data sets in the folder; other scripts may lie there as well."""
    paths = sorted(FOLDER.glob("*.py")) if FOLDER.is_dir() else []
    return {path.stem: Path(os.path.abspath(path)) for path in paths if not wrong_name(path.stem) and _has_data(path)}


@cache
def _published() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _has_data(path: Path) -> bool:
    try:
        body = tree(path).body
    except HarnessError:
        return False
    has_load = any(isinstance(node, ast.FunctionDef) and node.name == LOAD for node in body)
    return has_load or any(DATA in _targets(node) for node in body)


def _word(path: Path, name: str) -> str:
    """A constant word of a module; '' where there is none."""
    for node in tree(path).body:
        if name in _targets(node) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return node.value.value
    return ""


def _targets(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []
