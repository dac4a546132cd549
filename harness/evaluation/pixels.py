"""Images as rows of tables, one column per pixel: what analyses write and figures read back."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from torch import Tensor

DECIMALS = 3  # of a probability


def is_square(n_pixels: int) -> bool:
    """Whether rows of so many columns are square images."""
    return math.isqrt(n_pixels) ** 2 == n_pixels


def as_table(images: Tensor, **facts: object) -> pd.DataFrame:
    """One row per image: ``facts``, single values or one for every image, then pixel_0 .. pixel_{D-1}; images [N, D].

    Pixels that are not a number become empty cells.
    """
    values = np.round(images.double().cpu().numpy(), DECIMALS)
    pixels = pd.DataFrame(values, columns=[f"pixel_{d}" for d in range(values.shape[1])])
    return pd.concat([pd.DataFrame(facts, index=pixels.index), pixels], axis=1)


def images_of(table: pd.DataFrame) -> np.ndarray:
    """The images of such a table, all of one size, [N, side, side], NaN where a pixel is empty."""
    values = table[[column for column in table.columns if column.startswith("pixel_")]]
    side = math.isqrt(values.shape[1])
    return values.to_numpy(dtype=float).reshape(-1, side, side)
