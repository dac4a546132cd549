"""Measurements as a table, wherever they come from: one row per number, in columns that the rest can rely on.

Files of other versions, and those that other tools have written, may lack columns or have them in other types: what can
be made of them is made, and for the rest there is one line that names the file and the column.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import DataError

NAMES = ("preset", "dataset", "method", "status")  # of a number; none may be missing in any row
NEEDED = (*NAMES, "variant", "seed", "metric", "value")
NUMBERS = (
    *("value", "sem", "mc_error", "bias", "bias_error", "k", "n_rows"),
    *("seconds", "train_seconds", "n_updates", "best_update"),
)
TEXTS = ("variant", "metric", "message")  # nothing stands for ''
# Until it had a name of its own, the exact -log p(y|x) was filed under that of its estimate; published files still
# have it so. Whatever reads measurements or values per row calls it what it is, by ``current_names``.
EXACT_NAMES = {"-log p~*(y|x)": "-log p(y|x)"}


def current_names(metrics: np.ndarray, mc_errors: np.ndarray) -> np.ndarray:
    """Today's names [n] of metrics [n], given their Monte-Carlo errors [n], which are 0 for exact numbers alone."""
    names = [
        EXACT_NAMES.get(name, name) if error == 0 else name for name, error in zip(metrics, mc_errors, strict=True)
    ]
    return np.array(names, dtype=object)


def read_measurements(path: Path) -> pd.DataFrame:
    """The rows of a ``metrics.parquet``; raises DataError, naming file and column, for one of another kind."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError, TypeError, ImportError) as error:  # pyarrow's errors are among these
        raise DataError(path, "a parquet file of measurements", str(error).strip().split("\n")[0]) from error
    return usable(frame, path)


def read_csv(path: Path, columns: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """A table that an earlier step wrote; raises DataError, naming the file, where it is another one or damaged."""
    try:
        frame = pd.read_csv(path, **options)
    except (OSError, ValueError) as error:  # pandas' own are among these
        raise DataError(path, "a readable csv file", str(error).strip().split("\n")[0]) from error
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(path, f"columns {', '.join(columns)}", f"none named {', '.join(missing)}")
    return frame


def usable(frame: pd.DataFrame, place: object) -> pd.DataFrame:
    """The same rows with plain columns: no categories, numbers as numbers, no gaps in names and texts, today's metrics.

    Raises DataError, naming ``place`` and the column, where that is not possible.
    """
    missing = [column for column in NEEDED if column not in frame.columns]
    if missing:
        raise DataError(place, f"columns {', '.join(NEEDED)}", f"none named {', '.join(missing)}")
    frame = frame.copy()
    for column in frame.columns:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            frame[column] = frame[column].astype(frame[column].cat.categories.dtype)
    for column in (*NAMES, "seed"):
        if frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax())
            raise DataError(f"{place}, row {row + 1}", f"a {column}", "none")
    for column in (*NUMBERS, "seed"):
        frame[column] = _numbers(frame, column, place)
    for column in TEXTS:
        frame[column] = frame[column].astype(object).fillna("").astype("str") if column in frame else ""
    frame["metric"] = pd.Series(current_names(frame["metric"], frame["mc_error"]), frame.index).astype("str")
    return frame


def _numbers(frame: pd.DataFrame, column: str, place: object) -> pd.Series:
    """The numbers of a column, NaN where there are none."""
    if column not in frame:
        return pd.Series(float("nan"), index=frame.index)
    found = pd.to_numeric(frame[column], errors="coerce")
    wrong = found.isna() & frame[column].notna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise DataError(f"{place}, row {row + 1}", f"a number as {column}", repr(frame[column].iloc[row]))
    return found
