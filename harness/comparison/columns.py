"""Reading columns of a table whatever they were stored as: text, numbers as text, categories, nullable types."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import DataError

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def read_table(path: Path, what: str, **options: Any) -> pd.DataFrame:
    """A parquet file. Raises DataError, saying ``what`` was expected, where there is none that can be read."""
    import pyarrow as pa

    if not path.is_file():
        raise DataError(path, what, "no such file")
    try:
        return pd.read_parquet(path, **options)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(path, "a parquet file", str(error).partition("\n")[0]) from error


def require(frame: pd.DataFrame, columns: Iterable[str], name: str | Path) -> None:
    """Raise DataError, naming the table, for missing columns or two of one name."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DataError(name, f"columns {', '.join(columns)}", f"none named {', '.join(missing)}")
    twice = sorted(set(frame.columns[frame.columns.duplicated()]))
    if twice:
        raise DataError(name, "one column of each name", f"several named {', '.join(map(str, twice))}")


def text(frame: pd.DataFrame, column: str, name: str | Path) -> np.ndarray:
    """Texts [n], '' for what is null. Raises DataError for values that are no text."""
    if column not in frame:
        return np.full(len(frame), "", dtype=object)
    values = frame[column].astype(object).to_numpy()
    values = np.where(pd.isna(values), "", values)
    for value in values:
        if not isinstance(value, str):
            raise DataError(name, f"text in column {column}", repr(value))
    return values


def numbers(frame: pd.DataFrame, column: str, name: str | Path) -> np.ndarray:
    """float64 [n], NaN for what is null. Raises DataError for text that is no number."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    if isinstance(frame[column].dtype, np.dtype) and frame[column].dtype.kind in "iuf":
        return frame[column].to_numpy(dtype=float)
    values = frame[column].astype(object)
    converted = pd.to_numeric(values, errors="coerce")
    wrong = values[converted.isna() & values.notna() & ~values.map(_is_nan_text)]
    if len(wrong):
        raise DataError(name, f"numbers in column {column}", repr(wrong.iloc[0]))
    return converted.to_numpy(dtype=float, na_value=np.nan)


def integers(frame: pd.DataFrame, column: str, name: str | Path) -> np.ndarray:
    """int64 [n]. Raises DataError for what is null or has a fraction."""
    values = numbers(frame, column, name)
    wrong = values[~np.isfinite(values) | (values != np.round(values))]
    if len(wrong):
        raise DataError(name, f"whole numbers in column {column}", f"{wrong[0]:g}")
    return values.astype(np.int64)


def booleans(frame: pd.DataFrame, column: str, name: str | Path) -> np.ndarray:
    """bool [n], False for what is null. Raises DataError for anything but true and false."""
    values = ["false" if missing else str(value).lower() for value, missing in _with_nulls(frame[column])]
    wrong = [value for value in values if value not in _BOOLEANS]
    if wrong:
        raise DataError(name, f"true or false in column {column}", repr(wrong[0]))
    return np.array([_BOOLEANS[value] for value in values], dtype=bool)


def _with_nulls(column: pd.Series) -> Iterable[tuple[Any, bool]]:
    return zip(column.astype(object), column.isna(), strict=True)


def _is_nan_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in ("", "nan", "none")
