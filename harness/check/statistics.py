"""The tests of the check: moderated t-tests for two runs, Holm's correction over all cells.

Two or three seeds say little about how much a cell varies from seed to seed, so the variances of all cells are pooled
in the way of Smyth (2004): the variance of a cell is drawn toward a common one with as many degrees of freedom as the
scatter of the cells' variances supports. That scatter is itself uncertain, and a prior that is trusted too much raises
false alarms, so the upper end of the scatter counts. Cells differ in scale, so variances are first divided by the
square of the standard error over the test rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats


@dataclass(frozen=True)
class VariancePrior:
    """A scaled inverse chi-square: its scale, and how many degrees of freedom it is worth (may be infinite)."""

    scale: float
    df: float

    def moderated(self, variance: float, df: float) -> tuple[float, float]:
        """A cell's variance drawn toward the prior, and its degrees of freedom; the prior alone for df = 0."""
        if df == 0:
            return self.scale, self.df
        if math.isinf(self.df):
            return self.scale, math.inf
        return (self.df * self.scale + df * variance) / (self.df + df), self.df + df


def fit_prior(variances: Sequence[float], dfs: Sequence[float], standard_errors: float = 2.0) -> VariancePrior | None:
    """The prior by moments of the log variances (Smyth 2004, section 6.2); None for fewer than three positive ones.

    The scatter beyond that of chi-squares is taken so many ``standard_errors`` above its estimate.
    """
    pairs = [(v, d) for v, d in zip(variances, dfs, strict=True) if v > 0 and d > 0]
    if len(pairs) < 3:
        return None
    v, d = np.array(pairs, dtype=float).T
    centred = np.log(v) - special.digamma(d / 2) + np.log(d / 2)
    squares = (centred - centred.mean()) ** 2
    uncertainty = standard_errors * squares.std(ddof=1) / math.sqrt(len(squares))
    excess = centred.var(ddof=1) - special.polygamma(1, d / 2).mean() + uncertainty
    if excess <= 0:  # no more scatter than chi-squares of one common variance have
        return VariancePrior(float(np.exp(centred.mean())), math.inf)
    half = _inverse_trigamma(float(excess))
    return VariancePrior(float(np.exp(centred.mean() + special.digamma(half) - np.log(half))), 2.0 * half)


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value > 0, by Newton's method on 1 / trigamma, which is nearly linear."""
    x = 0.5 + 1.0 / value
    for _ in range(50):
        trigamma = special.polygamma(1, x)
        step = trigamma * (1.0 - trigamma / value) / special.polygamma(2, x)
        x += step
        if abs(step) < 1e-10 * x:
            break
    return float(x)


def two_sided(difference: float, error: float, df: float) -> float:
    """p-value of a difference with this standard error; 1 for none at all, 0 for one without error."""
    if difference == 0:
        return 1.0
    if error == 0:
        return 0.0
    t = abs(difference) / error
    return float(2.0 * (stats.norm.sf(t) if math.isinf(df) else stats.t.sf(t, df)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): rejecting those below a level errs anywhere with at most that probability."""
    n = len(p_values)
    adjusted, highest = [1.0] * n, 0.0
    for rank, index in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (n - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
