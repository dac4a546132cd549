"""The analyses that a cell is due, by the configuration: read by the workflow, so nothing here imports PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.plugins.analyses import code, is_of_ablations, needs
from harness.plugins.finding import name_of
from harness.plugins.listing import listed
from harness.settings.check import analysis_settings
from harness.settings.config import Cell, canonical_json, chosen_analyses, is_ablation


@dataclass(frozen=True)
class Planned:
    """One analysis of one cell.

    lacks: the capabilities that it needs and the method does not have; if there are none, it is run. code: sha256 of a
    user's analysis, whose results are not kept when it changes; '' of a built-in one.
    """

    name: str
    settings: Mapping[str, Any]
    lacks: tuple[str, ...]
    code: str = ""

    @property
    def digest(self) -> str:
        """sha256 of name, settings and code."""
        parts = [self.name, self.settings, *([self.code] if self.code else [])]
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def analyses_of(settings: Mapping[str, Any], cell: Cell) -> list[Planned]:
    """The analyses that the configuration asks for; more specific settings win, ``null`` takes one away.

    Where entries of the cell name some ``analyses``, no others are done.
    """
    chosen = chosen_analyses(settings, cell)
    ablation = is_ablation(settings, cell)
    due = {}
    for asked in settings["analyses"]:
        name = name_of(asked)
        if is_of_ablations(name) != ablation or (chosen is not None and name not in chosen):
            continue
        values = analysis_settings(settings, asked, cell.dataset)
        if values is not None:
            due[name] = values
    has = listed(cell.method).capabilities if due else ()
    return [
        Planned(name, values, tuple(each for each in needs(name) if each not in has), code(name))
        for name, values in due.items()
    ]
