"""The subject of an analysis or a metric: a trained model with its data, device, seeds and measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.data import Dataset
from harness.method import Batch, Method
from harness.plugins.registry import build
from harness.settings.config import Cell
from harness.settings.seeds import generator_for, seed_for
from harness.storage import snapshots
from harness.storage.runs import RunFolder
from harness.training.batches import Rows


class LeftOutError(Exception):
    """An analysis has nothing to look at in this run; the message says what is missing."""


@dataclass(frozen=True)
class Subject:
    """A trained model and what belongs to it.

    measured: the rows of its ``metrics.json``; for a metric, those that the harness measures. run: its folder.
    purpose: what looks at it.
    """

    cell: Cell
    model: Method
    data: Dataset
    device: torch.device
    measured: Sequence[Mapping[str, Any]]
    run: RunFolder
    purpose: str = "analysis"

    def generator(self, purpose: str | None = None) -> torch.Generator:
        """Random numbers of this cell for one purpose (default: its own), the same ones at every call."""
        cell = self.cell
        return generator_for(self.device, cell.dataset, cell.method, cell.variant, cell.seed, purpose or self.purpose)

    @property
    def test(self) -> Batch:
        """The test rows that estimates are made on, the same ones for every method: x [B, D], and y [B] or None."""
        return self.rows("test", self.cell.evaluation.rows)

    @property
    def n_samples(self) -> int:
        """Importance samples per row, as the settings of the evaluation have it."""
        return self.cell.evaluation.n_samples

    def rows(self, split: str, n: int | None) -> Batch:
        """n random rows of a split, the same ones for every method; all of them for None."""
        return Rows.of_split(self.data, split, self.device).random_part(n, seed_for(self.cell.dataset, f"{split} rows"))

    def measurement(self, metric: str) -> Mapping[str, Any] | None:
        """The measured row of a metric; None where there is none."""
        return next((row for row in self.measured if row["metric"] == metric and row["value"] is not None), None)

    def snapshots(self) -> Iterator[tuple[int, Method]]:
        """Updates whose weights were kept on the way, ascending, and the model with them, until the next is asked for.

        None where the cell keeps none. Raises DataError for missing files and those of another training.
        """
        n_updates = self.run.status()["n_updates"]
        kept = [update for update in snapshots.updates(self.cell.training) if update <= n_updates]
        model = build(self.cell.method, self.data.n_features, dict(self.cell.model)).to(self.device).eval()
        for update in kept:
            self.run.load_snapshot(update, model, self.cell)
            yield update, model
