"""``harness show``: what a run's folder holds, in words and numbers; also what ``harness run`` says at its end."""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.options import add_verb

if TYPE_CHECKING:
    from harness.storage.runs import RunFolder

FACTS = ("status", "n_updates", "best_update", "best_validation", "train_seconds", "n_parameters", "device", "threads")
COLUMNS = ("update", "learning_rate", "train_loss", "valid_loss")
LOOKS = 6  # of the learning curve, spread over it


def add(verbs: Any) -> None:
    """The verb that shows."""
    show = add_verb(verbs, "show", _show, "print a run: its cell, how its training went, what was measured")
    show.add_argument("run", type=Path, metavar="FOLDER", help="such as results/quick/runs/adult/bihm/default/0")


def _show(options: argparse.Namespace) -> int:
    from harness.errors import DataError
    from harness.storage.runs import RunFolder

    run = RunFolder(options.run)
    if not run.config_file.is_file():
        raise DataError(options.run, "the folder of a run, with config.json", "none")
    print("\n".join(described(run)))
    return 0


def described(run: RunFolder) -> Iterator[str]:
    """Lines about a run: cell, training, learning curve, measurements; parts that are not there are left out.

    Raises DataError for a damaged file.
    """
    from harness.storage.starts import STARTED, in_words, updates_in_all

    cell = run.config()
    yield f"{cell.path}: {run}"
    values = cell.to_dict()
    for part in ("model", "training", "evaluation"):
        yield f"{part}: " + ", ".join(f"{key} {value}" for key, value in values[part].items())
    status: dict[str, Any] = {}
    if run.status_file.is_file():
        status = run.status()
        yield "training: " + ", ".join(f"{key} {_short(status[key])}" for key in FACTS if status.get(key) is not None)
        if status.get("message"):
            yield status["message"]
        if started := in_words(status):
            yield f"started from {started}: {updates_in_all(status):,} in all"
            yield from (
                f"{key}: {', '.join(status[STARTED][key])}" for key in ("taken", "own", "left") if status[STARTED][key]
            )
    if run.curve_file.is_file():
        yield from _curve(run.checked(run.curve_file, status))
    if run.metrics_file.is_file():
        yield from measured(run)


def measured(run: RunFolder) -> Iterator[str]:
    """A table of what was measured on the test set, or why nothing was. Raises DataError for a damaged file."""
    from tabulate import tabulate

    rows = run.measurements()
    numbers = [row for row in rows if row.get("value") is not None]
    if not numbers:
        yield " ".join(filter(None, (rows[0].get("status"), rows[0].get("message"))))
        return
    failed = [row for row in rows if row.get("value") is None and row.get("metric")]
    yield from (f"{row['metric']}: {row.get('status')}: {row.get('message')}" for row in failed)
    table = [[row["metric"], _short(row["value"]), *_error(row), row.get("k") or ""] for row in numbers]
    yield tabulate(table, ("test set", "value", "±", "K"), disable_numparse=True, colalign=("left", *["right"] * 3))


def _error(row: Mapping[str, Any]) -> list[str]:
    return [_short(row["sem"]) if row.get("sem") is not None else ""]


def _curve(path: Path) -> Iterator[str]:
    """Some looks of the learning curve, the first and the last among them."""
    from tabulate import tabulate

    with path.open(encoding="utf-8", newline="") as file:
        looks = list(csv.DictReader(file))
    if not looks:
        return
    chosen = sorted({round(i * (len(looks) - 1) / (LOOKS - 1)) for i in range(LOOKS)})
    columns = [key for key in COLUMNS if key in looks[0]]
    yield tabulate([[_short(looks[i][key]) for key in columns] for i in chosen], columns, disable_numparse=True)


def _short(value: Any) -> str:
    """Four significant digits, more where a number has more before the point."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    if math.isnan(number):
        return "–"
    return str(int(number)) if number.is_integer() and abs(number) < 1e9 else f"{number:.5g}"
