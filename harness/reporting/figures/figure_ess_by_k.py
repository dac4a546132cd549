"""Effective sample sizes against the number of importance samples (thesis, section 3.7.2)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import panels, style
from harness.reporting.figures.gather import over_seeds

ANALYSES = ("k_sensitivity",)
CAPTION = """
Effective sample size of q(h | x) as a proposal for p(h | x) (solid) and for p*(h | x) (dashed), in percent of the K
samples, averaged over test rows; both axes are logarithmic. Each line is named at its end, with its target. Bands:
standard error over the rows. With few samples an effective size is too large, as the rare heavy weights are missing: a
curve that does not level off is an upper bound.
"""
METRICS = {"ess p": "-", "ess p*": "--"}


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Both effective sample sizes at every K, seeds pooled."""
    return over_seeds(table[table["metric"].isin(METRICS)], by=("metric", "k"))


def draw(data: pd.DataFrame) -> Any:
    """One panel per data set, one line per method and target."""
    names = panels.datasets(data)
    looks = style.look(data["method"].unique())
    figure, axes = panels.grid(len(names), "number of samples K", "effective sample size, %", width=3.4, height=2.9)
    for panel, name in zip(axes, names, strict=True):
        lines = data[data["dataset"] == name].groupby(["method", "title", "variant", "metric"], dropna=False)
        ends = []
        for (method, title, _, metric), line in lines:
            color = looks[method]["color"]
            panel.plot(line["k"], line["value"], METRICS[metric], markersize=4, **looks[method])
            low, high = line["value"] - line["sem"], line["value"] + line["sem"]
            panel.fill_between(line["k"], low.clip(lower=1e-3), high, color=color, alpha=0.15, linewidth=0)
            ends.append((line["k"].iloc[-1], line["value"].iloc[-1], f"{title}, {metric.removeprefix('ess ')}", color))
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(_few_labels(*panel.get_ylim()))
        panel.set_title(name)
        panels.label_ends(panel, ends)
    return figure


def _few_labels(low: float, high: float) -> Any:
    """Minor labels as plain numbers where the axis spans less than a decade, none elsewhere."""
    from matplotlib.ticker import LogFormatter, NullFormatter

    if high / low > 10.0:
        return NullFormatter()
    formatter = LogFormatter(minor_thresholds=(2.0, 0.7))
    return formatter
