"""The table of the metrics of users: every model on every data set, one block per metric, as csv, Markdown and TeX.

Seeds are pooled as in all tables. Where a metric could not be measured the cell has its status, with the reason in a
note; a model without the capabilities that a metric needs has nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from harness import atomic
from harness.plugins.metrics import NEITHER, Metric, metric, name_of
from harness.reporting.tables.build import check_complete, display_name
from harness.reporting.tables.cell_text import FEWER, NOTHING, STAND_IN, STOPPED, with_error
from harness.reporting.tables.page import Line, Page
from harness.reporting.tables.planned import OWN
from harness.reporting.tables.pooling import TIMEOUT, Measured, Row, pool, rows_by_cell
from harness.reporting.tables.render import markdown, tex
from harness.reporting.tables.reported import PlannedCell

TITLE = "Metrics"
CSV_COLUMNS = (
    *("dataset", "method", "variant", "metric", "title", "unit", "better", "value", "sem", "n_seeds"),
    *("status", "message"),
)


@dataclass(frozen=True)
class OwnMetrics:
    """The metrics that settings ask for, and what cells have of them: None where a cell has nothing to show."""

    metrics: Sequence[Metric]
    cells: Sequence[PlannedCell]
    rows: Mapping[PlannedCell, Sequence[Row]]
    preset: str

    def of(self, cell: PlannedCell, found: Metric) -> Measured | None:
        """The number of a cell, or why it has none."""
        return pool(self.rows[cell], found.name)

    @property
    def datasets(self) -> list[str]:
        """All data sets, in the order of the configuration."""
        return list(dict.fromkeys(cell.dataset for cell in self.cells))

    @property
    def models(self) -> list[tuple[str, str]]:
        """Method and variant of all rows, in the order of the configuration."""
        return list(dict.fromkeys((cell.method, cell.variant) for cell in self.cells))


def own_metrics_table(metrics: pd.DataFrame, planned: Sequence[PlannedCell], settings: Mapping[str, Any]) -> OwnMetrics:
    """The table of the metrics in the settings.

    Raises HarnessError for a cell without a row, ConfigError for a metric that is not known.
    """
    rows = rows_by_cell(metrics, settings["preset"])
    check_complete(rows, planned)
    return OwnMetrics([metric(name_of(each)) for each in settings["metrics"]], planned, rows, settings["preset"])


def write_own_metrics(table: OwnMetrics, folder: Path) -> list[Path]:
    """Write ``metrics.{csv,md,tex}`` to ``folder``; the paths written."""
    page = own_metrics_page(table)
    texts = {"csv": tidy(table).to_csv(index=False), "md": markdown(page), "tex": tex(page)}
    paths = [folder / f"{OWN}.{form}" for form in texts]
    for path, content in zip(paths, texts.values(), strict=True):
        atomic.write_text(path, content)
    return paths


def tidy(table: OwnMetrics) -> pd.DataFrame:
    """One row per metric and cell that has it or failed to, columns ``CSV_COLUMNS``."""
    records = []
    for found in table.metrics:
        for cell in table.cells:
            m = table.of(cell, found)
            if m is not None:
                sem = m.sem if math.isfinite(m.sem) else None
                described = (found.name, found.title, found.unit, found.better)
                records.append((*cell, *described, m.value, sem, m.n_seeds, m.status, m.message))
    return pd.DataFrame(records, columns=list(CSV_COLUMNS), dtype=object)


def own_metrics_page(table: OwnMetrics) -> Page:
    """The table as text."""
    stand_ins = {cell.dataset for cell in table.cells if any(row["data_official"] is False for row in table.rows[cell])}
    header = ("Model", "", *(name + STAND_IN * (name in stand_ins) for name in table.datasets))
    blocks = tuple((_label(found), tuple(_lines(table, found))) for found in table.metrics)
    caption = (
        f"{TITLE}: those that the settings name, measured on the test set, with standard errors. The {table.preset} "
        "preset; several seeds are pooled."
    )
    return Page("", OWN, TITLE, caption, header, blocks, tuple(_notes(table, stand_ins)))


def _label(found: Metric) -> str:
    direction = "" if found.better == NEITHER else f"; {found.better} is better"
    return f"`{found.name}`: {found.title}, {found.unit}{direction}"


def _lines(table: OwnMetrics, found: Metric) -> Iterator[Line]:
    """A line per model that has the metric, or failed to, on some data set."""
    known = set(table.cells)
    for method, variant in table.models:
        cells = [PlannedCell(dataset, method, variant) for dataset in table.datasets]
        measured = [table.of(cell, found) if cell in known else None for cell in cells]
        if any(m is not None for m in measured):
            titled = next(cell for cell in cells if cell in known)
            texts = (_text(m, found) for m in measured)
            models = {
                i: cell for i, (cell, m) in enumerate(zip(cells, measured, strict=True), start=2) if m is not None
            }
            yield Line((display_name(titled, table.rows), "", *texts), True, models=models)


def _text(m: Measured | None, found: Metric) -> str:
    if m is None:
        return NOTHING
    if m.value is None:
        return m.status
    return with_error(m.value, m.sem, found.decimals) + STOPPED * (m.status == TIMEOUT) + FEWER * bool(m.others)


def _notes(table: OwnMetrics, stand_ins: set[str]) -> Iterator[str]:
    for found in table.metrics:
        # no path of this machine in what may be published
        yield f"`{found.name}` is from {found.source or Path(found.origin).name}."
        of_cells = [(cell, table.of(cell, found)) for cell in table.cells]
        without = dict.fromkeys(display_name(cell, table.rows) for cell, m in of_cells if m is None)
        if without:
            needs = f"needs {', '.join(found.needs)}" if found.needs else "was not measured"
            yield f"`{found.name}` {needs}, not there for {', '.join(without)}."
        failed: dict[str, list[str]] = {}
        for cell, m in of_cells:
            if m is not None and m.value is None:
                failed.setdefault(f"{m.status}: {m.message}".rstrip(": "), []).append("/".join(filter(None, cell)))
        for why, cells in failed.items():
            yield f"`{found.name}` of {', '.join(cells)}: {why}."
        for cell, m in of_cells:
            if m is not None and m.value is not None and m.others:
                yield f"{FEWER} `{found.name}` of {'/'.join(filter(None, cell))} without {'; '.join(m.others)}."
        if any(m is not None and m.status == TIMEOUT for _, m in of_cells):
            yield f"{STOPPED} stopped by the time limit."
    if stand_ins:
        yield f"{STAND_IN} a stand-in for the data set: {', '.join(sorted(stand_ins))}."


def glance(table: OwnMetrics) -> str:
    """The numbers alone, for a terminal."""
    page = own_metrics_page(table)
    body = [
        row
        for label, lines in page.blocks
        for row in [[f"[{label.replace('`', '')}]"], *([line.cells[0], *line.cells[2:]] for line in lines)]
    ]
    return f"{TITLE}\n" + tabulate(body, [page.header[0], *page.header[2:]], disable_numparse=True)
