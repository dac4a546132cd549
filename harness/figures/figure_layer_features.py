"""Beyond the thesis: what a linear classifier makes of every layer, the question that its chapter 4 ends with."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.figures import panels, style
from harness.figures.gather import over_seeds

ANALYSES = ("layer_features",)
CAPTION = """
Are lower layers more informative? Error rate, on all test rows, of a linear classifier of each layer's mean activations
under q(h|x); layer 0 is x itself. Left: fitted to the few labels that the semi-supervised models have, right: to many.
The classifier's penalty was chosen on validation rows. Bars: standard error, binomial and between seeds. Dotted: the
error of guessing the commonest of ten even classes.
"""
CHANCE = 0.9


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Error rates of every layer, seeds pooled."""
    return over_seeds(table, by=("layer", "units", "labels"))


def draw(data: pd.DataFrame) -> Any:
    """A panel a data set and number of labels, a line a model."""
    names = panels.datasets(data)
    looks = style.look(data["method"].unique())
    counts = {name: sorted(data.loc[data["dataset"] == name, "labels"].unique()) for name in names}
    shown = [(name, count) for name in names for count in counts[name]]
    figure, grid = panels.grid(len(shown), "layer, from the data upward", "error rate", columns=2, width=3.6)
    handles: dict[str, Any] = {}
    for axes, (name, count) in zip(grid, shown, strict=True):
        chosen = data[(data["dataset"] == name) & (data["labels"] == count)]
        axes.axhline(CHANCE, color="0.5", linestyle=":", linewidth=1)
        for title, line in panels.models(chosen):
            look = looks[line["method"].iloc[0]]
            drawn = axes.errorbar(line["layer"], line["value"], line["sem"], capsize=2, markersize=4, **look)
            handles.setdefault(title.removesuffix(f", {name}"), drawn)
        panels.plain_logarithmic(axes.yaxis)
        axes.set_title(f"{name}, {count:,} labels")
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels.legend(figure, handles, sorted(handles))
    return figure
