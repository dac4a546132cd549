"""Figure 4.2: images drawn anew below layers 9 to 12."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import layer_sheets

ANALYSES = ("layer_samples",)
DATASETS = ("binarized_mnist",)
CAPTION = layer_sheets.CAPTION
LEVELS = range(9, 13)


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Images of the ancestral draws and those from layers 9 to 12."""
    return layer_sheets.rows_of(table, LEVELS)


def remarks(data: pd.DataFrame) -> list[str]:
    """Which of the layers a model does not have."""
    return layer_sheets.missing(data, LEVELS)


def draw(data: pd.DataFrame) -> Any:
    """A block a layer."""
    return layer_sheets.draw(data)
