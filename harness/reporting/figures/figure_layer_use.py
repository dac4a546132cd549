"""Beyond the thesis: which layers a model uses, over the course of training and at its end."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.figures import panels, style
from harness.reporting.figures.gather import CELL, over_seeds

ANALYSES = ("layer_use",)
CAPTION = """
Which layers are used, on validation rows; layers are counted from the data upward. Curves: every layer in the course
of training, numbered at its end, of models whose weights were kept on the way. Live units: those that are neither
always on nor always off and that x makes a difference to, as a share of the layer's units; dotted: a tenth, above
which a layer counts as used. Reliability: correlation of two draws of the layer given the same x. Information: sum
over units of I(h_i; x), less what finitely many draws inflate it by. Bands: standard errors, over rows and between
seeds. Squares: how many units of each layer live in trained models, in the colour of their share.
"""
LIVE = "live units"
MEASURES = {  # metric -> its column, the column of its standard error, label of the axis
    LIVE: ("live", None, "live units, share"),
    "reliability": ("reliability", "reliability_error", "reliability"),
    "information": ("information", "information_error", "information, nats"),
}
TENTH = 0.1  # of its units live in a layer that counts as used
LINEAR = 0.1  # nats; above, the axis is logarithmic
DEEP = 7  # more layers than that do not fit into half a line
DataOfSet = tuple[str, pd.DataFrame]  # name, and the numbers of live units of its models


def data(table: pd.DataFrame) -> pd.DataFrame:
    """Live units (their number), reliability and information of every layer and update, seeds pooled.

    Weights that training chose stand at the mean over seeds of their updates.
    """
    cells = [*CELL, "weights"]
    chosen = table["weights"] == "trained"
    mean = table.groupby(cells)["update"].transform("mean").round().astype(int)
    table = table.assign(update=mean.where(chosen, table["update"]))
    parts = [
        table.assign(metric=metric, value=table[column], sem=table[error] if error else 0.0)
        for metric, (column, error, _) in MEASURES.items()
    ]
    return over_seeds(pd.concat(parts), by=("weights", "update", "layer", "n_units", "metric"))


def draw(data: pd.DataFrame) -> Any:
    """Above, a grid of models by measures, one line per layer; below, one panel per data set, one row per model."""
    import matplotlib.pyplot as plt

    curves = panels.models(data[data["weights"] == "snapshot"])
    trained = data[(data["weights"] == "trained") & (data["metric"] == LIVE)]
    lines = _lines([(name, trained[trained["dataset"] == name]) for name in panels.datasets(trained)])
    sizes = [*([6.6] if curves else []), sum(_height(line) for line in lines) + 0.5]
    figure = plt.figure(figsize=(max(10.5, 1.6 + 3.2 * len(curves)), sum(sizes)), layout="constrained")
    parts = figure.subfigures(len(sizes), 1, height_ratios=sizes, squeeze=False)[:, 0]
    if curves:
        _draw_curves(parts[0], curves)
    _draw_squares(parts[-1], lines)
    return figure


def _draw_curves(figure: Any, shown: list[tuple[str, pd.DataFrame]]) -> None:
    axes = figure.subplots(len(MEASURES), len(shown), sharex="col", sharey="row", squeeze=False)
    looks = _looks(max(rows["layer"].max() for _, rows in shown))
    ends: dict[Any, list[tuple[float, float, str, Any]]] = {}
    for column, (title, rows) in enumerate(shown):
        for panel, (metric, (_, _, label)) in zip(axes[:, column], MEASURES.items(), strict=True):
            for layer, line in rows[rows["metric"] == metric].sort_values("update").groupby("layer"):
                unit = line["n_units"] if metric == LIVE else 1.0
                value, sem = line["value"] / unit, line["sem"] / unit
                panel.plot(line["update"], value, markersize=3.5, **looks[layer])
                color = looks[layer]["color"]
                panel.fill_between(line["update"], value - sem, value + sem, color=color, alpha=0.2, linewidth=0)
                end = (line["update"].iloc[-1], value.iloc[-1], f"{layer}", color)
                ends.setdefault(panel, []).append(end)
            if column == 0:
                panel.set_ylabel(label)
        axes[0, column].axhline(TENTH, color="0.4", linestyle=":", linewidth=1)
        axes[0, column].set_title(title)
        axes[-1, column].set(xlabel="update", xscale="log")
    for panel in axes[:2].flat:
        panel.set_ylim(-0.03, 1.03)
    axes[-1, 0].set_yscale("symlog", linthresh=LINEAR, linscale=0.5)
    axes[-1, 0].set_ylim(bottom=-0.03)
    for panel, of_panel in ends.items():
        panels.label_ends(panel, of_panel)


def _looks(n_layers: int) -> dict[int, dict[str, Any]]:
    """Colours in the order of the layers, and marks that tell neighbours apart."""
    import seaborn as sns

    colors = sns.color_palette("turbo", n_layers)
    return {
        layer: {"color": color, "marker": style.MARKS[(layer - 1) % len(style.MARKS)]}
        for layer, color in enumerate(colors, start=1)
    }


def _is_deep(each: DataOfSet) -> bool:
    return bool(each[1]["layer"].max() > DEEP)


def _lines(shown: list[DataOfSet]) -> list[list[DataOfSet]]:
    """Data sets in lines of two; one with deep models has a line of its own, so that its squares hold their numbers."""
    lines: list[list[DataOfSet]] = []
    for each in shown:
        if _is_deep(each) or not lines or len(lines[-1]) == 2 or _is_deep(lines[-1][0]):
            lines.append([])
        lines[-1].append(each)
    return lines


def _height(line: list[DataOfSet]) -> float:
    """In inches, of as many models as the data set has that has most of them."""
    return 0.9 + 0.24 * max(len(panels.models(live)) for _, live in line)


def _draw_squares(figure: Any, lines: list[list[DataOfSet]]) -> None:
    heights = [_height(line) for line in lines]
    grid = figure.add_gridspec(len(lines), 2, height_ratios=heights)
    for i, line in enumerate(lines):
        places = [grid[i, :]] if _is_deep(line[0]) else [grid[i, 0], grid[i, 1]]
        for place, (name, live) in zip(places, line, strict=False):
            image = _draw_dataset(figure.add_subplot(place), name, live)
    figure.colorbar(image, ax=figure.axes, label="live units, share", shrink=min(1.0, 2.0 / sum(heights)))


def _draw_dataset(axes: Any, name: str, live: pd.DataFrame) -> Any:
    parts = [rows.assign(model=title.removesuffix(f", {name}")) for title, rows in panels.models(live)]
    table = pd.concat(parts)
    order = list(dict.fromkeys(table["model"]))
    share = (table["value"] / table["n_units"]).set_axis(pd.MultiIndex.from_frame(table[["model", "layer"]])).unstack()
    image = axes.imshow(share.loc[order], cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for row in table.itertuples():
        color = "white" if row.value > 0.6 * row.n_units else "0.15"
        place = (row.layer - 1, order.index(row.model))
        axes.annotate(f"{row.value:.0f}/{row.n_units}", place, ha="center", va="center", color=color, size=6)
    axes.set_yticks(range(len(order)), order)
    axes.set_xticks(range(share.shape[1]), share.columns)
    axes.set_title(f"{name}, trained models")
    axes.grid(visible=False)
    return image
