"""How many of its layers a model uses, from the csv data of ``figure_layer_use``.

A layer is used if more than a tenth of its units live (see ``harness.estimators.layer_use``). Of several seeds it is
their mean number of live units that counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.storage.measurements import read_csv

FIGURE = "figure_layer_use"


@dataclass(frozen=True)
class LayersInUse:
    """A trained model, or several seeds of one.

    layers: its rows of the figure's data, the number of live units in ``value``, from the data upward.
    """

    dataset: str
    method: str
    title: str
    variant: str
    layers: pd.DataFrame

    @property
    def used(self) -> str:
        """How many, in words."""
        return f"{sum(self.margins > 0)} of {len(self.layers)}"

    @property
    def live(self) -> str:
        """Live units of every layer."""
        return ", ".join(f"{row.value:.3g}/{row.n_units}" for row in self.layers.itertuples())

    @property
    def margins(self) -> pd.Series:
        """Live units of every layer less what it takes to be used: half a unit below the least number above a tenth,
        so that no number of live units meets it exactly."""
        return self.layers["value"] - (self.layers["n_units"] // 10 + 0.5)


def layers_in_use(folder: Path) -> list[LayersInUse]:
    """All models with layers whose figures are in ``folder``; none where the figure does not exist or shows nothing."""
    path = folder / f"{FIGURE}.csv"
    if not path.exists():
        return []
    table = read_csv(path, keep_default_na=False, dtype={"variant": str})
    if "weights" not in table.columns:  # nothing to draw
        return []
    final = table[(table["weights"] == "trained") & (table["metric"] == "live units")]
    groups = final.groupby(["dataset", "method", "title", "variant"], sort=False)
    return [LayersInUse(*names, rows.sort_values("layer")) for names, rows in groups]
