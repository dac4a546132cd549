"""What moved between any two runs: of other presets, of other budgets, with cells that only one of them has.

``against_run`` asks whether a run is as good as an earlier one of its preset, and a number that is lost or weaker is a
regression. Here nothing has to be there: every number that either run has gets a word. ``identical``: the same values
from as many rows and samples; ``changed``: a difference that is more than chance; ``reproduced``: none, and the test
would have found one that matters; ``cannot tell``: neither; ``new`` and ``gone``: only one run has it. The difference
and its error are those of ``difference``, so models of both runs are paired row by row, and what another training would
have moved is not taken for a change. Holm's correction is over all numbers that are not identical.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.check.against_run import same_weights, shares_error
from harness.check.calibration import Calibration
from harness.check.difference import IDENTICAL as RELATIVE
from harness.check.difference import Difference, corrected, difference_of
from harness.check.rules import EXACT_IN_K, Rules
from harness.check.summary import Number, Summary
from harness.check.verdict import BETTER, CANNOT_TELL, CHANGED, REPRODUCED, WORSE, Verdict, judged
from harness.reporting.tables.reported import Key

IDENTICAL, NEW, GONE = "identical", "new", "gone"
ORDER = (CHANGED, CANNOT_TELL, REPRODUCED, IDENTICAL, NEW, GONE)  # what moved first
COLUMNS = (
    *("dataset", "method", "variant", "metric", "verdict", "direction", "ours", "theirs", "difference", "error", "df"),
    *("p_value", "smallest", "size", "reason"),
)


@dataclass(frozen=True)
class Moved:
    """One number of two runs. word: one of ORDER. direction: ``better`` or ``worse`` of a change that has one.

    found: the verdict behind it; of ``new`` and ``gone`` ones it has no more than the value. remark: what else is
    different, such as the number of updates. obstacle: why it could not be tested, where it could not.
    """

    word: str
    direction: str
    found: Verdict
    remark: str
    obstacle: str = ""

    @property
    def key(self) -> Key:
        return self.found.key

    @property
    def standardised(self) -> float:
        """Size of the difference in standard errors; infinite where it is not noise at all."""
        difference, error = abs(self.found.difference), self.found.error
        return difference / error if error > 0 else (math.inf if difference > 0 else 0.0)


def moved(ours: Summary, theirs: Summary, rules: Rules, others: Sequence[Summary] = ()) -> list[Moved]:
    """A word for every number that either run has, what moved most first.

    others: further runs that show how much seeds vary.
    """
    calibration = Calibration([theirs, ours, *others])
    same = same_weights(ours, theirs)
    found: list[Moved] = []
    tested: dict[Key, Difference] = {}
    for key in dict.fromkeys((*theirs.numbers, *ours.numbers)):
        a, b = ours.numbers.get(key), theirs.numbers.get(key)
        if a is None or b is None:
            found.append(_alone(key, a, b, ours, theirs))
        elif _identical(a, b):
            values = {"ours": a.mean, "theirs": b.mean, "difference": 0.0}
            found.append(Moved(IDENTICAL, "", Verdict(key, IDENTICAL, **values), _others(a, b)))
        elif (obstacle := _obstacle(a, b)) is not None:
            values = {"ours": a.mean, "theirs": b.mean, "difference": a.mean - b.mean}
            verdict = Verdict(key, CANNOT_TELL, **values, reason=obstacle)
            found.append(Moved(CANNOT_TELL, "", verdict, _others(a, b), obstacle))
        else:
            seeds = same.get(key[:3], frozenset())
            tested[key] = difference_of(a, b, calibration, seeds, shares_error(key, theirs) or shares_error(key, ours))
    for key, verdict in judged(tested, rules).items():
        is_change = verdict.verdict in (BETTER, WORSE, CHANGED)
        direction = verdict.verdict if verdict.verdict in (BETTER, WORSE) else ""
        remark = _others(ours.numbers[key], theirs.numbers[key])
        found.append(Moved(CHANGED if is_change else verdict.verdict, direction, verdict, remark))
    return sorted(found, key=lambda each: (ORDER.index(each.word), -each.standardised))


def frame_of(found: Iterable[Moved]) -> pd.DataFrame:
    """One row per number, columns COLUMNS."""
    records = [
        {
            **each.key._asdict(),
            "verdict": each.word,
            "direction": each.direction,
            **{name: getattr(each.found, name) for name in COLUMNS[6:-1]},
            "reason": reason_of(each),
        }
        for each in found
    ]
    return pd.DataFrame(records, columns=list(COLUMNS)).replace({"df": {math.inf: math.nan}})


def reason_of(each: Moved) -> str:
    """Why this word, and what else is different."""
    return "; ".join(filter(None, (each.found.reason, each.remark)))


def folded(found: Iterable[Moved], word: str) -> str:
    """All numbers of one word in a line: how many, of which methods on how many data sets; '' for none."""
    keys = [each.key for each in found if each.word == word]
    if not keys:
        return ""
    datasets: dict[str, dict[str, None]] = {}
    for key in keys:
        datasets.setdefault(key.method, {})[key.dataset] = None
    parts = [
        f"{method} ({next(iter(names)) if len(names) == 1 else f'{len(names)} data sets'})"
        for method, names in datasets.items()
    ]
    n_cells = len({key.cell for key in keys})
    of = "number" if len(keys) == 1 else "numbers"
    return f"{len(keys):,} {of} of {n_cells} {'cell' if n_cells == 1 else 'cells'}: {', '.join(parts)}"


def _alone(key: Key, ours: Number | None, theirs: Number | None, run: Summary, earlier: Summary) -> Moved:
    if ours is not None:
        verdict = Verdict(key, NEW, ours=ours.mean, reason=earlier.failures.get(key[:3], ""))
        return Moved(NEW, "", verdict, "")
    return Moved(GONE, "", Verdict(key, GONE, theirs=theirs.mean, reason=run.failures.get(key[:3], "")), "")


def _identical(a: Number, b: Number) -> bool:
    """Whether both have the same values from the same seeds, rows and samples."""
    if (a.seeds, a.n_rows, a.k, a.data_digest) != (b.seeds, b.n_rows, b.k, b.data_digest):
        return False
    return all(abs(x - y) <= RELATIVE * max(abs(x), abs(y)) for x, y in zip(a.values, b.values, strict=True))


def _obstacle(a: Number, b: Number) -> str | None:
    """Why two numbers cannot be compared; None where they can."""
    if a.data_digest != b.data_digest:
        return "other data"
    if a.k != b.k and a.key.metric not in EXACT_IN_K and not corrected(a, b):
        return f"{a.k:,} samples instead of {b.k:,}, and the bias of their estimates is not known"
    return None


def _others(a: Number, b: Number) -> str:
    """How the two were made differently, in numbers."""
    facts = {
        "updates": (round(a.n_updates), round(b.n_updates)),
        "seeds": (len(a), len(b)),
        "rows": (a.n_rows, b.n_rows),
        "samples": (a.k, b.k),
    }
    return ", ".join(f"{what}: {y:,} before, {x:,} now" for what, (x, y) in facts.items() if x != y)
