"""What the check says about one number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.check.difference import Difference
from harness.check.rows import ROUNDING
from harness.check.rules import HIGHER_IS_BETTER, UNDIRECTED, Rules
from harness.check.statistics import holm, smallest_difference, two_sided
from harness.tables.reported import Key

REPRODUCED, BETTER, WORSE, CHANGED = "reproduced", "better", "worse", "changed"
CANNOT_TELL, NOT_COMPARABLE, MISSING, WEAKER = "cannot tell", "not comparable", "missing", "weaker measurement"
REGRESSIONS = (WORSE, CHANGED, MISSING, WEAKER)  # against an earlier run


@dataclass(frozen=True)
class Verdict:
    """One number compared: ours, theirs, and the test.

    difference: ours - theirs, nats (percent, or a fraction, by metric). error: its standard error. p_value: two-sided,
    after Holm's correction over all numbers tested. smallest: the difference that this test would find, with the power
    of the settings and the correction at its strictest. size: from which on a difference matters, by the settings;
    ``reproduced`` needs smallest <= size. retrained: what ``smallest`` would be for models that were trained
    independently of theirs; NaN where nothing is known of their spread. reason: what there is to say beyond that.
    """

    key: Key
    verdict: str
    ours: float = math.nan
    theirs: float = math.nan
    difference: float = math.nan
    error: float = math.nan
    df: float = math.nan
    p_value: float = math.nan
    smallest: float = math.nan
    size: float = math.nan
    retrained: float = math.nan
    reason: str = ""

    @property
    def could_differ(self) -> bool:
        """Whether a difference of the size that matters would have been found."""
        return self.smallest <= self.size


def direction(metric: str, difference: float) -> str:
    """``better`` or ``worse``, for a difference that is not noise; ``changed`` for a metric without a direction."""
    if metric in UNDIRECTED:
        return CHANGED
    return BETTER if (difference > 0) == (metric in HIGHER_IS_BETTER) else WORSE


def judged(compared: Mapping[Key, Difference], rules: Rules) -> dict[Key, Verdict]:
    """The verdicts on numbers that can be compared, all together.

    Holm's correction is over those with noise: where values have to be equal to rounding no chance is involved.
    """
    noisy = {key: each for key, each in compared.items() if each.error > 0}
    raw = [
        two_sided(max(0.0, abs(each.difference) - each.slack), each.error, each.df) for each in noisy.values()
    ]  # fmt: skip
    adjusted = dict(zip(noisy, holm(raw), strict=True))
    strictest = rules.level / max(1, len(noisy))
    found = {}
    for key, each in compared.items():
        rounding = each.slack + ROUNDING * max(1.0, abs(each.ours), abs(each.theirs))
        equal = 1.0 if abs(each.difference) <= rounding else 0.0
        p_value = equal if each.error == 0 else adjusted.get(key, math.nan)
        smallest, retrained = (
            rounding + float(smallest_difference(error, df, strictest, rules.power))
            for error, df in ((each.error, each.df), (each.retrained, each.retrained_df))
        )
        size = rules.size(key.metric, each.theirs)
        word, reason = _word(key.metric, each, p_value < rules.level, smallest, size)
        found[key] = Verdict(
            *(key, word, each.ours, each.theirs, each.difference, each.error, each.df, p_value),
            *(smallest, size, retrained, reason),
        )
    return found


def _word(metric: str, found: Difference, significant: bool, smallest: float, size: float) -> tuple[str, str]:
    """Verdict and reason of one number."""
    if significant:
        return direction(metric, found.difference), found.remark
    if smallest <= size or found.repeated:
        return REPRODUCED, found.remark
    if math.isnan(smallest):
        return CANNOT_TELL, found.remark
    why = f"a difference below {smallest:.2g} may go unseen, and {size:.2g} matters"
    return CANNOT_TELL, "; ".join(filter(None, [why, found.remark]))
