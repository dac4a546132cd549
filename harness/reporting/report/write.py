"""Filling the template of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from harness import atomic
from harness.errors import DataError
from harness.reporting.report.claims import claims_of
from harness.reporting.report.layers import layers_in_use
from harness.reporting.report.markup import embedded_png, prose
from harness.reporting.tables import PlannedCell, pages
from harness.reporting.tables.page import Page

PROVENANCE = (  # columns of the last section: what it took to make a number
    *("dataset", "method", "variant", "seed", "metric", "value", "sem", "mc_error", "bias", "bias_error"),
    *(
        "estimator",
        "k",
        "n_rows",
        "n_updates",
        "train_seconds",
        "seconds",
        "status",
        "message",
        "config_digest",
        "data_digest",
    ),
)
SHARED = ("preset", "git_commit", "device", "harness", "python", "torch", "numpy")  # told once where all agree


def write_report(
    metrics: pd.DataFrame,
    planned: Sequence[PlannedCell],
    preset: str,
    figures: Sequence[Path],
    path: Path,
    overview: Page | None = None,
) -> None:
    """Write the report to ``path``.

    metrics: all measurements, as ``harness.storage.collect`` gathers them. planned: the cells of the configuration.
    figures: their PNG files, each with a caption of the same name in ``.rst`` and its data in ``.csv`` beside it.
    overview: the table of all methods on all data sets, where there is one.
    Raises DataError for a figure whose files are missing or unreadable, HarnessError for a planned cell without a row.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.reporting.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    metrics = metrics.reindex(columns=list(dict.fromkeys([*metrics.columns, *PROVENANCE, *SHARED])))
    shared = {name: sorted({str(value) for value in metrics[name].dropna()}) for name in SHARED}
    text = environment.get_template("report.html").render(
        preset=preset,
        shared=shared,
        tables=[*([overview] if overview else []), *pages(metrics, planned, preset)],
        figures=[_figure(each) for each in figures],
        models=layers_in_use(figures[0].parent) if figures else [],
        claims=claims_of(figures[0].parent) if figures else [],
        columns=PROVENANCE,
        rows=[_shown(row) for row in metrics.reindex(columns=PROVENANCE).to_dict("records")],
    )
    atomic.write_text(path, text)


def _figure(path: Path) -> dict[str, Any]:
    caption = path.with_suffix(".rst")
    try:
        text = caption.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(caption, "the caption of a figure", error) from error
    words = path.stem.split("_")
    is_numbered = words[1:] and all(word.isdigit() for word in words[1:])
    title = f"Figure {'.'.join(words[1:])}" if is_numbered else " ".join(words[1:]).capitalize()
    return {"id": path.stem, "title": title, "caption": text, "image": embedded_png(path)}


def _shown(row: Mapping[str, Any]) -> list[str]:
    """Cells of a row of provenance as text, numbers to six digits, digests to twelve."""
    return [_text(name, row[name]) for name in PROVENANCE]


def _text(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}" if value % 1 else f"{value:.0f}"
    return str(value)[:12] if name.endswith("digest") else str(value)
