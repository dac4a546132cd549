"""What functions of users return: tidy rows as a csv file can hold them, and, where they raised an error, words for it.

A csv file of a table or figure that has nothing to show has one column, ``remark``, which says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import HarnessError

REMARK = "remark"
FAILED = "failed"


class WrongReturnError(Exception):
    """What a user's function returned is not what it may return."""

    def __init__(self, function: str, expected: str, found: str):
        super().__init__(f"{function}(...): expected {expected}, found {found}")


def plain_frame(returned: Any, function: str) -> pd.DataFrame:
    """The rows that a function returned, its index among the columns where that has a name.

    Raises WrongReturnError, which names the function, for anything but a frame whose columns have names, none of them
    twice, and whose cells are numbers, words or empty.
    """
    if not isinstance(returned, pd.DataFrame):
        raise WrongReturnError(function, "a DataFrame", f"a {type(returned).__name__}")
    frame = returned.reset_index() if any(name is not None for name in returned.index.names) else returned
    columns = list(frame.columns)
    if not columns and len(frame):
        raise WrongReturnError(function, "columns", "none")
    strange = [each for each in columns if not isinstance(each, str) or not each.strip()]
    if strange:
        raise WrongReturnError(function, "columns with names that are words", repr(strange[0]))
    twice = next((each for each in columns if columns.count(each) > 1), None)
    if twice is not None:
        raise WrongReturnError(function, "every column once", f"{twice!r} twice")
    for name in columns:
        for value in frame[name] if frame[name].dtype == object else ():
            if not (value is None or isinstance(value, str | Number)):
                raise WrongReturnError(function, f"numbers or words in {name!r}", f"a {type(value).__name__}")
    return frame


def in_words(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return (
        text if isinstance(error, HarnessError | WrongReturnError) else f"{type(error).__name__}: {text}".rstrip(": ")
    )


def remarks_of(frame: pd.DataFrame) -> Sequence[str]:
    """Why a csv file has nothing to show; nothing where it has."""
    return list(map(str, frame[REMARK])) if list(frame.columns) == [REMARK] else []


def is_remark(path: Path) -> bool:
    """Whether a csv file says that there is nothing to show."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip() == REMARK
