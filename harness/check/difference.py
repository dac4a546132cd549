"""The difference of one number between two runs, and how large it may be by chance.

The difference of the means over seeds has a null variance of two parts. *Training*: seeds that both runs have are
paired, and where both models of a pair have values of the same test rows, retraining moves the mean by sqrt(c) s_d
(``harness.check.calibration``): s_d tells how different the two models are, and a shift of all rows moves the
difference but not s_d, so one seed is enough. Runs without a seed in common have their rows in common all the same, and
s_d is that of every model of one with every model of the other. Without values of rows the spread between seeds is that
of the cell's own seeds and of other cells. *Sampling*: noise of estimates, which alone is left where both runs have the
same weights. Both runs look at the same test rows, so the error that comes from the choice of rows drops out; where the
rows differ and their values are not known, it counts in full.

Same weights and exact values leave no noise at all, and so do closed forms: there the values have to be equal to
rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from harness.check.calibration import Calibration, by_rows, by_value, pooled
from harness.check.rules import EXACT_IN_K, Scale, variance_scale
from harness.check.summary import Number
from harness.comparison.rows import Paired, paired

IDENTICAL = 1e-12  # relative difference of numbers that are taken for the same measurement


@dataclass(frozen=True)
class Difference:
    """ours - theirs, means over the seeds compared, with the standard error and degrees of freedom of the test.

    error: 0 where the values have to be equal to rounding; NaN where it is not known, and ``remark`` says why.
    repeated: the same weights gave the same values to the last digits. retrained, retrained_df: the error for models
    that were trained independently of theirs, as many. slack: what the numbers may differ by without any error.
    scale: what the numbers are; None for a metric of the harness.
    """

    ours: float
    theirs: float
    difference: float
    error: float
    df: float
    repeated: bool = False
    retrained: float = math.nan
    retrained_df: float = math.inf
    slack: float = 0.0
    remark: str = ""
    scale: Scale | None = None


def difference_of(
    number: Number, reference: Number, calibration: Calibration, same: Set[int], shared: bool
) -> Difference:
    """``number`` of our run minus the ``reference``.

    same: seeds with the same weights in both. shared: whether the error of sampling is one that all rows share, which
    s_d does not have in it.
    """
    seeds = [seed for seed in reference.seeds if seed in number.seeds]
    if not seeds:
        found = _unpaired(number, reference, calibration, shared)
    elif set(seeds) <= set(same):
        found = _same_weights(number, reference, seeds)
    else:
        found = _trained_apart(number, reference, seeds, calibration, same, shared)
    retrained, df = _retrained(number, reference, calibration)
    found = replace(found, retrained=retrained, retrained_df=df, scale=reference.scale)
    if corrected(number, reference):
        found = replace(found, remark="; ".join([*filter(None, [found.remark]), "without the biases of the estimates"]))
    if _same_rows(number, reference) and calibration.is_constant(number) and calibration.is_constant(reference):
        return replace(found, error=0.0, df=math.inf, retrained=0.0, remark="a closed form")
    if math.isnan(found.error):
        return replace(found, remark="how much it varies from seed to seed is not known")
    return found


def corrected(number: Number, reference: Number) -> bool:
    """Whether values of different numbers of samples are compared without their biases, which are known."""
    if number.k == reference.k or number.key.metric in EXACT_IN_K:
        return False
    return all(map(math.isfinite, (*number.biases, *reference.biases)))


def spread_of(calibration: Calibration, reference: Number, number: Number | None = None) -> tuple[float, float]:
    """Variance between trainings of a cell, moderated by the prior, and its degrees of freedom; NaN for unknown."""
    own, own_df = pooled(map(by_value, (reference, number) if number is not None else (reference,)))
    prior = calibration.prior(reference, with_rows=False)
    ratio, df = prior.moderated(own, own_df) if prior is not None else (own, own_df or math.nan)
    return ratio * variance_scale(reference.scale, reference.mean), df


def _same_weights(number: Number, reference: Number, seeds: Sequence[int]) -> Difference:
    pairs = [_pair(number, reference, seed, seed) for seed in seeds]
    ours, theirs, difference, remark = _means(number, reference, pairs, seeds, seeds)
    variances = [_sampling(number, reference, *each) for each in zip(seeds, pairs, strict=True)]
    total = math.fsum(variances) / len(seeds) ** 2 + _of_other_rows(number, reference, pairs)
    values = [_values(each, seeds, False) for each in (number, reference)]
    repeated = bool(np.all(np.abs(values[0] - values[1]) <= IDENTICAL * np.abs(values[1])))
    remark = ", ".join(["the same weights", *filter(None, [remark])])
    return Difference(ours, theirs, difference, math.sqrt(total), math.inf, repeated, remark=remark)


def _trained_apart(
    number: Number, reference: Number, seeds: Sequence[int], calibration: Calibration, same: Set[int], shared: bool
) -> Difference:
    pairs = [_pair(number, reference, seed, seed) for seed in seeds]
    ours, theirs, difference, remark = _means(number, reference, pairs, seeds, seeds)
    prior = calibration.prior(reference, with_rows=True)
    by_pairs = prior is not None and all(pair is not None for pair in pairs)
    if by_pairs:
        c, df = prior.moderated(*pooled(map(by_rows, (number, reference))))
    else:
        single, df = spread_of(calibration, reference, number)
    variances = []
    for seed, pair in zip(seeds, pairs, strict=True):
        if seed in same:
            variances.append(_sampling(number, reference, seed, pair))
            continue
        training = max(c, 1.0 / _n_rows(number, reference, pair)) * pair.variance if by_pairs else 2.0 * single
        noise = _noise(number, reference, seed)
        noise = noise if math.isfinite(noise) else 0.0
        variances.append(training + noise if shared else max(training, noise))
    total = math.fsum(variances) / len(seeds) ** 2 + _of_other_rows(number, reference, pairs)
    error = math.sqrt(total) if math.isfinite(total) else math.nan
    return Difference(ours, theirs, difference, error, df, remark=remark)


def _unpaired(number: Number, reference: Number, calibration: Calibration, shared: bool) -> Difference:
    """All seeds of one run against all of the other, which have none in common: but their rows may be the same."""
    every = list(itertools.product(number.seeds, reference.seeds))
    pairs = [_pair(number, reference, ours, theirs) for ours, theirs in every]
    ours, theirs, difference, remark = _means(number, reference, pairs, number.seeds, reference.seeds)
    prior = calibration.prior(reference, with_rows=True)
    by_pairs = prior is not None and all(pair is not None for pair in pairs)
    if by_pairs:
        c, df = prior.moderated(*pooled(map(by_rows, (number, reference))))
        square = float(np.mean([pair.variance for pair in pairs]))  # of two trainings
        single = max(c, 1.0 / _n_rows(number, reference, pairs[0])) * square / 2.0
    else:
        single, df = spread_of(calibration, reference, number)
    variance = single * (1.0 / len(number) + 1.0 / len(reference))
    noise = number.mc_variance / len(number) + reference.mc_variance / len(reference)
    noise = noise if math.isfinite(noise) else 0.0
    variance = (
        (variance + noise if shared and by_pairs else max(variance, noise)) if math.isfinite(variance) else math.nan
    )
    variance += _of_other_rows(number, reference, pairs)
    error = math.sqrt(variance) if math.isfinite(variance) else math.nan
    return Difference(
        ours, theirs, difference, error, df, remark="; ".join(filter(None, ["no seed in common", remark]))
    )


def _retrained(number: Number, reference: Number, calibration: Calibration) -> tuple[float, float]:
    """Standard error of the difference to models trained independently of theirs, as many, and its df."""
    n = len(reference)
    prior, estimate = calibration.prior(reference, with_rows=True), by_rows(reference)
    if prior is not None and estimate is not None:
        c, df = prior.moderated(*pooled((estimate, by_rows(number))))
        variance = c * 2.0 * reference.spread / estimate.ratio  # times the mean s_d^2 of their seeds
    else:
        single, df = spread_of(calibration, reference, number)
        variance = 2.0 * single
    return math.sqrt(variance / n) if math.isfinite(variance) else math.nan, df


def _means(
    number: Number,
    reference: Number,
    pairs: Sequence[Paired | None],
    our_seeds: Sequence[int],
    their_seeds: Sequence[int],
) -> tuple[float, float, float, str]:
    """Ours, theirs, their difference and a remark; over the rows of both where they are not the same ones."""
    use_corrected = corrected(number, reference)
    ours = float(_values(number, our_seeds, use_corrected).mean())
    theirs = float(_values(reference, their_seeds, use_corrected).mean())
    if not _same_rows(number, reference) and not use_corrected and all(pair is not None for pair in pairs):
        over = f"over the {pairs[0].n:,} rows that both have"
        return ours, theirs, float(np.mean([pair.mean for pair in pairs])), over
    return ours, theirs, ours - theirs, ""


def _values(number: Number, seeds: Sequence[int], use_corrected: bool) -> np.ndarray:
    at = [number.seeds.index(seed) for seed in seeds]
    biases = np.array(number.biases)[at] if use_corrected else 0.0
    return np.array(number.values)[at] - biases


def _pair(number: Number, reference: Number, ours: int, theirs: int) -> Paired | None:
    """Two seeds on the rows that both have; None where there are none."""
    if ours not in number.rows or theirs not in reference.rows:
        return None
    return paired(number.rows[ours], reference.rows[theirs])


def _same_rows(number: Number, reference: Number) -> bool:
    """Whether both were measured on the same test rows: on as many, and of those known one's are among the other's."""
    if number.n_rows != reference.n_rows:
        return False
    if not number.rows or not reference.rows:
        return True
    ours, theirs = (next(iter(each.rows.values())).row for each in (number, reference))
    fewer, more = sorted((ours, theirs), key=len)
    return bool(np.isin(fewer, more, assume_unique=True).all())


def _n_rows(number: Number, reference: Number, pair: Paired) -> int:
    """Rows that the difference is a mean over: published values are of a part of them."""
    return reference.n_rows if _same_rows(number, reference) and reference.n_rows else pair.n


def _of_other_rows(number: Number, reference: Number, pairs: Sequence[Paired | None]) -> float:
    """Variance from the choice of the test rows, where the runs have different ones and cannot be paired by row."""
    by_row = all(pair is not None for pair in pairs) and not corrected(number, reference)
    return 0.0 if by_row or _same_rows(number, reference) else number.sem**2 + reference.sem**2


def _noise(number: Number, reference: Number, seed: int) -> float:
    """Variance of the difference of two estimates by their stored errors of sampling; NaN for unknown."""
    i, j = number.seeds.index(seed), reference.seeds.index(seed)
    return number.mc_errors[i] ** 2 + reference.mc_errors[j] ** 2


def _sampling(number: Number, reference: Number, seed: int, pair: Paired | None) -> float:
    """Variance of the difference of two measurements of the same weights; NaN for unknown.

    By the stored errors of sampling and by the differences of the rows, which are independent then: the larger. Where
    neither is known the errors over the rows, which contain that of sampling, are an upper bound.
    """
    known = [_noise(number, reference, seed)]
    known += [pair.variance / _n_rows(number, reference, pair)] if pair is not None else []
    known = [each for each in known if math.isfinite(each)]
    if known:
        return max(known)
    i, j = number.seeds.index(seed), reference.seeds.index(seed)
    return number.sems[i] ** 2 + reference.sems[j] ** 2
