"""The common part of Figures 3.9 and 3.10: models of faces, of the size that their budget allowed."""

from __future__ import annotations

import pandas as pd

from harness.reporting.figures import images

LAYERS = "1000-700-700-300"  # section 3.6.3


def last_sweep(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """The first n chains after the last sweep."""
    return table[(table["sweeps"] == table["sweeps"].max()) & (table["chain"] < n)]


def remarks(data: pd.DataFrame) -> list[str]:
    """How every model was sampled, and its layers where they are not those of the thesis."""
    found = images.budgets(data)
    for title, layers in data.groupby(["title", "layers"], sort=False).groups:
        if layers != LAYERS:
            found.append(f"The latent layers of {title} have {layers} units; those of the thesis have {LAYERS}")
    return found
