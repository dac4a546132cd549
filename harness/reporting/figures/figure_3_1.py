"""Figure 3.1: inpainting of binarized MNIST digits."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import images, inpainted

ANALYSES = ("inpainting",)
DATASETS = ("binarized_mnist",)
CAPTION = """
Inpainting of binarized MNIST digits (section 3.4). In each block, from left to right: a digit of the test set; the part
of it that the model was given, with hidden pixels in blue; and independent reconstructions, with the expected values
E[x | h_1] after the last sweep of Gibbs sampling in place of the hidden pixels. All images were selected at random;
nothing here searches for the most probable digit.
"""


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Originals, masked images and reconstructions."""
    return images.first_repetition(table)


def remarks(data: pd.DataFrame) -> list[str]:
    """How it was sampled."""
    return images.budgets(data)


def draw(data: pd.DataFrame) -> Any:
    """A block a mask, two rows of blocks a model."""
    found = [
        (title, mask, *sheet) for title, rows in images.models(data) for mask, sheet in inpainted.sheets(rows).items()
    ]
    n_columns = min(3, len(found))
    n_rows = -(-len(found) // n_columns)
    tiles = max(sheet.shape[0] * width // sheet.shape[1] for _, _, sheet, width in found)
    figure, grid = images.panels(n_rows, n_columns, (tiles, max(width for *_, width in found)))
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    for axes, (title, mask, sheet, _) in zip(grid.flat, found, strict=False):
        images.show(axes, sheet, f"{title}: {mask}")
    return figure
