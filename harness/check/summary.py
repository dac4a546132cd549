"""One line a cell and metric of a run: its seeds' values and errors, and how it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import pandas as pd

from harness.errors import DataError
from harness.tables.pooling import FAILURES, OK, TIMEOUT, is_finite, pooled_error
from harness.tables.reported import Key

COLUMNS = (
    *("dataset", "method", "variant", "metric", "seed", "value", "sem", "mc_error", "k", "n_rows", "status"),
    *("message", "data_official", "data_digest", "preset", "n_updates"),
)


@dataclass(frozen=True)
class Number:
    """A metric of a cell over its seeds.

    values: one a seed that ended well. sems: standard errors over the test rows. mc_errors: parts of them that come
    from sampling.
    """

    key: Key
    values: tuple[float, ...]
    sems: tuple[float, ...]
    mc_errors: tuple[float, ...]
    k: int
    n_rows: int
    official: bool
    data_digest: str
    n_updates: float

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """Variance between the seeds; NaN of one."""
        return variance(self.values) if len(self.values) > 1 else float("nan")

    @property
    def sem(self) -> float:
        """Standard error of the mean, as the tables have it: test rows, sampling, seeds."""
        return pooled_error(self.values, self.sems)


@dataclass(frozen=True)
class Summary:
    """A run: its numbers, and of cells without any the status and its reason."""

    preset: str
    numbers: Mapping[Key, Number]
    failures: Mapping[tuple[str, str, str], str]


def summarize(metrics: pd.DataFrame, name: str | Path) -> Summary:
    """The run whose measurements these are.

    Raises DataError, naming the run, for missing columns, more than one preset, or a number measured twice.
    """
    missing = [column for column in COLUMNS if column not in metrics]
    if missing:
        raise DataError(name, f"columns {', '.join(COLUMNS)}", f"none named {', '.join(missing)}")
    presets = sorted(metrics["preset"].unique())
    if len(presets) != 1:
        raise DataError(name, "measurements of one preset", ", ".join(map(str, presets)) or "none")
    frame = metrics.fillna({"variant": "", "metric": "", "message": "", "data_digest": ""})
    axes = [*Key._fields, "seed"]
    twice = frame[frame["metric"].ne("") & frame.duplicated(axes)]
    if len(twice):
        raise DataError(name, "one row a number", f"several for {'/'.join(map(str, twice[axes].iloc[0]))}")
    numbers, failures = {}, {}
    for cell, rows in frame.groupby(list(Key._fields[:3]), sort=False):
        healthy = rows[rows["status"].isin((OK, TIMEOUT)) & rows["metric"].ne("") & rows["value"].map(is_finite)]
        for metric, group in healthy.groupby("metric", sort=False):
            key = Key(*cell, metric)
            numbers[key] = _number(key, group.to_dict("records"))
        if healthy.empty:
            bad = rows[rows["status"].isin(FAILURES)]
            failures[cell] = "; ".join(dict.fromkeys(bad["status"] + ": " + bad["message"])) or "no numbers"
    return Summary(presets[0], numbers, failures)


def _number(key: Key, rows: list[dict[str, Any]]) -> Number:
    def floats(column: str) -> tuple[float, ...]:
        return tuple(float(row[column]) if is_finite(row[column]) else float("nan") for row in rows)

    def least(column: str) -> int:
        return int(min((row[column] for row in rows if is_finite(row[column])), default=0))

    return Number(
        key,
        floats("value"),
        floats("sem"),
        floats("mc_error"),
        k=least("k"),
        n_rows=least("n_rows"),
        official=all(bool(row["data_official"]) for row in rows),
        data_digest=" ".join(dict.fromkeys(row["data_digest"] for row in rows)),
        n_updates=fmean(u) if (u := [row["n_updates"] for row in rows if is_finite(row["n_updates"])]) else 0.0,
    )
