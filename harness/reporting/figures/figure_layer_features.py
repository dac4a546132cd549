"""Beyond the thesis: what a linear classifier makes of every layer, the question that its chapter 4 ends with."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pandas as pd

from harness.reporting.figures import panels, style
from harness.reporting.figures.gather import over_seeds

ANALYSES = ("layer_features",)
CAPTION = """
Are lower layers more informative? Error rate, on all test rows, of a linear classifier of each layer's mean
activations under q(h|x); layer 0 is x itself. Each line is named at its end. Left: fitted to the few labels that the
semi-supervised models have; right: to many. The classifier's penalty was chosen on validation rows. Bars: standard
error, binomial and between seeds. Dotted: the error of guessing the most common of ten equally frequent classes.
"""
CHANCE = 0.9
STROKES = ("-", "--", ":", "-.")


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Error rates of every layer, seeds pooled."""
    return over_seeds(table, by=("layer", "units", "labels"))


def draw(data: pd.DataFrame) -> Any:
    """One panel per data set and number of labels, one line per model; variants of a method differ in the stroke."""
    names = panels.datasets(data)
    looks = style.look(data["method"].unique())
    counts = {name: sorted(data.loc[data["dataset"] == name, "labels"].unique()) for name in names}
    shown = [(name, count) for name in names for count in counts[name]]
    figure, grid = panels.grid(
        len(shown), "layer, from the data upward", "error rate", columns=2, width=4.2, height=3.2
    )
    for axes, (name, count) in zip(grid, shown, strict=True):
        chosen = data[(data["dataset"] == name) & (data["labels"] == count)]
        axes.axhline(CHANCE, color="0.5", linestyle=":", linewidth=1)
        strokes: dict[str, Any] = {}
        ends = []
        for title, line in panels.models(chosen):
            method = line["method"].iloc[0]
            stroke = next(strokes.setdefault(method, cycle(STROKES)))
            axes.errorbar(
                line["layer"], line["value"], line["sem"], capsize=2, markersize=4, linestyle=stroke, **looks[method]
            )
            last = line.sort_values("layer").iloc[-1]
            ends.append((last["layer"], last["value"], title.removesuffix(f", {name}"), looks[method]["color"]))
        panels.plain_logarithmic(axes.yaxis)
        axes.set_ylim(0.8 * data["value"].min(), 1.0)
        axes.set_title(f"{name}, {count:,} labels")
        axes.xaxis.get_major_locator().set_params(integer=True)
        panels.label_ends(axes, ends)
    return figure
