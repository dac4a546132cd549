"""Which of several methods is better, and what moved between two runs of the workflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, overload

import pandas as pd

from harness.api.results import Results
from harness.api.run import Run
from harness.check.moved import frame_of
from harness.check.moved_page import compare_runs
from harness.check.rules import Rules
from harness.comparison.compare import Comparison
from harness.comparison.read import LIKELIHOOD, Measurements, read_measured
from harness.comparison.rows import RowKey, RowValues
from harness.errors import ConfigError
from harness.settings.config import cells_named, load_settings
from harness.storage.measurements import usable

Place = str | Path | Results


@overload
def compare(a: Place | Iterable[Run], *, metric: str = ..., settings: Mapping[str, Any] | None = ...) -> Comparison: ...


@overload
def compare(a: Place, b: Place, *, settings: Mapping[str, Any] | None = ...) -> pd.DataFrame: ...


def compare(
    a: Place | Iterable[Run],
    b: Place | None = None,
    *,
    metric: str = LIKELIHOOD,
    settings: Mapping[str, Any] | None = None,
) -> Comparison | pd.DataFrame:
    """Compare methods with each other, or one run of the workflow with another.

    ``compare(folder)`` and ``compare([run, run, ...])``: all methods of a folder of results, or these trained models,
    in pairs on the same test rows, and by ranks over data sets: a ``Comparison``, whose ``frame`` has a row per pair.
    ``compare(folder, other)``: what moved from ``other`` to ``folder``, a row per number, what moved first; the columns
    are those of ``moved.csv`` (docs/results.md). Level and power are those of the section ``check`` of the settings.
    Raises DataError that names the file, and ConfigError for anything else than folders and runs.
    """
    known = load_settings(settings)
    if b is not None:
        return frame_of(compare_runs(_folder(a), _folder(b), Rules.from_settings(known)))
    if isinstance(a, (str, Path, Results)):
        ablations = cells_named(known, "ablations")
        measured = read_measured(_folder(a), {(dataset, method, variant) for method, dataset, variant in ablations})
    else:
        measured = _of_runs(list(a))
    return measured.compare(known["check"]["level"], known["check"]["power"], metric)


def _folder(place: object) -> Path:
    if isinstance(place, Results):
        return place.folder
    if isinstance(place, (str, Path)):
        return Path(place)
    raise ConfigError(f"compare: expected a folder of results, found {type(place).__name__}")


def _of_runs(runs: list[Run]) -> Measurements:
    """The measurements of single runs. Several of one cell, with other settings, are told apart by a number."""
    wrong = [type(run).__name__ for run in runs if not isinstance(run, Run)]
    if wrong or len(runs) < 2:
        found = wrong[0] if wrong else f"{len(runs)}"
        raise ConfigError(f"compare: expected a folder of results, or two or more runs, found {found}")
    frames: list[pd.DataFrame] = []
    rows: dict[RowKey, RowValues] = {}
    seen: dict[tuple[str, str, str, int], int] = {}
    for run in runs:
        cell = run.cell
        place = (cell.dataset, cell.method, cell.variant, cell.seed)
        seen[place] = seen.get(place, 0) + 1
        variant = cell.variant if seen[place] == 1 else f"{cell.variant} {seen[place]}".strip()
        frames.append(usable(run.metrics, run.folder).assign(variant=variant))
        for metric, lines in run.rows.sort_values("row").groupby("metric", observed=True):
            key = RowKey(cell.dataset, cell.method, variant, cell.seed, str(metric))
            rows[key] = RowValues(lines["row"].to_numpy(), lines["value"].to_numpy())
    return Measurements(pd.concat(frames, ignore_index=True), rows, runs[0].folder)
