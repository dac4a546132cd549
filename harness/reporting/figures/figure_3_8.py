"""Figure 3.8: convergence of log p~*(x), the training objective, and log p(x)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import panels, training_curves

ANALYSES = ("training_history",)
CAPTION = """
Convergence of training: log p~*(x), which training maximises, and log p(x) on validation rows, estimated with as few
samples as training uses. Bands: standard error over the rows.
"""
LABELS = {"log p~*": r"$\log\,\tilde{p}^*(x)$", "log p": r"$\log\,p(x)$"}
METRICS = tuple(LABELS)


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Estimates with the smallest number of samples, of models with p*."""
    cells = ["dataset", "method", "variant", "seed"]
    has_star = table.groupby(cells)["metric"].transform(lambda metrics: (metrics == METRICS[0]).any())
    table = table[has_star]
    return training_curves.pooled(table[table["k"] == table.groupby("metric")["k"].transform("min")], METRICS)


def draw(data: pd.DataFrame) -> Any:
    """One panel per model, one line per estimate."""
    import seaborn as sns

    shown = panels.models(data)
    figure, axes = panels.grid(len(shown), "update", "log-likelihood, nats")
    palette = sns.color_palette("colorblind")
    looks = {"log p~*": {"color": palette[0], "marker": "o"}, "log p": {"color": palette[2], "marker": "s"}}
    handles: dict[str, Any] = {}
    for panel, (title, rows) in zip(axes, shown, strict=True):
        for (metric, k), line in rows.groupby(["metric", "k"]):
            handles[f"{LABELS[metric]}, K = {k:,}"] = training_curves.draw_line(panel, line, **looks[metric])
        panel.set_xscale("log")
        panel.set_title(title)
    panels.legend(figure, handles)
    return figure
