"""A table as lines of text, before it is Markdown or TeX. Text between backticks is a metric.

A row takes up to three lines: ours with its standard error, the thesis' value, the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.reporting.tables.build import Entry, Grid, GridRow
from harness.reporting.tables.caption import caption
from harness.reporting.tables.cell_text import NOTHING, difference_text, ours_text
from harness.reporting.tables.layout import Axis
from harness.reporting.tables.notes import DataStatus, data_statuses, notes

OURS, THESIS, DIFFERENCE = "ours", "thesis", "ours − thesis"


@dataclass(frozen=True)
class Line:
    """A line of the table; ``cells`` include the label and the kind of the line, ``bold`` are positions of cells."""

    cells: tuple[str, ...]
    first: bool  # of its row
    bold: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Page:
    number: str
    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    blocks: tuple[tuple[str, tuple[Line, ...]], ...]
    notes: tuple[str, ...]

    @property
    def heading(self) -> str:
        """The number of a table of the thesis, the title of another one."""
        return f"Table {self.number}" if self.number else self.title


def page(grid: Grid, preset: str) -> Page:
    """The whole table as text."""
    data = data_statuses(grid)

    def labelled(axis: Axis) -> str:
        status = data.get(axis.fields.get("dataset", ""))
        return axis.label + (status.mark if status else "")

    table = grid.table
    return Page(
        table.number,
        table.name,
        table.title,
        caption(grid, preset),
        (table.corner, "", *(labelled(column) for column in table.columns)),
        tuple(
            (block.label, tuple(line for row in block.rows for line in _lines(row, labelled(row.axis), data)))
            for block in grid.blocks
        ),
        notes(grid, data),
    )


def _lines(row: GridRow, label: str, data: Mapping[str, DataStatus]) -> Iterator[Line]:
    """The row's lines, without those that would be empty; ours always."""

    def official(entry: Entry) -> bool:
        return entry.key.dataset not in data or data[entry.key.dataset].official

    kinds: dict[str, Callable[[Entry], str]] = {
        OURS: ours_text,
        THESIS: lambda entry: entry.reported or NOTHING,
        DIFFERENCE: lambda entry: difference_text(entry, official(entry)),
    }
    for kind, text in kinds.items():
        cells = [text(entry) if entry is not None else NOTHING for entry in row.entries]
        if kind == OURS or any(cell != NOTHING for cell in cells):
            yield Line((label if kind == OURS else "", kind, *cells), kind == OURS)
