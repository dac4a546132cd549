"""The tests of the check: moderated t-tests, Holm's correction over all cells, and what a test can find.

Two or three seeds say little about how much a cell varies from seed to seed, so variances are pooled in the way of
Smyth (2004): the variance of a cell is drawn toward a common one with as many degrees of freedom as the scatter of the
cells' variances supports. That scatter is itself uncertain, and a prior that is trusted too much raises false alarms,
so the upper end of the scatter counts, three standard errors up; and the common variance is known no better than the
seeds that it was estimated from, whose degrees of freedom bound the prior's. Two things differ from Smyth, since here a
dozen cells make a prior, not thousands of genes, and their variances are no sample of an inverse chi-square:

- Variances are drawn toward the typical one, their geometric mean. The scale of the inverse chi-square that fits them
  lies far below it where they scatter much. With measured variances that doubled the false alarms (8 % of comparisons
  of three seeds with three at a level of 5 %, against 4 %).
- A cell with a single seed has nothing but the prior. Where the cells differ by orders of magnitude the fit gives it
  less than one degree of freedom, whose quantiles at the levels of a correction over hundreds of numbers are in the
  thousands: such a test finds nothing. Where by chance they differ little the fit trusts them fully, and all cells of
  the prior raise false alarms at once (11 % of comparisons). Instead the test has a fixed number of degrees of freedom,
  and in exchange its variance is the arithmetic mean, which the most variable cells dominate: of n cells none can vary
  more than n times as much. Three is the most that keeps the level (``harness.check.simulate``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

ALONE = 3.0  # degrees of freedom of a test that has nothing but a prior
LEAST = 3  # variances that a prior is fitted to
UPPER_END = 3.0  # standard errors above the estimated scatter of variances


@dataclass(frozen=True)
class VariancePrior:
    """The variances of other cells: their geometric mean, how many degrees of freedom that is worth, their mean.

    Numbers, or arrays of one shape: a prior each.
    """

    typical: Any
    df: Any
    mean: Any

    def moderated(self, variance: Any, df: Any) -> tuple[Any, Any]:
        """A cell's variance drawn toward the typical one, and its degrees of freedom (Smyth 2004, equation 4).

        For ``df`` of 0, the mean of the other cells' with ALONE degrees of freedom.
        """
        alone = np.asarray(df) == 0
        own = np.where(alone, 0.0, df * np.where(alone, 0.0, variance))
        together = (self.df * self.typical + own) / (self.df + np.where(alone, 1.0, df))
        return np.where(alone, self.mean, together)[()], np.where(alone, ALONE, self.df + df)[()]


def fit_prior(
    variances: Sequence[float], dfs: Sequence[float], standard_errors: float = UPPER_END
) -> VariancePrior | None:
    """The prior by moments of the log variances (Smyth 2004, section 6.2); None for fewer than LEAST positive ones.

    The scatter beyond that of chi-squares is taken so many ``standard_errors`` above its estimate.
    """
    pairs = [(v, d) for v, d in zip(variances, dfs, strict=True) if v > 0 and d > 0]
    if len(pairs) < LEAST:
        return None
    v, d = np.array(pairs, dtype=float).T
    priors = fit_priors(v[None], d, standard_errors)
    return VariancePrior(float(priors.typical[0]), float(priors.df[0]), float(priors.mean[0]))


def fit_priors(variances: np.ndarray, dfs: np.ndarray, standard_errors: float = UPPER_END) -> VariancePrior:
    """``fit_prior`` of every row of positive ``variances`` [R, n], n >= 3, whose columns have ``dfs`` [n]."""
    n = variances.shape[1]
    centred = np.log(variances) - special.digamma(dfs / 2) + np.log(dfs / 2)  # [R, n]
    location = centred.mean(1)
    squares = (centred - location[:, None]) ** 2
    uncertainty = standard_errors * squares.std(1, ddof=1) / math.sqrt(n)
    excess = centred.var(1, ddof=1) - special.polygamma(1, dfs / 2).mean() + uncertainty
    scattered = excess > 0  # else: no more scatter than chi-squares of one common variance have
    df = np.where(scattered, 2.0 * _inverse_trigamma(np.where(scattered, excess, 1.0)), np.inf)
    return VariancePrior(np.exp(location), np.minimum(df, dfs.sum()), variances @ dfs / dfs.sum())


def _inverse_trigamma(values: np.ndarray) -> np.ndarray:
    """x with trigamma(x) = value > 0, by Newton's method on 1 / trigamma, which is nearly linear."""
    x = 0.5 + 1.0 / values
    for _ in range(50):
        trigamma = special.polygamma(1, x)
        step = trigamma * (1.0 - trigamma / values) / special.polygamma(2, x)
        x = x + step
        if np.all(np.abs(step) < 1e-10 * x):
            break
    return x


def two_sided(difference: Any, error: Any, df: Any) -> Any:
    """p-value of a difference with this standard error; 1 for none at all, 0 for one without error. Of arrays too."""
    difference, error = np.abs(difference), np.asarray(error)
    t = np.divide(difference, error, out=np.full(np.broadcast(difference, error).shape, np.inf), where=error > 0)
    return np.where(difference == 0, 1.0, 2.0 * _upper_tail(t, df))[()]


def smallest_difference(error: Any, df: Any, level: float, power: float) -> Any:
    """The true difference that a two-sided test of ``level`` with this standard error finds with ``power``.

    The test finds what is beyond its quantile, and the noise of what it looks at has the t distribution of the test.
    """
    return error * (_quantile(level / 2.0, df) + _quantile(1.0 - power, df))


def power_of(difference: Any, error: Any, df: Any, level: float) -> Any:
    """With which probability a two-sided test of ``level`` finds this true difference."""
    beyond = _quantile(level / 2.0, df)
    t = np.divide(difference, error, out=np.full(np.broadcast(difference, error).shape, np.inf), where=error > 0)
    return _upper_tail(beyond - t, df) + _upper_tail(beyond + t, df)


def _upper_tail(t: Any, df: Any) -> Any:
    return np.where(np.isinf(df), stats.norm.sf(t), stats.t.sf(t, np.where(np.isinf(df), 1.0, df)))[()]


def _quantile(tail: float, df: Any) -> Any:
    return np.where(np.isinf(df), stats.norm.isf(tail), stats.t.isf(tail, np.where(np.isinf(df), 1.0, df)))[()]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): rejecting those below a level errs anywhere with at most that probability."""
    n = len(p_values)
    adjusted, highest = [1.0] * n, 0.0
    for rank, index in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (n - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
