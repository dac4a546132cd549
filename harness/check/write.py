"""The check's files: a tidy csv and a readable table of both comparisons, the audit, and a plot."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from harness import atomic
from harness.check.against_run import ALPHA, compare_runs
from harness.check.against_thesis import compare_with_thesis
from harness.check.audit import Violation, audit_run, audit_thesis
from harness.check.summary import Summary, summarize
from harness.check.verdict import REGRESSIONS, REPRODUCED, WORSE, Verdict
from harness.config import ROOT
from harness.errors import DataError

THESIS, RUN = "thesis", "earlier run"
PUBLISHED = ROOT / "results" / "published"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many verdicts there are of each word, by what was compared with, and whether anything got worse."""

    counts: dict[str, dict[str, int]]
    regressions: int  # against the earlier run
    worse_than_thesis: int


def read_run(place: Path) -> pd.DataFrame:
    """The measurements of a run: ``metrics.parquet``, or the folder it is in. Raises DataError naming the file."""
    path = place / "metrics.parquet" if place.is_dir() else place
    if not path.is_file():
        raise DataError(path, "the measurements of a run", "no such file")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(path, "a parquet file", error) from error


def write_check(run: Path, earlier: Path | None, folder: Path) -> Outcome:
    """Compare ``run`` with the thesis and with an ``earlier`` run; write everything to ``folder``.

    Without an ``earlier`` one it is the published run of the same preset, if there is one. Files: ``check.csv`` (one
    row a number compared), ``check.md``, ``audit.csv``, ``check.png`` and ``check.pdf``.
    """
    ours = summarize(read_run(run), run)
    comparisons = {THESIS: compare_with_thesis(ours)}
    published = PUBLISHED / ours.preset
    if earlier is None and (published / "metrics.parquet").is_file():
        earlier = published
    if earlier is not None:
        comparisons[RUN] = compare_runs(ours, summarize(read_run(earlier), earlier))
    violations = [*audit_thesis(), *audit_run(ours)]
    frame = _frame(comparisons)
    atomic.write(folder / "check.csv", lambda temporary: frame.to_csv(temporary, index=False))
    audit = pd.DataFrame([dataclasses.asdict(each) for each in violations], columns=_fields(Violation))
    atomic.write(folder / "audit.csv", lambda temporary: audit.to_csv(temporary, index=False))
    atomic.write_text(folder / "check.md", _page(ours, comparisons, violations))
    _plot(comparisons, folder)
    counts = {name: dict(Counter(each.verdict for each in verdicts)) for name, verdicts in comparisons.items()}
    regressions = sum(each.verdict in REGRESSIONS for each in comparisons.get(RUN, ()))
    return Outcome(counts, regressions, sum(each.verdict == WORSE for each in comparisons[THESIS]))


def _fields(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _frame(comparisons: dict[str, list[Verdict]]) -> pd.DataFrame:
    rows = [
        {"against": name, **each.key._asdict(), **{f: getattr(each, f) for f in _fields(Verdict) if f != "key"}}
        for name, verdicts in comparisons.items()
        for each in verdicts
    ]
    return pd.DataFrame(rows)


def _page(ours: Summary, comparisons: dict[str, list[Verdict]], violations: Sequence[Violation]) -> str:
    parts = [
        "# Check\n",
        f"Preset {ours.preset}. A number is reproduced unless its difference is significant at {ALPHA:g} for all "
        "numbers of a comparison together (Holm); differences are ours minus theirs, ± their standard errors.\n",
    ]
    for name, verdicts in comparisons.items():
        counts = Counter(each.verdict for each in verdicts)
        parts.append(f"## Against the {name}\n")
        parts.append(", ".join(f"{n} {word}" for word, n in counts.most_common()) + ".\n")
        parts.append(_table(verdicts) + "\n")
    parts.append("## Numbers that contradict each other\n")
    if violations:
        rows = [
            (v.whose, "/".join(part for part in (v.table, v.dataset, v.method, v.variant) if part), v.identity, v.found,
             f"{v.size:.2g}")
            for v in violations
        ]  # fmt: skip
        headers = ("whose", "where", "identity", "found", "missed by")
        parts.append(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True) + "\n")
    else:
        parts.append("None.\n")
    return "\n".join(parts)


def _table(verdicts: Sequence[Verdict]) -> str:
    """All but the reproduced ones first, the largest differences in standard errors on top."""
    order = sorted(verdicts, key=lambda v: (v.verdict == REPRODUCED, v.verdict, -_standardised(v)))
    rows = [
        (
            *("/".join(part for part in v.key[:3] if part), f"`{v.key.metric}`", v.verdict),
            *(_number(v.ours), _number(v.theirs)),
            _number(v.difference, "+") + (f" ± {_number(v.error)}" if math.isfinite(v.error) else ""),
            f"{v.p_value:.2g}" if math.isfinite(v.p_value) else "",
            v.reason,
        )
        for v in order
    ]
    headers = ("cell", "metric", "verdict", "ours", "theirs", "difference", "adjusted p", "remark")
    align = ("left", "left", "left", "right", "right", "right", "right", "left")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def _standardised(verdict: Verdict) -> float:
    return abs(verdict.difference) / verdict.error if verdict.error > 0 else 0.0


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4g}" if math.isfinite(value) else ""


def _plot(comparisons: dict[str, list[Verdict]], folder: Path) -> None:
    from harness.figures import style

    style.use_theme()
    figure = _drawn(comparisons)
    for form in ("png", "pdf"):
        style.save(figure, folder / f"check.{form}")


def _drawn(comparisons: dict[str, list[Verdict]]) -> Any:
    """A panel a comparison: differences with two standard errors, from ours being better to worse."""
    import matplotlib.pyplot as plt

    shown = {name: [v for v in verdicts if v.error > 0] for name, verdicts in comparisons.items()}
    height = 1.2 + 0.15 * max(1, *(len(verdicts) for verdicts in shown.values()))
    figure, panels = plt.subplots(
        1, len(shown), figsize=(7.0 * len(shown), height), layout="constrained", squeeze=False
    )
    for axes, (name, verdicts) in zip(panels.flat, shown.items(), strict=True):
        order = sorted(verdicts, key=_standardised)
        signed = [math.copysign(_standardised(v), v.difference) for v in order]
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


_MARKS = {"reproduced": "o", "better": "^", "worse": "v", "not comparable": "s"}
