"""``harness verify tables NAME``: does a user's table do what the workflow counts on?

It is made of the measurements of a small run: what matters is that it returns rows that a csv file and a page can hold,
the same at every call, leaves what it was given and the process as they were, and does not break where a run has less
than it hopes for. What its numbers mean only its author can say.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.plugins.registry import method_names
from harness.plugins.tables import DATA, REGISTRY, OwnTable, own_table, own_tables
from harness.reporting.plain_frames import plain_frame, remarks_of
from harness.reporting.tables.measured import measured_frame
from harness.reporting.tables.own_tables import data_of, render_own_table, write_own_table
from harness.reporting.tables.planned import cells_shown, models
from harness.verify.kit import fail_unless, results, says_what_is_missing
from harness.verify.small_run import DATASETS, METHODS, SmallRun, process_as_it_was
from harness.verify.subject import NotCheckedError, Result


def verify_table(name: str, settings: Mapping[str, Any]) -> Iterator[Result]:
    """Results of all checks of a table, as they come. Raises ConfigError where there is none, or its text is wrong."""
    table = own_table(name)
    yield Result("text", "passed", table.title)
    known = [method for method in table.methods or () if method in method_names()]
    with tempfile.TemporaryDirectory() as folder:
        asked = settings if name in own_tables(settings) else {**settings, "tables": [*settings["tables"], name]}
        run = SmallRun(Path(folder), asked, known or METHODS, table.datasets or DATASETS)
        yield from results(_Checks(table, run).all())


class _Checks:
    """The checks of one table, on one run."""

    def __init__(self, table: OwnTable, run: SmallRun):
        self.table, self.run = table, run

    def all(self) -> dict[str, Any]:
        return {
            "process untouched": self.process_untouched,
            "rows": self.rows,
            "determinism": self.determinism,
            "inputs untouched": self.inputs_untouched,
            "readable": self.readable,
            "missing numbers": self.missing_numbers,
        }

    def measured(self) -> pd.DataFrame:
        """The numbers that the table is made of."""
        name = self.table.name
        shown = models(cells_shown(self.run.cells, self.run.settings, [name]), self.run.settings)
        return measured_frame(self.run.metrics, shown, self.run.settings["preset"])

    def returned(self, measured: pd.DataFrame) -> pd.DataFrame:
        return plain_frame(getattr(REGISTRY.module(self.table.name), DATA)(measured), DATA)

    def rows(self) -> str:
        found = data_of(self.table, self.measured())
        if remarks := remarks_of(found):
            raise NotCheckedError(f"of {', '.join(sorted(set(self.measured()['method'])))}: {'; '.join(remarks)}")
        return f"{len(found)} rows of {', '.join(found.columns)}"

    def determinism(self) -> str:
        self.rows()
        texts = [data_of(self.table, self.measured()).to_csv(index=False) for _ in range(2)]
        fail_unless(texts[0] == texts[1], "the same rows at every call", "others")
        return "the same csv twice"

    def inputs_untouched(self) -> str:
        self.rows()
        given = self.measured()
        self.returned(given)
        fail_unless(given.equals(self.measured()), "the measured numbers as they were given", "changed ones")
        return "measured numbers as they were"

    def process_untouched(self) -> str:
        given = self.measured()
        with process_as_it_was():
            data_of(self.table, given)
        return "random numbers, environment and folder as they were"

    def readable(self) -> str:
        self.rows()
        rendered = render_own_table(self.table.name, self.run.metrics, self.run.cells, self.run.settings)
        written = write_own_table(rendered, self.run.folder)
        read = pd.read_csv(io.StringIO(written[0].read_text(encoding="utf-8")))
        shapes = read.shape, rendered.data.shape
        fail_unless(shapes[0] == shapes[1], f"a csv of {shapes[1]} rows and columns", shapes[0])
        fail_unless(list(read) == list(rendered.data), f"columns {list(rendered.data)}", list(read))
        return ", ".join(path.name for path in written)

    def missing_numbers(self) -> str:
        """Of a run with one model, of one without any number, and of one with other numbers."""
        self.rows()
        measured = self.measured()
        parts = {f"but for {name}": measured[measured["method"] == name] for name in measured["method"].unique()}
        status = {"metric": "", "value": float("nan"), "sem": float("nan"), "status": "diverged", "message": "test"}
        parts["where no model has a number"] = measured.drop_duplicates("method").assign(**status)
        for metric in self.table.metrics:
            parts[f"without {metric}"] = measured[measured["metric"] != metric]
        for without, part in parts.items():
            says_what_is_missing(lambda part=part: data_of(self.table, part.reset_index(drop=True)), without)
        return f"of {len(parts)} runs that lack something"
