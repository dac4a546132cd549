"""Sheets of what is drawn anew below a given layer: Figures 4.1 to 4.3, four layers each."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import images

CAPTION = """
Images of binarized MNIST drawn from p(x, h_1 .. h_{l-1} | h_l), where h_l is that of one ancestral draw from the
top-down model, as the expected values E[x | h_1] of their pixels. Each row has its own ancestral draw, the same in all
blocks; the image of that draw comes first in the row, apart from the others.
"""


def rows_of(table: pd.DataFrame, levels: range) -> pd.DataFrame:
    """The images from these layers downward and those of the ancestral draws; none where no model has such a layer."""
    table = images.first_repetition(table)
    chosen = table[table["level"].isin(levels)]
    return pd.concat([table[table["level"] == 0], chosen]) if len(chosen) else chosen


def missing(data: pd.DataFrame, levels: range) -> list[str]:
    """A sentence for every model that lacks some of the layers."""
    found = []
    for title, rows in images.models(data):
        absent = sorted(set(levels) - set(rows["level"]))
        if absent:
            found.append(f"{title} has no layer {', '.join(map(str, absent))}")
    return found


def draw(data: pd.DataFrame) -> Any:
    """Blocks of a model in a square, the lowest layer top left."""
    found = images.models(data)
    blocks = [(title, level, part) for title, rows in found for level, part in _blocks(rows)]
    width = int(blocks[0][2].groupby("ancestor").size().max())
    n_columns = min(2, len(blocks))
    n_rows = -(-len(blocks) // n_columns)
    figure, grid = images.panels(n_rows, n_columns, (blocks[0][2]["ancestor"].nunique(), width + 1))
    for axes in grid.flat[len(blocks) :]:
        axes.set_visible(False)
    for axes, (title, level, part) in zip(grid.flat, blocks, strict=False):
        images.show(axes, images.sheet(part, width, apart=1), f"{title}: from layer {level}")
    return figure


def _blocks(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    first = rows[rows["level"] == 0]
    levels = sorted(set(rows["level"]) - {0})
    return [
        (level, pd.concat([first, rows[rows["level"] == level]]).sort_values(["ancestor", "level", "draw"]))
        for level in levels
    ]
