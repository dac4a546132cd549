"""``harness datasets --verify``: whether a data set is what it should be, check by check.

Of every data set: it can be read, twice alike, and is large enough to train on. Of one of the user or of a plugin as
well: it says what it is. Doubts, such as constant columns or test rows that are training rows too, are told and are no
failure: many data sets of the literature have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from harness.data.dataset import PARTS
from harness.data.outside import is_outside, own_data
from harness.data.own import read_own
from harness.data.retrieval import fetch
from harness.data.settings import DataSettings
from harness.data.survey import survey
from harness.errors import HarnessError

PASSED, FAILED, DOUBT = "passed", "failed", "doubt"
FEWEST_ROWS = 2
MOST_REPEATED = 0.01  # share of test rows that are training rows


class Checked(NamedTuple):
    """One check of a data set, how it ended, and what was found."""

    check: str
    verdict: str
    found: str


def verify_dataset(name: str, settings: DataSettings) -> Iterator[Checked]:
    """All checks of a data set, one after the other; without rows, there is only the first."""
    try:
        data = fetch(name, settings)
    except HarnessError as error:
        yield Checked("readable", FAILED, str(error))
        return
    rows = {part: len(getattr(data, part)) for part in PARTS}
    sizes = ", ".join(f"{part} {n}" for part, n in rows.items())
    yield Checked("readable", PASSED, f"{sizes} rows of {data.n_features} columns")
    again = read_own(own_data(name, settings)) if is_outside(name, settings) else fetch(name, settings)
    same = again.digest == data.digest
    yield Checked("same when read again", PASSED if same else FAILED, f"digest {data.digest[:16]}, {again.digest[:16]}")
    small = min(rows.values()) < FEWEST_ROWS
    yield Checked("enough rows", FAILED if small else PASSED, f"at least {FEWEST_ROWS} in each part: {sizes}")
    found = survey(data)
    alike = len(found.constant) == data.n_features
    yield Checked("columns vary", FAILED if alike else DOUBT if found.constant else PASSED, found.lines()[3])
    repeated = found.repeated > MOST_REPEATED * rows["test"]
    yield Checked("test rows are new", DOUBT if repeated else PASSED, found.lines()[4])
    if is_outside(name, settings):
        own = own_data(name, settings)
        lacking = [word for word in ("title", "source", "licence") if not getattr(own, word)]
        yield Checked(
            "says what it is", DOUBT if lacking else PASSED, f"no {', '.join(lacking)}" if lacking else own.title
        )
