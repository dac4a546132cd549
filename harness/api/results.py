"""A folder with the results of many runs, as the workflow or ``harness publish`` leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.api.run import Run
from harness.check.rules import Rules
from harness.check.write import compared, frame_of
from harness.errors import DataError
from harness.plugins.names import variant_folder
from harness.settings.config import load_settings
from harness.storage.measurements import read_csv, read_measurements
from harness.storage.runs import RunFolder


@dataclass(frozen=True)
class Results:
    """The files of a run of the workflow, read when they are asked for. docs/results.md says what the columns are.

    Every property raises DataError, which names the file, where it is missing or damaged.
    """

    folder: Path

    @property
    def metrics(self) -> pd.DataFrame:
        """``metrics.parquet``: one row per measured number."""
        return read_measurements(self.folder / "metrics.parquet")

    @property
    def runs(self) -> pd.DataFrame:
        """One row per trained model, with its status and configuration: ``runs.csv``, or what lies below ``runs/``."""
        listed = self.folder / "runs.csv"
        if listed.is_file():
            return read_csv(listed, keep_default_na=False)
        found = []
        folders = map(RunFolder, sorted(self.folder.glob("runs/*/*/*/*")))
        for run in (each for each in folders if each.config_file.exists()):
            cell = run.config()
            named = {key: getattr(cell, key) for key in ("dataset", "method", "variant", "seed")}
            status = run.status() if run.status_file.exists() else {"status": "begun"}
            plain = {key: value for key, value in status.items() if not isinstance(value, Mapping)}
            found.append({**named, **plain, "folder": str(run)})
        if not found:
            raise DataError(self.folder, "runs.csv or a folder runs/ with trained models", "neither")
        return pd.DataFrame(found)

    @property
    def searches(self) -> pd.DataFrame:
        """``searches.csv``: one row per trial of a search, with its validation loss."""
        return read_csv(self.folder / "searches.csv", keep_default_na=False)

    def table(self, number: str) -> pd.DataFrame:
        """A table of the thesis, such as "3.1", a row per number, ours and the printed one; or another by its name."""
        found = read_csv(self.folder / "tables" / f"{_name('table', number)}.csv")
        return found.assign(variant=found["variant"].astype(object).fillna("")) if "variant" in found else found

    def figure_data(self, number: str) -> pd.DataFrame:
        """What a figure is drawn from: one of the thesis, such as "3.3", or another by its name."""
        named = self.folder / "figures" / f"{number}.csv"
        return read_csv(named if named.is_file() else self.folder / "figures" / f"{_name('figure', number)}.csv")

    def check(self, earlier: str | Path | None = None, settings: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Every number against the thesis and against an ``earlier`` run: the verdicts of ``harness check``.

        earlier: a folder, or a ``metrics.parquet``; without one it is the published run of the same preset. Columns are
        those of ``check.csv``. Raises DataError that names the file.
        """
        rules = Rules.from_settings(load_settings(settings))
        return frame_of(compared(self.folder, None if earlier is None else Path(earlier), rules).comparisons)

    def run(self, dataset: str, method: str, variant: str = "", seed: int = 0) -> Run:
        """One trained model."""
        return Run.of_folder(self.folder / "runs" / dataset / method / variant_folder(variant) / str(seed))


def _name(kind: str, number: str) -> str:
    """``table_3_1`` for "3.1"; a table that is no number has its own name."""
    is_number = number.replace(".", "").isdigit() or kind == "figure"
    return f"{kind}_{number.replace('.', '_')}" if is_number else number


def results(folder: str | Path) -> Results:
    """The results in a folder such as ``results/quick``. Raises DataError where there is no such folder."""
    if not Path(folder).is_dir():
        raise DataError(Path(folder), "a folder with results", "none")
    return Results(Path(folder))
