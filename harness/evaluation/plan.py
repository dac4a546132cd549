"""The analyses that a cell is due, by the configuration: read by the workflow, so nothing here imports PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.plugins.analyses import is_of_ablations, needs
from harness.plugins.listing import listed
from harness.settings.check import analysis_settings
from harness.settings.config import Cell, canonical_json, chosen_analyses, is_ablation


@dataclass(frozen=True)
class Planned:
    """One analysis of one cell.

    lacks: the capabilities that it needs and the method does not have; if there are none, it is run.
    """

    name: str
    settings: Mapping[str, Any]
    lacks: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 of name and settings."""
        return hashlib.sha256(canonical_json([self.name, self.settings]).encode()).hexdigest()


def analyses_of(settings: Mapping[str, Any], cell: Cell) -> list[Planned]:
    """The analyses that the configuration asks for; more specific settings win, ``null`` takes one away.

    Where entries of the cell name some ``analyses``, no others are done.
    """
    chosen = chosen_analyses(settings, cell)
    ablation = is_ablation(settings, cell)
    due = {}
    for name in settings["analyses"]:
        if is_of_ablations(name) != ablation or (chosen is not None and name not in chosen):
            continue
        values = analysis_settings(settings, name, cell.dataset)
        if values is not None:
            due[name] = values
    has = listed(cell.method).capabilities if due else ()
    return [
        Planned(name, values, tuple(each for each in needs(name) if each not in has)) for name, values in due.items()
    ]
