"""The check's plots: all differences in standard errors, and size and power of the tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.check.curves import POWER_RETRAINED, POWER_THIS, SIZE_RUN, SIZE_THESIS
from harness.check.page import standardised
from harness.check.rules import Rules
from harness.check.verdict import Verdict

_MARKS = {"reproduced": "o", "better": "^", "worse": "v", "changed": "D", "cannot tell": "s", "not comparable": "x"}


def write(comparisons: Mapping[str, Sequence[Verdict]], measured: pd.DataFrame, rules: Rules, folder: Path) -> None:
    """``check`` and ``check_power``, each as png and pdf."""
    from harness.reporting.figures import style

    style.use_theme()
    for name, figure in (("check", _differences(comparisons)), ("check_power", _curves(measured, rules))):
        for form in ("png", "pdf"):
            style.save(figure, folder / f"{name}.{form}")
        style.close(figure)


def _differences(comparisons: Mapping[str, Sequence[Verdict]]) -> Any:
    """One panel per comparison: differences with two standard errors, from ours being better to worse."""
    import matplotlib.pyplot as plt

    shown = {name: [v for v in verdicts if v.error > 0] for name, verdicts in comparisons.items()}
    height = 1.2 + 0.15 * max(1, *(len(verdicts) for verdicts in shown.values()))
    figure, panels = plt.subplots(
        1, len(shown), figsize=(7.0 * len(shown), height), layout="constrained", squeeze=False
    )
    for axes, (name, verdicts) in zip(panels.flat, shown.items(), strict=True):
        order = sorted(verdicts, key=standardised)
        signed = [math.copysign(standardised(v), v.difference) for v in order]
        for word in dict.fromkeys(v.verdict for v in order):
            chosen = [i for i, v in enumerate(order) if v.verdict == word]
            axes.errorbar([signed[i] for i in chosen], chosen, xerr=2.0, fmt=_MARKS.get(word, "o"), ms=4, lw=0.8,
                          label=word)  # fmt: skip
        axes.axvline(0.0, color="0.3", linewidth=1.0)
        labels = ["/".join(part for part in v.key[:3] if part) + f"  {v.key.metric}" for v in order]
        axes.set_yticks(range(len(order)), labels, fontsize=6)
        axes.set_ylim(-1, len(order))
        axes.set_xscale("symlog", linthresh=5)
        axes.set_xlabel(f"ours minus the {name}'s, in standard errors of the difference (bars: two)")
        if order:
            axes.legend(loc="lower right")
    return figure


def _curves(measured: pd.DataFrame, rules: Rules) -> Any:
    """Size: any false alarm by level. Power: share of cells in which a shift is found, by its size."""
    import matplotlib.pyplot as plt

    figure, (size, power) = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    for axes, names, marks in ((size, (SIZE_RUN, SIZE_THESIS), "os"), (power, (POWER_THIS, POWER_RETRAINED), "o^")):
        for name, mark in zip(names, marks, strict=True):
            of = measured[measured["curve"] == name]
            if len(of):
                axes.errorbar(of["x"], of["y"], yerr=2.0 * of["error"], marker=mark, ms=3, lw=1.0, label=name)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize=7)
    ends = [measured.loc[measured["curve"].str.startswith("size"), "x"].agg(end) for end in ("min", "max")]
    if all(map(math.isfinite, ends)):
        size.plot(ends, ends, color="0.5", linewidth=1.0, linestyle="--")
    size.axvline(rules.level, color="0.5", linewidth=0.8)
    size.set(xlabel="level", ylabel="comparisons with a false alarm", ylim=(0.0, None))
    power.set_xscale("log")
    power.set(xlabel="shift of one cell's -log p (nats)", ylabel="share of cells where it is found", ylim=(-0.02, 1.02))
    power.axhline(rules.power, color="0.5", linewidth=0.8)
    return figure
