"""The best published values that are known for a data set, each with its source and split: reference, never measured.

``reference/best_published.csv`` holds only values that were checked against a text at hand, and says which.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Published(NamedTuple):
    """value: as printed. split: rows for training, validation and test. checked: where the value was looked up."""

    value: str
    method: str
    source: str
    split: str
    checked: str


@cache
def best_published() -> dict[tuple[str, str], Published]:
    """(data set, metric) -> the best value known."""
    text = files("harness.reporting").joinpath("reference/best_published.csv").read_text(encoding="utf-8")
    return {
        (row["dataset"], row["metric"]): Published(*(row[field] for field in Published._fields))
        for row in csv.DictReader(text.splitlines())
    }


def sources(datasets: list[str], metric: str) -> str:
    """The sources of the values of ``datasets``, each named once, with the split that they are of."""
    found: dict[str, list[str]] = {}
    for dataset in datasets:
        known = best_published().get((dataset, metric))
        if known is not None:
            said = f"{known.method} in {known.source} ({known.checked})"
            found.setdefault(said, []).append(f"{dataset} {known.split}")
    return "; ".join(f"{', '.join(names)}: {said}" for said, names in found.items())
