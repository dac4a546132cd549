"""Size and power of a check as one tidy table: what the tests promise beside what they do in simulations.

Columns: ``curve``, ``x``, ``y`` and ``error``, the binomial standard error of y. ``size`` curves: x is the level, y the
share of simulated comparisons with any false alarm. ``power`` curves: x is a shift of one cell's -log p in nats, y the
share of cells where it is found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.check.calibration import Calibration
from harness.check.rules import Rules
from harness.check.simulate import LEVELS, LIKELIHOOD, SHIFTS, binomial_error, retraining, simulate, thesis
from harness.check.summary import Summary
from harness.check.verdict import Verdict
from harness.comparison.statistics import power_of

SIZE_RUN, SIZE_THESIS = "size against a run", "size against the thesis"
POWER_THIS, POWER_RETRAINED = "power of this comparison", "power against independent training"
COLUMNS = ("curve", "x", "y", "error")
REPEATS = 300


def curves(
    ours: Summary, theirs: Summary | None, verdicts: Sequence[Verdict], calibration: Calibration, rules: Rules
) -> pd.DataFrame:
    """The table of a check; ``verdicts`` are those against ``theirs``, the earlier run."""
    generator = np.random.default_rng(0)
    lines: list[tuple[str, float, float, float]] = []
    against_run = simulate(retraining(theirs, calibration), REPEATS, generator) if theirs is not None else None
    against_thesis = simulate(thesis(ours, calibration), REPEATS, generator)
    for name, simulated in ((SIZE_RUN, against_run), (SIZE_THESIS, against_thesis)):
        for level in np.union1d(LEVELS, rules.level) if simulated is not None else ():
            share = simulated.false_alarms(level)
            lines.append((name, level, share, binomial_error(share, REPEATS)))
    if against_run is not None and LIKELIHOOD in against_run.metrics:
        for shift in SHIFTS:
            share = against_run.found(shift, rules.level)
            lines.append((POWER_RETRAINED, shift, share, binomial_error(share, REPEATS)))
    lines += [(POWER_THIS, shift, share, 0.0) for shift, share in _of_this(verdicts, rules)]
    return pd.DataFrame(lines, columns=COLUMNS)


def _of_this(verdicts: Sequence[Verdict], rules: Rules) -> list[tuple[float, float]]:
    """Shift and expected share found, from the errors that the tests used; cells without a test count as not found."""
    tested = sum(each.error > 0 for each in verdicts)
    likelihoods = [each for each in verdicts if each.key.metric == LIKELIHOOD]
    if not likelihoods:
        return []
    error, df = (np.array([getattr(each, name) for each in likelihoods]) for name in ("error", "df"))
    rounding = np.array([each.smallest for each in likelihoods])
    found = []
    for shift in SHIFTS:
        power = np.where(error > 0, power_of(shift, error, df, rules.level / max(1, tested)), shift > rounding)
        found.append((float(shift), float(np.where(np.isnan(error), 0.0, power).mean())))
    return found
