"""Distance of every model's samples from the data: a two-sample statistic, and what a classifier sees in them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import panels, style
from harness.reporting.figures.gather import over_seeds

ANALYSES = ("sample_quality",)
CAPTION = """
Samples of every model, compared with test rows; open marks: p(x), filled ones: p*(x) after the last sweep of Gibbs
sampling. Left: squared maximum mean discrepancy (unbiased; mean of Gaussian kernels around the median distance of
training rows), 0 on average for perfect samples. Where rows have labels, middle: how uncertain a linear classifier
of the training rows is about a sample (mean entropy of its labels); right: entropy of the labels of all samples
together. Vertical lines: the same for training rows (dashed) and test rows (dotted). Bars: standard errors.
"""
METRICS = {
    "mmd2": "squared MMD",
    "label entropy": "label entropy, nats",
    "entropy of labels": "entropy of labels, nats",
}
LINES = {"training rows": "--", "test rows": ":"}


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Samples of p, those of p* after the last sweep, and data; seeds pooled."""
    last = table.groupby(["dataset", "method", "variant"], dropna=False)["sweeps"].transform("max")
    chosen = table[(table["sweeps"] == 0) | (table["sweeps"] == last)]
    return over_seeds(chosen, by=("distribution", "sweeps", "metric"))


def draw(data: pd.DataFrame) -> Any:
    """A row of panels per data set, one column per metric, one line per model."""
    import matplotlib.pyplot as plt

    names = panels.datasets(data)
    heights = [0.9 + 0.19 * len(panels.models(data[data["dataset"] == name])) for name in names]
    figure, grid = plt.subplots(
        len(names),
        len(METRICS),
        figsize=(9.5, sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    looks = style.look(data["method"].unique())
    for row, name in zip(grid, names, strict=True):
        _draw_dataset(row, data[data["dataset"] == name], looks)
        row[0].set_title(name, loc="left", fontsize="medium")
    return figure


def _draw_dataset(row: Any, rows: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    models = [(title.rpartition(", ")[0], each) for title, each in panels.models(rows)]
    quality = {
        title: each.loc[(each["metric"] == "mmd2") & (each["distribution"] == "p"), "value"].iloc[0]
        for title, each in models
    }
    models.sort(key=lambda model: -quality[model[0]])
    for axes, (metric, label) in zip(row, METRICS.items(), strict=True):
        here = rows[rows["metric"] == metric]
        axes.set_visible(len(here) > 0)
        for distribution, line in LINES.items():
            reference = here.loc[here["distribution"] == distribution, "value"]
            if len(reference):
                axes.axvline(reference.iloc[0], color="0.4", linestyle=line, linewidth=1)
        for position, (_, each) in enumerate(models):
            for point in each[(each["metric"] == metric) & ~each["distribution"].isin(LINES)].itertuples():
                filled = {} if point.distribution == "p*" else {"markerfacecolor": "white"}
                axes.errorbar(
                    point.value, position, xerr=point.sem, capsize=2, markersize=5, **looks[point.method], **filled
                )
        axes.set_yticks(range(len(models)), [title for title, _ in models] if axes is row[0] else [""] * len(models))
        axes.set_ylim(-0.6, len(models) - 0.4)
        axes.set_xlabel(label)
