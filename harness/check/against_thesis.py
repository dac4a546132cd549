"""A run against the printed numbers, which carry no errors of their own.

A printed value stands for every number that rounds to it, so half a unit of its last digit is taken off the
difference. What is left is compared with our standard error (test rows, sampling, seeds) times the square root of two:
the thesis measured on one test set and, mostly, one trained model, whose error cannot be smaller than ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.check.against_run import ALPHA
from harness.check.statistics import holm, two_sided
from harness.check.summary import Number, Summary
from harness.check.verdict import (
    BETTER,
    HIGHER_IS_BETTER,
    MISSING,
    NOT_COMPARABLE,
    REPRODUCED,
    WORSE,
    Verdict,
    direction,
)
from harness.tables.reported import Key, reported

FULL = "full"  # the preset that spends the thesis' budgets
THESIS_ESS_SAMPLES = 100_000  # section 3.7.2


def compare_with_thesis(ours: Summary, alpha: float = ALPHA) -> list[Verdict]:
    """A verdict for every printed number of the four tables and the sections beside them, in their order."""
    printed = dict(_printed_numbers())
    verdicts: dict[Key, Verdict] = {}
    tested: dict[Key, tuple[Number, float, float]] = {}
    for key, text in printed.items():
        number = ours.numbers.get(key)
        if number is None:
            reason = ours.failures.get(key[:3], "not measured")
            verdicts[key] = Verdict(key, MISSING, theirs=float(text), reason=reason)
        elif not number.official:
            difference = number.mean - float(text)
            reason = "ours is on a stand-in for the data"
            verdicts[key] = Verdict(key, NOT_COMPARABLE, number.mean, float(text), difference, reason=reason)
        elif key.metric in HIGHER_IS_BETTER and number.k < THESIS_ESS_SAMPLES:
            reason = (
                f"percent of {number.k:,} samples; the thesis took {THESIS_ESS_SAMPLES:,}, and the share falls with K"
            )
            verdicts[key] = Verdict(
                key, NOT_COMPARABLE, number.mean, float(text), number.mean - float(text), reason=reason
            )
        else:
            beyond = max(0.0, abs(number.mean - float(text)) - rounding(text))
            error = math.sqrt(2.0) * number.sem
            tested[key] = (number, error, two_sided(beyond, error, math.inf) if math.isfinite(error) else math.nan)
    adjusted = holm([1.0 if math.isnan(p) else p for _, _, p in tested.values()])
    for (key, (number, error, _)), p_value in zip(tested.items(), adjusted, strict=True):
        difference = number.mean - float(printed[key])
        word, reason = _word(key, difference, error, p_value, ours.preset, alpha)
        verdicts[key] = Verdict(key, word, number.mean, float(printed[key]), difference, error, p_value, reason)
    return [verdicts[key] for key in printed]


def _word(key: Key, difference: float, error: float, p_value: float, preset: str, alpha: float) -> tuple[str, str]:
    if not math.isfinite(error):
        return NOT_COMPARABLE, "ours has no standard error"
    word = direction(key.metric, difference) if p_value < alpha else REPRODUCED
    if word == WORSE and preset != FULL:
        return NOT_COMPARABLE, f"the budget of preset {preset} is too small"
    return word, "with less than the thesis' budget" if word == BETTER and preset != FULL else ""


def rounding(text: str) -> float:
    """Half a unit of the last printed digit: '13.7' stands for 13.65 to 13.75."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def _printed_numbers() -> Iterator[tuple[Key, str]]:
    seen = set()
    for numbers in reported().values():
        for key, text in numbers.items():
            if key.metric != "layers" and key not in seen:
                seen.add(key)
                yield key, text
