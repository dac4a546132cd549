"""From measured rows to one number per cell: rows by cell, then seeds pooled.

Seeds that ended well are used; without any, those stopped by the time limit; without any, the cell has a status and
no number. Several seeds: the value is their mean, and its standard error sqrt(mean_s sem_s^2 + var_s / n) with the
variance var_s between the seeds' values. All seeds share one test set, so the error that comes from its rows does not
shrink with their number; that of training does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from statistics import fmean, variance
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.reporting.tables.chance import is_at_chance
from harness.reporting.tables.reported import PlannedCell
from harness.storage.starts import STARTED

OK, TIMEOUT = "ok", "timeout"
FAILURES = (
    "failed",
    "diverged",
    "unavailable",
    "no likelihood",
    TIMEOUT,
)  # where seeds differ, the first of these is the cell's
LAYERS = "layers"
REQUIRED = ("preset", "dataset", "method", "variant", "seed", "metric", "value", "status")
OPTIONAL = (  # absent where no run got far enough to have any
    *("title", "kind", "split", "sem", "mc_error", "bias", "k", "n_rows", "n_test"),
    *("seconds", "train_seconds", "n_updates", "layers", "device", "data_official", "data_note", "message", "better"),
    *("chance", STARTED),
)
TEXT = ("title", "kind", "variant", "metric", "layers", "device", "data_note", "status", "message", "better", STARTED)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A cell of a table.

    mc_error: the part of sem that comes from the estimator's random numbers. bias: what the value is above that of
    infinitely many samples, as estimated. message: why there is no value, or what to know about the one there is.
    others: what became of the seeds that are not in the value. chance: the value that guessing has.
    """

    status: str
    value: float | str | None = None
    sem: float = math.nan
    mc_error: float = math.nan
    bias: float = math.nan
    n_seeds: int = 0
    n_updates: float = math.nan
    k: float = math.nan
    seconds: float = math.nan
    message: str = ""
    others: tuple[str, ...] = ()
    chance: float = math.nan

    @property
    def at_chance(self) -> bool:
        """Whether the value is no better than that of guessing by more than two standard errors."""
        return not isinstance(self.value, str | None) and is_at_chance(self.value, self.sem, self.chance)

    @property
    def bias_dominates(self) -> bool:
        """Whether the bias is larger than the standard error; False where either is not known."""
        return abs(self.bias) > self.sem


def rows_by_cell(metrics: pd.DataFrame, preset: str) -> dict[PlannedCell, list[Row]]:
    """The preset's test rows; raises HarnessError for a missing column and for a number measured twice."""
    missing = [column for column in REQUIRED if column not in metrics.columns]
    if missing:
        raise HarnessError(f"metrics: expected columns {', '.join(REQUIRED)}, found none named {', '.join(missing)}")
    cells: dict[PlannedCell, list[Row]] = {}
    seen = set()
    for raw in metrics.reindex(columns=[*REQUIRED, *OPTIONAL]).to_dict("records"):
        row = {**raw, **{column: "" if pd.isna(raw[column]) else str(raw[column]) for column in TEXT}}
        row["data_official"] = None if pd.isna(raw["data_official"]) else bool(raw["data_official"])
        if row["preset"] != preset or (row["metric"] and row["split"] != "test"):
            continue
        cell = PlannedCell(row["dataset"], row["method"], row["variant"])
        number = (*cell, row["seed"], row["metric"])
        if number in seen:
            raise HarnessError(f"metrics: expected one row for {'/'.join(map(str, number))}, found several")
        seen.add(number)
        if row["metric"] and row["status"] in (OK, TIMEOUT) and not is_finite(row["value"]):
            row |= {"status": "diverged", "message": f"{row['metric']} came out as {row['value']}"}
        cells.setdefault(cell, []).append(row)
    return cells


def pool(rows: Sequence[Row], metric: str) -> Measured | None:
    """One cell's value of ``metric`` over its seeds; None where the cell is fine but has no such number."""
    candidates = _layer_rows(rows) if metric == LAYERS else [row for row in rows if row["metric"] == metric]
    for status in (OK, TIMEOUT):
        used = [row for row in candidates if row["status"] == status]
        if used:
            return _combined(status, used, rows)
    # a metric of a user, whose rows say what is better, may fail where all others are fine
    failed = [row for row in rows if row["status"] in FAILURES and (not is_own(row) or row["metric"] == metric)]
    if failed:
        worst = min(failed, key=lambda row: FAILURES.index(row["status"]))
        return Measured(worst["status"], message=worst["message"], others=_described(failed))
    return None


def _combined(status: str, used: Sequence[Row], rows: Sequence[Row]) -> Measured:
    values = [row["value"] for row in used]
    seeds = {row["seed"] for row in used}
    textual = isinstance(values[0], str)
    mc_errors, biases = ([row[column] for row in used] for column in ("mc_error", "bias"))
    return Measured(
        status,
        value=" / ".join(dict.fromkeys(values)) if textual else fmean(values),
        sem=math.nan if textual else pooled_error(values, [_error(row) for row in used]),
        # each seed has random numbers of its own, and the same bias
        mc_error=math.hypot(*mc_errors) / len(used) if not textual and all(map(is_finite, mc_errors)) else math.nan,
        bias=fmean(biases) if not textual and all(map(is_finite, biases)) else math.nan,
        n_seeds=len(used),
        n_updates=_mean(row["n_updates"] for row in used),
        k=math.nan if textual else max(row["k"] if is_finite(row["k"]) else 0 for row in used),
        seconds=_mean(_total_seconds(row) for row in used),
        message="; ".join(dict.fromkeys(row["message"] for row in used if row["message"])),
        others=_described([row for row in rows if row["seed"] not in seeds]),
        chance=_mean(row["chance"] for row in used),
    )


def is_own(row: Row) -> bool:
    """Whether a row is of a metric that a user brought."""
    return bool(row.get("better"))


def pooled_error(values: Sequence[float], errors: Sequence[float]) -> float:
    """sqrt(mean errors^2 + var(values) / n), of what is known: NaN errors are left out, one value has no variance."""
    known = [error**2 for error in errors if is_finite(error)]
    parts = ([fmean(known)] if known else []) + ([variance(values) / len(values)] if len(values) > 1 else [])
    return math.sqrt(sum(parts)) if parts else math.nan


def _layer_rows(rows: Sequence[Row]) -> list[Row]:
    """One row per seed whose value is the architecture; seconds and remarks of a measurement are not its own."""
    last_ok = sorted(rows, key=lambda row: row["status"] == OK)  # one number may have diverged, and the others not
    by_seed = {row["seed"]: row for row in last_ok if row["layers"] and row["metric"]}
    return [
        {**row, "value": row["layers"], "seconds": math.nan, "message": "" if row["status"] == OK else row["message"]}
        for row in by_seed.values()
    ]


def _error(row: Row) -> float:
    """The standard error, or the Monte-Carlo error of what is not a mean over test rows (2 log Z)."""
    return row["sem"] if is_finite(row["sem"]) else row["mc_error"]


def _total_seconds(row: Row) -> float:
    known = [row[column] for column in ("train_seconds", "seconds") if is_finite(row[column])]
    return sum(known) if known else math.nan


def _described(rows: Sequence[Row]) -> tuple[str, ...]:
    """'seed 3: diverged (why)', once per seed."""
    texts = {}
    for row in rows:
        texts[row["seed"]] = f"seed {row['seed']}: {row['status']}" + (f" ({row['message']})" if row["message"] else "")
    return tuple(texts.values())


def _mean(values: Any) -> float:
    known = [value for value in values if is_finite(value)]
    return fmean(known) if known else math.nan


def is_finite(value: Any) -> bool:
    """Whether it is a number that can be averaged."""
    return isinstance(value, Real) and math.isfinite(value)
