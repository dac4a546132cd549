"""Publishing: the part of a run that is kept in git, below ``results/published/PRESET/``.

``metrics.parquet``, ``rows.parquet`` with some test rows of every cell, the tables, the figures (``png``, caption and
data), the claims as these judge them, what the searches found, the merged settings, and ``runs.csv``: one line per
trained model with its configuration and all that is known of how it was made, so that each number can be traced to a
cell that anyone can train again. No weights, and no sheets of pixels as csv: whoever trains the cell again gets them to
the bit. A published run may grow cell by cell, on several machines: with ``add``, cells and trials that this run does
not have stay as they were published, if the settings still ask for the same, by whichever version of their method; a
cell that is no longer in the settings may stay as a trial.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import atomic
from harness.comparison.read import read_measured
from harness.errors import DataError, HarnessError
from harness.evaluation import per_row
from harness.plugins.claims import own_claims
from harness.plugins.figures import figure_names
from harness.plugins.tables import own_tables
from harness.reporting.report.claims import claims_of
from harness.reporting.report.judging import frame_of, markdown_of
from harness.reporting.tables import PlannedCell, write_tables
from harness.reporting.tables.overview import overview, write_overview
from harness.reporting.tables.own_metrics import own_metrics_table, write_own_metrics
from harness.reporting.tables.own_tables import render_own_table, write_own_table
from harness.reporting.tables.planned import OWN, table_names
from harness.settings.config import Cell, canonical_json, cells_named
from harness.storage.collect import read_metrics, write_metrics
from harness.storage.measurements import read_csv, read_measurements
from harness.storage.method_code import SOURCE, VERSION, code_of, in_one_line, is_by_other_code
from harness.storage.runs import HAVE_MODEL, RunFolder
from harness.storage.seals import check_seal
from harness.storage.search import COLUMNS, FOUND, trials, write_findings

log = logging.getLogger(__name__)

WHOLE = ("metrics.parquet", "runs.csv", "settings.json")  # what every publication has
PUBLISHED = re.compile(
    r"(metrics|rows)\.parquet|(runs|searches)\.csv|claims\.(csv|md)|settings\.json"
    r"|tables/\w+\.(csv|md|tex)|figures/\w+\.(png|rst|csv)"
    # what `harness check` and `harness compare` leave there can be made again
    r"|check/(audit|check\w*)\.(csv|md|png|pdf)|check/\.sha256/check\.json"
    r"|compare/(compare|ranks|moved|critical_difference)\.(csv|md|png|pdf)|compare/\.sha256/(compare|moved)\.json"
    r"|tables/\.sha256/overview\.json"
)
FOLDERS = (*("tables", "tables/.sha256", "figures", "check", "check/.sha256"), *("compare", "compare/.sha256"))
KEY = ("dataset", "method", "variant", "seed")
LARGEST = {".csv": 300_000}  # bytes of one published file; most above are sheets of pixels
FACTS = (
    "status",
    "n_updates",
    "best_update",
    "best_validation",
    "train_seconds",
    "n_parameters",
    "device",
    "threads",
    "training_products",
    "training_digest",
    "data_digest",
    "model_sha256",
    "git_commit",
)
CODE = (VERSION, SOURCE)  # facts as well, which earlier versions did not publish


@dataclass(frozen=True)
class _Earlier:
    """What was published before, as far as another call may keep it: text is kept as it stands."""

    runs: Mapping[tuple[str, str, str, str], Mapping[str, str]]  # by cell: data set, method, variant, seed
    metrics: pd.DataFrame
    trials: pd.DataFrame | None
    figures: Sequence[Path]

    def line(self, cell: Cell) -> Mapping[str, str] | None:
        """The line of ``runs.csv`` that trained and measured ``cell`` as it is now; None where there is none.

        It may be by another version of the method, which is told of what is published.
        """
        line = self.runs.get((cell.dataset, cell.method, cell.variant, str(cell.seed)))
        values = cell.to_dict()
        now = {part: canonical_json(values[part]) for part in ("model", "training", "evaluation")}
        if line and line["training_digest"]:  # a cell without data has none
            now = {"training_digest": cell.training_digest, "evaluation": now["evaluation"]}
        same = line and all(line[key] == value for key, value in now.items())
        return line if same else None

    def rows(self, cell: Cell) -> pd.DataFrame:
        """The measurements of ``cell``."""
        of_cell = [self.metrics[key] == getattr(cell, key) for key in KEY]
        return self.metrics[np.logical_and.reduce(of_cell)]


def publish(
    cells: Sequence[Cell],
    models: Sequence[PlannedCell],
    settings: Mapping[str, Any],
    results: Path,
    folder: Path,
    add: bool = False,
) -> list[Path]:
    """Put what is worth keeping of the run in ``results`` in place of ``folder``, all of it at once; the files written.

    models: what tables have cells for. add: where the run lacks a cell, a trial or a figure, keep the one in
    ``folder``, if it is of the same settings. Raises HarnessError where a cell has no measurements, where its folder
    holds those of other settings, or where ``folder`` is anything else than an earlier publication.
    """
    check_place(folder, results)
    with atomic.replacing_folder(folder) as part:
        check_place(folder, results)  # once more, of what a call that was cut short had put aside
        earlier = _read_earlier(folder) if add and folder.exists() else None
        _fill(part, folder, cells, models, settings, results, earlier)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check_place(folder: Path, results: Path) -> None:
    """Raises HarnessError unless ``folder`` may be replaced: new, empty or an earlier publication, apart from results.

    A publication is known by its files: those of ``WHOLE``, and nothing that no publication has.
    """
    here, source = Path(os.path.realpath(folder)), Path(os.path.realpath(results))
    if here == source or here in source.parents or source in here.parents:
        expected = f"a folder apart from the results {results}"
        raise HarnessError(f"--output {folder}: expected {expected}, found one in the other")
    if not here.exists():
        return
    if not here.is_dir():
        raise HarnessError(f"--output {folder}: expected a folder, found a file")
    found = sorted(str(path.relative_to(here)) for path in here.rglob("*") if not path.is_dir() or path.is_symlink())
    folders = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_dir())
    strange = [name for name in found if not PUBLISHED.fullmatch(name)]
    strange += [f"{name}/" for name in folders if name not in FOLDERS]
    if strange:
        expected = "an earlier publication, a new folder or an empty one"
        raise HarnessError(f"--output {folder}: expected {expected}, found {', '.join(strange[:3])} in it")
    if found and not set(WHOLE) <= set(found):
        missing = ", ".join(name for name in WHOLE if name not in found)
        raise HarnessError(f"--output {folder}: expected an earlier publication, found one without {missing}")


def _fill(
    part: Path,
    folder: Path,
    cells: Sequence[Cell],
    models: Sequence[PlannedCell],
    settings: Mapping[str, Any],
    results: Path,
    earlier: _Earlier | None,
) -> None:
    """Write the publication to the folder ``part``; per-row values of kept cells are those in ``folder``."""
    metrics, listed = _gathered(cells, results / "runs", earlier)
    kept = {cell.path for cell in cells if earlier and _is_kept(cell, results / "runs", earlier)}
    per_row.publish(cells, results / "runs", part / per_row.FILE, kept, folder)
    write_metrics(metrics, part / "metrics.parquet")
    atomic.write(part / "runs.csv", lambda temporary: listed.to_csv(temporary, index=False))
    places = {"mirrors": [], "cache": None, "paths": {}}  # of the machine that the run was made on
    atomic.write_json(part / "settings.json", {**settings, "data": {**settings["data"], **places}})
    write_tables(metrics, models, settings["preset"], part / "tables")
    _write_overview(part, settings)
    if OWN in table_names(settings):
        write_own_metrics(own_metrics_table(metrics, models, settings), part / "tables")
    for name in own_tables(settings):
        write_own_table(render_own_table(name, metrics, cells, settings), part / "tables")
    known = [_as_trials(listed)]
    if earlier:
        known += [_as_trials(pd.DataFrame(earlier.runs.values())), earlier.trials]
    if (earlier and earlier.trials is not None) or (results / "searches.csv").is_file():
        before = pd.concat(known, ignore_index=True)
        write_findings(trials(settings), results / "searches", part / "searches.csv", before)
    drawings = results / "figures"
    own = [name for name in figure_names(settings) if not name.startswith("figure_")]
    forms = ("png", "rst", "csv")
    figures = [path for form in forms for path in sorted(drawings.glob(f"figure_*.{form}"))]
    figures += [path for form in forms for name in own if (path := drawings / f"{name}.{form}").is_file()]
    for path in figures:
        check_seal(path)
    drawn = {path.stem for path in figures}
    figures += [path for path in (earlier.figures if earlier else ()) if path.stem not in drawn]
    for path in figures:
        if path.stat().st_size <= LARGEST.get(path.suffix, math.inf):
            copy = part / "figures" / path.name
            atomic.write(copy, lambda temporary, path=path: shutil.copyfile(path, temporary))
    _write_claims(part, settings)


def _write_claims(part: Path, settings: Mapping[str, Any]) -> None:
    """The claims as they follow from what is published of figures and tables, if there is a figure."""
    if not (part / "figures").is_dir():
        return
    claims = claims_of(part / "figures", own_claims(settings), settings["strict"])
    atomic.write(part / "claims.csv", lambda temporary: frame_of(claims).to_csv(temporary, index=False))
    head = f"# Claims\n\nJudged by the figures and tables of preset {settings['preset']} that lie here.\n\n"
    atomic.write_text(part / "claims.md", f"{head}{markdown_of(claims)}\n")


def _write_overview(part: Path, settings: Mapping[str, Any]) -> None:
    """The overview as it follows from what is published of the rows, so that anyone can render it again."""
    ablations = {(dataset, method, variant) for method, dataset, variant in cells_named(settings, "ablations")}
    rules = settings["check"]
    try:
        found = overview(read_measured(part, ablations), rules["level"], rules["power"])
    except DataError as error:  # cells of several calls may have been measured on different data
        log.warning(f"overview: left out: {error}")
    else:
        write_overview(found, part / "tables")


def _read_earlier(folder: Path) -> _Earlier:
    found = folder / "searches.csv"
    listed = read_csv(
        folder / "runs.csv", (*KEY, *FACTS, "model", "training", "evaluation"), dtype=str, keep_default_na=False
    )
    return _Earlier(
        runs={tuple(line[key] for key in KEY): line for line in listed.to_dict("records")},
        metrics=read_measurements(folder / "metrics.parquet"),
        trials=read_csv(found, (*COLUMNS, *FOUND, "training_digest"), keep_default_na=False)
        if found.exists()
        else None,
        figures=sorted((folder / "figures").glob("*.*")),
    )


def _gathered(cells: Sequence[Cell], folder: Path, earlier: _Earlier | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measurements and lines of all cells, those of this run before those of the earlier one."""
    frames, lines = [], []
    for cell in cells:
        kept = earlier.line(cell) if earlier and _is_kept(cell, folder, earlier) else None
        frames.append(earlier.rows(cell) if kept else read_metrics([cell], folder))
        lines.append(kept or _line(cell, RunFolder(folder / cell.path)))
    codes, made = cache(code_of), zip(cells, lines, strict=True)
    by_others = [cell.path for cell, line in made if is_by_other_code(line, codes(cell.method))]
    if by_others:
        log.warning(f"published all the same, though trained by other code of the method: {in_one_line(by_others)}")
    return pd.concat(frames, ignore_index=True), pd.DataFrame(lines, dtype=object)  # whole numbers stay whole


def _is_kept(cell: Cell, folder: Path, earlier: _Earlier) -> bool:
    """Whether a cell stays as it was published: this run lacks it, and it was of the same settings."""
    return not RunFolder(folder / cell.path).metrics_file.exists() and earlier.line(cell) is not None


def _as_trials(listed: pd.DataFrame) -> pd.DataFrame:
    """Trained cells as findings of a search: a trial that equals one of them need not be trained as well."""
    trained = listed[listed["status"].isin(HAVE_MODEL)]
    return trained.assign(validation_loss=pd.to_numeric(trained["best_validation"]), sem=math.nan)


def _line(cell: Cell, run: RunFolder) -> dict[str, Any]:
    """One trained model: its cell, and what ``status.json`` knows of it. Raises DataError where it is another one's."""
    status = run.status_of(cell)
    values = cell.to_dict()
    parts = {part: canonical_json(values[part]) for part in ("model", "training", "evaluation")}
    named = {key: values[key] for key in KEY}
    return {**named, **{key: status.get(key) for key in (*FACTS, *CODE)}, **parts}
