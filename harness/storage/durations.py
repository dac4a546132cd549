"""How long cells take, for the order in which they start: no result depends on it.

The published runs say how many seconds an update of a cell takes on a CPU. A cell that none of them has costs what
others of its method do, and one of an unknown method what all do at the median.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from harness.compute.places import PUBLISHED
from harness.settings.config import Cell

MEASURING = 2.0  # seconds that a cell takes besides its training, roughly
UNKNOWN = 0.005  # seconds per update where nothing was published


class Durations:
    """Seconds per cell on one core, as the publications in ``published`` have them, that of ``preset`` first."""

    def __init__(self, preset: str, published: Path = PUBLISHED):
        by_cell, by_method = defaultdict(list), defaultdict(list)
        everything = []
        for path in sorted(published.glob("*/runs.csv"), key=lambda path: path.parent.name == preset):
            of_preset = defaultdict(list)
            for key, seconds in _per_update(path):
                of_preset[key].append(seconds)
                by_method[key[1]].append(seconds)
                everything.append(seconds)
            by_cell.update(of_preset)
        self._by_cell = {key: median(found) for key, found in by_cell.items()}
        self._by_method = {method: median(found) for method, found in by_method.items()}
        self._of_all = median(everything) if everything else UNKNOWN

    def seconds(self, cell: Cell) -> float:
        """Of training and measuring a cell."""
        known = self._by_cell.get((cell.dataset, cell.method, cell.variant))
        per_update = known if known is not None else self._by_method.get(cell.method, self._of_all)
        return MEASURING + per_update * max(1, sum(phase.updates for phase in cell.training.phases))


def _per_update(path: Path) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Data set, method, variant and seconds per update, or in all where a closed form has none, of published cells."""
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            try:
                seconds, updates = float(line["train_seconds"]), float(line["n_updates"])
            except (KeyError, ValueError):  # a cell without a model
                continue
            yield (line["dataset"], line["method"], line["variant"]), seconds / max(1.0, updates)
