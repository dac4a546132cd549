"""Tables of users: what their functions make of the measured numbers, as csv, Markdown and TeX.

``data(measured)`` takes one row per model and metric (see ``harness.reporting.tables.measured``) and returns the rows
of the table, which its csv holds as they are. In print, a column ``sem`` is the standard error of ``value``, and
``x_sem`` that of ``x``: both stand in one cell. A table that raises an error, or returns anything else, says so in its
place; whatever else there is does not depend on it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
from tabulate import tabulate

from harness import atomic
from harness.errors import HarnessError
from harness.plugins.tables import DATA, REGISTRY, OwnTable, own_table
from harness.reporting.plain_frames import FAILED, REMARK, WrongReturnError, in_words, plain_frame, remarks_of
from harness.reporting.tables.cell_text import NOTHING, number, with_error
from harness.reporting.tables.measured import measured_frame
from harness.reporting.tables.page import Line, Page
from harness.reporting.tables.planned import cells_shown, models
from harness.reporting.tables.pooling import OK, TIMEOUT
from harness.reporting.tables.render import markdown, tex
from harness.reporting.tables.reported import PlannedCell
from harness.settings.config import Cell

log = logging.getLogger(__name__)
ERROR_OF = {"sem": "value"}  # columns of standard errors besides ``x_sem``, and those that they are of


@dataclass(frozen=True)
class Rendered:
    """A user's table. data: its csv. page: the same as text."""

    table: OwnTable
    data: pd.DataFrame
    page: Page


def render_own_table(name: str, metrics: pd.DataFrame, cells: Sequence[Cell], settings: Mapping[str, Any]) -> Rendered:
    """The table of this name, of those ``cells`` of the settings that it shows.

    metrics: their measurements, and perhaps others. Raises ConfigError for a name that is not known, HarnessError for a
    cell without a row, and, where the settings are ``strict``, for a function that fails.
    """
    table = own_table(name)
    planned = models(cells_shown(cells, settings, [name]), settings)
    measured = measured_frame(metrics, planned, settings["preset"])
    try:
        data = data_of(table, measured)
    except (Exception, SystemExit) as error:  # of code that is not ours
        if settings["strict"]:
            raise HarnessError(f"{table.file}: expected a table, found {in_words(error)}") from error
        log.exception("table %s", name)
        data = pd.DataFrame({REMARK: [f"{FAILED}: {in_words(error)}"]})
    return Rendered(table, data, _page(table, data, measured, _stand_ins(metrics, planned), settings["preset"]))


def data_of(table: OwnTable, measured: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table, or a column of remarks that say why it has none; raises whatever its function does."""
    metrics = set(measured["metric"])
    missing = [metric for metric in table.metrics if metric not in metrics]
    if measured.empty:
        return pd.DataFrame({REMARK: ["the settings have no cell that it shows"]})
    if missing:
        return pd.DataFrame({REMARK: [f"no model here has `{metric}`" for metric in missing]})
    data = plain_frame(getattr(REGISTRY.module(table.name), DATA)(measured.copy()), DATA)
    if not len(data):
        return pd.DataFrame({REMARK: ["no model here has what it shows"]})
    if list(data.columns) == [REMARK]:
        raise WrongReturnError(DATA, "more columns than remark alone", "that")
    return data


def write_own_table(rendered: Rendered, folder: Path) -> list[Path]:
    """Write ``NAME.{csv,md,tex}`` to ``folder``; the paths written."""
    texts = {
        "csv": rendered.data.to_csv(index=False),
        "md": markdown(rendered.page),
        "tex": tex(rendered.page),
    }
    paths = [folder / f"{rendered.table.name}.{form}" for form in texts]
    for path, content in zip(paths, texts.values(), strict=True):
        atomic.write_text(path, content)
    return paths


def glance(rendered: Rendered) -> str:
    """The numbers alone, for a terminal."""
    page = rendered.page
    columns = [i for i, heading in enumerate(page.header) if heading or i != 1]
    body = [[line.cells[i] for i in columns] for _, lines in page.blocks for line in lines]
    return f"{page.title}\n" + tabulate(body, [page.header[i] for i in columns], disable_numparse=True)


def _page(table: OwnTable, data: pd.DataFrame, measured: pd.DataFrame, stand_ins: Sequence[str], preset: str) -> Page:
    remarks = remarks_of(data)
    if remarks:
        header = (f"nothing to show: {table.title}", "")
        lines = tuple(Line((remark, ""), True) for remark in remarks)
    else:
        header, lines = _shown(table, data)
    caption = f"{table.caption or table.title}".rstrip(".") + f". The {preset} preset; several seeds are pooled."
    notes = (*_without(measured), *_of_stand_ins(stand_ins), f"From {table.source or PurePath(table.origin).name}.")
    return Page("", table.name, table.title, caption, header, (("", lines),), notes)


def _shown(table: OwnTable, data: pd.DataFrame) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """Headings and lines: errors beside what they are of, and a second column of words, empty where there is none."""
    columns = list(data.columns)
    errors = {of: error for error in columns if (of := _of(error)) in columns}
    shown = [name for name in columns if name not in errors.values()]
    has_words = len(shown) > 1 and not pd.api.types.is_numeric_dtype(data[shown[1]]) and shown[1] not in errors
    header = (shown[0], *(() if has_words else ("",)), *shown[1:])
    lines = []
    for record in data.to_dict("records"):
        texts = [_text(record[name], record.get(errors.get(name, "")), table.decimals) for name in shown]
        model = _model(record)
        numbers = range(2, len(header)) if model else ()
        cells = (texts[0], *(() if has_words else ("",)), *texts[1:])
        lines.append(Line(cells, True, models=dict.fromkeys(numbers, model)))
    return header, tuple(lines)


def _of(column: str) -> str | None:
    """The column that one of standard errors is about; None for any other."""
    return ERROR_OF.get(column) or (column.removesuffix("_sem") if column.endswith("_sem") else None)


def _model(record: Mapping[str, Any]) -> PlannedCell | None:
    """The model that a row is about, where its columns say so."""
    if not {"dataset", "method"} <= set(record):
        return None
    variant = record.get("variant", "")
    return PlannedCell(str(record["dataset"]), str(record["method"]), variant if isinstance(variant, str) else "")


def _text(value: Any, error: Any, decimals: int) -> str:
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value, 0)
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    return number(value, decimals) if error is None else with_error(value, float(error), decimals)


def _without(measured: pd.DataFrame) -> Iterator[str]:
    """Notes that name the models without any number, and those with fewer updates than planned."""
    for status, rows in measured[~measured["status"].isin([OK])].groupby("status", sort=False):
        names = dict.fromkeys("/".join(filter(None, key)) for key in rows[["dataset", "method", "variant"]].to_numpy())
        said = "stopped by the time limit" if status == TIMEOUT else str(status)
        yield f"{said[0].upper()}{said[1:]}: {', '.join(names)}."


def _stand_ins(metrics: pd.DataFrame, planned: Sequence[PlannedCell]) -> list[str]:
    """Data sets of a table whose rows are not those of the literature."""
    if "data_official" not in metrics:
        return []
    shown = {cell.dataset for cell in planned}
    found = metrics[metrics["data_official"].eq(False) & metrics["dataset"].isin(shown)]
    return list(dict.fromkeys(found["dataset"]))


def _of_stand_ins(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"A stand-in for the data set: {', '.join(names)}."
