"""Publishing: the part of a run that is kept in git, below ``results/published/PRESET/``.

``metrics.parquet``, the tables, the figures (``png``, caption and data), what the searches found, the merged settings,
and ``runs.csv``: one line a trained model with its configuration and all that is known of how it was made, so that each
number can be traced to a cell that anyone can train again. No weights, and no sheets of pixels as csv: whoever trains
the cell again gets them to the bit.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness import atomic, runs
from harness.collect import read_metrics, write_metrics
from harness.config import Cell, canonical_json
from harness.errors import HarnessError

LARGEST = {".csv": 300_000}  # bytes of one published file: sheets of pixels are larger
FACTS = (
    "status",
    "n_updates",
    "best_update",
    "best_validation",
    "train_seconds",
    "n_parameters",
    "device",
    "threads",
    "training_products",
    "training_digest",
    "data_digest",
    "model_sha256",
    "git_commit",
)


def publish(cells: Sequence[Cell], settings: Mapping[str, Any], results: Path, folder: Path) -> list[Path]:
    """Put what is worth keeping of the run in ``results`` in place of ``folder``, all of it at once; the files written.

    Raises HarnessError where a cell has no measurements, or where its folder holds those of other settings.
    """
    metrics = read_metrics(cells, results / "runs")
    listed = pd.DataFrame([_line(cell, results / "runs" / cell.path) for cell in cells])
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a call that was cut short
    write_metrics(metrics, part / "metrics.parquet")
    atomic.write(part / "runs.csv", lambda temporary: listed.to_csv(temporary, index=False))
    places = {"mirrors": [], "cache": None, "paths": {}}  # of the machine that the run was made on
    atomic.write_json(part / "settings.json", {**settings, "data": {**settings["data"], **places}})
    kept = [results / "searches.csv", *sorted((results / "tables").glob("table_*"))]
    kept += [path for form in ("png", "rst", "csv") for path in sorted((results / "figures").glob(f"figure_*.{form}"))]
    for path in kept:
        if path.is_file() and path.stat().st_size <= LARGEST.get(path.suffix, math.inf):
            atomic.write(
                part / path.relative_to(results), lambda temporary, path=path: shutil.copyfile(path, temporary)
            )
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _line(cell: Cell, run: Path) -> dict[str, Any]:
    """One trained model: its cell, and what ``status.json`` knows of it."""
    status = runs.read_json(run / "status.json")
    found = status.get("training_digest", cell.training_digest)  # none of data that could not be had
    if found != cell.training_digest:
        raise HarnessError(f"{run / 'status.json'}: expected training digest {cell.training_digest}, found {found}")
    values = cell.to_dict()
    parts = {part: canonical_json(values[part]) for part in ("model", "training", "evaluation")}
    named = {key: values[key] for key in ("dataset", "method", "variant", "seed")}
    return {**named, **{key: status.get(key) for key in FACTS}, **parts}
