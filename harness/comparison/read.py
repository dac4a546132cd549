"""The comparison of a run as it lies on the disk: ``metrics.parquet`` and ``rows.parquet``, or model by model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.comparison.compare import Comparison, compare
from harness.comparison.models import models_of
from harness.comparison.rows import RowKey, RowValues, read_rows
from harness.errors import DataError
from harness.evaluation import per_row
from harness.plugins.metrics import HIGHER, NEITHER
from harness.settings.config import Cell
from harness.storage.measurements import read_measurements
from harness.storage.runs import RunFolder
from harness.storage.seals import check_seal

LIKELIHOOD = "-log p"


@dataclass(frozen=True)
class Measurements:
    """The measurements of a run and its values per row. left_out: cells that are not to be compared, as ablations."""

    metrics: pd.DataFrame
    rows: Mapping[RowKey, RowValues]
    path: Path
    left_out: Set[tuple[str, str, str]] = frozenset()

    def compare(self, level: float, power: float, metric: str = LIKELIHOOD) -> Comparison:
        """All methods on ``metric``. Raises DataError, naming the file, where no cell has it, or nothing is better."""
        models = models_of(self.metrics, self.rows, metric, self.path, self.left_out)
        if not models:
            raise DataError(self.path, f"measurements of {metric}", ", ".join(self.known) or "no measurements")
        better = self._better(metric)
        if better == NEITHER:
            raise DataError(self.path, "a metric of which more or less is better", f"{metric}, which has no direction")
        return compare(models, metric, level, power, better == HIGHER if better else None)

    def _better(self, metric: str) -> str:
        """What is better in a metric of a user; '' for one of the harness."""
        if "better" not in self.metrics:
            return ""
        said = self.metrics["better"][self.metrics["metric"].eq(metric)].dropna()
        return "" if said.empty else str(said.iloc[0])

    @property
    def known(self) -> list[str]:
        """The metrics that some cell has."""
        return sorted({metric for metric in self.metrics["metric"] if metric})


def read_measured(place: Path, left_out: Set[tuple[str, str, str]] = frozenset()) -> Measurements:
    """A run: a folder of results, or its ``metrics.parquet``. Raises DataError, naming the file, for a damaged one."""
    path = place / "metrics.parquet" if place.is_dir() else place
    beside = path.with_name("rows.parquet")
    for each in (path, beside):
        check_seal(each)
    return Measurements(read_measurements(path), read_rows(beside) if beside.is_file() else {}, path, left_out)


def measured_models(
    cells: Sequence[Cell],
    runs: Path,
    metrics: pd.DataFrame,
    wanted: Collection[str],
    left_out: Set[tuple[str, str, str]] = frozenset(),
) -> Measurements:
    """The same of the models in the folder ``runs``, whose measurements are ``metrics``; rows of the ``wanted`` ones.

    Raises DataError for a model whose values per row are not those that were measured.
    """
    rows: dict[RowKey, RowValues] = {}
    for cell in cells:
        found = per_row.read(RunFolder(runs / cell.path))
        if found is None:
            continue
        frame = found.to_pandas()
        for metric, lines in frame[frame["metric"].isin(wanted)].groupby("metric", observed=True):
            key = RowKey(cell.dataset, cell.method, cell.variant, cell.seed, str(metric))
            ordered = lines.sort_values("row")
            rows[key] = RowValues(ordered["row"].to_numpy(), ordered["value"].to_numpy())
    return Measurements(metrics, rows, runs, left_out)
