"""Gathering the measurements of all runs into one tidy table, ``metrics.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness import atomic, runs
from harness.config import Cell
from harness.measurements import usable


def read_metrics(cells: Sequence[Cell], runs_folder: Path) -> pd.DataFrame:
    """One row a measured number of every cell; raises DataError for a cell without ``metrics.json``."""
    rows = []
    for cell in cells:
        rows += runs.read_rows(runs_folder / cell.path)
    frame = pd.DataFrame(rows)
    return usable(frame, f"{runs_folder}/*/*/*/*/metrics.json")


def write_metrics(frame: pd.DataFrame, path: Path) -> None:
    """Write the parquet file atomically."""
    atomic.write(path, lambda temporary: frame.to_parquet(temporary, index=False))
