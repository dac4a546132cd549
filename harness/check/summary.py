"""One line per cell and metric of a run: its seeds' values and errors, and how it was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from harness.check.rules import NATS, PERCENT, ROWS_OF, SHARE, Scale, scale_of
from harness.comparison import columns
from harness.comparison.rows import ROUNDING, RowKey, RowValues, check_mean
from harness.errors import DataError
from harness.reporting.tables.pooling import FAILURES, OK, TIMEOUT, is_finite, pooled_error
from harness.reporting.tables.reported import Key
from harness.storage.measurements import current_names

TEXT = ("dataset", "method", "variant", "metric", "status", "data_digest", "preset")
NUMBERS = ("value", "sem", "mc_error", "k", "n_rows")
COLUMNS = (*TEXT, "seed", *NUMBERS, "data_official")
OPTIONAL_TEXT = ("message", "kind", "model_sha256", "unit", "better")  # not known of a run that lacks them
OPTIONAL_NUMBERS = ("n_updates", "n_test", "bias", "matters")
UNNORMALISED = "log Z"  # a metric whose methods estimate it for their likelihood


@dataclass(frozen=True)
class Number:
    """A metric of a cell over its seeds.

    seeds: those that ended well, ascending; of each its value, its standard error over the test rows (``sems``), the
    part of that from sampling (``mc_errors``), the estimated bias (``biases``), the digest of the trained weights
    (``models``, '' for unknown) and, where known, the values of the rows (``rows``; those of the metric that it differs
    from by a number, where it has none of its own). k: samples per row, 0 for exact values. kind: of method, to tell
    apart how much seeds vary. own_scale: of a metric of a user.
    """

    key: Key
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    sems: tuple[float, ...]
    mc_errors: tuple[float, ...]
    biases: tuple[float, ...]
    models: tuple[str, ...]
    k: int
    n_rows: int
    n_test: int
    official: bool
    data_digest: str
    n_updates: float
    kind: str
    rows: Mapping[int, RowValues] = field(default_factory=dict, compare=False)
    own_scale: Scale | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def scale(self) -> Scale:
        """What its numbers are."""
        return self.own_scale or scale_of(self.key.metric)

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """Variance between the seeds; NaN of one."""
        return float(np.var(self.values, ddof=1)) if len(self.values) > 1 else math.nan

    @property
    def sem(self) -> float:
        """Standard error of the mean, as the tables have it: test rows, sampling, seeds."""
        return pooled_error(self.values, self.sems)

    @property
    def mc_variance(self) -> float:
        """Square of one seed's error of sampling, the mean over the seeds; NaN where none is known."""
        known = [error**2 for error in self.mc_errors if math.isfinite(error)]
        return fmean(known) if known else math.nan

    @property
    def exact(self) -> bool:
        """Whether it was computed without sampling."""
        return self.mc_variance == 0.0

    @property
    def constant(self) -> bool:
        """Whether it is exact and several seeds have the same value to rounding."""
        return self.exact and len(self) > 1 and equal(min(self.values), max(self.values))


@dataclass(frozen=True)
class Summary:
    """A run: its numbers, and of cells without any the status and its reason."""

    preset: str
    numbers: Mapping[Key, Number]
    failures: Mapping[tuple[str, str, str], str]


def equal(a: float, b: float) -> bool:
    """Whether two values are the same to the rounding of single precision."""
    return abs(a - b) <= ROUNDING * max(1.0, abs(a), abs(b))


def summarize(
    metrics: pd.DataFrame,
    name: str | Path,
    rows: Mapping[RowKey, RowValues] | None = None,
    models: Mapping[tuple[str, str, str, int], str] | None = None,
    rows_name: str | Path = "rows",
) -> Summary:
    """The run whose measurements these are, with its per-row values and the digests of its weights where known.

    ``models`` gives digests that the measurements lack. Raises DataError, naming the run, for missing columns, values
    of the wrong type, more than one preset, a number measured twice, or rows that contradict their number.
    """
    columns.require(metrics, COLUMNS, name)
    frame = pd.DataFrame(
        {
            **{column: columns.text(metrics, column, name) for column in (*TEXT, *OPTIONAL_TEXT)},
            **{column: columns.numbers(metrics, column, name) for column in (*NUMBERS, *OPTIONAL_NUMBERS)},
            "seed": columns.integers(metrics, "seed", name),
            "data_official": columns.booleans(metrics, "data_official", name),
        }
    )
    frame["metric"] = current_names(frame["metric"], frame["mc_error"])
    presets = sorted(frame["preset"].unique())
    if len(presets) != 1:
        raise DataError(name, "measurements of one preset", ", ".join(presets) or "none")
    axes = [*Key._fields, "seed"]
    twice = frame[frame["metric"].ne("") & frame.duplicated(axes)]
    if len(twice):
        raise DataError(name, "one row per number", f"several for {'/'.join(map(str, twice[axes].iloc[0]))}")
    numbers, failures = {}, {}
    for cell, lines in frame.sort_values("seed", kind="stable").groupby(list(Key._fields[:3]), sort=False):
        healthy = lines[lines["status"].isin((OK, TIMEOUT)) & lines["metric"].ne("") & lines["value"].map(is_finite)]
        kind = "".join(healthy["kind"].head(1)) + (" with log Z" if UNNORMALISED in set(healthy["metric"]) else "")
        for metric, group in healthy.groupby("metric", sort=False):
            key = Key(*cell, metric)
            numbers[key] = _number(key, group.to_dict("records"), kind, rows or {}, models or {}, rows_name)
        if healthy.empty:
            bad = lines[lines["status"].isin(FAILURES)]
            failures[cell] = "; ".join(dict.fromkeys(bad["status"] + ": " + bad["message"])) or "no numbers"
    order = dict.fromkeys(Key(*line) for line in frame[list(Key._fields)].itertuples(index=False, name=None))
    return Summary(presets[0], {key: numbers[key] for key in order if key in numbers}, failures)


def _number(
    key: Key,
    lines: list[dict[str, Any]],
    kind: str,
    rows: Mapping[RowKey, RowValues],
    models: Mapping[tuple[str, str, str, int], str],
    rows_name: str | Path,
) -> Number:
    def floats(column: str) -> tuple[float, ...]:
        return tuple(line[column] if math.isfinite(line[column]) else math.nan for line in lines)

    def least(column: str) -> int:
        return int(min((line[column] for line in lines if math.isfinite(line[column])), default=0))

    return Number(
        key,
        tuple(line["seed"] for line in lines),
        floats("value"),
        floats("sem"),
        floats("mc_error"),
        floats("bias"),
        tuple(line["model_sha256"] or models.get((*key[:3], line["seed"]), "") for line in lines),
        k=least("k"),
        n_rows=least("n_rows"),
        n_test=least("n_test"),
        official=all(line["data_official"] for line in lines),
        data_digest=" ".join(dict.fromkeys(line["data_digest"] for line in lines)),
        n_updates=fmean(u) if (u := [line["n_updates"] for line in lines if math.isfinite(line["n_updates"])]) else 0.0,
        kind=kind,
        rows=dict(_rows_of(key, lines, rows, rows_name)),
        own_scale=_own_scale(lines[0]),
    )


def _own_scale(line: Mapping[str, Any]) -> Scale | None:
    """What the numbers of a user's metric are, as its author says; None for one of the harness."""
    if not line["better"]:
        return None
    matters = line["matters"] if math.isfinite(line["matters"]) else None
    known = line["unit"] in (NATS, PERCENT, SHARE) or matters is not None
    return Scale(line["unit"] if known else NATS, line["better"], matters)


def _rows_of(
    key: Key, lines: list[dict[str, Any]], rows: Mapping[RowKey, RowValues], name: str | Path
) -> Iterator[tuple[int, RowValues]]:
    """Seed and row values; a metric's own have to agree with its value."""
    for line in lines:
        own = RowKey(*key[:3], line["seed"], key.metric)
        other = own._replace(metric=ROWS_OF.get(key.metric, key.metric))
        found = rows.get(own) or rows.get(other)
        if found is None:
            continue
        if own in rows:
            check_mean(own, found, line["value"], int(line["n_rows"]) if math.isfinite(line["n_rows"]) else 0, name)
        yield line["seed"], found
