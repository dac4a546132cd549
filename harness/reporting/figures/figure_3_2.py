"""Figure 3.2: samples from p, and from p* after sweeps of Algorithm 2 that start there."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from harness.reporting.figures import images

ANALYSES = ("samples",)
DATASETS = ("binarized_mnist",)
CAPTION = """
Samples of binarized MNIST, not selected, shown as the expected values E[x | h_1] of their pixels. A: from the
top-down model p(x). B: the same chains after sweeps of Gibbs sampling (Algorithm 2), which makes them samples of p*(x),
except for what the chains remember of A and for the finite number of proposals.
"""


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Chains before the first sweep and after the last one."""
    table = images.first_repetition(table)
    return table[table["sweeps"].isin([0, table["sweeps"].max()])]


def remarks(data: pd.DataFrame) -> list[str]:
    """How it was sampled."""
    return images.budgets(data)


def draw(data: pd.DataFrame) -> Any:
    """One row per model: A beside B."""
    found = images.models(data)
    side = math.isqrt(int(data.groupby([*images.MODEL, "sweeps"], dropna=False).size().max()))
    figure, grid = images.panels(len(found), 2, (side, side))
    for row, (title, rows) in zip(grid, found, strict=True):
        for axes, (sweeps, part), letter in zip(row, rows.groupby("sweeps"), "AB", strict=True):
            where = "p" if sweeps == 0 else f"p*, {sweeps} sweeps"
            images.show(axes, images.sheet(part, side), f"{letter}: {title}, {where}")
    return figure
