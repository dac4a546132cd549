"""Which cells of the configuration tables are made of: what the workflow trains for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.errors import ConfigError
from harness.reporting.tables.layout import TABLES, Table
from harness.reporting.tables.reported import PlannedCell
from harness.settings.asked import is_left_to_overview
from harness.settings.config import Cell, cells_named

NAMES = tuple(table.name for table in TABLES)
FACES = ("tfd", "faces48")  # data sets whose models figures show, and no table
OWN = "metrics"  # the table of the metrics of users, where the settings ask for any


def table_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """All tables that the settings ask for."""
    return (*NAMES, OWN) if settings.get("metrics") else NAMES  # earlier versions had none


def models(planned: Iterable[Cell], settings: Mapping[str, Any]) -> list[PlannedCell]:
    """What tables have cells for: repetitions of a cell are one model, and ablations are in figures alone."""
    ablations = cells_named(settings, "ablations")
    of_tables = (cell for cell in planned if (cell.method, cell.dataset, cell.variant) not in ablations)
    return list(dict.fromkeys(_model(cell) for cell in of_tables))


def cells_shown(planned: Sequence[Cell], settings: Mapping[str, Any], names: Iterable[str] = NAMES) -> list[Cell]:
    """The cells behind these tables, every repetition, in the order of the configuration.

    Raises ConfigError for a table that does not exist.
    """
    names = list(names)
    tables = [table_named(name) for name in names if name != OWN]
    shown = {
        model for model in models(planned, settings) if OWN in names or any(table.shows(model) for table in tables)
    }
    return [cell for cell in planned if _model(cell) in shown]


def cells_waited_for(shown: Iterable[Cell], settings: Mapping[str, Any]) -> list[Cell]:
    """Of the cells that tables show, those that they are not drawn without: ``left_to_overview`` names the others."""
    return [cell for cell in shown if not is_left_to_overview((cell.method, cell.dataset, cell.variant), settings)]


def cells_compared(planned: Sequence[Cell], settings: Mapping[str, Any]) -> list[Cell]:
    """The cells behind the overview of all methods on all data sets, those in no table of the thesis among them."""
    shown = set(models(planned, settings))
    return [cell for cell in planned if _model(cell) in shown and cell.dataset not in FACES]


def table_named(name: str) -> Table:
    """The layout of ``table_3_1`` or the like; raises ConfigError for one that does not exist."""
    if name not in NAMES:
        raise ConfigError(f"table: expected one of {', '.join(NAMES)}, found {name!r}")
    return TABLES[NAMES.index(name)]


def _model(cell: Cell) -> PlannedCell:
    return PlannedCell(cell.dataset, cell.method, cell.variant)
