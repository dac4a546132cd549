"""Figure 3.3: how far estimates of the test-set log-likelihood depend on the number of importance samples."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from harness.reporting.figures import panels, style
from harness.reporting.figures.gather import CELL, over_seeds

ANALYSES = ("k_sensitivity",)
CAPTION = """
Sensitivity of the test-set log-likelihood estimates to the number K of importance samples, in nats per example. Each
line is named at its end. Solid lines: log p(x); dashed: log p*(x). Bands: standard error of the difference from the
estimate at the largest K, on the same test rows; the bar at the end of a line: standard error over these rows, which
all methods of a panel share. Open circles, joined by dots: the value expected from infinitely many samples,
extrapolated from how the estimate still grows at the largest K, with its error; they show the size of the bias, and
hardly more.
"""
METRICS = {"log p": "-", "log p*": "--"}
BEYOND = 2.5  # times the largest K: where its corrected value is drawn
BESIDE = 2.0  # times the largest K: up to where the bars stand, one beside the other


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Both estimates at every K, seeds pooled."""
    chosen = table[table["metric"].isin(METRICS)]
    if "bias" not in chosen:  # an analysis of an earlier version
        chosen = chosen.assign(bias=math.nan, bias_error=math.nan)
    pooled = over_seeds(chosen, by=("metric", "k"), errors=("sem", "sem_to_last", "bias_error"))
    biases = chosen.groupby([*CELL, "metric", "k"], sort=False)["bias"].mean().reset_index(name="bias")
    return pooled.merge(biases, on=[*CELL, "metric", "k"], validate="one_to_one")


def draw(data: pd.DataFrame) -> Any:
    """One panel per data set, one line per method and estimate."""
    names = panels.datasets(data)
    looks = style.look(data["method"].unique())
    figure, grid = panels.grid(len(names), "number of samples K", "log-likelihood, nats", width=3.4, height=2.9)
    for axes, name in zip(grid, names, strict=True):
        lines = data[data["dataset"] == name].groupby(["method", "title", "variant", "metric"], dropna=False)
        ends = []
        for number, ((method, title, _, metric), line) in enumerate(lines):
            k, value, error = line["k"], line["value"], line["sem_to_last"]
            color = looks[method]["color"]
            axes.plot(k, value, linestyle=METRICS[metric], markersize=4, **looks[method])
            axes.fill_between(k, value - error, value + error, color=color, alpha=0.2, linewidth=0)
            beside = k.iloc[-1] * BESIDE ** (number / lines.ngroups)
            axes.errorbar(beside, value.iloc[-1], line["sem"].iloc[-1], color=color, alpha=0.5, capsize=2)
            _draw_limit(axes, line.iloc[-1], color)
            ends.append((k.iloc[-1], value.iloc[-1], f"{title}, {metric}", color))
        axes.set_xscale("log")
        axes.set_title(name)
        panels.label_ends(axes, ends)
    return figure


def _draw_limit(axes: Any, last: pd.Series, color: str) -> None:
    """The corrected value, to the right of that at the largest K; nothing where the bias is not known."""
    if not math.isfinite(last.get("bias", math.nan)):
        return
    k, limit = BEYOND * last["k"], last["value"] - last["bias"]
    axes.plot([last["k"], k], [last["value"], limit], color=color, linestyle=":", linewidth=0.8)
    axes.errorbar(k, limit, last["bias_error"], color=color, marker="o", markersize=3.5, mfc="white", linewidth=0.8)
