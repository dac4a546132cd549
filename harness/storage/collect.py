"""Gathering the measurements of all runs into one tidy table, ``metrics.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness import atomic
from harness.errors import DataError
from harness.settings.config import Cell
from harness.storage import runs
from harness.storage.measurements import usable


def read_metrics(cells: Sequence[Cell], runs_folder: Path) -> pd.DataFrame:
    """One row per measured number of every cell.

    Raises DataError for a cell without ``metrics.json``, and for one whose measurements are of a model with other
    settings.
    """
    rows = []
    for cell in cells:
        run = runs_folder / cell.path
        found = runs.read_rows(run)
        digest = found[0].get("config_digest", cell.training_digest)
        if digest != cell.training_digest:
            raise DataError(run / "metrics.json", f"training digest {cell.training_digest}", digest)
        rows += found
    frame = pd.DataFrame(rows)
    return usable(frame, f"{runs_folder}/*/*/*/*/metrics.json")


def write_metrics(frame: pd.DataFrame, path: Path) -> None:
    """Write the parquet file atomically."""
    atomic.write(path, lambda temporary: frame.to_parquet(temporary, index=False))
