"""``harness verify claims NAME``: does a user's claim do what the report and the check count on?

It is judged by published figures and tables where these are there, else by those of a small run: what matters is that
it finds numbers in them, judges alike at every call, and says that a run without such numbers has none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.comparison.read import measured_models
from harness.compute.places import PUBLISHED
from harness.plugins.analyses import MEASURED
from harness.plugins.claims import JUDGE, REGISTRY, OwnClaim, is_figure, own_claim
from harness.plugins.figures import figure, figure_names
from harness.plugins.tables import BUILT_IN, own_tables
from harness.plugins.tables import REGISTRY as REGISTRY_OF_TABLES
from harness.reporting.figures.write import write_figure
from harness.reporting.plain_frames import remarks_of
from harness.reporting.report.judging import NOT_MEASURED, Claim
from harness.reporting.report.own_claims import verdict_of
from harness.reporting.tables import write_tables
from harness.reporting.tables.overview import NAME as OVERVIEW
from harness.reporting.tables.overview import overview, write_overview
from harness.reporting.tables.own_metrics import own_metrics_table, write_own_metrics
from harness.reporting.tables.own_tables import render_own_table, write_own_table
from harness.reporting.tables.planned import NAMES, OWN, models
from harness.storage.measurements import read_csv
from harness.verify.kit import fail_unless, results, says_what_is_missing
from harness.verify.small_run import DATASETS, METHODS, SmallRun, process_as_it_was
from harness.verify.subject import NotCheckedError, Result

Frames = Sequence[pd.DataFrame]


def verify_claim(name: str, settings: Mapping[str, Any]) -> Iterator[Result]:
    """Results of all checks of a claim, as they come. Raises ConfigError where there is none, or its text is wrong."""
    claim = own_claim(name)
    yield Result("text", "passed", f"{claim.text} From {', '.join(claim.sources)}")
    with tempfile.TemporaryDirectory() as folder:
        yield from results(_Checks(claim, settings, Path(folder)).all())


class _Checks:
    """The checks of one claim, on the first run by which it can be judged."""

    def __init__(self, claim: OwnClaim, settings: Mapping[str, Any], folder: Path):
        self.claim, self._settings, self._folder = claim, settings, folder

    def all(self) -> dict[str, Callable[[], str]]:
        return {
            "process untouched": self.process_untouched,
            "verdict": self.verdict,
            "determinism": self.determinism,
            "inputs untouched": self.inputs_untouched,
            "missing numbers": self.missing_numbers,
        }

    @cached_property
    def _judged(self) -> tuple[str, Frames, Claim]:
        """Whose files it was judged by, these, and the verdict. Raises NotCheckedError where none have its numbers."""
        why = "no run has its numbers"
        for whose, frames in self._runs:
            found = verdict_of(self.claim, frames)
            if found.verdict != NOT_MEASURED:
                return whose, frames, found
            why = f"by {whose}: {found.measured}"
        raise NotCheckedError(why)

    @cached_property
    def _runs(self) -> list[tuple[str, Frames]]:
        """Whose files the claim may be judged by, and these."""
        folders = {f"the published run {folder.name}": folder for folder in sorted(PUBLISHED.glob("*"))}
        folders["a small run"] = self._small_run()
        found = ((whose, _read(self.claim.sources, folder)) for whose, folder in folders.items())
        return [(whose, frames) for whose, frames in found if frames]

    def _small_run(self) -> Path:
        """The folder of a small run with the figures and tables of the claim."""
        drawn = [figure(name) for name in self.claim.sources if is_figure(name)]
        analyses = [each for found in drawn for each in found.analyses if each != MEASURED]
        datasets = [each for found in drawn for each in found.datasets or ()]
        missing = [name for name in self.claim.sources if name not in _made_by(self._settings)]
        further = {
            "figures": [*self._settings["figures"], *filter(is_figure, missing)],
            "tables": [*self._settings["tables"], *(name for name in missing if name in REGISTRY_OF_TABLES)],
        }
        run = SmallRun(self._folder, {**self._settings, **further}, METHODS, datasets or DATASETS, analyses)
        for found in drawn:
            write_figure(found.name, run.settings, run.cells, run.runs, self._folder / "figures")
        for name in self.claim.sources:
            if not is_figure(name):
                _write_table(name, run, self._folder / "tables")
        return self._folder

    def verdict(self) -> str:
        whose, _, found = self._judged
        return f"{found.verdict} by {whose}: {found.measured}"

    def determinism(self) -> str:
        _, frames, found = self._judged
        again = verdict_of(self.claim, frames)
        fail_unless(again == found, f"the same judgement at every call, {found.measured!r}", repr(again.measured))
        return "judged alike twice"

    def inputs_untouched(self) -> str:
        _, frames, _ = self._judged
        given = [frame.copy() for frame in frames]
        getattr(REGISTRY.module(self.claim.name), JUDGE)(*given)
        same = all(one.equals(other) for one, other in zip(given, frames, strict=True))
        fail_unless(same, "the rows as they were given", "changed ones")
        return "rows as they were"

    def process_untouched(self) -> str:
        for _, frames in self._runs:
            with process_as_it_was():
                verdict_of(self.claim, frames)
        return "random numbers, environment and folder as they were"

    def missing_numbers(self) -> str:
        """Rows of other models alone, and none at all."""
        _, frames, _ = self._judged
        parts = {"where files have no rows": [frame.head(0) for frame in frames]}
        for method in sorted({each for frame in frames if "method" in frame for each in frame["method"]}):
            part = [frame[frame["method"] != method] if "method" in frame else frame for frame in frames]
            parts[f"without {method}"] = part
        for without, part in parts.items():
            says_what_is_missing(lambda part=part: verdict_of(self.claim, part), without)
        nothing = verdict_of(self.claim, parts["where files have no rows"])
        fail_unless(nothing.verdict == NOT_MEASURED, "None where there are no rows", nothing.verdict)
        return f"of {len(parts)} runs that lack something"


def _made_by(settings: Mapping[str, Any]) -> set[str]:
    """Figures and tables that a run of these settings has."""
    return {*figure_names(settings), *own_tables(settings), *BUILT_IN}


def _read(sources: Sequence[str], folder: Path) -> Frames:
    """The rows of figures and tables in the folder of a run; none where one of them is missing or has nothing."""
    paths = [folder / ("figures" if is_figure(name) else "tables") / f"{name}.csv" for name in sources]
    if not all(path.is_file() for path in paths):
        return []
    frames = [read_csv(path) for path in paths]
    return [] if any(remarks_of(frame) for frame in frames) else frames


def _write_table(name: str, run: SmallRun, folder: Path) -> None:
    planned = models(run.cells, run.settings)
    if name in NAMES:
        write_tables(run.metrics, planned, run.settings["preset"], folder, [name])
    elif name == OVERVIEW:
        measured = measured_models(run.cells, run.runs, run.metrics, set(run.metrics["metric"]), set())
        check = run.settings["check"]
        write_overview(overview(measured, check["level"], check["power"]), folder)
    elif name == OWN and run.settings["metrics"]:
        write_own_metrics(own_metrics_table(run.metrics, planned, run.settings), folder)
    elif name in own_tables(run.settings):
        write_own_table(render_own_table(name, run.metrics, run.cells, run.settings), folder)
