"""Which analyses a cell is due, by the configuration: read by the workflow, so nothing here imports PyTorch."""

from __future__ import annotations

import ast
import hashlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.config import ANY, Cell, canonical_json, merged
from harness.data import CATALOGUE
from harness.errors import ConfigError, HarnessError
from harness.listing import listed

FOLDER = Path(__file__).parent
MACHINERY = ("manifest", "perform", "plan", "subject")  # modules of this package that are no analysis


@dataclass(frozen=True)
class Planned:
    """One analysis of one cell.

    lacks: the capabilities that it needs and the method has not; without any, it is done.
    """

    name: str
    settings: Mapping[str, Any]
    lacks: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 of name and settings."""
        return hashlib.sha256(canonical_json([self.name, self.settings]).encode()).hexdigest()


def analysis_names() -> list[str]:
    """All analyses, sorted."""
    modules = pkgutil.iter_modules([str(FOLDER)])
    return sorted(module.name for module in modules if module.name not in MACHINERY)


@cache
def needs(name: str) -> tuple[str, ...]:
    """The capabilities that an analysis is made from; raises HarnessError for a module that does not say so."""
    path = FOLDER / f"{name}.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["NEEDS"]:
            return tuple(ast.literal_eval(node.value))
    raise HarnessError(f"{path}: expected NEEDS = (capability, ...), found none")


def analyses_of(settings: Mapping[str, Any], cell: Cell) -> list[Planned]:
    """What the configuration asks for the data set of a cell; more specific settings win, ``null`` takes one away.

    Raises ConfigError for an analysis that does not exist, or one of neither a data set nor a group.
    """
    _check_names(settings)
    groups = [group for group, members in settings["groups"].items() if cell.dataset in members]
    planned = []
    for name, entries in settings["analyses"].items():
        values: dict[str, Any] | None = None
        for key in dict.fromkeys((ANY, *groups, cell.dataset)):
            if key in (entries or {}):
                values = None if entries[key] is None else merged(values or {}, entries[key])
        if values is not None:
            has = listed(cell.method).capabilities
            planned.append(Planned(name, values, tuple(each for each in needs(name) if each not in has)))
    return planned


def _check_names(settings: Mapping[str, Any]) -> None:
    keys = (ANY, *settings["groups"], *CATALOGUE)
    for name, entries in settings["analyses"].items():
        if name not in analysis_names():
            raise ConfigError(f"analyses: expected some of {', '.join(analysis_names())}, found {name!r}")
        for key in entries or {}:
            if key not in keys:
                raise ConfigError(f"analyses.{name}: expected a data set or group ({', '.join(keys)}), found {key!r}")
