"""Figure 3.5: 2 log Z against the number of outer samples."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import z_curves

ANALYSES = ("z_convergence",)
CAPTION = """
Estimates of 2 log Z against the number of outer samples (x, h) ~ p, for several numbers of inner samples h' ~ q(h | x):
means over independent repeats. Band: standard deviation of one repeat with the fewest inner samples; bars: standard
error of the means. Dotted: all samples with the fewest inner ones, pooled. Of repeated trainings, the first is shown.
"""
data, remarks = z_curves.of_first_seed, z_curves.remarks


def draw(data: pd.DataFrame) -> Any:
    """One panel per model, one line per number of inner samples."""
    return z_curves.draw(data, "k_outer", "outer samples $K_{outer}$")
