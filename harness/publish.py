"""Publishing: the part of a run that is kept in git, below ``results/published/PRESET/``.

``metrics.parquet``, the tables, the figures (``png``, caption and data), what the searches found, the merged settings,
and ``runs.csv``: one line a trained model with its configuration and all that is known of how it was made, so that each
number can be traced to a cell that anyone can train again. No weights, and no sheets of pixels as csv: whoever trains
the cell again gets them to the bit. A published run may grow cell by cell, on several machines: with ``add``, cells and
trials that this run has not stay as they were published, if the settings still ask for the same; a cell that the
settings have no longer may stay as a trial.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import atomic, runs
from harness.collect import read_metrics, write_metrics
from harness.config import Cell, canonical_json
from harness.errors import HarnessError
from harness.search import trials, write_findings
from harness.tables import PlannedCell, write_tables

KEY = ("dataset", "method", "variant", "seed")
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


@dataclass(frozen=True)
class _Earlier:
    """What was published before, as far as another call may keep it: text is kept as it stands."""

    runs: Mapping[tuple[str, str, str, str], Mapping[str, str]]  # by cell: data set, method, variant, seed
    metrics: pd.DataFrame
    trials: pd.DataFrame | None
    figures: Sequence[Path]

    def line(self, cell: Cell) -> Mapping[str, str] | None:
        """The line of ``runs.csv`` that trained and measured ``cell`` as it is now; None where there is none."""
        line = self.runs.get((cell.dataset, cell.method, cell.variant, str(cell.seed)))
        now = {"training_digest": cell.training_digest, "evaluation": canonical_json(cell.to_dict()["evaluation"])}
        return line if line and all(line[key] == value for key, value in now.items()) else None

    def rows(self, cell: Cell) -> pd.DataFrame:
        """The measurements of ``cell``."""
        of_cell = [self.metrics[key] == getattr(cell, key) for key in KEY]
        return self.metrics[np.logical_and.reduce(of_cell)]


def publish(
    cells: Sequence[Cell],
    models: Sequence[PlannedCell],
    settings: Mapping[str, Any],
    results: Path,
    folder: Path,
    add: bool = False,
) -> list[Path]:
    """Put what is worth keeping of the run in ``results`` in place of ``folder``, all of it at once; the files written.

    models: what tables have cells for. add: where the run lacks a cell, a trial or a figure, keep the one in
    ``folder``, if it is of the same settings. Raises HarnessError where a cell has no measurements, or where its folder
    holds those of other settings.
    """
    earlier = _read_earlier(folder) if add and folder.exists() else None
    metrics, listed = _gathered(cells, results / "runs", earlier)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a call that was cut short
    write_metrics(metrics, part / "metrics.parquet")
    atomic.write(part / "runs.csv", lambda temporary: listed.to_csv(temporary, index=False))
    places = {"mirrors": [], "cache": None, "paths": {}}  # of the machine that the run was made on
    atomic.write_json(part / "settings.json", {**settings, "data": {**settings["data"], **places}})
    write_tables(metrics, models, settings["preset"], part / "tables")
    known = [_as_trials(listed)]
    if earlier:
        known += [_as_trials(pd.DataFrame(earlier.runs.values())), earlier.trials]
    if (earlier and earlier.trials is not None) or (results / "searches.csv").is_file():
        before = pd.concat(known, ignore_index=True)
        write_findings(trials(settings), results / "searches", part / "searches.csv", before)
    drawings = results / "figures"
    figures = [path for form in ("png", "rst", "csv") for path in sorted(drawings.glob(f"figure_*.{form}"))]
    drawn = {path.stem for path in figures}
    figures += [path for path in (earlier.figures if earlier else ()) if path.stem not in drawn]
    for path in figures:
        if path.stat().st_size <= LARGEST.get(path.suffix, math.inf):
            copy = part / "figures" / path.name
            atomic.write(copy, lambda temporary, path=path: shutil.copyfile(path, temporary))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read_earlier(folder: Path) -> _Earlier:
    found = folder / "searches.csv"
    listed = pd.read_csv(folder / "runs.csv", dtype=str, keep_default_na=False).to_dict("records")
    return _Earlier(
        runs={tuple(line[key] for key in KEY): line for line in listed},
        metrics=pd.read_parquet(folder / "metrics.parquet"),
        trials=pd.read_csv(found, keep_default_na=False) if found.exists() else None,
        figures=sorted((folder / "figures").glob("figure_*")),
    )


def _gathered(cells: Sequence[Cell], folder: Path, earlier: _Earlier | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measurements and lines of all cells, those of this run before those of the earlier one."""
    frames, lines = [], []
    for cell in cells:
        kept = earlier.line(cell) if earlier and not (folder / cell.path / "metrics.json").exists() else None
        frames.append(earlier.rows(cell) if kept else read_metrics([cell], folder))
        lines.append(kept or _line(cell, folder / cell.path))
    return pd.concat(frames, ignore_index=True), pd.DataFrame(lines)


def _as_trials(listed: pd.DataFrame) -> pd.DataFrame:
    """What a search would have found of trained cells: a trial that is one of them need not be trained as well."""
    trained = listed[listed["status"].isin(runs.HAVE_MODEL)]
    return trained.assign(validation_loss=pd.to_numeric(trained["best_validation"]), sem=math.nan)


def _line(cell: Cell, run: Path) -> dict[str, Any]:
    """One trained model: its cell, and what ``status.json`` knows of it."""
    status = runs.read_status(run)
    found = status.get("training_digest", cell.training_digest)  # none of data that could not be had
    if found != cell.training_digest:
        raise HarnessError(f"{run / 'status.json'}: expected training digest {cell.training_digest}, found {found}")
    values = cell.to_dict()
    parts = {part: canonical_json(values[part]) for part in ("model", "training", "evaluation")}
    named = {key: values[key] for key in KEY}
    return {**named, **{key: status.get(key) for key in FACTS}, **parts}
