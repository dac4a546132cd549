"""``harness verify analyses NAME``: does an analysis do what the workflow counts on?

It is made of the smallest model of every built-in method that has the capabilities it needs, with initial parameters
and random rows: what matters is that it returns rows that a csv file can hold, the same at every call, and leaves the
model and the process as they were.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from harness.errors import ConfigError
from harness.evaluation.perform import analysed, check_settings
from harness.evaluation.plan import Planned
from harness.evaluation.subject import LeftOutError, Subject
from harness.plugins.analyses import code, file_of, is_analysis, needs, settings_schema
from harness.plugins.registry import build
from harness.settings.check import ANY
from harness.storage.runs import RunFolder
from harness.verify.kit import fail_unless, results
from harness.verify.small_run import CPU, SmallRun, make, methods_with, process_as_it_was
from harness.verify.subject import NotCheckedError, Result

DATASET = "adult"


def verify_analysis(name: str, settings: Mapping[str, Any]) -> Iterator[Result]:
    """Results of all checks of an analysis. Raises ConfigError where there is none, or settings that it wants lack."""
    if not is_analysis(name):
        raise ConfigError(f"analysis: expected a name that `harness list analyses` shows, found {name!r}")
    needed = needs(name)
    yield Result("text", "passed", f"needs {', '.join(needed) or 'nothing'}; {file_of(name).name}")
    with tempfile.TemporaryDirectory() as folder:
        run = SmallRun(Path(folder), settings, methods_with(needed), [DATASET], [name], seeds=1)
        yield from results(_Checks(name, run).all())


class _Checks:
    """The checks of one analysis, on every method that it can look at."""

    def __init__(self, name: str, run: SmallRun):
        self.name, self.run = name, run
        self._subjects = cache(self._made)

    def all(self) -> dict[str, Callable[[], str]]:
        return {
            "settings": self.settings,
            "process untouched": self.process_untouched,
            "rows": self.rows,
            "determinism": self.determinism,
            "model untouched": self.model_untouched,
            "readable": self.readable,
        }

    def settings(self) -> str:
        if settings_schema(self.name) is None:
            raise NotCheckedError("the text does not say which settings analyse(subject, ...) takes")
        planned = self._planned()
        check_settings(planned)
        return ", ".join(f"{key} {value}" for key, value in planned.settings.items()) or "none given"

    def rows(self) -> str:
        found = self._everywhere(analysed)
        return f"{', '.join(f'{len(frame)} rows with {method}' for method, frame in found.items())}"

    def determinism(self) -> str:
        def twice(planned: Planned, subject: Subject) -> None:
            texts = [analysed(planned, subject).to_csv(index=False) for _ in range(2)]
            fail_unless(texts[0] == texts[1], f"the same rows at every call with {subject.cell.method}", "others")

        return f"with {', '.join(self._everywhere(twice))}"

    def model_untouched(self) -> str:
        def once(planned: Planned, subject: Subject) -> None:
            before = {key: value.clone() for key, value in subject.model.state_dict().items()}
            analysed(planned, subject)
            same = all(torch.equal(before[key], value) for key, value in subject.model.state_dict().items())
            expected = f"the model of {subject.cell.method} as it was, in evaluation mode"
            fail_unless(same and not subject.model.training, expected, "a changed one")

        return f"with {', '.join(self._everywhere(once))}"

    def process_untouched(self) -> str:
        def once(planned: Planned, subject: Subject) -> None:
            left_out = None
            with process_as_it_was():
                try:
                    analysed(planned, subject)
                except LeftOutError as reason:
                    left_out = reason
            if left_out:
                raise left_out

        return f"with {', '.join(self._everywhere(once))}"

    def readable(self) -> str:
        def once(planned: Planned, subject: Subject) -> None:
            frame = analysed(planned, subject)
            read = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
            fail_unless(read.shape == frame.shape, f"a csv of {frame.shape} rows and columns", read.shape)

        return f"csv with {', '.join(self._everywhere(once))}"

    def _everywhere(self, call: Callable[[Planned, Subject], Any]) -> dict[str, Any]:
        """What a call gives for every method that the analysis does not leave out. Raises NotCheckedError for none."""
        found, why = {}, "no built-in method has what it needs"
        for subject in self._subjects():
            try:
                with torch.inference_mode():
                    found[subject.cell.method] = call(self._planned(), subject)
            except LeftOutError as reason:
                why = str(reason)
        if not found:
            raise NotCheckedError(why)
        return found

    def _planned(self) -> Planned:
        (settings,) = self.run.settings["analyses"].values()
        return Planned(self.name, settings[ANY], (), code(self.name))

    def _made(self) -> list[Subject]:
        """A model of every method, measured; the run's own cells would be analysed as well."""
        subjects = []
        for cell in self.run.planned:
            run, data = RunFolder(self.run.runs / cell.path), self.run.data(cell)
            make(cell, data, run)
            model = build(cell.method, data.n_features, dict(cell.model))
            run.load_model(model, run.status()["model_sha256"])
            subjects.append(Subject(cell, model.eval(), data, CPU, run.measurements(), run))
        return subjects
