"""How claims are judged: that some differences between measured numbers are positive, one, or one for each of several.

A claim ``holds`` where every difference is above zero and significantly so, ``does not hold`` where one of them is
significantly below, and is ``undecided`` between, each with an error rate of at most 2.5 % a claim: all tests must be
passed to hold, which needs no correction (the intersection-union test, Berger 1982), and any one suffices to fail, so
there the level is divided by their number (Bonferroni). Quantiles are Student's: a spread over three seeds has two
degrees of freedom. A claim whose numbers a run did not make is ``not measured``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats
from tabulate import tabulate

HOLDS, FAILS, UNDECIDED, NOT_MEASURED = "holds", "does not hold", "undecided", "not measured"
LEVEL = 0.025  # of a claim wrongly said to hold, and of one wrongly said not to
NO_NUMBERS = "this run has no such numbers"


@dataclass(frozen=True)
class Claim:
    """text: what is claimed. measured: what it was judged by. source: who claims it, '' for the thesis."""

    text: str
    verdict: str
    measured: str
    source: str = ""


@dataclass(frozen=True)
class Number:
    """A measured value, its standard error, and the degrees of freedom of that."""

    value: float
    error: float
    df: float = math.inf

    def __sub__(self, other: Number) -> Number:
        """The difference of independent numbers; degrees of freedom after Welch and Satterthwaite."""
        error = math.hypot(self.error, other.error)
        parts = sum((each.error / error) ** 4 / each.df for each in (self, other)) if error > 0 else 0.0
        return Number(self.value - other.value, error, 1.0 / parts if parts > 0 else math.inf)

    def times(self, factor: float) -> Number:
        """The number in another unit, or of the other sign."""
        return Number(factor * self.value, abs(factor) * self.error, self.df)

    def p_above(self) -> float:
        """Probability of at least this value if the truth is zero; 1 where the error is not known."""
        if not math.isfinite(self.error):
            return 1.0
        if self.error == 0.0:
            return 0.0 if self.value > 0 else 1.0
        t = self.value / self.error
        return float(stats.norm.sf(t) if math.isinf(self.df) else stats.t.sf(t, self.df))


NOTHING = Number(math.nan, math.nan)


def verdict_on(differences: Sequence[Number]) -> str:
    """Of differences that are all claimed to be positive."""
    if not all(math.isfinite(each.value) for each in differences):
        return NOT_MEASURED
    if all(each.p_above() <= LEVEL for each in differences):
        return HOLDS
    return FAILS if any(each.times(-1.0).p_above() <= LEVEL / len(differences) for each in differences) else UNDECIDED


def number_in(rows: pd.DataFrame, error: str = "sem") -> Number:
    """The number of the first row; NaN of none."""
    return NOTHING if rows.empty else number_of(rows.iloc[0], error)


def number_of(row: pd.Series, error: str = "sem") -> Number:
    """The number of a row. If its degrees of freedom are not known, they are those of the spread over seeds alone,
    the least that they can be; one seed has no such spread, and its error is that over the test rows."""
    n_seeds = row.get("n_seeds", 1)
    df = row.get(f"{error}_df", n_seeds - 1 if n_seeds > 1 else math.inf)
    return Number(float(row["value"]), float(row[error]), float(df))


def compared(text: str, larger: Number, smaller: Number, measured: str) -> Claim:
    """Judge ``larger`` > ``smaller``."""
    return judged(text, [larger - smaller], measured)


def judged(text: str, differences: Sequence[Number], measured: str) -> Claim:
    verdict = verdict_on(differences)
    return Claim(text, verdict, measured if verdict != NOT_MEASURED else NO_NUMBERS)


def frame_of(claims: Sequence[Claim]) -> pd.DataFrame:
    """One row per claim: text, verdict, measured, source."""
    columns = [field.name for field in dataclasses.fields(Claim)]
    return pd.DataFrame([dataclasses.asdict(each) for each in claims], columns=columns)


def markdown_of(claims: Sequence[Claim]) -> str:
    """The same as a table."""
    rows = [(each.text, each.verdict, each.measured, each.source or "the thesis") for each in claims]
    return tabulate(rows, ("claim", "verdict", "measured", "from"), tablefmt="pipe", disable_numparse=True)
