"""The thesis' printed numbers, as text so that their digits survive, by table and key."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class PlannedCell(NamedTuple):
    """A model of the configuration, whatever its seeds."""

    dataset: str
    method: str
    variant: str


class Key(NamedTuple):
    """One number of a table."""

    dataset: str
    method: str
    variant: str
    metric: str

    @property
    def cell(self) -> PlannedCell:
        return PlannedCell(self.dataset, self.method, self.variant)


@cache
def reported() -> dict[str, dict[Key, str]]:
    """Table ('3.1', ...) -> key -> the value as printed, in the order of the reference file."""
    tables: dict[str, dict[Key, str]] = {}
    text = files("harness.reporting").joinpath("reference/thesis_reported.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        tables.setdefault(row["table"], {})[Key(*(row[field] for field in Key._fields))] = row["value"]
    return tables
