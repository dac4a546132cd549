"""Sheets of test images, of what was left of them, and of what a model put there."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import images

ROLES = ("original", "masked", "reconstruction")


def sheets(data: pd.DataFrame) -> dict[str, tuple[Any, int]]:
    """Mask -> a sheet with one row per image (original, masked, reconstructions), and its number of columns."""
    found = {}
    for mask, rows in data.groupby("mask", sort=False):
        ordered = rows.assign(role=pd.Categorical(rows["role"], ROLES)).sort_values(["image", "role", "copy"])
        n_columns = int(ordered.groupby("image").size().max())
        found[mask] = images.sheet(ordered, n_columns, apart=2), n_columns + 1
    return found
