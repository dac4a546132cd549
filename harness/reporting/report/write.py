"""Filling the template of the report."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from harness import atomic
from harness.reporting.report.claims import claims_of
from harness.reporting.report.figures import figure
from harness.reporting.report.layers import layers_in_use
from harness.reporting.report.markup import prose
from harness.reporting.report.numbers import FIRST, PROVENANCE, provenance
from harness.reporting.report.runs import runs_of
from harness.reporting.report.summary import (
    HEADER,
    Judged,
    cell_counts,
    claim_counts,
    failures,
    verdict_counts,
    verdict_rows,
)
from harness.reporting.tables import PlannedCell, pages
from harness.reporting.tables.page import Line, Page

SHARED = ("preset", "git_commit", "device", "harness", "python", "torch", "numpy")  # told once where all agree


def write_report(
    metrics: pd.DataFrame,
    planned: Sequence[PlannedCell],
    preset: str,
    figures: Sequence[Path],
    path: Path,
    overview: Page | None = None,
    verdicts: Sequence[Judged] = (),
    runs: Path | None = None,
    own_metrics: Page | None = None,
) -> None:
    """Write the report to ``path``.

    metrics: all measurements, as ``harness.storage.collect`` gathers them. planned: the cells of the configuration.
    figures: their PNG files, each with a caption of the same name in ``.rst`` and its data in ``.csv`` beside it.
    overview: the table of all methods on all data sets, where there is one. verdicts: of the check, on every number
    that the thesis prints. runs: the folder of the runs, whose configurations and learning curves are shown.
    own_metrics: the table of the metrics of users.
    Raises DataError for a figure or a run whose files are missing or unreadable, HarnessError for a planned cell
    without a row.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.reporting.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": prose, "rows": _rows}
    metrics = metrics.reindex(columns=list(dict.fromkeys([*metrics.columns, *PROVENANCE, *SHARED, "title"])))
    shared = {name: sorted({str(value) for value in metrics[name].dropna()}) for name in SHARED}
    claims = claims_of(figures[0].parent) if figures else []
    script = _beside("report.js")
    text = environment.get_template("report.html").render(
        preset=preset,
        home="/".join(path.resolve().parent.parts[-2:]),
        style=Markup(_beside("report.css")),
        script=Markup(script),
        script_digest=_digest(f"\n{script}"),
        shared=shared,
        verdict_counts=verdict_counts(verdicts),
        cell_counts=cell_counts(metrics),
        claim_counts=claim_counts(claims),
        failures=failures(metrics),
        tables=[page for page in (overview, *pages(metrics, planned, preset), own_metrics) if page],
        figures=[figure(each, path) for each in figures],
        models=layers_in_use(figures[0].parent) if figures else [],
        claims=claims,
        verdict_header=HEADER,
        verdicts=verdict_rows(verdicts),
        runs=runs_of(metrics, runs, path),
        columns=PROVENANCE,
        n_first=len(FIRST),
        rows=[(_cell(row), provenance(row)) for row in metrics[list(PROVENANCE)].to_dict("records")],
    )
    atomic.write_text(path, text)


def _cell(row: dict) -> PlannedCell:
    return PlannedCell(*(row[field] or "" for field in PlannedCell._fields))


def _rows(lines: Iterable[Line]) -> list[list[Line]]:
    """The lines of a table by the row that they belong to."""
    rows: list[list[Line]] = []
    for line in lines:
        if line.first or not rows:
            rows.append([])
        rows[-1].append(line)
    return rows


def _beside(name: str) -> str:
    return files("harness.reporting.report").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """What a browser knows the one script of the page by: it runs no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
