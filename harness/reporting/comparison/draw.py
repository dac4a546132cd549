"""The critical-difference diagram of Demsar (2006): methods at their mean ranks, those that do not differ joined."""

from __future__ import annotations

import math
from typing import Any

from harness.comparison.ranks import Ranks

STEP = 0.26  # inches between labels
BAR = 0.13  # inches between bars


def diagram(ranks: Ranks) -> Any:
    """The figure; the best mean rank is on the left, and its label on top."""
    import matplotlib.pyplot as plt

    k, groups = len(ranks.methods), ranks.groups()
    n_left = math.ceil(k / 2)
    of_bars, of_labels = BAR * (len(groups) + 1), STEP * n_left
    above = 0.75
    height = above + of_bars + of_labels + 0.15
    width = 7.0
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, width), ylim=(-height, 0.0))
    axes.axis("off")
    left, right = 0.3 * width, 0.7 * width

    def at(rank: float) -> float:
        return left + (right - left) * (rank - 1.0) / (k - 1.0)

    top = -above
    axes.plot([left, right], [top, top], color="0.2", linewidth=1.2, solid_capstyle="butt")
    step = max(1, math.ceil((k - 1) / 8))
    for rank in range(1, k + 1):
        labelled = (rank - 1) % step == 0 or rank == k
        axes.plot([at(rank)] * 2, [top, top + (0.08 if labelled else 0.05)], color="0.2", linewidth=1.0)
        if labelled:
            axes.text(at(rank), top + 0.11, str(rank), ha="center", va="bottom", fontsize=8)
    _ruler(axes, ranks, at, top + 0.42)
    for i, (first, last) in enumerate(groups, start=1):
        ends = [at(ranks.means[first]) - 0.04, at(ranks.means[last]) + 0.04]
        axes.plot(ends, [top - BAR * i] * 2, color="0.1", linewidth=3.0, solid_capstyle="round")
    for i, (name, mean) in enumerate(zip(ranks.methods, ranks.means, strict=True)):
        is_left = i < n_left
        down = i if is_left else k - 1 - i
        y = top - of_bars - STEP * (down + 0.5)
        end = left - 0.1 if is_left else right + 0.1
        axes.plot([at(mean), at(mean), end], [top, y, y], color="0.45", linewidth=0.8)
        text = f"{name}  {mean:.2f}" if is_left else f"{mean:.2f}  {name}"
        axes.text(
            end + (-0.05 if is_left else 0.05), y, text, ha="right" if is_left else "left", va="center", fontsize=8
        )
    return figure


def _ruler(axes: Any, ranks: Ranks, at: Any, y: float) -> None:
    """How long the critical difference is, above the axis."""
    start, end = at(1.0), at(1.0 + ranks.critical)
    axes.plot([start, end], [y, y], color="0.2", linewidth=1.2)
    for x in (start, end):
        axes.plot([x, x], [y - 0.04, y + 0.04], color="0.2", linewidth=1.2)
    words = f"critical difference {ranks.critical:.2f} ({ranks.level:.0%}, {len(ranks.datasets)} data sets)"
    axes.text(end + 0.1, y, words, ha="left", va="center", fontsize=8)
