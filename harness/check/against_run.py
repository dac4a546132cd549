"""A run against an earlier one: every number of the earlier run has to be there, as well measured, and no worse.

Both runs look at the same test rows, so the error that comes from the rows is the same in both and drops out of the
difference: what remains is what varies from seed to seed, which contains the noise of sampling. A single seed has the
spread that the other cells lead one to expect; where no cell has several seeds, only the noise of sampling is known,
and a difference beyond it decides nothing. Where the numbers of rows differ, the errors over rows count in full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.check.statistics import VariancePrior, fit_prior, holm, two_sided
from harness.check.summary import Number, Summary
from harness.check.verdict import MISSING, NOT_COMPARABLE, REPRODUCED, WEAKER, Verdict, direction
from harness.errors import ConfigError
from harness.tables.reported import Key

ALPHA = 0.05  # the probability of any false alarm


def compare_runs(ours: Summary, theirs: Summary, alpha: float = ALPHA) -> list[Verdict]:
    """A verdict for every number of ``theirs``, the earlier run, in its order.

    Raises ConfigError for runs of different presets, whose budgets are not the same.
    """
    if ours.preset != theirs.preset:
        raise ConfigError(f"check: expected two runs of one preset, found {ours.preset} and {theirs.preset}")
    prior = _prior(ours.numbers, theirs.numbers)
    verdicts: dict[Key, Verdict] = {}
    tested: dict[Key, tuple[Number, Number, float, float]] = {}
    for key, reference in theirs.numbers.items():
        number = ours.numbers.get(key)
        obstacle = _obstacle(key, number, reference, ours)
        if obstacle is not None:
            verdicts[key] = obstacle
        else:
            tested[key] = (number, reference, *_error(number, reference, prior))
    raw = [two_sided(a.mean - b.mean, error, df) for a, b, error, df in tested.values()]
    for (key, (number, reference, error, _)), p_value in zip(tested.items(), holm(raw), strict=True):
        difference = number.mean - reference.mean
        word, reason = direction(key.metric, difference) if p_value < alpha else REPRODUCED, ""
        if word != REPRODUCED and prior is None and _n(number) + _n(reference) == 2:
            word, reason = NOT_COMPARABLE, "more than the noise of sampling; the spread between seeds is not known"
        verdicts[key] = Verdict(key, word, number.mean, reference.mean, difference, error, p_value, reason)
    return [verdicts[key] for key in theirs.numbers]


def _n(number: Number) -> int:
    return len(number.values)


def _obstacle(key: Key, number: Number | None, reference: Number, ours: Summary) -> Verdict | None:
    """The verdict on what cannot be tested; None for what can."""
    if number is None:
        return Verdict(key, MISSING, theirs=reference.mean, reason=ours.failures.get(key[:3], "not measured"))
    facts = {"ours": number.mean, "theirs": reference.mean, "difference": number.mean - reference.mean}
    if number.data_digest != reference.data_digest:
        return Verdict(key, NOT_COMPARABLE, **facts, reason="other data")
    less = {
        "seeds": (_n(number), _n(reference)),
        "samples": (number.k, reference.k),
        "rows": (number.n_rows, reference.n_rows),
    }
    found = [f"{a:,} {what} instead of {b:,}" for what, (a, b) in less.items() if a < b]
    return Verdict(key, WEAKER, **facts, reason=", ".join(found)) if found else None


def _scale(number: Number) -> float:
    """Square of the error over the test rows, the scale that variances between seeds are told in."""
    known = [sem**2 for sem in number.sems if sem > 0]
    return sum(known) / len(known) if known else math.nan


def _prior(*runs: Mapping[Key, Number]) -> VariancePrior | None:
    several = [number for numbers in runs for number in numbers.values() if _n(number) > 1 and _scale(number) > 0]
    return fit_prior([each.spread / _scale(each) for each in several], [_n(each) - 1 for each in several])


def _error(number: Number, reference: Number, prior: VariancePrior | None) -> tuple[float, float]:
    """Standard error of the difference of the means, and its degrees of freedom."""
    scale = math.fsum(s for s in (_scale(number), _scale(reference)) if s > 0) / 2 or math.nan
    df = _n(number) + _n(reference) - 2
    squares = [each.spread * (_n(each) - 1) for each in (number, reference) if _n(each) > 1]
    spread = math.fsum(squares) / df if df else math.nan
    if prior is not None and math.isfinite(scale):
        relative, df = prior.moderated(spread / scale if df else math.nan, df)
        spread = relative * scale
    elif not df:
        spread, df = math.fsum(_mc_variance(each) for each in (number, reference)) / 2, math.inf
    error = math.sqrt(spread * (1 / _n(number) + 1 / _n(reference)))
    if number.n_rows != reference.n_rows:
        error = math.sqrt(error**2 + number.sem**2 + reference.sem**2)
    return error, df


def _mc_variance(number: Number) -> float:
    known = [error**2 for error in number.mc_errors if math.isfinite(error)]
    return sum(known) / len(known) if known else 0.0
