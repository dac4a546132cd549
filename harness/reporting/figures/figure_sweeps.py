"""Change of samples by sweeps of Algorithm 2: from p toward p*."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import panels, style
from harness.reporting.figures.gather import over_seeds

ANALYSES = ("sample_quality",)
CAPTION = """
Change of samples with the number of sweeps of Gibbs sampling (Algorithm 2), from p(x) at 0 toward p*(x): change of
the squared maximum mean discrepancy between samples and test rows and, where rows have labels, of the mean entropy of
the labels that a linear classifier gives the samples. Each line is named at its end. Below 0, samples came closer to
the data, or became clearer. Bands: standard error of the change, in which the errors that chains and test rows have
in common cancel.
"""
METRICS = {"mmd2": "squared MMD", "label entropy": "label entropy, nats"}


def data(table: pd.DataFrame) -> pd.DataFrame:
    """The changes of models that have p*, seeds pooled."""
    has_more = table.groupby(["dataset", "method", "variant"], dropna=False)["sweeps"].transform("max") > 0
    chosen = table[has_more & table["metric"].isin(METRICS) & table["distribution"].isin(["p", "p*"])]
    if not len(chosen):
        return chosen
    changes = chosen.assign(value=chosen["change"], sem=chosen["change_sem"])
    return over_seeds(changes, by=("metric", "sweeps"))


def draw(data: pd.DataFrame) -> Any:
    """One panel per data set and metric, one line per model."""
    found = [
        (f"{name}: {label}", rows)
        for name in panels.datasets(data)
        for metric, label in METRICS.items()
        if len(rows := data[(data["dataset"] == name) & (data["metric"] == metric)])
    ]
    looks = style.look(data["method"].unique())
    figure, axes = panels.grid(len(found), "sweeps", "change")
    for panel, (title, rows) in zip(axes, found, strict=True):
        ends = []
        for (method, name, _), line in rows.groupby(["method", "title", "variant"], dropna=False):
            panel.plot(line["sweeps"], line["value"], markersize=4, **looks[method])
            low, high = line["value"] - line["sem"], line["value"] + line["sem"]
            panel.fill_between(line["sweeps"], low, high, color=looks[method]["color"], alpha=0.2, linewidth=0)
            ends.append((line["sweeps"].iloc[-1], line["value"].iloc[-1], name, looks[method]["color"]))
        panel.axhline(0.0, color="0.4", linewidth=1)
        panel.set_title(title, fontsize="medium")
        panels.label_ends(panel, ends)
    return figure
