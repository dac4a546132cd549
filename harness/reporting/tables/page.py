"""A table as lines of text, before it is Markdown or TeX. Text between backticks is a metric.

A row takes up to three lines: ours with its standard error, the thesis' value, the difference. Rows and columns of
which the configuration has no cell are left out; the csv has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from harness.reporting.tables.best_published import Published, best_published, sources
from harness.reporting.tables.build import NOT_PLANNED, Entry, Grid, GridRow
from harness.reporting.tables.caption import caption
from harness.reporting.tables.cell_text import NOTHING, difference_text, ours_text
from harness.reporting.tables.layout import Axis, Table
from harness.reporting.tables.notes import DataStatus, data_statuses, notes
from harness.reporting.tables.reported import PlannedCell

OURS, THESIS, DIFFERENCE = "ours", "thesis", "ours − thesis"


@dataclass(frozen=True)
class Line:
    """A line of the table; ``cells`` include the label and the kind of the line, ``bold`` are positions of cells.

    models: position -> the model whose number, or whose failure, stands there.
    """

    cells: tuple[str, ...]
    first: bool  # of its row
    bold: frozenset[int] = frozenset()
    models: Mapping[int, PlannedCell] = field(default_factory=dict)


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

    @property
    def shown(self) -> str:
        """What the table shows, without how it was made."""
        return f"{self.title}." if self.number else self.caption

    @property
    def settings(self) -> str:
        """What the caption of a table of the thesis says after its title: budgets, and what the errors are."""
        return self.caption.removeprefix(f"{self.title}. ") if self.number else ""


def page(grid: Grid, preset: str) -> Page:
    """The table as text, as far as the configuration asks for it."""
    grid, left_out = asked_for(grid)
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
        )
        + tuple(_published(table)),
        (*notes(grid, data), *_published_note(table), *left_out),
    )


def asked_for(grid: Grid) -> tuple[Grid, tuple[str, ...]]:
    """The rows and columns that the configuration has a cell of, and a note that names the others."""
    kept = [
        any(_is_asked(row.entries[i]) for block in grid.blocks for row in block.rows)
        for i in range(len(grid.table.columns))
    ]
    blocks, rows_left_out = [], []
    for block in grid.blocks:
        rows = []
        for row in block.rows:
            if any(map(_is_asked, row.entries)):
                rows.append(replace(row, entries=tuple(itertools.compress(row.entries, kept))))
            else:
                rows_left_out.append(row.axis.label)
        blocks += [replace(block, rows=tuple(rows))] if rows else []
    columns = [(column, is_kept) for column, is_kept in zip(grid.table.columns, kept, strict=True)]
    left_out = [*rows_left_out, *(column.label for column, is_kept in columns if not is_kept)]
    if not blocks:
        left_out = ["everything that the thesis has in it"]
    note = (f"Left out, since this configuration has no cell of it: {', '.join(left_out)}.",) if left_out else ()
    table = replace(grid.table, columns=tuple(column for column, is_kept in columns if is_kept))
    return replace(grid, table=table, blocks=tuple(blocks)), note


def _is_asked(entry: Entry | None) -> bool:
    return entry is not None and entry.measured.status != NOT_PLANNED


def _published(table: Table) -> Iterator[tuple[str, tuple[Line, ...]]]:
    """A last block: the best published values known, where a column has one."""
    if table.published and any(known := [_best(table, column) for column in table.columns]):
        cells = (published.value if published else NOTHING for published in known)
        yield "best published", (Line(("other work", "printed", *cells), True),)


def _published_note(table: Table) -> Iterator[str]:
    datasets = [column.fields["dataset"] for column in table.columns if table.published and _best(table, column)]
    if datasets:
        yield (
            "Best published: of those that could be checked, with the rows for training, validation and test. "
            f"{sources(datasets, table.published)}."
        )


def _best(table: Table, column: Axis) -> Published | None:
    return best_published().get((column.fields.get("dataset", ""), table.published))


def _lines(row: GridRow, label: str, data: Mapping[str, DataStatus]) -> Iterator[Line]:
    """The row's lines, without those that would be empty; ours always."""

    def official(entry: Entry) -> bool:
        return entry.key.dataset not in data or data[entry.key.dataset].official

    kinds: dict[str, Callable[[Entry], str]] = {
        OURS: ours_text,
        THESIS: lambda entry: entry.reported or NOTHING,
        DIFFERENCE: lambda entry: difference_text(entry, official(entry)),
    }
    models = {i: entry.key.cell for i, entry in enumerate(row.entries, start=2) if _is_asked(entry)}
    for kind, text in kinds.items():
        cells = [text(entry) if entry is not None else NOTHING for entry in row.entries]
        if kind == OURS or any(cell != NOTHING for cell in cells):
            is_ours = kind == OURS
            yield Line((label if is_ours else "", kind, *cells), is_ours, models=models if is_ours else {})
