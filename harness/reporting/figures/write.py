"""One figure, from the tables of analyses to csv, png, pdf and a caption.

The figure is drawn from the csv as it was written, so that file holds all that is seen. The caption says what is shown;
notes below it, as a list, hold warnings, settings, stand-ins and what is missing. Where no run has anything to
show, because its data cannot be obtained, the figure says so instead of a plot.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from harness import atomic
from harness.errors import ConfigError
from harness.evaluation.plan import analyses_of
from harness.reporting.figures import style
from harness.reporting.figures.gather import gather, stand_ins
from harness.settings.config import Cell

FOLDER = Path(__file__).parent
NOTHING = "no model has what this figure shows"


def figure_names() -> list[str]:
    """``figure_3_3`` and its like, in the order of the thesis, then those that it does not have, by name."""
    names = [m.name for m in pkgutil.iter_modules([str(FOLDER)]) if m.name.startswith("figure_")]
    return sorted(names, key=lambda name: [(not part.isdigit(), part.zfill(3)) for part in name.split("_")[1:]])


def analyses_behind(figure: str) -> tuple[str, ...]:
    """The analyses that a figure is drawn from."""
    found = _words(figure, "ANALYSES")
    if found is None:
        raise ConfigError(f"{FOLDER / figure}.py: expected ANALYSES = (name, ...), found none")
    return found


def cells_of(figure: str, cells: Iterable[Cell]) -> list[Cell]:
    """The cells that a figure may show: all of them, unless it is one of certain data sets."""
    wanted = _words(figure, "DATASETS")
    return [cell for cell in cells if wanted is None or cell.dataset in wanted]


@cache
def _words(figure: str, constant: str) -> tuple[str, ...] | None:
    """A tuple of words in the source of a figure, read without importing matplotlib."""
    for node in ast.parse((FOLDER / f"{figure}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == [constant]:
            return tuple(ast.literal_eval(node.value))
    return None


def write_figure(
    figure: str, settings: Mapping[str, Any], cells: Sequence[Cell], runs_folder: Path, folder: Path
) -> list[Path]:
    """Write ``figure_3_3.{csv,png,pdf,rst}`` and the like to ``folder``; the paths.

    Raises ConfigError for a figure that does not exist, HarnessError for a run whose analyses were not done.
    """
    if figure not in figure_names():
        raise ConfigError(f"figure: expected one of {', '.join(figure_names())}, found {figure!r}")
    module = importlib.import_module(f"{__package__}.{figure}")
    tables, remarks = {}, []
    cells = cells_of(figure, cells)
    for name in module.ANALYSES:
        tables[name], found = gather(name, settings, cells, runs_folder)
        remarks += [remark for remark in found if remark not in remarks]
    data = module.data(*tables.values()) if all(len(table) for table in tables.values()) else pd.DataFrame()
    usable = len(data) > 0
    if not usable:
        remarks += [] if remarks and not any(len(table) for table in tables.values()) else [NOTHING]
        data = pd.DataFrame({"remark": remarks})
    path = folder / f"{figure}.csv"
    atomic.write(path, lambda temporary: data.to_csv(temporary, index=False))
    style.use_theme()
    data = pd.read_csv(path, keep_default_na=False, na_values=[""])
    drawn = module.draw(data) if usable else _nothing(remarks)
    told = list(module.remarks(data)) if usable and hasattr(module, "remarks") else []
    taking_part = [cell for cell in cells if {each.name for each in analyses_of(settings, cell)} & set(module.ANALYSES)]
    told += stand_ins(data, taking_part, runs_folder) if usable else []
    told += [f"Not shown: {remark}" for remark in remarks]
    atomic.write_text(folder / f"{figure}.rst", _caption(module.CAPTION, told))
    pictures = [style.save(drawn, folder / f"{figure}.{form}") for form in ("png", "pdf")]
    style.close(drawn)
    return [path, *pictures, folder / f"{figure}.rst"]


def _caption(text: str, notes: Sequence[str]) -> str:
    """reStructuredText: a paragraph, and a list of notes where there are some."""
    listed = "".join(f"- {' '.join(note.split())}.\n" for note in notes)
    return " ".join(text.split()) + "\n" + (f"\n{listed}" if listed else "")


def _nothing(remarks: Sequence[str]) -> Any:
    """A page that says why there is nothing to draw."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(6.5, 1.5 + 0.2 * len(remarks)))
    lines = [line for remark in remarks for line in textwrap.wrap(remark, 90)]
    figure.text(0.03, 0.95, "\n".join(["Nothing to draw:", *lines]), va="top")
    return figure
