"""``bench.png`` and ``scaling.png`` with their ``.pdf``: the medians of a benchmark drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.bench import cases, scaling
from harness.bench.findings import Findings
from harness.reporting.figures.style import save, use_theme

# a hue for who, the same in both plots, out of seaborn's palette for the colour-blind
_HUES = {"ours": 0, "textbook": 1, "Pyro": 2, "pythae": 4}
_MARKERS = {"ours": "o", "textbook": "s", "Pyro": "^", "pythae": "D"}


def write(findings: Findings, folder: Path) -> list[Path]:
    """Draw what was measured; the paths."""
    use_theme()
    figures = {}
    if findings.cases:
        figures["bench"] = _cases(findings)
    if findings.points:
        figures["scaling"] = _scaling(findings)
    return [save(figure, folder / f"{name}.{form}") for name, figure in figures.items() for form in ("png", "pdf")]


def _who(contender: str) -> str:
    return contender.partition(" ")[0].rstrip(",")


def _style(contender: str) -> dict[str, Any]:
    import seaborn as sns

    who = _who(contender)
    return {"color": sns.color_palette("colorblind")[_HUES[who]], "marker": _MARKERS[who]}


def _cases(findings: Findings) -> Any:
    """A line of dots a case and contender, from the fastest to the slowest block, the floor as a bar behind ours."""
    import matplotlib.pyplot as plt

    n_lines = sum(len(found.timings) + 1.6 for found in findings.cases)
    figure, axes = plt.subplots(figsize=(7.5, 0.21 * n_lines + 0.9), layout="constrained")
    y, ticks, names = 0.0, [], []
    for found in findings.cases:
        title = found.case.title + cases.UNITS[found.case.job]
        axes.text(0.0, y, f" {title}", weight="bold", va="center", transform=axes.get_yaxis_transform())
        top = y + 0.5
        for contender, timing in found.timings.items():
            y += 1.0
            is_ours = contender == cases.OURS
            style = _style(contender)
            axes.plot([timing.min_ms, timing.max_ms], [y, y], color=style["color"], alpha=0.45, linewidth=2.5)
            axes.plot(timing.median_ms, y, linestyle="", markersize=6, **style)
            label = "" if is_ours else f"{found.faster_by(contender):.1f} ×"
            if is_ours and found.times_floor is not None:
                label = f"{found.times_floor:.1f} × floor"
            axes.annotate(label, (timing.max_ms, y), (6, 0), textcoords="offset points", va="center", fontsize=8)
            ticks.append(y)
            names.append(contender)
        if found.floor is not None:
            axes.vlines(found.floor.median_ms, top, y + 0.5, color="0.25", linewidth=1.6, linestyle=":")
        y += 1.6
    axes.set_xscale("log")
    axes.set_ylim(y - 0.6, -0.8)
    axes.set_yticks(ticks, names)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(
        f"milliseconds ({findings.device}): median, fastest and slowest block\n"
        "n ×: how many times as long as ours; dotted: the floor, our matrix products alone"
    )
    return figure


def _scaling(findings: Findings) -> Any:
    """A panel an axis, both directions logarithmic, so that a straight line of slope 1 is proportional cost."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(7.5, 5.6), layout="constrained", sharey=True)
    for axes, (axis, values) in zip(panels.flat, scaling.VALUES.items(), strict=True):
        for contender in scaling.CONTENDERS:
            points = [p for p in findings.points if (p.axis, p.contender) == (axis, contender)]
            xs = [point.value for point in points]
            style = _style(contender)
            axes.plot(xs, [point.timing.median_ms for point in points], label=contender, **style)
            low, high = [p.timing.min_ms for p in points], [p.timing.max_ms for p in points]
            axes.fill_between(xs, low, high, color=style["color"], alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.set_xlabel(scaling.LABELS[axis])
    for axes in panels[:, 0]:
        axes.set_ylabel("milliseconds per update")
    panels[0, 0].legend()
    figure.suptitle(f"An update of BiHM-12, one thing changed at a time ({findings.device})")
    return figure
