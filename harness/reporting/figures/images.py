"""Sheets of images: tiles side by side, ink on paper for binary pixels, light for grey levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.data import CATALOGUE
from harness.evaluation.pixels import images_of
from harness.reporting.figures.gather import GREY

HIDDEN = (0.62, 0.79, 0.88)  # colour of pixels that were kept from a model
PAPER = (1.0, 1.0, 1.0)
RULE = (0.82, 0.82, 0.82)  # around tiles of binary images, whose own paper is white
INCHES = 0.36  # of a tile
TITLE_INCHES = 2.4  # that a panel's title takes
MODEL = ["dataset", "method", "title", "variant"]


def first_repetition(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of every model's first seed: images cannot be averaged."""
    return table[table["seed"] == table.groupby(["dataset", "method", "variant"])["seed"].transform("min")]


def preferred(table: pd.DataFrame, datasets: tuple[str, ...]) -> pd.DataFrame:
    """The rows of the first of these data sets that has any."""
    found = [table[table["dataset"] == name] for name in datasets]
    return next((rows for rows in found if len(rows)), table.iloc[:0])


def models(data: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of every model."""
    groups = data.groupby(MODEL, dropna=False, sort=False)
    return [
        (f"{title} ({variant})" if isinstance(variant, str) else title, rows) for (_, _, title, variant), rows in groups
    ]


def budgets(data: pd.DataFrame) -> list[str]:
    """A sentence on every model's Gibbs sampling, panel by panel where the figure has panels."""
    data = data if "panel" in data else data.assign(panel="")
    done = data[data["sweeps"] > 0]
    groups = done.groupby(["panel", "dataset", "title", "sweeps", "proposals"], sort=False).groups
    return [
        f"{f'Panel {panel}, ' if panel else ''}{title} on {dataset}: "
        f"{sweeps:g} sweeps, {proposals:g} proposals for every draw of a layer"
        for panel, dataset, title, sweeps, proposals in groups
    ]


def sheet(table: pd.DataFrame, n_columns: int, apart: int = 0) -> np.ndarray:
    """The images of a table as one, RGB [height, width, 3], ``n_columns`` a row; margins and all.

    apart: how many columns on the left stand apart from the others, by half a tile.
    """
    images, grey = images_of(table), _is_grey(table)
    n_rows, step = -(-len(images) // n_columns), images.shape[1] + 1
    gap = step // 2 if apart else 0
    found = np.empty((n_rows * step + 1, n_columns * step + 1 + gap, 3))
    found[:] = PAPER
    for number, image in enumerate(images):
        row, column = divmod(number, n_columns)
        top, left = row * step, column * step + gap * (column >= apart)
        found[top : top + step + 1, left : left + step + 1] = PAPER if grey else RULE
        tile = np.repeat((image if grey else 1.0 - image)[:, :, None], 3, axis=2)
        tile[np.isnan(image)] = HIDDEN
        found[top + 1 : top + step, left + 1 : left + step] = tile
    return found


def _is_grey(table: pd.DataFrame) -> bool:
    """What the table says of its pixels, where it does as of a user's data set; else the catalogue."""
    name = table["dataset"].iloc[0]
    said = table[GREY].iloc[0] if GREY in table else None
    if said is None or pd.isna(said):
        return name in CATALOGUE and CATALOGUE[name].grey
    return bool(said)


def panels(n_rows: int, n_columns: int, tiles: tuple[int, int]) -> tuple[Any, np.ndarray]:
    """A figure and its panels [n_rows, n_columns], each with room for so many rows and columns of tiles."""
    import matplotlib.pyplot as plt

    height, width = (INCHES * n for n in tiles)
    size = (n_columns * (max(width, TITLE_INCHES) + 0.2), n_rows * (height + 0.45))
    found = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)
    found[0].get_layout_engine().set(h_pad=0.07)
    return found


def show(axes: Any, pixels: np.ndarray, title: str = "") -> None:
    """A sheet without axes."""
    axes.imshow(pixels, interpolation="nearest", vmin=0.0, vmax=1.0)
    axes.set_axis_off()
    axes.set_title(title, fontsize="medium")
