"""What Figures 3.9 and 3.10 have in common: models of faces, of the size that their budget allowed."""

from __future__ import annotations

import pandas as pd

LAYERS = "1000-700-700-300"  # section 3.6.3


def last_sweep(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """The first n chains after the last sweep."""
    return table[(table["sweeps"] == table["sweeps"].max()) & (table["chain"] < n)]


def remarks(data: pd.DataFrame) -> list[str]:
    """Data set and number of sweeps of every model, and its layers where they are not those of the thesis."""
    found = []
    for (dataset, title, layers, sweeps), _ in data.groupby(["dataset", "title", "layers", "sweeps"], sort=False):
        found.append(f"{title} was trained on {dataset}; samples after {sweeps:g} sweeps")
        if layers != LAYERS:
            found.append(f"Its latent layers have {layers} units, where the thesis has {LAYERS}")
    return found
