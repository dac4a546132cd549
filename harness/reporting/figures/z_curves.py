"""The common part of the figures on the convergence of 2 log Z."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import panels
from harness.reporting.figures.gather import CELL
from harness.reporting.figures.style import MARKS


def of_first_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Repetitions of a cell have a Z each, so there is nothing to pool."""
    first = table.groupby(list(CELL))["seed"].transform("min")
    return table[table["seed"] == first]


def remarks(data: pd.DataFrame) -> list[str]:
    """A warning for every curve whose weights have too heavy a tail."""
    doubted = data[data["pareto_k"] > data["k_limit"]].groupby(["dataset", "title", "k_inner"], sort=False)
    return [
        f"Warning: 2 log Z of {title} on {dataset} with {k_inner} inner samples is not to be trusted, nor are its"
        f" errors: Pareto k = {rows['pareto_k'].iloc[0]:.2f} of its weights is above {rows['k_limit'].iloc[0]:.2f}"
        for (dataset, title, k_inner), rows in doubted
    ]


def draw(data: pd.DataFrame, x: str, label: str, with_errors: bool = False) -> Any:
    """Against column x: one panel per model, and with ``with_errors`` below it one with the error of an estimate."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    shown = panels.models(data)
    n_rows = 2 if with_errors else 1
    size = (1.6 + 4.4 * len(shown), 0.8 + 2.6 * n_rows)
    figure, axes = plt.subplots(n_rows, len(shown), figsize=size, sharex="col", layout="constrained", squeeze=False)
    k_inners = sorted(data["k_inner"].unique())
    colors, handles = sns.color_palette("colorblind"), {}
    for column, (title, rows) in enumerate(shown):
        for i, k_inner in enumerate(k_inners):
            line = rows[rows["k_inner"] == k_inner]
            look = {"color": colors[i], "marker": MARKS[i], "markersize": 4}
            drawn = axes[0, column].errorbar(line[x], line["value"], line["sem"], capsize=2, **look)
            if i == 0:
                low, high = line["value"] - line["sd"], line["value"] + line["sd"]
                axes[0, column].fill_between(line[x], low, high, color="0.5", alpha=0.3, linewidth=0)
                axes[0, column].axhline(line["pooled"].iloc[-1], color="0.3", linestyle=":", linewidth=1)
            if with_errors:
                axes[1, column].plot(line[x], line["error"], **look)
            handles.setdefault(_label(k_inner, rows), drawn)
        axes[0, column].set_title(title)
        axes[-1, column].set_xlabel(label)
        axes[-1, column].set_xscale("log")
    axes[0, 0].set_ylabel("2 log Z, nats")
    if with_errors:
        axes[1, 0].set_ylabel("standard error, nats")
        for panel in axes[1]:
            panels.plain_logarithmic(panel.yaxis)
    panels.legend(figure, handles)
    return figure


def _label(k_inner: int, rows: pd.DataFrame) -> str:
    line = rows[rows["k_inner"] == k_inner].iloc[-1]
    doubt = "\n(not to be trusted)" if line["pareto_k"] > line["k_limit"] else ""
    return f"$K_{{inner}}$ = {k_inner}{doubt}"
