"""A run against the printed numbers, which carry no errors of their own.

A printed value stands for every number that rounds to it, so half a unit of its last digit is taken off the
difference. The thesis trained one model per cell, on other machines and with other random numbers: its number varies by
what a training varies by, which our seeds show (moderated by what other cells of the metric and method do), and ours, a
mean of n, by 1/n of that variance. Its test rows are ours where the data are the official ones, so the error over the
rows counts only as far as ours are a part of them; its noise of sampling is taken to be as large as ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.check.calibration import Calibration
from harness.check.difference import Difference, spread_of
from harness.check.rules import HIGHER_IS_BETTER, Rules
from harness.check.summary import Number, Summary
from harness.check.verdict import BETTER, MISSING, NOT_COMPARABLE, WORSE, Verdict, judged
from harness.reporting.tables.reported import Key, reported

FULL = "full"  # the preset that spends the thesis' budgets
THESIS_ESS_SAMPLES = 100_000  # section 3.7.2


def compare_with_thesis(ours: Summary, rules: Rules, others: Sequence[Summary] = ()) -> list[Verdict]:
    """A verdict for every printed number of the four tables and the sections beside them, in their order.

    others: further runs that show how much seeds vary.
    """
    printed = dict(_printed_numbers())
    calibration = Calibration([ours, *others])
    verdicts: dict[Key, Verdict] = {}
    compared: dict[Key, Difference] = {}
    for key, text in printed.items():
        number = ours.numbers.get(key)
        obstacle = _obstacle(key, number, float(text), ours)
        if obstacle is not None:
            verdicts[key] = obstacle
        else:
            compared[key] = _difference(number, text, calibration)
    verdicts |= {key: _within_budget(verdict, ours.preset) for key, verdict in judged(compared, rules).items()}
    return [verdicts[key] for key in printed]


def _obstacle(key: Key, number: Number | None, value: float, ours: Summary) -> Verdict | None:
    """The verdict on what cannot be tested; None for what can."""
    if number is None:
        return Verdict(key, MISSING, theirs=value, reason=ours.failures.get(key[:3], "not measured"))
    facts = {"ours": number.mean, "theirs": value, "difference": number.mean - value}
    if not number.official:
        return Verdict(key, NOT_COMPARABLE, **facts, reason="ours is on a stand-in for the data")
    if key.metric in HIGHER_IS_BETTER and number.k < THESIS_ESS_SAMPLES:
        reason = f"percent of {number.k:,} samples; the thesis used {THESIS_ESS_SAMPLES:,}, and the share falls with K"
        return Verdict(key, NOT_COMPARABLE, **facts, reason=reason)
    return None


def _difference(number: Number, text: str, calibration: Calibration) -> Difference:
    single, df = spread_of(calibration, number)
    n = len(number)
    noise = number.mc_variance if math.isfinite(number.mc_variance) else 0.0
    variance = max(single, noise) * (1.0 + 1.0 / n) + _of_a_part(number)
    known = math.isfinite(variance)
    return Difference(
        number.mean,
        float(text),
        number.mean - float(text),
        math.sqrt(variance) if known else math.nan,
        df,
        slack=rounding(text),
        remark="" if known else "how much it varies from seed to seed, or from row to row, is not known",
    )


def _of_a_part(number: Number) -> float:
    """Variance from the choice of our test rows out of all; NaN where the error over the rows is needed and unknown."""
    if not number.n_rows or number.n_rows == number.n_test:
        return 0.0
    known = [sem**2 for sem in number.sems if math.isfinite(sem)]
    share = number.n_rows / number.n_test if number.n_test else 0.0
    return (1.0 - share) * (math.fsum(known) / len(known)) if known else math.nan


def _within_budget(verdict: Verdict, preset: str) -> Verdict:
    """What a run of less than the thesis' budget may say: never that a method is worse."""
    if preset == FULL or verdict.verdict not in (BETTER, WORSE):
        return verdict
    if verdict.verdict == WORSE:
        reason = f"the budget of preset {preset} is too small"
        return replace(verdict, verdict=NOT_COMPARABLE, reason=reason)
    return replace(verdict, reason="with less than the thesis' budget")


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
