"""Which analyses a cell is due, by the configuration: read by the workflow, so nothing here imports PyTorch."""

from __future__ import annotations

import ast
import hashlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.config import ANY, Cell, canonical_json, chosen_analyses, is_ablation, merged
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


def needs(name: str) -> tuple[str, ...]:
    """The capabilities that an analysis is made from; raises HarnessError for a module that does not say so."""
    found = _constant(name, "NEEDS")
    if found is None:
        raise HarnessError(f"{FOLDER / name}.py: expected NEEDS = (capability, ...), found none")
    return tuple(found)


def is_of_ablations(name: str) -> bool:
    """Whether an analysis looks at the ablations, and at nothing else."""
    return bool(_constant(name, "ABLATIONS"))


@cache
def _constant(name: str, constant: str) -> Any:
    """A literal in the source of an analysis; None where there is none of this name."""
    for node in ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == [constant]:
            return ast.literal_eval(node.value)
    return None


def analyses_of(settings: Mapping[str, Any], cell: Cell) -> list[Planned]:
    """What the configuration asks for the data set of a cell; more specific settings win, ``null`` takes one away.

    Where entries of the cell name some ``analyses``, no others are done. Raises ConfigError for an analysis that does
    not exist, or one of neither a data set nor a group.
    """
    _check_names(settings)
    chosen = chosen_analyses(settings, cell)
    _check_known(f"analyses of {cell.method}/{cell.dataset}", chosen or ())
    ablation = is_ablation(settings, cell)
    groups = [group for group, members in settings["groups"].items() if cell.dataset in members]
    planned = []
    for name, entries in settings["analyses"].items():
        if is_of_ablations(name) != ablation or (chosen is not None and name not in chosen):
            continue
        values: dict[str, Any] | None = None
        for key in dict.fromkeys((ANY, *groups, cell.dataset)):
            if key in (entries or {}):
                values = None if entries[key] is None else merged(values or {}, entries[key])
        if values is not None:
            has = listed(cell.method).capabilities
            planned.append(Planned(name, values, tuple(each for each in needs(name) if each not in has)))
    return planned


def _check_known(place: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in analysis_names():
            raise ConfigError(f"{place}: expected some of {', '.join(analysis_names())}, found {name!r}")


def _check_names(settings: Mapping[str, Any]) -> None:
    keys = (ANY, *settings["groups"], *CATALOGUE)
    _check_known("analyses", settings["analyses"])
    for name, entries in settings["analyses"].items():
        for key in entries or {}:
            if key not in keys:
                raise ConfigError(f"analyses.{name}: expected a data set or group ({', '.join(keys)}), found {key!r}")
