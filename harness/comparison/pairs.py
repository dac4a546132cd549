"""Two models on the same test rows: difference, standard error, and whether it is more than chance.

The difference of two models is a mean over the rows that both have, of the mean over the seeds of each. Its variance:

- *Rows*: var(d) / n of the n differences per row. What a row has in common for both models drops out, which is most of
  the variance. Noise of sampling that is independent from row to row is a part of it.
- *Shared errors*: that of log Z moves all rows of a model together; it is added.
- *Trainings*: of a method with several seeds, the variance between its seeds' means over their number. Where at least
  three cells have several seeds, that variance is moderated (``statistics.VariancePrior``), on one of the two scales of
  ``harness.check.calibration``: retraining moves the mean by sqrt(c) s_d, s_d^2 the variance per row of the difference
  of two seeds, and without values per row in proportion to the square root of its size. What the seeds' rows scatter
  by chance is then counted twice, which can only hide a difference. Seeds of two methods have nothing in common, so
  they are not paired.

With several seeds on both sides the difference is one of *methods*: it holds for trainings that were not made. With a
single one it is about these trained *models*. Where training counts the degrees of freedom are those of its variance,
however small a part it is: with those of Satterthwaite, small variances that few seeds show by chance would pass for
well known ones, and at the levels of a correction over hundreds of pairs that is where false alarms come from.

Estimates of log p by importance sampling are biased, losses upward. A difference is claimed only if it is there with
the biases and without, and where a bias is not known, only if no bias could explain it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.comparison.models import Cell, Model
from harness.comparison.statistics import VariancePrior, fit_prior, holm, smallest_difference, two_sided

BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"
HIGHER_IS_BETTER = ("ess p", "ess p*")  # all other metrics are losses
METHODS, MODELS = "methods", "models"  # what a difference is one of


@dataclass(frozen=True)
class Difference:
    """a - b in the unit of the metric, before any correction for other pairs.

    error: standard error, with ``df`` degrees of freedom. p_value: two-sided, the larger of that with and that without
    the biases. bias: what the difference is above that of infinitely many samples; NaN for unknown. n_rows: rows that
    both have; 0 where values per row are lacking, and the errors of both, as of other rows, stand in. of: METHODS or
    MODELS.
    """

    a: Model
    b: Model
    difference: float
    error: float
    df: float
    p_value: float
    bias: float
    n_rows: int
    of: str


@dataclass(frozen=True)
class Pair:
    """Two models compared. adjusted: the p-value after Holm's correction over all pairs. smallest: the difference that
    this test would find, with the power asked for and the correction at its strictest. verdict: on a against b."""

    found: Difference
    adjusted: float
    smallest: float
    verdict: str

    @property
    def cells(self) -> tuple[Cell, Cell]:
        return self.found.a.cell, self.found.b.cell


@dataclass(frozen=True)
class Priors:
    """Variances of training of all cells, on the scale of rows and on that of values; None where there are too few."""

    of_rows: VariancePrior | None = None
    of_values: VariancePrior | None = None


def priors_of(models: Iterable[Model]) -> Priors:
    """The priors that ``models`` give."""
    found: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    for model in (each for each in models if each.varies):
        own, scale = _between_seeds(model)
        found[model.rows is not None].append((own / scale, len(model) - 1))
    fitted = {kind: fit_prior(*map(list, zip(*known, strict=True))) if known else None for kind, known in found.items()}
    return Priors(fitted[True], fitted[False])


def difference_of(a: Model, b: Model, priors: Priors = Priors(), higher_is_better: bool = False) -> Difference:
    """``a`` minus ``b``, which are of one metric and measured on the same data."""
    rows = _rows_of_both(a, b)
    if rows is None:
        difference, variance, n = a.mean - b.mean, _mean_square(a.sems) + _mean_square(b.sems), 0
        df = max(min(a.n_rows, b.n_rows) - 1.0, 1.0)
    else:
        of_rows = a.at(rows).mean(0) - b.at(rows).mean(0)
        n = len(rows)
        difference, df = float(of_rows.mean()), n - 1.0
        variance = float(of_rows.var(ddof=1)) / n
        variance += sum(float((model.shared**2).mean()) / len(model) for model in (a, b) if len(model) == 1)
    for model in (each for each in (a, b) if each.varies):
        of_training, of_freedom = _of_training(model, priors)
        variance += max(of_training, float((model.shared**2).mean())) / len(model)
        df = min(df, of_freedom)
    bias = a.bias - b.bias
    error = math.sqrt(variance) if math.isfinite(variance) else math.nan
    p_value = _p_value(difference, error, df, a, b, higher_is_better)
    return Difference(a, b, difference, error, df, p_value, bias, n, METHODS if min(len(a), len(b)) > 1 else MODELS)


def compared(
    columns: Iterable[Sequence[Model]], level: float, power: float, higher_is_better: bool = False
) -> list[Pair]:
    """All pairs of the models of each data set, with Holm's correction over all of them.

    level: the probability of claiming any difference where there is none. power: with which ``smallest`` is found.
    """
    columns = list(columns)
    priors = priors_of(itertools.chain.from_iterable(columns))
    found = [
        difference_of(a, b, priors, higher_is_better)
        for models in columns
        for a, b in itertools.combinations(models, 2)
    ]
    return judged(found, level, power, higher_is_better)


def judged(found: Sequence[Difference], level: float, power: float, higher_is_better: bool = False) -> list[Pair]:
    """The verdicts on differences, with Holm's correction over all of them; arguments as of ``compared``."""
    adjusted = holm([each.p_value for each in found])
    strictest = level / max(1, len(found))
    pairs = []
    for each, p_value in zip(found, adjusted, strict=True):
        verdict = CANNOT_TELL
        if p_value < level:
            verdict = BETTER if (each.difference > 0) == higher_is_better else WORSE
        smallest = smallest_difference(each.error, each.df, strictest, power) if each.error > 0 else each.error
        pairs.append(Pair(each, p_value, float(smallest), verdict))
    return pairs


def _rows_of_both(a: Model, b: Model) -> np.ndarray | None:
    if a.rows is None or b.rows is None:
        return None
    common = a.rows if np.array_equal(a.rows, b.rows) else np.intersect1d(a.rows, b.rows, assume_unique=True)
    return common if len(common) > 1 else None


def _mean_square(errors: np.ndarray) -> float:
    """Mean of the squares; NaN where one is not known."""
    return float((errors**2).mean())


def _between_seeds(model: Model) -> tuple[float, float]:
    """Variance between the seeds' means, and its scale: half of s_d^2, or the value without values per row."""
    if model.of_rows is None:
        return model.spread, max(abs(model.mean), 1e-3)
    own, n = float(model.of_rows.mean(1).var(ddof=1)), model.of_rows.shape[1]
    return own, (float(model.of_rows.var(0, ddof=1).mean()) - own) * n / (n - 1)


def _of_training(model: Model, priors: Priors) -> tuple[float, float]:
    """Variance of the mean from one training to the next, and its degrees of freedom."""
    (own, scale), df = _between_seeds(model), len(model) - 1.0
    prior = priors.of_values if model.rows is None else priors.of_rows
    if prior is None or scale <= 0:
        return own, df
    ratio, df = prior.moderated(own / scale, df)
    return float(ratio) * scale, float(df)


def _p_value(difference: float, error: float, df: float, a: Model, b: Model, higher_is_better: bool) -> float:
    """The larger p-value of the difference as it is and without the biases; 1 where these turn it around."""
    if not math.isfinite(error):
        return 1.0
    plain = float(two_sided(difference, error, df))
    if higher_is_better:
        return plain
    if _is_open(a if difference > 0 else b):
        return 1.0
    without = difference - (np.nan_to_num(a.bias) - np.nan_to_num(b.bias))
    if without * difference <= 0.0 < abs(difference):
        return 1.0
    return max(plain, float(two_sided(without, math.hypot(error, a.bias_error, b.bias_error), df)))


def _is_open(model: Model) -> bool:
    """Whether its loss may be above the true one by any amount."""
    return model.sampled and not math.isfinite(model.bias)
