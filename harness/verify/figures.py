"""``harness verify figures NAME``: does a figure do what the workflow counts on?

It is drawn from a small run with the analyses that it is made of: what matters is that its data are rows, that the
picture follows from the csv file alone and has the same bytes at every call, that nothing else in the process changes,
and that it does not break where a run has less than it hopes for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.plugins.analyses import MEASURED, needs
from harness.plugins.figures import Figure, figure, figure_names
from harness.reporting.figures import style
from harness.reporting.figures.write import write_figure
from harness.reporting.plain_frames import remarks_of
from harness.settings.config import Cell
from harness.verify.kit import fail_unless, results, says_what_is_missing
from harness.verify.small_run import DATASETS, METHODS, SmallRun, methods_with, process_as_it_was
from harness.verify.subject import NotCheckedError, Result

MOST_METHODS = 4


def verify_figure(name: str, settings: Mapping[str, Any]) -> Iterator[Result]:
    """Results of all checks of a figure, as they come. Raises ConfigError where there is none, or its text is wrong."""
    found = figure(name)
    analyses = [each for each in found.analyses if each != MEASURED]
    yield Result("text", "passed", f"{found.title or name}, from {', '.join(found.analyses)}")
    with tempfile.TemporaryDirectory() as folder:
        asked = settings if name in figure_names(settings) else {**settings, "figures": [*settings["figures"], name]}
        run = SmallRun(Path(folder), asked, _methods(analyses), found.datasets or DATASETS, analyses)
        yield from results(_Checks(found, run).all())


def _methods(analyses: list[str]) -> list[str]:
    """Some methods that have what the analyses are made from, the usual ones first."""
    if not analyses:
        return list(METHODS)
    able = methods_with({need for each in analyses for need in needs(each)})
    return sorted(able, key=lambda name: name not in METHODS)[:MOST_METHODS] or list(METHODS)


class _Checks:
    """The checks of one figure, on one run."""

    def __init__(self, found: Figure, run: SmallRun):
        self.figure, self.run = found, run

    def all(self) -> dict[str, Any]:
        return {
            "process untouched": self.process_untouched,
            "data": self.data,
            "picture": self.picture,
            "determinism": self.determinism,
            "missing numbers": self.missing_numbers,
        }

    def written(self, folder: str, cells: list[Cell] | None = None) -> list[Path]:
        cells = self.run.cells if cells is None else cells
        return write_figure(self.figure.name, self.run.settings, cells, self.run.runs, self.run.folder / folder)

    def data(self) -> str:
        frame = pd.read_csv(self.written("drawn")[0])
        if remarks := remarks_of(frame):
            raise NotCheckedError(f"nothing to draw: {'; '.join(remarks)}")
        return f"{len(frame)} rows of {', '.join(list(frame)[:8])}" + (" ..." if frame.shape[1] > 8 else "")

    def picture(self) -> str:
        self.data()
        paths = self.written("drawn")
        empty = [path.name for path in paths if not path.stat().st_size]
        fail_unless(not empty, "files that are not empty", ", ".join(empty))
        return ", ".join(path.name for path in paths)

    def determinism(self) -> str:
        self.data()
        for first, second in zip(self.written("first"), self.written("second"), strict=True):
            same = first.read_bytes() == second.read_bytes()
            fail_unless(same, f"the same bytes of {first.name} at every call", "others")
        return "the same bytes twice"

    def process_untouched(self) -> str:
        self.run.cells  # noqa: B018 -- of which the figure is drawn
        style.use_theme()  # set before every figure
        with process_as_it_was():
            self.written("again")
        return "random numbers, environment, folder and matplotlib as they were"

    def missing_numbers(self) -> str:
        """Of one model alone, and of none."""
        self.data()
        methods = dict.fromkeys(cell.method for cell in self.run.cells)
        for name in methods:
            alone = [cell for cell in self.run.cells if cell.method == name]
            says_what_is_missing(lambda alone=alone: self.written("alone", alone), f"but for {name}")
        frame = pd.read_csv(self.written("none", [])[0])
        fail_unless(bool(remarks_of(frame)), "a remark where no cell was asked for", f"{len(frame)} rows")
        return f"with one of {', '.join(methods)} alone, and with none"
