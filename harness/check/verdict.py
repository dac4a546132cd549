"""The verdict of the check on one number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.check.difference import Difference
from harness.check.rules import HIGHER, NEITHER, Rules, Scale, scale_of
from harness.comparison.rows import ROUNDING
from harness.comparison.statistics import holm, smallest_difference, two_sided
from harness.reporting.tables.reported import Key

REPRODUCED, BETTER, WORSE, CHANGED = "reproduced", "better", "worse", "changed"
CANNOT_TELL, NOT_COMPARABLE, MISSING, WEAKER = "cannot tell", "not comparable", "missing", "weaker measurement"
REGRESSIONS = (WORSE, CHANGED, MISSING, WEAKER)  # against an earlier run


@dataclass(frozen=True)
class Verdict:
    """One number compared: ours, theirs, and the test.

    difference: ours - theirs, nats (percent, or a fraction, by metric). error: its standard error, with ``df`` degrees
    of freedom. p_value: two-sided, after Holm's correction over all numbers tested. smallest: the difference that this
    test would find, with the power of the settings and the correction at its strictest. size: from which on a
    difference matters, by the settings;
    ``reproduced`` needs smallest <= size. retrained: what ``smallest`` would be for models that were trained
    independently of theirs; NaN where nothing is known of their spread. reason: an explanation beyond that.
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


def direction(scale: Scale, difference: float) -> str:
    """``better`` or ``worse``, for a difference that is not noise; ``changed`` for a metric without a direction."""
    if scale.better == NEITHER:
        return CHANGED
    return BETTER if (difference > 0) == (scale.better == HIGHER) else WORSE


def judged(compared: Mapping[Key, Difference], rules: Rules) -> dict[Key, Verdict]:
    """The verdicts on numbers that can be compared, all together.

    Holm's correction is over those with noise: where values have to be equal to rounding no chance is involved.
    """
    if not compared:
        return {}
    facts = {name: np.array([getattr(each, name) for each in compared.values()], dtype=float) for name in _FACTS}
    noisy = facts["error"] > 0
    off = np.maximum(0.0, np.abs(facts["difference"]) - facts["slack"])
    p_values = np.full(len(compared), np.nan)
    p_values[noisy] = holm(two_sided(off[noisy], facts["error"][noisy], facts["df"][noisy]).tolist())
    rounding = ROUNDING * np.maximum(1.0, np.maximum(np.abs(facts["ours"]), np.abs(facts["theirs"])))
    exact = facts["error"] == 0
    p_values[exact] = np.where(off[exact] <= rounding[exact], 1.0, 0.0)
    strictest = rules.level / max(1, int(noisy.sum()))
    smallest, retrained = (
        facts["slack"] + rounding + smallest_difference(facts[error], facts[df], strictest, rules.power)
        for error, df in (("error", "df"), ("retrained", "retrained_df"))
    )
    found = {}
    numbers = zip(p_values.tolist(), smallest.tolist(), retrained.tolist(), strict=True)
    for (key, each), (p_value, least, least_retrained) in zip(compared.items(), numbers, strict=True):
        scale = each.scale or scale_of(key.metric)
        size = rules.size(scale, each.theirs)
        word, reason = _word(scale, each, p_value < rules.level, least, size)
        found[key] = Verdict(
            *(key, word, each.ours, each.theirs, each.difference, each.error, each.df, p_value),
            *(least, size, least_retrained, reason),
        )
    return found


_FACTS = ("ours", "theirs", "difference", "error", "df", "retrained", "retrained_df", "slack")


def _word(scale: Scale, found: Difference, significant: bool, smallest: float, size: float) -> tuple[str, str]:
    """Verdict and reason of one number."""
    if significant:
        return direction(scale, found.difference), found.remark
    if smallest <= size or found.repeated:
        return REPRODUCED, found.remark
    if math.isnan(smallest):
        return CANNOT_TELL, found.remark
    why = f"a difference below {smallest:.2g} may go unseen, and {size:.2g} matters"
    return CANNOT_TELL, "; ".join(filter(None, [why, found.remark]))
