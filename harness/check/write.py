"""The check's files: tidy csv tables and a readable page of both comparisons, the audit, and plots."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness import atomic
from harness.check import draw
from harness.check.against_run import compare_runs
from harness.check.against_thesis import compare_with_thesis
from harness.check.audit import Violation, audit_run, audit_thesis
from harness.check.calibration import Calibration
from harness.check.curves import curves
from harness.check.page import page
from harness.check.read import metrics_file, read_summary
from harness.check.rules import Rules
from harness.check.summary import Summary
from harness.check.verdict import REGRESSIONS, WORSE, Verdict
from harness.compute.places import PUBLISHED
from harness.reporting.report import judging
from harness.reporting.report.judging import Claim
from harness.reporting.report.own_claims import judge_own
from harness.settings.config import load_settings
from harness.storage.seals import seal

THESIS, RUN = "thesis", "earlier run"
CLAIMS = "check_claims.csv"
WRITTEN = re.compile(r"audit\.csv|check(_power|_claims)?\.(csv|md|png|pdf)")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The number of verdicts of each kind, by what was compared with, and whether anything got worse.

    could_differ: of how many numbers a difference of the size that matters would have been found; retrained: of how
    many it would between models that were trained independently. claims: those of users, judged.
    """

    counts: Mapping[str, Mapping[str, int]]
    could_differ: Mapping[str, int]
    retrained: Mapping[str, int]
    regressions: int  # against the earlier run
    worse_than_thesis: int
    claims: Sequence[Claim] = ()

    def lines(self) -> list[str]:
        """The lines to print, one or two per comparison, and one per claim of a user."""
        compared = [
            line
            for name, counts in self.counts.items()
            for line in _lines(name, counts, self.could_differ[name], self.retrained[name])
        ]
        return compared + [f"claim, {claim.verdict}: {claim.text} ({claim.measured})" for claim in self.claims]


def _lines(name: str, counts: Mapping[str, int], could_differ: int, retrained: int) -> list[str]:
    total = sum(counts.values())
    lines = [
        f"against the {name}: " + ", ".join(f"{n} {word}" for word, n in counts.items()),
        f"  {could_differ} of {total} could have been called different: a difference that matters would have shown",
    ]
    if name == RUN:
        lines.append(f"  {retrained} of {total} could have been, had the models been trained independently")
    return lines


@dataclasses.dataclass(frozen=True)
class Compared:
    """A run, an earlier one where there is one, all published ones, and the verdicts by what was compared with."""

    ours: Summary
    theirs: Summary | None
    others: Sequence[Summary]
    comparisons: Mapping[str, Sequence[Verdict]]


def compared(run: Path, earlier: Path | None, rules: Rules) -> Compared:
    """The verdicts on every number of ``run``, against the thesis and an ``earlier`` run (see ``write_check``)."""
    ours = read_summary(run)
    known = {metrics_file(run).resolve(): ours}
    published = _published(known)
    others = list(published.values())
    theirs = published.get(ours.preset) if earlier is None else _read_once(earlier, known)
    comparisons = {THESIS: compare_with_thesis(ours, rules, others)}
    if theirs is not None:
        comparisons[RUN] = compare_runs(ours, theirs, rules, others)
    return Compared(ours, theirs, others, comparisons)


def against_thesis(ours: Summary, rules: Rules) -> list[Verdict]:
    """The verdicts of a check on every printed number, on a run that was read before."""
    return compare_with_thesis(ours, rules, list(_published({}).values()))


def _published(known: dict[Path, Summary]) -> dict[str, Summary]:
    """The published runs by preset; those that are ``known`` are not read again."""
    return {path.parent.name: _read_once(path, known) for path in sorted(PUBLISHED.glob("*/metrics.parquet"))}


def write_check(
    run: Path, earlier: Path | None, folder: Path, rules: Rules | None = None, claims: Sequence[str] = ()
) -> Outcome:
    """Compare ``run`` with the thesis and with an ``earlier`` run; write everything to ``folder``.

    Without an ``earlier`` one it is the published run of the same preset, if there is one. All published runs show how
    much numbers vary from seed to seed. Without ``rules``, those of ``workflows/config.yaml``. Files: ``check.csv``
    (one row per number compared), ``check.md``, ``audit.csv``, ``check.png`` and ``check.pdf``, and size and power of
    the tests as ``check_power.csv``, ``.png`` and ``.pdf``. claims: names of those of users, which are judged by the
    figures and tables in the folder of ``run`` and listed in ``check_claims.csv``.
    """
    rules = rules or Rules.from_settings(load_settings())
    found = compared(run, earlier, rules)
    ours, theirs, others, comparisons = found.ours, found.theirs, found.others, found.comparisons
    violations = [*audit_thesis(), *audit_run(ours)]
    judged = [judge_own(name, metrics_file(run).parent / "figures") for name in claims]
    measured = curves(ours, theirs, comparisons.get(RUN, ()), Calibration([ours, *others]), rules)
    for name, frame in (
        ("check.csv", frame_of(comparisons)),
        ("audit.csv", pd.DataFrame([dataclasses.asdict(each) for each in violations], columns=_fields(Violation))),
        ("check_power.csv", measured),
    ):
        atomic.write(folder / name, lambda temporary, frame=frame: frame.to_csv(temporary, index=False))
    if judged:
        atomic.write(folder / CLAIMS, lambda temporary: judging.frame_of(judged).to_csv(temporary, index=False))
    else:
        (folder / CLAIMS).unlink(missing_ok=True)  # of an earlier check, by other settings
    atomic.write_text(folder / "check.md", page(ours.preset, comparisons, violations, measured, rules, judged))
    draw.write(comparisons, measured, rules, folder)
    seal("check", [path for path in sorted(folder.iterdir()) if WRITTEN.fullmatch(path.name)])
    return Outcome(
        {name: dict(Counter(each.verdict for each in verdicts)) for name, verdicts in comparisons.items()},
        {name: sum(each.could_differ for each in verdicts) for name, verdicts in comparisons.items()},
        {name: sum(each.retrained <= each.size for each in verdicts) for name, verdicts in comparisons.items()},
        sum(each.verdict in REGRESSIONS for each in comparisons.get(RUN, ())),
        sum(each.verdict == WORSE for each in comparisons[THESIS]),
        judged,
    )


def _read_once(place: Path, known: dict[Path, Summary]) -> Summary:
    path = metrics_file(place).resolve()
    if path not in known:
        known[path] = read_summary(place)
    return known[path]


def _fields(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def frame_of(comparisons: Mapping[str, Sequence[Verdict]]) -> pd.DataFrame:
    """One row per number compared; ``against`` says with what."""
    rows = [
        {"against": name, **each.key._asdict(), **{f: getattr(each, f) for f in _fields(Verdict) if f != "key"}}
        for name, verdicts in comparisons.items()
        for each in verdicts
    ]
    return pd.DataFrame(rows).replace({"df": {math.inf: np.nan}})
