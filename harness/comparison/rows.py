"""Per-row values of a run, ``rows.parquet``, and what two models say about the same test rows.

Columns: ``dataset, method, variant, seed, metric``, ``row`` (index into the test split) and ``value``. Exact values
have an ``mc_error`` of 0. A published file has a random part of the rows that were measured: the mean over it may
differ from the metric's value by the error of such a part, and one that differs by more is an error of the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.comparison import columns
from harness.errors import DataError
from harness.storage.measurements import current_names

COLUMNS = ("dataset", "method", "variant", "seed", "metric", "row", "value")
AXES = COLUMNS[:5]
WORST = 6.0  # standard errors that the mean over a random part may be off: once in 5e8 parts
ROUNDING = 1e-5  # of values, relative: sums over some hundred pixels in single precision, and rows stored in it


class RowKey(NamedTuple):
    """A metric of one trained model."""

    dataset: str
    method: str
    variant: str
    seed: int
    metric: str


@dataclass(frozen=True)
class RowValues:
    """row: indices into the test split, ascending [n]. value: that of each [n]."""

    row: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Paired:
    """Two models' values of the rows that both have: mean and variance of ours - theirs, and how many rows."""

    mean: float
    variance: float
    n: int


def read_rows(path: Path) -> dict[RowKey, RowValues]:
    """The rows of every metric of every model. Raises DataError, naming the file, for anything else."""
    frame = columns.read_table(path, "per-row values", read_dictionary=["dataset", "method", "variant", "metric"])
    columns.require(frame, COLUMNS, path)
    row, value = columns.integers(frame, "row", path), columns.numbers(frame, "value", path)
    codes = pd.DataFrame({axis: pd.factorize(frame[axis], use_na_sentinel=False)[0] for axis in AXES})
    group = codes.groupby(list(AXES), sort=False).ngroup().to_numpy()
    order = np.lexsort((row, group))
    row, value, group = row[order], value[order], group[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    axes = frame.iloc[order[starts]][list(AXES)]
    named = [columns.text(axes, axis, path) for axis in ("dataset", "method", "variant")]
    errors = columns.numbers(frame, "mc_error", path)[order[starts]]  # 0 for all rows of an exact metric
    metrics = current_names(columns.text(axes, "metric", path), errors)
    keys = [*named, columns.integers(axes, "seed", path), metrics]
    found = {}
    ends = [*starts[1:], len(row)][: len(starts)]  # none where no cell got as far as any row
    for (*cell, seed, metric), start, end in zip(zip(*keys, strict=True), starts, ends, strict=True):
        key = RowKey(*cell, int(seed), metric)
        if np.any(np.diff(row[start:end]) == 0):
            raise DataError(path, f"every row once for {_named(key)}", "a row that is there twice")
        found[key] = RowValues(row[start:end], value[start:end])
    return found


def check_mean(key: RowKey, rows: RowValues, value: float, n_rows: int, path: Path) -> None:
    """Raise DataError where the rows cannot be those, or a random part of those, whose mean is ``value``."""
    n = len(rows.row)
    if not np.isfinite(rows.value).all():
        raise DataError(path, f"finite values of {_named(key)}", "one that is not")
    if n_rows and n > n_rows:
        raise DataError(path, f"at most {n_rows:,} rows of {_named(key)}, as its metric has", f"{n:,}")
    mean = float(rows.value.mean())
    of_part = rows.value.std(ddof=1) * math.sqrt((1.0 - n / n_rows) / n) if 1 < n < n_rows else 0.0
    slack = WORST * of_part + ROUNDING * max(1.0, abs(value))
    if abs(mean - value) > slack and (n == n_rows or n > 1):
        raise DataError(path, f"rows of {_named(key)} with a mean of {value:.6g} ± {slack:.2g}", f"{mean:.6g}")


def paired(ours: RowValues, theirs: RowValues) -> Paired | None:
    """Ours minus theirs over the rows that both have; None for fewer than two."""
    if np.array_equal(ours.row, theirs.row):
        difference = ours.value - theirs.value
    else:
        _, i, j = np.intersect1d(ours.row, theirs.row, assume_unique=True, return_indices=True)
        difference = ours.value[i] - theirs.value[j]
    if len(difference) < 2:
        return None
    return Paired(float(difference.mean()), float(difference.var(ddof=1)), len(difference))


def _named(key: RowKey) -> str:
    return f"{'/'.join(part for part in key[:3] if part)}/{key.seed} {key.metric}"


Rows = Mapping[RowKey, RowValues]
