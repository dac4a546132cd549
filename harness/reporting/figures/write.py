"""One figure, from the tables of analyses to csv, png, pdf and a caption.

The figure is drawn from the csv as it was written, so that file holds all that is seen. The caption says what is shown;
notes below it, as a list, hold warnings, settings, stand-ins and what is missing. Where no run has anything to
show, because its data cannot be obtained, the figure says so instead of a plot.
"""

from __future__ import annotations

import importlib
import logging
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import pandas as pd

from harness import atomic
from harness.errors import ConfigError, HarnessError
from harness.evaluation.plan import analyses_of
from harness.plugins.analyses import MEASURED, asked_for
from harness.plugins.figures import DATA, DRAW, REGISTRY, REMARKS, Figure, figure_names
from harness.plugins.figures import figure as described
from harness.plugins.finding import BUILT_IN_ORIGIN
from harness.reporting.figures import style
from harness.reporting.figures.gather import gather, stand_ins
from harness.reporting.plain_frames import FAILED, REMARK, WrongReturnError, in_words, plain_frame
from harness.reporting.tables.measured import measured_frame
from harness.reporting.tables.planned import cells_compared, models
from harness.settings.config import Cell
from harness.storage.collect import read_metrics

log = logging.getLogger(__name__)

NOTHING = "no model has what this figure shows"
__all__ = ["analyses_behind", "cells_of", "figure_names", "write_figure"]


def analyses_behind(figure: str) -> tuple[str, ...]:
    """The analyses that a figure is drawn from; ``MEASURED`` among them stands for the measured numbers."""
    return described(figure).analyses


def cells_of(figure: str, cells: Iterable[Cell]) -> list[Cell]:
    """The cells that a figure may show: all of them, unless it is one of certain data sets."""
    wanted = described(figure).datasets
    return [cell for cell in cells if wanted is None or cell.dataset in wanted]


def write_figure(
    figure: str, settings: Mapping[str, Any], cells: Sequence[Cell], runs_folder: Path, folder: Path
) -> list[Path]:
    """Write ``figure_3_3.{csv,png,pdf,rst}`` and the like to ``folder``; the paths.

    A user's figure that raises an error says so in place of a plot, unless the settings are ``strict``. Raises
    ConfigError for a figure that does not exist, HarnessError for a run whose analyses were not done.
    """
    if figure not in figure_names(settings):
        raise ConfigError(f"figure: expected one of {', '.join(figure_names(settings))}, found {figure!r}")
    known = described(figure)
    tables, remarks = {}, []
    cells = cells_of(figure, cells)
    for name in known.analyses:
        tables[name], found = _table(name, settings, cells, runs_folder)
        remarks += [remark for remark in found if remark not in remarks]
    path = folder / f"{figure}.csv"
    if known.origin == BUILT_IN_ORIGIN:
        module = importlib.import_module(f"{__package__}.{figure}")
        drawn, told, data = _drawn(module, list(tables.values()), remarks, path)
        caption = module.CAPTION
    else:
        drawn, told, data = _drawn_by_user(known, list(tables.values()), remarks, path, settings["strict"])
        caption = known.caption
    if data is not None and {"dataset", "method"} <= set(data):
        told += stand_ins(data, _taking_part(known, settings, cells), runs_folder)
    told += [f"Not shown: {remark}" for remark in remarks]
    atomic.write_text(folder / f"{figure}.rst", _caption(caption, told))
    pictures = [style.save(drawn, folder / f"{figure}.{form}") for form in ("png", "pdf")]
    style.close(drawn)
    return [path, *pictures, folder / f"{figure}.rst"]


def _table(
    name: str, settings: Mapping[str, Any], cells: Sequence[Cell], runs_folder: Path
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of an analysis, or the measured numbers, and why some are missing."""
    if name == MEASURED:
        of_tables = cells_compared(cells, settings)
        return measured_frame(read_metrics(of_tables, runs_folder), models(of_tables, settings), settings["preset"]), []
    if name not in asked_for(settings["analyses"]):
        return pd.DataFrame(), [f"the settings do not ask for the analysis {name}"]
    return gather(name, settings, cells, runs_folder)


def _drawn(
    module: ModuleType, tables: Sequence[pd.DataFrame], remarks: list[str], path: Path, is_own: bool = False
) -> tuple[Any, list[str], pd.DataFrame | None]:
    """The picture, what is to be said of it, and the data that it was drawn from, as the csv file ``path`` has them.

    Where there is nothing to draw, a page that says so, the reason among ``remarks``, and None.
    """
    data = module.data(*tables) if all(map(len, tables)) else pd.DataFrame()
    if is_own:
        data = plain_frame(data, DATA)
    if not len(data):
        is_told = remarks and not (all if is_own else any)(map(len, tables))
        remarks += [] if is_told else [NOTHING]
        return _nothing(remarks, path), [], None
    atomic.write(path, lambda temporary: data.to_csv(temporary, index=False))
    style.use_theme()
    data = pd.read_csv(path, keep_default_na=False, na_values=[""])
    drawn = module.draw(data)
    return drawn, list(module.remarks(data)) if hasattr(module, REMARKS) else [], data


def _drawn_by_user(
    figure: Figure, tables: Sequence[pd.DataFrame], remarks: list[str], path: Path, strict: bool
) -> tuple[Any, list[str], pd.DataFrame | None]:
    """The same of a figure whose code may raise anything, which stands in its place unless ``strict``."""
    try:
        drawn, told, data = _drawn(REGISTRY.module(figure.name), tables, remarks, path, is_own=True)
        if not hasattr(drawn, "savefig"):
            raise WrongReturnError(DRAW, "a matplotlib figure", f"a {type(drawn).__name__}")
    except (Exception, SystemExit) as error:
        if strict:
            raise HarnessError(f"{figure.file}: expected a figure, found {in_words(error)}") from error
        log.exception("figure %s", figure.name)
        remarks[:] = [f"{FAILED}: {in_words(error)}"]
        return _nothing(remarks, path), [], None
    # no path of this machine in what may be published
    return drawn, [*told, f"Figure of {PurePath(figure.origin).name}"], data


def _taking_part(figure: Figure, settings: Mapping[str, Any], cells: Sequence[Cell]) -> list[Cell]:
    """The cells that a figure has something from."""
    measured = cells_compared(cells, settings) if MEASURED in figure.analyses else []
    due = set(figure.analyses)
    analysed = [cell for cell in cells if {each.name for each in analyses_of(settings, cell)} & due]
    return list({cell.path: cell for cell in [*analysed, *measured]}.values())


def _caption(text: str, notes: Sequence[str]) -> str:
    """reStructuredText: a paragraph, and a list of notes where there are some."""
    listed = "".join(f"- {' '.join(note.split())}.\n" for note in notes)
    return " ".join(text.split()) + "\n" + (f"\n{listed}" if listed else "")


def _nothing(remarks: Sequence[str], path: Path) -> Any:
    """A page that says why there is nothing to draw, once the csv file ``path`` says so, too."""
    atomic.write(path, lambda temporary: pd.DataFrame({REMARK: remarks}).to_csv(temporary, index=False))
    style.use_theme()
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(6.5, 1.5 + 0.2 * len(remarks)))
    lines = [line for remark in remarks for line in textwrap.wrap(remark, 90)]
    figure.text(0.03, 0.95, "\n".join(["Nothing to draw:", *lines]), va="top")
    return figure
