"""The common part of the figures over the course of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.reporting.figures.gather import over_seeds


def pooled(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Rows of these metrics, seeds pooled at every update: seconds are their mean, a doubt of one is that of all."""
    chosen = table[table["metric"].isin(metrics)]
    if chosen.empty:
        return chosen
    chosen = chosen.assign(doubt=chosen["doubt"].astype(object).where(chosen["doubt"].notna(), ""))
    keys = ["dataset", "method", "variant", "metric", "k", "update"]
    extra = chosen.groupby(keys).agg(seconds=("seconds", "mean"), doubt=("doubt", "max")).reset_index()
    return over_seeds(chosen, by=("metric", "k", "update")).merge(extra, on=keys)


def draw_line(panel: Any, line: pd.DataFrame, x: str = "update", style: str = "-", **look: Any) -> Any:
    """An estimate over column x with its error band; open marks where 2 log Z is doubted. The line, for a legend."""
    (drawn,) = panel.plot(line[x], line["value"], style, markersize=4.5, **look)
    low, high = line["value"] - line["sem"], line["value"] + line["sem"]
    panel.fill_between(line[x], low, high, color=look["color"], alpha=0.15, linewidth=0)
    doubted = line[line["doubt"].notna()]
    hollow = {"markerfacecolor": "white", "markeredgecolor": look["color"], "markeredgewidth": 1.0}
    panel.plot(doubted[x], doubted["value"], look["marker"], markersize=4.5, zorder=3, **hollow)
    return drawn


def remarks(data: pd.DataFrame) -> list[str]:
    """A warning for each model whose 2 log Z is doubted at some update."""
    found = []
    for (dataset, title), rows in data[data["metric"] == "log p*"].groupby(["dataset", "title"], sort=False):
        n = rows["doubt"].notna().sum()
        if n:
            where = f"at {n} of {len(rows)} points (open marks), for too few effective samples or too heavy a tail"
            found.append(f"Warning: 2 log Z of {title} on {dataset} is not to be trusted {where}")
    return found
