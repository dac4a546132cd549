"""Beyond the thesis: how layers come into use in the course of training, of every model that has several."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd

from harness.reporting.figures import panels
from harness.reporting.figures.gather import over_seeds

ANALYSES = ("layers_over_updates",)
CAPTION = """
How layers come into use in the course of training, as looks at validation rows saw it: two panels for each model of
several layers of binary units, which are counted from the data upward. Above, live units, those that are neither always
on nor always off and that x makes a difference to, as a share of the layer's units; dotted: a tenth, above which a
layer counts as used. Below, reliability, the correlation of two draws of the layer given the same x. A layer that waits
for its time has no line yet. With several seeds, lines are their mean.
"""
LIVE, RELIABILITY, INFORMATION = "live units", "reliability", "information"
COLUMNS = {LIVE: "live", RELIABILITY: "reliability", INFORMATION: "information"}
ROWS = {LIVE: "live units, share", RELIABILITY: "reliability"}  # of panels, and their labels
TENTH = 0.1  # of its units live in a layer that counts as used
ACROSS = 4  # models side by side
WIDTH = 34  # characters of a title in a line
LINES = 2.6, 0.8  # points, of the lowest and the highest layer


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Live units (their number), reliability and information of every layer and update, seeds pooled.

    Of models with more than one layer. An update at which some seed has no value is left out, since the mean of others
    would make a line jump.
    """
    cell = ["dataset", "method", "variant"]
    table = table.assign(variant=table["variant"].fillna(""))
    table = table[table.groupby(cell)["layer"].transform("max") > 1]
    if table.empty:
        return table
    parts = [table.assign(metric=metric, value=table[column], sem=0.0) for metric, column in COLUMNS.items()]
    pooled = over_seeds(pd.concat(parts), by=("update", "layer", "n_units", "metric"))
    n_seeds = table.groupby(cell)["seed"].nunique().rename("all_seeds")
    pooled = pooled.join(n_seeds, on=cell)
    return pooled[pooled["n_seeds"] == pooled["all_seeds"]].drop(columns=["all_seeds", "sem_df"])


def draw(data: pd.DataFrame) -> Any:
    """Lines of models, for each one panel above the other, one line per layer; a data set begins a line."""
    import matplotlib.pyplot as plt

    found = [panels.models(data[data["dataset"] == name]) for name in panels.datasets(data)]
    across = min(ACROSS, max(map(len, found)))
    lines = [models[i : i + across] for models in found for i in range(0, len(models), across)]
    size = (max(5.0, 2.6 * across + 1.3), 2.7 * len(lines) + 0.3)
    figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(2 * len(lines), across, squeeze=False)
    looks = _looks(int(data["layer"].max()))
    for i, line in enumerate(lines):
        pairs = axes[2 * i : 2 * i + 2].T
        for pair, (title, rows) in zip(pairs, line, strict=False):
            _draw_model(pair, title, rows, looks)
        for panel, label in zip(pairs[0], ROWS.values(), strict=True):
            panel.set_ylabel(label)
        for panel in pairs[len(line) :].flat:
            panel.set_visible(False)
    panels.legend(figure, {f"layer {layer}": plt.Line2D([], [], **look) for layer, look in looks.items()})
    return figure


def _draw_model(pair: Any, title: str, rows: pd.DataFrame, looks: dict[int, dict[str, Any]]) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for panel, metric in zip(pair, ROWS, strict=True):
        for layer, line in rows[rows["metric"] == metric].sort_values("update").groupby("layer"):
            unit = line["n_units"] if metric == LIVE else 1.0
            panel.plot(line["update"], line["value"] / unit, **looks[layer])
        panel.set_ylim(-0.05, 1.05)
        panel.set_xlim(0, 1.02 * rows["update"].max())
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    pair[0].axhline(TENTH, color="0.4", linestyle=":", linewidth=1)
    pair[0].set_title("\n".join(textwrap.wrap(title, WIDTH)), fontsize=8)
    pair[0].tick_params(labelbottom=False)
    pair[1].set_xlabel("update")


def _looks(n_layers: int) -> dict[int, dict[str, Any]]:
    """Colours in the order of the layers; upper ones are thinner and in front, so that lines at zero can be told."""
    import numpy as np
    import seaborn as sns

    colors, widths = sns.color_palette("turbo", n_layers), np.linspace(*LINES, n_layers)
    return {
        layer: {"color": color, "linewidth": width}
        for layer, (color, width) in enumerate(zip(colors, widths, strict=True), start=1)
    }
