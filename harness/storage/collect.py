"""Gathering the measurements of all runs into one tidy table, ``metrics.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness import atomic
from harness.errors import DataError
from harness.settings.config import Cell
from harness.storage.measurements import NEEDED, usable
from harness.storage.runs import RunFolder


def measured(cells: Sequence[Cell], runs_folder: Path) -> list[Cell]:
    """Those of the cells that have measurements of their present settings; raises DataError for damaged ones."""

    def is_measured(cell: Cell) -> bool:
        run = RunFolder(runs_folder / cell.path)
        return run.metrics_file.exists() and _digest_in(run, cell) == cell.training_digest

    return [cell for cell in cells if is_measured(cell)]


def _digest_in(run: RunFolder, cell: Cell) -> str:
    """The training digest in the measurements; where nothing was trained they have none."""
    return run.measurements()[0].get("config_digest", cell.training_digest)


def read_metrics(cells: Sequence[Cell], runs_folder: Path) -> pd.DataFrame:
    """One row per measured number of every cell.

    Raises DataError for a cell without ``metrics.json``, and for one whose measurements are of another model.
    """
    rows = []
    for cell in cells:
        run = RunFolder(runs_folder / cell.path)
        found = run.measurements()
        digest = _digest_in(run, cell)
        if digest != cell.training_digest:
            raise DataError(run.metrics_file, f"training digest {cell.training_digest}", digest)
        _check_model(run, found[0].get("model_sha256"))
        rows += found
    frame = pd.DataFrame(rows, columns=None if rows else [*NEEDED])
    return usable(frame, RunFolder(runs_folder / "*/*/*/*").metrics_file)


def _check_model(run: RunFolder, measured: str | None) -> None:
    """Raises DataError where the model was trained again after it was measured, as by ``harness train`` alone."""
    if measured is None or not run.status_file.exists():
        return
    trained = run.status().get("model_sha256")
    if trained != measured:
        expected = f"measurements of the model of sha256 {trained}; `harness evaluate` makes them"
        raise DataError(run.metrics_file, expected, f"those of {measured}")


def write_metrics(frame: pd.DataFrame, path: Path) -> None:
    """Write the parquet file atomically."""
    atomic.write(path, lambda temporary: frame.to_parquet(temporary, index=False))
