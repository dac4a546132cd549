"""Figure 3.11: histograms of importance weights, of inference and of sampling."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.evaluation.analyses.weight_histogram import JOINT, POSTERIOR
from harness.reporting.figures import panels, z_curves

ANALYSES = ("weight_histogram",)
CAPTION = """
Importance weights of q(h | x) as a proposal for p*(h | x), x from the test set (left), and of p(x, h) as a proposal for
p*(x, h) (right), as the logarithm of the ratio of target and proposal: 0 where they agree. Filled: draws from the
proposal, except the lowest half percent; line: the same draws by weight, which shows the target. ESS: effective sample
size in percent of the draws, on the left averaged over x. Of repeated trainings, the first is shown.
"""
data = z_curves.of_first_seed
TITLES = {POSTERIOR: "inference: q(h | x) for p*(h | x)", JOINT: "sampling: p(x, h) for p*(x, h)"}


def draw(data: pd.DataFrame) -> Any:
    """Two panels per model, side by side on the same axes."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    shown = panels.models(data)
    size = (8.6, 0.6 + 2.9 * len(shown))
    figure, axes = plt.subplots(
        len(shown), 2, figsize=size, sharex="row", sharey="row", layout="constrained", squeeze=False
    )
    colors = sns.color_palette("colorblind")
    handles: dict[str, Any] = {}
    for row, (title, rows) in zip(axes, shown, strict=True):
        for panel, proposal in zip(row, (POSTERIOR, JOINT), strict=True):
            bins = rows[rows["proposal"] == proposal]
            edges = [*bins["low"], bins["high"].iloc[-1]]
            width = bins["high"] - bins["low"]
            handles["proposal"] = panel.stairs(bins["share"] / width, edges, fill=True, color=colors[0], alpha=0.6)
            handles["target"] = panel.stairs(bins["weight"] / width, edges, color=colors[3], linewidth=1.5)
            panel.axvline(0.0, color="0.3", linestyle=":", linewidth=1)
            panel.set_title(f"{TITLES[proposal]}\nESS {bins['ess'].iloc[0]:.2g} %")
        row[0].set_ylabel(f"{title}\ndensity, 1 / nat")
    for panel in axes[-1]:
        panel.set_xlabel("log of the importance weight, nats")
    panels.legend(figure, handles)
    return figure
