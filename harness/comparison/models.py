"""What a method has of one metric on one data set: values, errors and biases of its seeds, and values per test row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import reduce
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.comparison.rows import ROUNDING, RowKey, RowValues
from harness.errors import DataError
from harness.storage.runs import HAVE_MODEL

SHARED = "annealed importance sampling"  # estimator whose error, that of log Z, all rows have in common
SAMPLED = "importance sampling"  # estimator whose -log of a mean is biased upward, by Jensen's inequality
OPTIONAL = ("split", "title", "estimator", "data_digest", "sem", "mc_error", "bias", "bias_error", "k", "n_rows")


class Cell(NamedTuple):
    """A model, whatever its seeds."""

    dataset: str
    method: str
    variant: str


@dataclass(frozen=True)
class Model:
    """A metric of one cell.

    seeds: those that ended well, S of them. values: of each [S], means over the rows that it was measured on. sems:
    their standard errors over those rows [S]. shared: of each the error that all its rows have in common [S]; 0 where
    there is none. bias, bias_error: how much the mean over seeds is above that of infinitely many samples, and the
    standard error of that; NaN where it is not known. rows: indices of the rows that all seeds have [n], and of_rows:
    their values [S, n]; None where a seed has none.
    """

    cell: Cell
    title: str
    seeds: tuple[int, ...]
    values: np.ndarray
    sems: np.ndarray
    shared: np.ndarray
    bias: float
    bias_error: float
    sampled: bool
    n_rows: int
    data_digest: str
    rows: np.ndarray | None = None
    of_rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def name(self) -> str:
        """The title, with the variant in brackets."""
        return f"{self.title} ({self.cell.variant})" if self.cell.variant else self.title

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def varies(self) -> bool:
        """Whether it has several seeds whose values differ, as those of a closed form do not."""
        return len(self) > 1 and float(np.ptp(self.values)) > ROUNDING * max(1.0, abs(self.mean))

    @property
    def spread(self) -> float:
        """Variance between the seeds' values; NaN of one."""
        return float(self.values.var(ddof=1)) if len(self) > 1 else math.nan

    @property
    def sem(self) -> float:
        """Standard error of the mean as the tables have it: rows, sampling, seeds."""
        known = self.sems[np.isfinite(self.sems)]
        parts = [*([float((known**2).mean())] if len(known) else []), *([self.spread / len(self)] * (len(self) > 1))]
        return math.sqrt(sum(parts)) if parts else math.nan

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Values [S, m] of ``rows`` [m], all of which it has."""
        return self.of_rows[:, np.searchsorted(self.rows, rows)]


def models_of(
    metrics: pd.DataFrame,
    rows: Mapping[RowKey, RowValues],
    metric: str,
    name: object,
    left_out: Set[tuple[str, str, str]] = frozenset(),
) -> dict[str, list[Model]]:
    """By data set, the models that have ``metric``, in the order of ``metrics``.

    metrics: as ``harness.storage.measurements`` reads them. left_out: (data set, method, variant) of cells that are not
    wanted. As in the tables, seeds that were stopped by the time limit count only where no other has ended. Raises
    DataError, naming ``name``, where models of a data set were measured on different data, and for a seed that is there
    twice.
    """
    frame = metrics.reindex(columns=list(dict.fromkeys([*metrics.columns, *OPTIONAL])))
    chosen = frame["metric"].eq(metric) & frame["status"].isin(HAVE_MODEL) & np.isfinite(frame["value"])
    chosen &= frame["split"].isna() | frame["split"].eq("test")
    found: dict[str, list[Model]] = {}
    for cell, lines in frame[chosen].groupby(list(Cell._fields), sort=False):
        if tuple(cell) in left_out:
            continue
        twice = lines[lines.duplicated("seed")]
        if len(twice):
            raise DataError(name, f"one row per number and seed of {'/'.join(cell)}", "several")
        best = lines[lines["status"].eq(lines["status"].iloc[lines["status"].map(HAVE_MODEL.index).argmin()])]
        found.setdefault(cell[0], []).append(_model(Cell(*cell), best.sort_values("seed"), rows, metric))
    for dataset, models in found.items():
        digests = sorted({model.data_digest for model in models if model.data_digest})
        if len(digests) > 1:
            raise DataError(name, f"all models of {dataset} measured on the same data", f"sha256 {', '.join(digests)}")
    return found


def _model(cell: Cell, lines: pd.DataFrame, rows: Mapping[RowKey, RowValues], metric: str) -> Model:
    seeds = tuple(int(seed) for seed in lines["seed"])
    first = lines.iloc[0]
    estimator = _text(first["estimator"])
    shared = lines["mc_error"].to_numpy(float) if estimator == SHARED else np.zeros(len(lines))
    of_seeds = [rows.get(RowKey(*cell, seed, metric)) for seed in seeds]
    at, values = _together(of_seeds)
    errors = lines["bias_error"].to_numpy(float)
    return Model(
        cell,
        _text(first["title"]) or cell.method,
        seeds,
        lines["value"].to_numpy(float),
        lines["sem"].to_numpy(float),
        np.nan_to_num(shared),
        bias=0.0 if estimator == "exact" else fmean(lines["bias"]),
        bias_error=float(np.sqrt((np.nan_to_num(errors) ** 2).sum()) / len(lines)),
        sampled=estimator == SAMPLED and metric.startswith("-log p"),
        n_rows=int(np.nan_to_num(lines["n_rows"].to_numpy(float)).min()),
        data_digest=_text(first["data_digest"]),
        rows=at,
        of_rows=values,
    )


def _together(found: Sequence[RowValues | None]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The rows that all seeds have, and their values; None where a seed has none or fewer than two are common."""
    if any(each is None for each in found):
        return None, None
    common = reduce(np.intersect1d, (each.row for each in found))
    if len(common) < 2:
        return None, None
    values = np.stack([each.value[np.searchsorted(each.row, common)] for each in found])
    return (common, values) if np.isfinite(values).all() else (None, None)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def adjusted_means(models: Sequence[Model]) -> np.ndarray | None:
    """What each model's mean would be over all rows that any of them has; None where one has no values per row.

    Models that were measured on other rows are compared as incomplete blocks are: value = model + row, by least
    squares. Of models with the same rows the differences are those of their plain means, and with the same rows for
    all, these means are the result. None as well where the rows do not connect all models.
    """
    if not models or any(model.rows is None for model in models):
        return None
    rows = reduce(np.union1d, (model.rows for model in models))
    values = np.full((len(models), len(rows)), np.nan)
    for of_model, model in zip(values, models, strict=True):
        of_model[np.searchsorted(rows, model.rows)] = model.of_rows.mean(0)
    has = np.isfinite(values)
    per_row = has.sum(0)
    shared = has / per_row
    # normal equations of the models, rows eliminated; they leave one constant open
    matrix = np.diag(has.sum(1).astype(float)) - shared @ has.T
    if np.linalg.matrix_rank(matrix) < len(models) - 1:
        return None
    totals = np.nansum(values, 1) - shared @ np.nansum(values, 0)
    effects = np.linalg.lstsq(matrix, totals, rcond=None)[0]
    of_rows = np.nansum(values - effects[:, None], 0) / per_row
    return effects + of_rows.mean()
