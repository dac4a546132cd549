"""A run against an earlier one: every number of the earlier run has to be there, as well measured, and no worse.

``harness.check.difference`` says what the difference of two numbers is and how large it may be by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.check.calibration import Calibration
from harness.check.difference import IDENTICAL, Difference, corrected, difference_of
from harness.check.rules import EXACT_IN_K, SHARED_ERROR, Rules
from harness.check.summary import UNNORMALISED, Number, Summary
from harness.check.verdict import CANNOT_TELL, MISSING, NOT_COMPARABLE, WEAKER, Verdict, judged
from harness.errors import ConfigError
from harness.reporting.tables.reported import Key

Cell = tuple[str, str, str]


def compare_runs(ours: Summary, theirs: Summary, rules: Rules, others: Sequence[Summary] = ()) -> list[Verdict]:
    """A verdict for every number of ``theirs``, the earlier run, in its order.

    others: further runs that show how much seeds vary. Raises ConfigError for runs of different presets, whose budgets
    are not the same.
    """
    if ours.preset != theirs.preset:
        found = f"{ours.preset} and {theirs.preset}"
        raise ConfigError(f"check: expected two runs of one preset, found {found}; `harness compare` takes any two")
    calibration = Calibration([theirs, ours, *others])
    same = same_weights(ours, theirs)
    verdicts: dict[Key, Verdict] = {}
    compared: dict[Key, Difference] = {}
    for key, reference in theirs.numbers.items():
        number = ours.numbers.get(key)
        obstacle = _obstacle(key, number, reference, ours)
        if obstacle is not None:
            verdicts[key] = obstacle
        else:
            seeds = same.get(key[:3], frozenset())
            compared[key] = difference_of(number, reference, calibration, seeds, shares_error(key, theirs))
    verdicts |= judged(compared, rules)
    return [verdicts[key] for key in theirs.numbers]


def same_weights(ours: Summary, theirs: Summary) -> dict[Cell, frozenset[int]]:
    """Seeds of each cell for which both runs have the same trained weights.

    By their digests; where one is not known, all numbers of the seed have to be the same to the last digits.
    """
    found: dict[Cell, dict[int, list[bool]]] = {}
    for key, reference in theirs.numbers.items():
        number = ours.numbers.get(key)
        for seed in reference.seeds if number else ():
            if seed in number.seeds:
                found.setdefault(key[:3], {}).setdefault(seed, []).append(_same(number, reference, seed))
    return {cell: frozenset(seed for seed, same in seeds.items() if all(same)) for cell, seeds in found.items()}


def _same(number: Number, reference: Number, seed: int) -> bool:
    i, j = number.seeds.index(seed), reference.seeds.index(seed)
    if number.models[i] and reference.models[j]:
        return number.models[i] == reference.models[j]
    a, b = number.values[i], reference.values[j]
    return abs(a - b) <= IDENTICAL * max(abs(a), abs(b))


def shares_error(key: Key, run: Summary) -> bool:
    """Whether all test rows share an error of this number, that of log Z."""
    unnormalised = key.metric == "-log p" and key._replace(metric=UNNORMALISED) in run.numbers
    return key.metric in SHARED_ERROR or unnormalised


def _obstacle(key: Key, number: Number | None, reference: Number, ours: Summary) -> Verdict | None:
    """The verdict on what cannot be tested; None for what can."""
    if number is None:
        return Verdict(key, MISSING, theirs=reference.mean, reason=ours.failures.get(key[:3], "not measured"))
    facts = {"ours": number.mean, "theirs": reference.mean, "difference": number.mean - reference.mean}
    if number.data_digest != reference.data_digest:
        return Verdict(key, NOT_COMPARABLE, **facts, reason="other data")
    less = {"seeds": (len(number), len(reference)), "rows": (number.n_rows, reference.n_rows)}
    if not number.exact:
        less["samples"] = (number.k, reference.k)
    found = [f"{a:,} {what} instead of {b:,}" for what, (a, b) in less.items() if a < b]
    if found:
        return Verdict(key, WEAKER, **facts, reason=", ".join(found))
    if number.k == reference.k or key.metric in EXACT_IN_K or corrected(number, reference):
        return None
    reason = f"{number.k:,} samples instead of {reference.k:,}, and the bias of their estimates is not known"
    return Verdict(key, CANNOT_TELL, **facts, reason=reason)
