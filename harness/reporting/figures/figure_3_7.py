"""Figure 3.7: log p(x), log p*(x) and 2 log Z in the course of training."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import panels, training_curves

ANALYSES = ("training_history",)
CAPTION = """
Estimates of log p(x) and log p*(x) on validation rows (upper panels) and of 2 log Z (lower panels) during
training, for models that have p*. Bands: standard errors, over the rows and of 2 log Z.
"""
METRICS = ("log p", "log p*", "2 log Z")
remarks = training_curves.remarks


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Estimates with the largest number of samples, of models with a partition function."""
    cells = ["dataset", "method", "variant", "seed"]
    has_z = table.groupby(cells)["metric"].transform(lambda metrics: (metrics == "2 log Z").any())
    table = table[has_z]
    return training_curves.pooled(table[table["k"] == table.groupby("metric")["k"].transform("max")], METRICS)


def draw(data: pd.DataFrame) -> Any:
    """Two panels per model: log-likelihoods, and 2 log Z."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    shown = panels.models(data)
    size = (1.6 + 4.4 * len(shown), 5.2)
    figure, axes = plt.subplots(2, len(shown), figsize=size, sharex="col", layout="constrained", squeeze=False)
    colors, handles = sns.color_palette("colorblind"), {}
    looks = {metric: {"color": colors[i], "marker": "os^"[i]} for i, metric in enumerate(METRICS)}
    for column, (title, rows) in enumerate(shown):
        for metric, line in rows.groupby("metric"):
            panel = axes[int(metric == "2 log Z"), column]
            handles[metric] = training_curves.draw_line(panel, line, **looks[metric])
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("update")
        axes[1, column].set_xscale("log")
        axes[1, column].axhline(0.0, color="0.3", linestyle=":", linewidth=1)
    axes[0, 0].set_ylabel("log-likelihood, nats")
    axes[1, 0].set_ylabel("2 log Z, nats")
    panels.legend(figure, handles, [metric for metric in METRICS if metric in handles])
    return figure
