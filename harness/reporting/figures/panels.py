"""Grids of panels, one for each of what a figure shows, and what their axes share."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import pandas as pd

FIRST = "binarized_mnist"  # what the thesis shows
LABEL_SIZE, LABEL_WIDTH = 6.5, 30  # of the name of a line: points, characters before it takes another line


def datasets(data: pd.DataFrame) -> list[str]:
    """The data sets of a figure, that of the thesis first."""
    return sorted(data["dataset"].unique(), key=lambda name: (name != FIRST, name))


def models(data: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of every model of a figure, models of the thesis' data set first."""
    found = []
    for name in datasets(data):
        chosen = data[data["dataset"] == name]
        for (_, title, variant), rows in chosen.groupby(["method", "title", "variant"], dropna=False, sort=True):
            found.append((f"{title}{f' ({variant})' if isinstance(variant, str) else ''}, {name}", rows))
    return found


def grid(
    n: int, x: str, y: str, columns: int = 3, width: float = 3.0, height: float | None = None
) -> tuple[Any, list[Any]]:
    """A figure with n panels and room for a legend beside them; x and y label the outer axes.

    width, height: of a panel, in inches; a single one is larger.
    """
    import matplotlib.pyplot as plt

    n_columns = min(n, columns)
    n_rows = -(-n // n_columns)
    height = 0.5 * width + 1.1 if height is None else height
    size = (6.0, 3.8) if n == 1 else (width * n_columns + 1.5, height * n_rows + 0.6)
    figure, panels = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)
    for axes in panels.flat[n:]:
        axes.set_visible(False)
    for column in range(n_columns):
        lowest = [axes for axes in panels[:, column] if axes.get_visible()][-1]
        lowest.set_xlabel(x)
    for axes in panels[:, 0]:
        axes.set_ylabel(y)
    return figure, list(panels.flat[:n])


def label_ends(axes: Any, ends: Sequence[tuple[float, float, str, Any]]) -> None:
    """Names of lines to the right of a panel, at the height of their ends, moved apart where they would overlap.

    Lines of one name, as those of a method's variants, share a label that says how many they are, at the middle one of
    their ends. ends: x, y, name and colour of every line, in the axes' coordinates: call it after scales and limits are
    set. A line that ends outside of the limits is named at the height where it left them, one without an end nowhere.
    """
    low, high = sorted(axes.get_ylim())
    ends = [(x, min(max(y, low), high), name, color) for x, y, name, color in ends if math.isfinite(y)]
    of_name: dict[str, list[tuple[float, float, str, Any]]] = {}
    for end in sorted(ends, key=lambda end: end[1]):
        of_name.setdefault(end[2], []).append(end)
    to_share = axes.transData + axes.transAxes.inverted()
    middle = [group[len(group) // 2] for group in of_name.values()]
    order = sorted(middle, key=lambda end: to_share.transform(end[:2])[1])
    many = {name: f"{name} ({len(group)} variants)" if len(group) > 1 else name for name, group in of_name.items()}
    texts = [textwrap.fill(many[name], LABEL_WIDTH) for _, _, name, _ in order]
    line = 1.15 * LABEL_SIZE / (axes.bbox.height / axes.figure.dpi * 72.0)
    heights = [line * (1 + text.count("\n")) for text in texts]
    wanted = [float(to_share.transform(end[:2])[1]) for end in order]
    for (x, y, _, color), text, height in zip(order, texts, moved_apart(wanted, heights), strict=True):
        axes.annotate(
            text, (x, y), (1.06, height), textcoords="axes fraction", fontsize=LABEL_SIZE, va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "linestyle": ":", "relpos": (0, 0.5),
                        "shrinkA": 1, "shrinkB": 1},
        )  # fmt: skip


def moved_apart(places: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Ascending middles of labels, moved as little as possible (least squares) to keep labels of these heights apart.

    They stay between 0 and 1 as far as there is room for all of them.
    """
    gaps = [0.0, *(0.5 * (below + above) for below, above in pairwise(heights))]
    offsets = list(accumulate(gaps))[: len(places)]
    groups: list[list[float]] = []  # of labels that touch: mean of what their places have beyond offsets, how many
    for place, offset in zip(places, offsets, strict=True):
        groups.append([place - offset, 1.0])
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            mean, n = groups.pop()
            last = groups[-1]
            last[:] = [(last[0] * last[1] + mean * n) / (last[1] + n), last[1] + n]
    starts = [mean for mean, n in groups for _ in range(int(n))]
    highest = max(0.0, 1.0 - offsets[-1]) if offsets else 0.0
    return [min(max(start, 0.0), highest) + offset for start, offset in zip(starts, offsets, strict=True)]


def plain_logarithmic(axis: Any) -> None:
    """A logarithmic axis over few decades with numbers as one writes them: 0.05, 0.1, 0.2."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(figure: Any, handles: dict[str, Any], order: Sequence[str] | None = None) -> None:
    """Beside the panels, so that it covers no data; label -> what it explains."""
    labels = list(order or handles)
    figure.legend([handles[label] for label in labels], labels, loc="outside right upper")
