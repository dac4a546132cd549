"""Tables 3.1, 3.2, 3.3 and 4.1 of the thesis, ours beside the printed numbers, as csv, Markdown and TeX.

``reported`` holds what the thesis prints, ``layout`` what its tables look like, ``pooling`` makes one number of a
cell's seeds, ``build`` joins the three, ``page`` says it in words and digits, ``render`` writes it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import atomic
from harness.reporting.tables.layout import cells_of
from harness.reporting.tables.planned import NAMES, table_named
from harness.reporting.tables.reported import PlannedCell

if TYPE_CHECKING:  # pandas, behind the rest, takes a while to import, and the workflow asks for names alone
    import pandas as pd

    from harness.reporting.tables.build import Grid
    from harness.reporting.tables.page import Page

__all__ = ["PlannedCell", "pages", "write_tables"]


def write_tables(
    metrics: pd.DataFrame, planned: Sequence[PlannedCell], preset: str, out_dir: Path, names: Sequence[str] = NAMES
) -> list[Path]:
    """Write ``table_3_1.{csv,md,tex}`` and the like to ``out_dir``; the paths written.

    metrics: one row per measured number, columns ``REQUIRED`` and ``OPTIONAL`` of ``pooling``. planned: the cells of
    the configuration; each table takes those that it shows. names: of tables, all by default, each of which is rendered
    before the first file is written. Raises HarnessError for a cell of theirs without a row, and for a number that the
    thesis prints and a cell that went well does not have.
    """
    from harness.reporting.tables.build import tidy
    from harness.reporting.tables.page import page
    from harness.reporting.tables.render import markdown, tex

    texts = {}
    for grid in _grids(metrics, planned, preset, names):
        text = page(grid, preset)
        texts[f"{grid.table.name}.csv"] = tidy(grid).to_csv(index=False)
        texts[f"{grid.table.name}.md"] = markdown(text)
        texts[f"{grid.table.name}.tex"] = tex(text)
    paths = []
    for name, content in texts.items():
        atomic.write_text(Path(out_dir) / name, content)
        paths.append(Path(out_dir) / name)
    return paths


def pages(
    metrics: pd.DataFrame, planned: Sequence[PlannedCell], preset: str, names: Sequence[str] = NAMES
) -> list[Page]:
    """The tables as text; arguments and errors as of ``write_tables``."""
    from harness.reporting.tables.page import page

    return [page(grid, preset) for grid in _grids(metrics, planned, preset, names)]


def _grids(metrics: pd.DataFrame, planned: Sequence[PlannedCell], preset: str, names: Sequence[str]) -> list[Grid]:
    from harness.reporting.tables.build import build, check_complete
    from harness.reporting.tables.pooling import rows_by_cell

    rows = rows_by_cell(metrics, preset)
    chosen = [table_named(name) for name in names]
    shown = {table.name: cells_of(table, (PlannedCell(*cell) for cell in planned)) for table in chosen}
    check_complete(rows, list(dict.fromkeys(cell for cells in shown.values() for cell in cells)))
    return [build(table, rows, shown[table.name]) for table in chosen]
