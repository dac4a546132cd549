"""Beyond the thesis: what a model loses with each layer, the measurement behind a sentence of section 3.6.2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.reporting.figures import panels
from harness.reporting.figures.gather import CELL, over_seeds

ANALYSES = ("ablation",)
CAPTION = """
The worth of a layer: negative log-likelihood of models that lack one layer, minus that of the whole model, trained with
the same budget, on the same test rows, in nats per example. To the right of zero, the model is worse without it. Layers
are counted from the data upward. Bars: standard error, over rows (paired) and between seeds.
"""
WHOLE = "all layers"
MARKS = {"log p": ("o", "-log p"), "log p~*": ("s", "-log p~*")}


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Differences to the variant ``all layers`` of the same seed, row by row, then seeds pooled."""
    model = ["dataset", "method", "seed", "metric", "row"]
    whole = table[table["variant"] == WHOLE].set_index(model)["value"].rename("whole")
    paired = table[table["variant"] != WHOLE].join(whole, on=model, how="inner")
    if paired.empty:
        return paired
    paired["loss"] = paired["whole"] - paired["value"]
    by_seed = paired.groupby([*CELL, "seed", "metric"], sort=False)["loss"].agg(["mean", "std", "size"]).reset_index()
    by_seed = by_seed.assign(value=by_seed["mean"], sem=by_seed["std"] / np.sqrt(by_seed["size"]))
    return over_seeds(by_seed, by=("metric",))


def draw(data: pd.DataFrame) -> Any:
    """One panel per data set and method, one line of marks per variant."""
    shown = list(data.groupby(["dataset", "method", "title"], sort=False))
    figure, grid = panels.grid(len(shown), "loss, nats per example", "", columns=2, width=3.6)
    handles: dict[str, Any] = {}
    for axes, ((name, _, title), rows) in zip(grid, shown, strict=True):
        variants = list(dict.fromkeys(rows["variant"]))
        axes.axvline(0.0, color="0.5", linestyle=":", linewidth=1)
        for i, (metric, points) in enumerate(rows.groupby("metric", sort=False)):
            mark, label = MARKS[metric]
            places = [variants.index(variant) + 0.2 * i for variant in points["variant"]]
            handles[label] = axes.errorbar(
                points["value"], places, xerr=points["sem"], marker=mark, markersize=4, linestyle="", capsize=2
            )
        axes.set_yticks(range(len(variants)), variants)
        axes.set_ylim(len(variants) - 0.5, -0.5)
        axes.set_title(f"{title}, {name}")
    panels.legend(figure, handles)
    return figure
