"""Tables 3.1, 3.2, 3.3 and 4.1 of the thesis, ours beside the printed numbers, as csv, Markdown and TeX.

``reported`` holds what the thesis prints, ``layout`` what its tables look like, ``pooling`` makes one number of a
cell's seeds, ``build`` joins the three, ``page`` says it in words and digits, ``render`` writes it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness import atomic
from harness.reporting.tables.build import Grid, build, check_complete, tidy
from harness.reporting.tables.layout import TABLES
from harness.reporting.tables.page import Page, page
from harness.reporting.tables.pooling import rows_by_cell
from harness.reporting.tables.render import markdown, tex
from harness.reporting.tables.reported import PlannedCell

__all__ = ["PlannedCell", "pages", "write_tables"]


def write_tables(metrics: pd.DataFrame, planned: Sequence[PlannedCell], preset: str, out_dir: Path) -> list[Path]:
    """Write ``table_3_1.{csv,md,tex}`` and the like to ``out_dir``; the paths written.

    metrics: one row per measured number, columns ``REQUIRED`` and ``OPTIONAL`` of ``pooling``. planned: the cells of
    the configuration. All four are rendered before the first file is written. Raises HarnessError for a planned cell
    without a row, and for a number that the thesis prints and a cell that went well does not have.
    """
    texts = {}
    for grid in _grids(metrics, planned, preset):
        text = page(grid, preset)
        texts[f"{grid.table.name}.csv"] = tidy(grid).to_csv(index=False)
        texts[f"{grid.table.name}.md"] = markdown(text)
        texts[f"{grid.table.name}.tex"] = tex(text)
    paths = []
    for name, content in texts.items():
        atomic.write_text(Path(out_dir) / name, content)
        paths.append(Path(out_dir) / name)
    return paths


def pages(metrics: pd.DataFrame, planned: Sequence[PlannedCell], preset: str) -> list[Page]:
    """All four tables as text; arguments and errors as of ``write_tables``."""
    return [page(grid, preset) for grid in _grids(metrics, planned, preset)]


def _grids(metrics: pd.DataFrame, planned: Sequence[PlannedCell], preset: str) -> list[Grid]:
    cells = [PlannedCell(*cell) for cell in planned]
    rows = rows_by_cell(metrics, preset)
    check_complete(rows, cells)
    return [build(table, rows, cells) for table in TABLES]
