"""Figure 3.6: 2 log Z against the number of outer times inner samples, and which split of them errs least."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import z_curves

ANALYSES = ("z_convergence",)
CAPTION = """
Estimates of 2 log Z against the total number of samples, outer times inner ones, as in Figure 3.5 (upper panels), and
the standard error of one such estimate (lower panels; by the delta method, from the weights of all repeats): the line
that is lowest makes the most of a given number of samples. Samples do not all cost the same: an outer one also needs a
draw from p and log q(h | x).
"""
data, remarks = z_curves.of_first_seed, z_curves.remarks


def draw(data: pd.DataFrame) -> Any:
    """Two panels per model, one line per number of inner samples."""
    return z_curves.draw(data, "k_total", "samples $K_{outer}$ × $K_{inner}$", with_errors=True)
