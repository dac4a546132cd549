"""The cells of a table: every number that the thesis prints in it, joined with what was measured, plus rows of ours.

Nothing is left empty silently: a planned cell without measurements is an error, and a printed number without a
counterpart carries the reason as its status.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from harness.errors import HarnessError
from harness.reporting.tables import layout
from harness.reporting.tables.chance import chance_level
from harness.reporting.tables.layout import Axis, Block, Table
from harness.reporting.tables.pooling import Measured, Row, is_own, pool
from harness.reporting.tables.reported import Key, PlannedCell, reported

NOT_PLANNED = "not planned"  # the thesis has the number, the configuration no such cell
CSV_COLUMNS = (
    *("dataset", "method", "variant", "metric", "value", "sem", "reported", "n_seeds", "n_updates", "k"),
    *("seconds", "status", "mc_error", "bias"),
)
CHANCE_COLUMNS = ("chance", "at_chance")  # of a table in which guessing has a level


@dataclass(frozen=True)
class Entry:
    """A cell: what was measured beside what the thesis prints (None where it prints nothing).

    control: -log p of independent Bernoullis on the same data, beside a likelihood; None where that was not measured.
    """

    key: Key
    reported: str | None
    measured: Measured
    control: Measured | None = None

    @property
    def worse_than_control(self) -> bool:
        """Whether -log p is above the control's by more than two standard errors of the difference."""
        ours, theirs = self.measured, self.control
        if ours.value is None or theirs is None or theirs.value is None:
            return False
        return ours.value - theirs.value > 2.0 * math.hypot(ours.sem, theirs.sem)


@dataclass(frozen=True)
class GridRow:
    axis: Axis
    entries: tuple[Entry | None, ...]  # one a column; None: no such number, neither here nor in the thesis


@dataclass(frozen=True)
class GridBlock:
    label: str
    rows: tuple[GridRow, ...]


@dataclass(frozen=True)
class Grid:
    """A table with its cells, and the rows of metrics that they came from."""

    table: Table
    blocks: tuple[GridBlock, ...]
    rows: Mapping[PlannedCell, Sequence[Row]]

    def entries(self) -> Iterator[Entry]:
        """All cells, row by row."""
        for block in self.blocks:
            for row in block.rows:
                yield from (entry for entry in row.entries if entry is not None)


def check_complete(rows: Mapping[PlannedCell, Sequence[Row]], planned: Sequence[PlannedCell]) -> None:
    """Raises HarnessError naming the planned cells that have no row at all."""
    missing = [f"{cell.dataset}/{cell.method}/{cell.variant or 'default'}" for cell in planned if cell not in rows]
    if missing:
        raise HarnessError(f"metrics: expected rows for every planned cell, found none for {', '.join(missing)}")


def build(table: Table, rows: Mapping[PlannedCell, Sequence[Row]], planned: Sequence[PlannedCell]) -> Grid:
    """The cells of ``table``; raises HarnessError for a number that the thesis has and a healthy cell lacks."""
    printed = table.printed_cells()
    extra = [
        cell
        for cell in dict.fromkeys(planned)
        if cell not in printed and table.admits(cell, _measured_metrics(rows[cell]))
    ]
    known = set(planned)

    def filled(block: Block, ours: bool) -> GridBlock:
        return GridBlock(
            block.label,
            tuple(
                GridRow(row, tuple(_entry(table, layout.key(row, c), rows, known, ours) for c in table.columns))
                for row in block.rows
            ),
        )

    thesis_blocks = [filled(block, False) for block in table.blocks]
    return Grid(table, (*thesis_blocks, *(filled(block, True) for block in _extra_blocks(table, extra, rows))), rows)


def _entry(table: Table, key: Key, rows: Mapping, planned: set[PlannedCell], ours: bool) -> Entry | None:
    printed = reported()[table.number].get(key)
    if key.cell not in planned:
        return Entry(key, printed, Measured(NOT_PLANNED)) if printed is not None else None
    exact, found = table.exact.get(key.metric), _measured_metrics(rows[key.cell])
    if exact in found and key.metric not in found:
        key = key._replace(metric=exact)
    measured = pool(rows[key.cell], key.metric)
    if measured is not None:
        measured = replace(measured, chance=chance_level(key.metric, key.dataset, measured.chance))
    if printed is not None and measured is None:
        raise HarnessError(f"metrics: expected {key.metric} of {'/'.join(key.cell)}, found other metrics only")
    if printed is None and (measured is None or (measured.value is None and not ours)):
        return None
    is_compared = key.metric in layout.LIKELIHOODS and key.method != layout.CONTROL
    control = rows.get(PlannedCell(key.dataset, layout.CONTROL, ""), ()) if is_compared else ()
    return Entry(key, printed, measured, pool(control, layout.NLL))


def _measured_metrics(rows: Sequence[Row]) -> set[str]:
    return {row["metric"] for row in rows if row["metric"] and not is_own(row)}


def _extra_blocks(table: Table, extra: Sequence[PlannedCell], rows: Mapping) -> Iterator[Block]:
    """Blocks of the cells that the thesis has no row for."""
    models: dict[tuple[str, str], list[PlannedCell]] = {}
    for cell in extra:
        models.setdefault((cell.method, cell.variant), []).append(cell)
    axes: dict[str, list[Axis]] = {"controls": [], "added here": []}
    for cells in models.values():
        control = any(row["kind"] == "control" for cell in cells for row in rows[cell])
        axes["controls" if control else "added here"] += _extra_rows(table, cells, rows)
    yield from (Block(label, tuple(members)) for label, members in axes.items() if members)


def _extra_rows(table: Table, cells: Sequence[PlannedCell], rows: Mapping) -> list[Axis]:
    """The row of a model, or its rows, one a metric, where the table is laid out so."""
    dataset, method, variant = cells[0]
    titled = next((cell for cell in cells if any(row["title"] for row in rows[cell])), cells[0])
    label = display_name(titled, rows)
    if not table.extra_metrics:
        return [layout.axis(label, dataset=dataset, method=method, variant=variant)]
    measured = set().union(*(_measured_metrics(rows[cell]) for cell in cells))
    if not measured.issuperset(table.extra_metrics):
        return [layout.axis(label, method=method, variant=variant, metric=layout.NLL)]
    return [
        layout.axis(f"{label} `{metric}`", method=method, variant=variant, metric=metric)
        for metric in table.extra_metrics
    ]


def display_name(cell: PlannedCell, rows: Mapping[PlannedCell, Sequence[Row]]) -> str:
    """The method's title, with the variant in brackets."""
    title = next((row["title"] for row in rows.get(cell, ()) if row["title"]), cell.method)
    return f"{title} ({cell.variant})" if cell.variant else title


def tidy(grid: Grid) -> pd.DataFrame:
    """One row per cell, columns CSV_COLUMNS; ``seconds`` of training and evaluation, a mean over seeds.

    Where guessing has a level in the table, also CHANCE_COLUMNS.
    """
    records = []
    for entry in grid.entries():
        m = entry.measured
        records.append(
            (
                *entry.key,
                m.value,
                _or_empty(m.sem),
                entry.reported,
                m.n_seeds,
                _or_empty(m.n_updates, whole=True),
                _or_empty(m.k, whole=True),
                _or_empty(round(m.seconds, 3)),
                m.status,
                _or_empty(m.mc_error),
                _or_empty(m.bias),
                _or_empty(m.chance),
                m.at_chance if math.isfinite(m.chance) and m.value is not None else None,
            )
        )
    frame = pd.DataFrame(records, columns=[*CSV_COLUMNS, *CHANCE_COLUMNS], dtype=object)
    return frame if frame["chance"].notna().any() else frame[list(CSV_COLUMNS)]


def _or_empty(number: float, whole: bool = False) -> float | int | None:
    if not math.isfinite(number):
        return None
    return round(number) if whole else number
