"""Figure 3.10: a hundred samples of a model of faces."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import faces, images

ANALYSES = ("samples",)
DATASETS = ("tfd", "faces48")  # the first that there is
CAPTION = """
Samples of p* of a BiHM trained on faces (section 3.6.3), not selected, shown as the expected
values E[x | h_1] of their pixels after the last sweep of Gibbs sampling.
"""
N_SAMPLES = 100


def data(table: pd.DataFrame) -> pd.DataFrame:
    """The first hundred chains after the last sweep."""
    return faces.last_sweep(images.preferred(images.first_repetition(table), DATASETS), N_SAMPLES)


def remarks(data: pd.DataFrame) -> list[str]:
    """What the model is."""
    return faces.remarks(data)


def draw(data: pd.DataFrame) -> Any:
    """One sheet per model."""
    found = images.models(data)
    figure, grid = images.panels(len(found), 1, (10, 10))
    for axes, (title, rows) in zip(grid.flat, found, strict=True):
        images.show(axes, images.sheet(rows, 10), title)
    return figure
