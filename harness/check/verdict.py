"""What the check says about one number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.tables.reported import Key

REPRODUCED, BETTER, WORSE = "reproduced", "better", "worse"
NOT_COMPARABLE, MISSING, WEAKER = "not comparable", "missing", "weaker measurement"
REGRESSIONS = (WORSE, MISSING, WEAKER)  # against an earlier run

HIGHER_IS_BETTER = ("ess p", "ess p*")  # all other metrics are losses, or zero at best (-2 log Z)


@dataclass(frozen=True)
class Verdict:
    """One cell compared: ours, theirs, and the test.

    difference: ours - theirs, nats (percent, or a fraction, by metric). error: its standard error. p_value: two-sided,
    after Holm's correction over all cells compared. reason: what there is to say beyond the verdict.
    """

    key: Key
    verdict: str
    ours: float = math.nan
    theirs: float = math.nan
    difference: float = math.nan
    error: float = math.nan
    p_value: float = math.nan
    reason: str = ""


def direction(metric: str, difference: float) -> str:
    """``better`` or ``worse``, for a difference that is not noise."""
    return BETTER if (difference > 0) == (metric in HIGHER_IS_BETTER) else WORSE
