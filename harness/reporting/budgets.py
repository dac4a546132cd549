"""How long is long enough: every cell's budget at several lengths, by loss on the validation set; csv and Markdown.

All trainings of a cell are scored on the same n validation rows, so that the difference d to its own budget has a
paired standard error. The verdict is by what a reader of the tables could see, who compares on m test rows
(``evaluation.rows``): there the same difference has the standard error t, the *tables' error*, which is that of d times
sqrt(n / m), and scatters around d by t sqrt(1 + m / n).

- *shorten*: to the fewest updates that show as worse by more than two tables' errors with a probability of at most
  ``chance``; that is, d is at most ``allowed`` = (2 - z sqrt(1 + m / n)) t, z the normal quantile. With few validation
  rows that is a gain.
- *lengthen*: where nothing shorter will do, to the fewest updates that gain more than two tables' errors.
- *keep* otherwise. Another learning rate at the same number of updates has to gain more than two, too.

One repetition is trained: a difference contains what another course of training happens to bring, and so will the one
in the tables, since the cell with the proposed budget is the trial that was scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from harness import atomic
from harness.errors import DataError
from harness.storage.budgets import LENGTH, RATE
from harness.storage.runs import HAVE_MODEL, RunFolder
from harness.storage.search import Trial

CELL = ["dataset", "method", "variant"]
COLUMNS = (
    *("dataset", "method", "variant", "trial", "length", "rate", "status", "updates", "n_updates", "best_update"),
    *("train_seconds", "ms_per_update", "n_rows", "validation_loss", "sem", "difference", "difference_sem"),
    *("tables_sem", "allowed", "late_fall", "late_share", "own", "proposed", "verdict"),
)
VISIBLE = 2.0  # of the tables' errors: what their reader calls a difference
Scores = Callable[[Trial, RunFolder], np.ndarray]


def budget_table(planned: Iterable[Trial], folder: Path, scores: Scores, chance: float) -> pd.DataFrame:
    """One row per trial below ``folder``, ``COLUMNS``; losses in nats per row unless the method has its own criterion.

    scores: of the model of a trial, [B]. Raises DataError for a trial that is missing, or is another's.
    """
    by_cell: dict[tuple[str, ...], list[Trial]] = {}
    for trial in planned:
        by_cell.setdefault((trial.cell.dataset, trial.cell.method, trial.cell.variant), []).append(trial)
    rows = [row for trials in by_cell.values() for row in _rows_of_cell(trials, folder, scores, chance)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows_of_cell(trials: list[Trial], folder: Path, scores: Scores, chance: float) -> list[dict[str, Any]]:
    rows, losses = [], {}
    for trial in trials:
        run = RunFolder(folder / trial.path)
        status = run.status_of(trial.cell)
        row = _row(trial, status)
        if status["status"] in HAVE_MODEL:
            losses[trial.name] = scores(trial, run)
            row |= _mean("validation_loss", "sem", losses[trial.name]) | _late(run, status)
            row["n_rows"] = len(losses[trial.name])
        rows.append(row)
    own = next(row for row in rows if row["own"])
    if own["trial"] in losses:
        for row in (each for each in rows if each["trial"] in losses):
            difference = losses[row["trial"]] - losses[own["trial"]]
            row.update(_mean("difference", "difference_sem", difference))
            measured = trials[0].cell.evaluation.rows or len(difference)
            row["tables_sem"] = row["difference_sem"] * math.sqrt(len(difference) / measured)
            scatter = math.sqrt(1 + measured / len(difference))  # of what the tables show, in their errors
            row["allowed"] = (VISIBLE - NormalDist().inv_cdf(1 - chance) * scatter) * row["tables_sem"]
    chosen, verdict = _verdict(rows, own)
    return [{**row, "proposed": row is chosen, "verdict": verdict} for row in rows]


def _row(trial: Trial, status: Mapping[str, Any]) -> dict[str, Any]:
    cell, seconds, made = trial.cell, status.get("train_seconds"), status.get("n_updates")
    return {
        **{key: getattr(cell, key) for key in CELL},
        "trial": trial.name,
        "length": trial.values[LENGTH],
        "rate": trial.values.get(RATE, 1),
        "status": status["status"],
        "updates": sum(phase.updates for phase in cell.training.phases),
        "n_updates": made,
        "best_update": status.get("best_update"),
        "train_seconds": seconds,
        "ms_per_update": 1000 * seconds / made if made else math.nan,
        "own": trial.chosen,
    }


def _mean(name: str, sem: str, values: np.ndarray) -> dict[str, float]:
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {name: float(values.mean()), sem: float(error)}


def _late(run: RunFolder, status: Mapping[str, Any]) -> dict[str, float]:
    """By how much the lowest loss so far fell in the last third of the updates, and which share of its fall that is.

    The fall counts from the first look after the initial weights, which is at the first interval of many.
    """
    curve = pd.read_csv(run.checked(run.curve_file, status))
    curve = curve[curve["update"] > 0].sort_values("update")
    best = curve["valid_loss"].cummin()
    before = best[curve["update"] <= curve["update"].max() * 2 / 3]
    if before.empty:
        return {}
    late, whole = before.iloc[-1] - best.iloc[-1], best.iloc[0] - best.iloc[-1]
    return {"late_fall": float(late), "late_share": float(late / whole) if whole > 0 else math.nan}


def _verdict(rows: list[dict[str, Any]], own: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The row of the budget to take, and the verdict in words."""
    if "difference" not in own:
        return own, f"none: {own['status']}"
    scored = sorted((row for row in rows if "difference" in row), key=lambda row: (row["updates"], row["difference"]))
    for row in scored:
        if row["updates"] < own["updates"] and row["difference"] <= row["allowed"]:
            return row, f"shorten to {_budget(row)}"
    for row in scored:
        if row["updates"] >= own["updates"] and -row["difference"] > VISIBLE * row["tables_sem"]:
            word = "lengthen to" if row["updates"] > own["updates"] else "keep"
            return row, f"{word} {_budget(row)}"
    return own, "keep"


def _budget(row: Mapping[str, Any]) -> str:
    return f"{row['updates']} updates" + (f" at {row['rate']:g} times the rate" if row["rate"] != 1 else "")


def summary(table: pd.DataFrame) -> str:
    """Updates and time of all cells, now and as proposed; of a cell, an update takes its median time here."""
    if table.empty:
        return "No cells."
    time = table.groupby(CELL)["ms_per_update"].transform("median") * table["updates"] / 1000
    now, then = table["own"], table["proposed"]
    words = table[now]["verdict"].str.split().str[0].value_counts()
    counts = ", ".join(f"{word.rstrip(':')} {n}" for word, n in words.items())
    return (
        f"{int(now.sum())} cells ({counts}): {table[now]['updates'].sum():,} updates in {time[now].sum():,.0f} s now, "
        f"{table[then]['updates'].sum():,} in {time[then].sum():,.0f} s as proposed."
    )


def markdown(table: pd.DataFrame) -> str:
    """The page to read: one line per trial, a cell's own budget first, and what it all comes to."""
    heads = ["cell", "updates", "rate", "s", "ms", "loss", "difference", "allowed", "last third", "share", "verdict"]
    lines = ["| " + " | ".join(heads) + " |", "|:--" + "|--:" * 9 + "|:--|"]
    for row in table.itertuples():
        name = "/".join(part for part in (row.dataset, row.method, row.variant) if part) if row.own else ""
        cells = [name, f"{row.updates}", f"{row.rate:g}", _number(row.train_seconds, 1)]
        cells += [_number(row.ms_per_update, 2), _pair(row.validation_loss, row.sem)]
        cells += ["" if row.own else _pair(row.difference, row.difference_sem)]
        cells += ["" if row.own else _number(row.allowed, 3), _number(row.late_fall, 3)]
        cells += ["" if pd.isna(row.late_share) else f"{row.late_share:.0%}"]
        cells += [row.verdict if row.own else "proposed" if row.proposed else "" if row.status == "ok" else row.status]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", summary(table), ""])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def _pair(value: float, error: float) -> str:
    return f"{_number(value, 3)} ± {_number(error, 3)}" if not pd.isna(value) else ""


def write_budgets(table: pd.DataFrame, path: Path) -> list[Path]:
    """The table as ``path``, a csv, and as Markdown beside it; the paths written."""
    page = path.with_suffix(".md")
    if page == path:
        raise DataError(path, "the name of a csv file", path.suffix)
    atomic.write(path, lambda temporary: table.to_csv(temporary, index=False))
    atomic.write_text(page, markdown(table))
    return [path, page]
