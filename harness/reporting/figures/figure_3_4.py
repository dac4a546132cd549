"""Figure 3.4: learning curves, by update and by training time."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import panels, style, training_curves

ANALYSES = ("training_history",)
CAPTION = """
Learning curves on validation rows, by update (left) and by training time without validation (right), both on
logarithmic axes. Each line is named at its end. Solid lines: log p(x); dashed: log p*(x). Bands: standard error over
the rows, which all methods share. Values more than 60 nats below the best are not shown. Batch sizes and samples per
row differ between methods, as set in the configuration; times are those of the machine that trained.
"""
METRICS = {"log p": "-", "log p*": "--"}
SHOWN = 60.0  # nats
remarks = training_curves.remarks


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Estimates with the largest number of samples."""
    return training_curves.pooled(table[table["k"] == table.groupby("metric")["k"].transform("max")], METRICS)


def draw(data: pd.DataFrame) -> Any:
    """Two panels per data set, one line per method and estimate."""
    names = panels.datasets(data)
    looks = style.look(data["method"].unique())
    label = f"log-likelihood (K = {data['k'].max():,}), nats"
    figure, axes = panels.grid(2 * len(names), "", label, columns=2, width=3.6, height=2.9)
    for i, name in enumerate(names):
        chosen = data[data["dataset"] == name]
        best = chosen["value"].max()
        shown = chosen[chosen["value"] > best - SHOWN]
        for panel, x in zip(axes[2 * i : 2 * i + 2], ("update", "seconds"), strict=True):
            lines = chosen.groupby(["method", "title", "variant", "metric"], dropna=False)
            ends = []
            for (method, title, _, metric), line in lines:
                training_curves.draw_line(panel, line, x, METRICS[metric], **looks[method])
                last = line.sort_values("update").iloc[-1]
                ends.append((last[x], last["value"], f"{title}, {metric}", looks[method]["color"]))
            panel.set_xscale("log")
            panel.set_xlim(0.7 * shown[x].min(), 1.4 * shown[x].max())
            panel.set_ylim(max(best - SHOWN, panel.get_ylim()[0]), best + 0.05 * SHOWN)
            panel.set_title(name)
            panels.label_ends(panel, ends)
    for panel, word in zip(axes[-2:], ("update", "training time, s"), strict=True):
        panel.set_xlabel(word)
    return figure
