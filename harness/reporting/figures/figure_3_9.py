"""Figure 3.9: samples of a model of faces, and faces with a hidden part completed by it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import faces, images, inpainted

ANALYSES = ("samples", "inpainting")
DATASETS = ("tfd", "faces48")  # the first that there is
CAPTION = """
A BiHM trained on faces (section 3.6.3). A: samples of p*, not selected, shown as the expected values E[x | h_1] of
their pixels after the last sweep of Gibbs sampling. B: inpainting; in each row, a face of the test set, the part of it
that the model was given, with hidden pixels in blue, and independent reconstructions, with expected values in place of
the hidden pixels.
"""
N_SAMPLES = 12


def data(samples: pd.DataFrame, inpainting: pd.DataFrame) -> pd.DataFrame:
    """Panel A: twelve chains after the last sweep. Panel B: originals, masked images and reconstructions."""
    shown = images.preferred(images.first_repetition(samples), DATASETS)
    completed = images.preferred(images.first_repetition(inpainting), tuple(shown["dataset"].unique()))
    parts = {"A": faces.last_sweep(shown, N_SAMPLES), "B": completed}
    return pd.concat([part.assign(panel=panel) for panel, part in parts.items()], ignore_index=True)


def remarks(data: pd.DataFrame) -> list[str]:
    """What the model is."""
    return faces.remarks(data)


def draw(data: pd.DataFrame) -> Any:
    """For every model, A and then a block a mask."""
    blocks = []
    for title, rows in images.models(data):
        blocks.append((f"A: {title}, samples of p*", images.sheet(rows[rows["panel"] == "A"], 4)))
        for mask, (sheet, _) in inpainted.sheets(rows[rows["panel"] == "B"]).items():
            blocks.append((f"B: {mask} hidden", sheet))
    n_columns = min(2, len(blocks))
    figure, grid = images.panels(-(-len(blocks) // n_columns), n_columns, (4, 7))
    for axes in grid.flat[len(blocks) :]:
        axes.set_visible(False)
    for axes, (title, sheet) in zip(grid.flat, blocks, strict=False):
        images.show(axes, sheet, title)
    return figure
