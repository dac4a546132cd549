"""The files of a benchmark: the tidy ``bench.csv`` and ``scaling.csv``, and ``bench.md`` for readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness import atomic
from harness.bench import cases, scaling
from harness.bench.findings import CaseFindings, Findings
from harness.bench.timing import QUIET

HOW = """\
Contenders take turns in one process, each with one block of calls per round; a time is the median over the rounds'
blocks, with the fastest and the slowest block beside it. *First call* contains what happens once, such as compiling.
*Peak* is how far memory rises while the network is built and used, above interpreter, libraries and data, in a process
of its own (`harness/bench/memory.py`). The *floor* is the time of the matrix products of our update alone, replayed in
the same rounds (`harness/bench/floor.py`); it says how much is left to gain without multiplying faster. Rivals are
PyTorch programs as they come; *{fast_textbook}* differs by one setting, the faster exact library for float32 products
where PyTorch has two, which ours uses (`harness/compute/precision.py`). *{bf16_ours}* multiplies in bfloat16 where the
device has instructions for it (in BiHM and RWS); *{ours32}* does not, and *{bf16_textbook}* puts the textbook under
`torch.autocast`. *{together}* is an update of each, by one program on a GPU (`harness/training/program.py`).
"""

RIVALS = """\
*textbook*: `torch.nn`, `torch.distributions` with `validate_args=False`, automatic differentiation, fused Adam, the
same estimators as ours. *Pyro ReweightedWakeSleep* sums log-weights over the mini-batch, so its result is not that of
reweighted wake-sleep and only its time is compared; on BiHM's network it runs without a sleep phase. *Pyro
TraceGraph_ELBO* is a score-function gradient of the evidence lower bound with as many particles as others draw
samples. *Pyro TraceMeanField_ELBO* and *RenyiELBO* are the objectives of VAE and IWAE. *pythae*'s IWAE has one
stochastic layer, so it takes part where ours has one, and its loss is not the importance-weighted bound: time alone
again.
"""


def write(findings: Findings, folder: Path) -> list[Path]:
    """Write what there is to write; the paths."""
    tables = {"bench.csv": csv_rows(findings), "scaling.csv": scaling_rows(findings)}
    written = []
    for name, rows in tables.items():
        if rows:
            atomic.write_csv(folder / name, rows)
            written.append(folder / name)
    atomic.write_text(folder / "bench.md", markdown(findings))
    return [*written, folder / "bench.md"]


def csv_rows(findings: Findings) -> list[dict[str, Any]]:
    """One row per contender and case; empty where there is no floor or no peak."""
    return [
        {
            "case": found.case.title,
            "contender": contender,
            "device": findings.device,
            "median_ms": _digits(timing.median_ms),
            "min_ms": _digits(timing.min_ms),
            "max_ms": _digits(timing.max_ms),
            "ours_faster_by": _digits(found.faster_by(contender)),
            "floor_ms": _digits(found.floor.median_ms) if found.floor else "",
            "peak_mb": _digits(found.peaks_mb[contender]) if contender in found.peaks_mb else "",
        }
        for found in findings.cases
        for contender, timing in found.timings.items()
    ]


def scaling_rows(findings: Findings) -> list[dict[str, Any]]:
    """One row per point and contender."""
    return [
        {
            "axis": point.axis,
            "value": f"{point.value:g}",
            "contender": point.contender,
            "device": findings.device,
            "median_ms": _digits(point.timing.median_ms),
            "min_ms": _digits(point.timing.min_ms),
            "max_ms": _digits(point.timing.max_ms),
        }
        for point in findings.points
    ]


def markdown(findings: Findings) -> str:
    """The report."""
    parts = ["# Speed", "; ".join(findings.facts) + "."]
    if findings.cases:
        parts += _tables(findings)
    if remarks := list(_remarks(findings)):
        parts.append("\n".join(remarks))
    if findings.agreements:
        parts += ["## Equal results", "\n".join(f"- {agreement}." for agreement in findings.agreements)]
    if findings.points:
        parts += ["## How cost grows", *_scaling(findings)]
    if findings.cases and findings.device.startswith("cpu"):
        parts += ["## On a GPU", _unmeasured(findings)]
    names = {
        "bf16_ours": cases.OURS,
        "ours32": cases.OURS_FLOAT32,
        "fast_textbook": cases.TEXTBOOK_FASTER,
        "bf16_textbook": cases.TEXTBOOK_BFLOAT16,
        "together": cases.OURS_TOGETHER,
    }
    parts += ["## What the numbers mean", HOW.format(**names).strip(), RIVALS.strip()]
    return "\n\n".join(parts) + "\n"


def _unmeasured(findings: Findings) -> str:
    """Ours on the device of this run and on a GPU, of which it says nothing."""
    rows = []
    for found in findings.cases:
        title = f"{found.case.title}{cases.UNITS[found.case.job]}"
        rows.append((title, text(found.timings[cases.OURS].median_ms), "unmeasured"))
        if cases.OURS_TOGETHER in found.case.contenders:
            rows.append((f"{title}, {cases.N_TOGETHER} models at once", "", "unmeasured"))
    headers = ("ours, ms", findings.device, "cuda")
    return tabulate(rows, headers, tablefmt="pipe", colalign=("left", "right", "right"), disable_numparse=True)


def _tables(findings: Findings) -> Iterator[str]:
    headers = (
        "",
        "contender",
        "ms",
        "fastest – slowest",
        "ours is faster by",
        "ours / floor",
        "peak MB",
        "first call ms",
    )
    align = ("left", "left", *["right"] * 6)
    rows = [row for found in findings.cases for row in _rows(found)]
    yield tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def _rows(found: CaseFindings) -> Iterator[tuple[str, ...]]:
    unit = cases.UNITS[found.case.job]
    for number, (contender, timing) in enumerate(found.timings.items()):
        is_ours = contender == cases.OURS
        peak = found.peaks_mb.get(contender)
        yield (
            f"**{found.case.title}**{unit}" if number == 0 else "",
            contender,
            text(timing.median_ms),
            f"{text(timing.min_ms)} – {text(timing.max_ms)}",
            "" if is_ours else f"{found.faster_by(contender):.1f} ×",
            f"{found.times_floor:.1f} ×" if is_ours and found.times_floor else "",
            "" if peak is None else text(peak),
            text(timing.first_ms),
        )
    if found.floor is not None:
        fastest, slowest = text(found.floor.min_ms), text(found.floor.max_ms)
        yield "", "*floor*", text(found.floor.median_ms), f"{fastest} – {slowest}", "", "", "", ""


def _remarks(findings: Findings) -> Iterator[str]:
    reasons: dict[str, dict[str, list[str]]] = {}
    for found in findings.cases:
        for absence in found.absences:
            who = reasons.setdefault(absence.reason, {})
            who.setdefault(found.case.title, []).append(absence.contender)
    for reason, where in reasons.items():
        groups = "; ".join(f"{', '.join(names)} in {title}" for title, names in where.items())
        yield f"- Left out: {groups}. Reason: {reason}."
    disturbed = [
        f"{found.case.title} ({found.disturbance:.0%})" for found in findings.cases if found.disturbance > QUIET
    ]
    if disturbed:
        yield (
            "- Other processes took some of the processors, and ratios are less certain, while these were measured (at "
            f"most this share): {', '.join(disturbed)}."
        )
    for note in findings.notes:
        yield f"- {note}."


def _scaling(findings: Findings) -> Iterator[str]:
    yield "Milliseconds per update of BiHM-12, one thing changed at a time, and the textbook as a multiple of ours."
    by_axis: dict[str, dict[float, dict[str, float]]] = {}
    for point in findings.points:
        by_axis.setdefault(point.axis, {}).setdefault(point.value, {})[point.contender] = point.timing.median_ms
    for axis, values in by_axis.items():
        header = (scaling.LABELS[axis], *(f"{value:g}" for value in values))
        rows = [(name, *(text(medians[name]) for medians in values.values())) for name in scaling.CONTENDERS]
        ratios = (medians[cases.TEXTBOOK] / medians[cases.OURS] for medians in values.values())
        rows.append(("ours is faster by", *(f"{ratio:.1f} ×" for ratio in ratios)))
        yield tabulate(
            rows, header, tablefmt="pipe", colalign=("left", *["right"] * len(values)), disable_numparse=True
        )


def text(value: float) -> str:
    """Three significant digits or all before the point."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{decimals}f}"


def _digits(value: float) -> str:
    """Five significant digits, never in exponents."""
    return f"{float(f'{value:.5g}'):.10f}".rstrip("0").rstrip(".")
