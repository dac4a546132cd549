"""Tables of users: one file each, found as ``harness.plugins.finding`` says, and what it declares, by its text.

The setting ``tables`` asks for it. A table's function ``data(measured)`` makes its rows from the measured numbers (see
``harness.reporting.tables.own_tables``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.plugins.constants import Text
from harness.plugins.finding import Registry, name_of

DATA = "data"
CONSTANTS = ("TITLE", "CAPTION", "METRICS", "DATASETS", "METHODS", "DECIMALS", "SOURCE")
BUILT_IN = ("table_3_1", "table_3_2", "table_3_3", "table_4_1", "overview", "metrics")
# every table has a target of its name, beside those that the workflow has
TARGETS = (
    *(
        "all",
        "analyse_model",
        "budgets",
        "check",
        "compare",
        "compare_methods",
        "data",
        "draw_figure",
        "fetch",
    ),
    *("figures", "gather_budgets", "gather_metrics", "gather_searches", "render_overview", "render_table"),
    *("report", "run_model", "searches", "tables", "train", "train_trial", "write_report"),
)
REGISTRY = Registry("tables", "table", DATA, lambda: (*BUILT_IN, *TARGETS))


@dataclass(frozen=True)
class OwnTable:
    """What a user's table is, by its text.

    metrics: those without which it has nothing to show. datasets, methods: the only ones that it shows; None for all.
    decimals: at most. source: what a note below the table says, '' for its file or package. origin: that.
    """

    name: str
    title: str
    caption: str
    metrics: tuple[str, ...]
    datasets: tuple[str, ...] | None
    methods: tuple[str, ...] | None
    decimals: int
    source: str
    origin: str
    file: Path

    def shows(self, dataset: str, method: str) -> bool:
        """Whether the table is about a data set and a method."""
        return dataset in (self.datasets or (dataset,)) and method in (self.methods or (method,))


def use_tables(asked: Iterable[str]) -> None:
    """Make known the tables that settings ask for (see ``harness.plugins.finding``).

    Raises ConfigError for what is no such file or name, and for a file whose text is not that of a table.
    """
    for name in REGISTRY.use(asked):
        own_table(name)


def own_tables(settings: Mapping[str, Any]) -> list[str]:
    """Names of the tables of users that the settings ask for."""
    return list(map(name_of, settings.get("tables", ())))  # none in settings of earlier versions


def own_table(name: str) -> OwnTable:
    """What is known of a user's table by its text.

    Raises ConfigError for a name that is not known, and, naming file and constant, for a text that is not a table's.
    """
    place = REGISTRY.place(name)
    text = Text.read(place.file, CONSTANTS)
    if not (name.isidentifier() and name.isascii()):
        expected = "a file called as a Python module is, letters, digits and _"
        raise ConfigError(f"{place.file}: expected {expected}, found {name!r}")
    text.function(DATA, "measured")
    datasets = text.names("DATASETS", "(data set, ...)", needed="DATASETS" in text.values)
    methods = text.names("METHODS", "(method, ...)", needed="METHODS" in text.values)
    return OwnTable(
        name,
        text.words("TITLE"),
        text.words("CAPTION", "sentences that say what is shown", default=""),
        text.names("METRICS", "(metric, ...)"),
        datasets or None,
        methods or None,
        text.decimals(),
        text.words("SOURCE", "words", default=""),
        place.origin,
        place.file,
    )
