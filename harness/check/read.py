"""Reading a run: its measurements, and, where present, per-row values and digests of its weights."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.check.summary import Summary, summarize
from harness.comparison import columns
from harness.comparison.rows import read_rows
from harness.errors import DataError
from harness.storage.seals import check_seal

MODEL_AXES = ("dataset", "method", "variant", "seed")


def read_run(place: Path) -> pd.DataFrame:
    """The measurements of a run: ``metrics.parquet``, or the folder it is in. Raises DataError naming the file."""
    return columns.read_table(metrics_file(place), "the measurements of a run")


def metrics_file(place: Path) -> Path:
    """``metrics.parquet`` of a folder, or the file itself."""
    return place / "metrics.parquet" if place.is_dir() else place


def read_summary(place: Path) -> Summary:
    """A run with all that lies beside its measurements. Raises DataError naming the file."""
    path = metrics_file(place)
    rows = path.with_name("rows.parquet")
    for each in (path, rows):
        check_seal(each)
    metrics = read_run(place)
    listed = path.with_name("runs.csv")
    return summarize(
        metrics,
        path,
        read_rows(rows) if rows.is_file() else None,
        _models(listed) if listed.is_file() else None,
        rows,
    )


def _models(path: Path) -> dict[tuple[str, str, str, int], str]:
    """Digests of the weights by data set, method, variant and seed, of a published ``runs.csv``."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(path, "a table of trained models", error) from error
    columns.require(frame, (*MODEL_AXES, "model_sha256"), path)
    seeds = columns.integers(frame, "seed", path)
    cells = zip(frame["dataset"], frame["method"], frame["variant"], seeds.tolist(), strict=True)
    return dict(zip(cells, frame["model_sha256"], strict=True))
