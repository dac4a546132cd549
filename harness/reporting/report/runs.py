"""The runs behind the numbers: of every model its seeds, numbers, configuration and learning curves, inside the page.

What a reader needs stands in the page, so that it is there in any copy of it; the files of a run are linked besides,
those that lie in the folder of the runs when the page is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness.reporting.report.curves import Curve, curve_of
from harness.reporting.report.markup import relative
from harness.reporting.report.numbers import shown
from harness.reporting.tables.cell_text import DECIMALS, MOST_DECIMALS, NOTHING, with_error
from harness.reporting.tables.pooling import is_finite
from harness.reporting.tables.reported import PlannedCell
from harness.settings.config import variant_folder
from harness.storage.runs import RunFolder
from harness.storage.starts import STARTED, in_words

FACTS = (
    "status",
    "n_updates",
    "best_update",
    "best_validation",
    "train_seconds",
    "n_parameters",
    "device",
    "threads",
    STARTED,
)
PARTS = ("model", "training", "evaluation")  # of a configuration


@dataclass(frozen=True)
class Seed:
    """A trained model. facts: of its training, name -> text. files: name -> address of those that are there."""

    seed: int
    facts: Mapping[str, str]
    message: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A model with all its seeds.

    id: of the element that shows it. statuses: in words. numbers: metric, then its value by seed. settings: lines of
    the configuration by its part. curve: learning curves of the seeds; None where there are none.
    """

    id: str
    cell: PlannedCell
    title: str
    statuses: str
    seeds: Sequence[Seed]
    numbers: Sequence[tuple[str, ...]]
    settings: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    curve: Curve | None = None


def runs_of(metrics: pd.DataFrame, runs: Path | None, page: Path) -> dict[PlannedCell, Run]:
    """The models of ``metrics`` in their order. runs: the folder with their folders; None where there is none.

    Raises DataError, naming the file, where one of a run is damaged.
    """
    found: dict[PlannedCell, Run] = {}
    names: set[str] = set()
    named = metrics.fillna({"variant": "", "title": "", "metric": "", "status": "", "message": ""})
    for key, rows in named.groupby(["dataset", "method", "variant"], sort=False):
        cell = PlannedCell(*map(str, key))
        found[cell] = _run(_name(cell, names), cell, rows, runs, page)
    return found


def _name(cell: PlannedCell, taken: set[str]) -> str:
    """An id of letters, digits, dots and dashes, by which a link stays valid from report to report."""
    name = first = "-".join(["run", *(re.sub(r"[^\w.]+", "-", part) for part in cell if part)])
    n = 1
    while name in taken:
        n += 1
        name = f"{first}-{n}"
    taken.add(name)
    return name


def _run(name: str, cell: PlannedCell, rows: pd.DataFrame, runs: Path | None, page: Path) -> Run:
    numbers = list(dict.fromkeys(rows["seed"]))
    folders = [RunFolder(runs / cell.dataset / cell.method / variant_folder(cell.variant) / str(n)) for n in numbers] \
        if runs is not None else []  # fmt: skip
    by_seed = [rows[rows["seed"] == n] for n in numbers]
    ends = {n: str(each["status"].iloc[0]) for n, each in zip(numbers, by_seed, strict=True)}
    return Run(
        name,
        cell,
        next((title for title in rows["title"] if title), cell.method),
        ", ".join(dict.fromkeys(ends.values())),
        [_seed(n, each, folder, page) for n, each, folder in _zipped(numbers, by_seed, folders)],
        list(_numbers(rows, numbers)),
        _settings(folders),
        curve_of(dict(zip(numbers, folders, strict=False))),
    )


def _zipped(numbers: Sequence[int], rows: Sequence[pd.DataFrame], folders: Sequence[RunFolder]) -> Iterator[Any]:
    yield from zip(numbers, rows, folders or [None] * len(numbers), strict=True)


def _seed(number: int, rows: pd.DataFrame, folder: RunFolder | None, page: Path) -> Seed:
    first = rows.iloc[0]
    known = {fact: first.get(fact) for fact in FACTS}
    if folder is not None and folder.status_file.exists():
        status = folder.status()
        known |= {fact: value for fact, value in status.items() if fact in FACTS} | {STARTED: in_words(status)}
    facts = {fact: text for fact, value in known.items() if (text := shown(value))}
    return Seed(int(number), facts, str(first["message"]), _files(folder, page) if folder is not None else {})


def _files(folder: RunFolder, page: Path) -> dict[str, str]:
    log = folder.path.parents[4] / "logs" / "runs" / folder.path.relative_to(folder.path.parents[3])
    paths = (folder.config_file, folder.curve_file, folder.status_file, folder.metrics_file, folder.manifest_file)
    candidates = {path.name: path for path in paths} | {"log": log.with_name(f"{log.name}.log")}
    return {name: relative(path, page) for name, path in candidates.items() if path.is_file()}


def _numbers(rows: pd.DataFrame, seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """A line per metric: value and error of every seed, and the samples per row that they took."""
    for metric, lines in rows[rows["metric"].ne("")].groupby("metric", sort=False):
        of_seed = {line["seed"]: line for line in lines.to_dict("records")}
        values = (_value(of_seed[n]) if n in of_seed else NOTHING for n in seeds)
        yield (str(metric), *values, ", ".join(filter(None, map(shown, dict.fromkeys(lines["k"])))) or NOTHING)


def _value(line: Mapping[str, Any]) -> str:
    value, sem = line["value"], line.get("sem")
    if not is_finite(value):
        return str(line["status"])
    return with_error(value, sem if is_finite(sem) else float("nan"), DECIMALS.get(line["metric"], MOST_DECIMALS))


def _settings(folders: Sequence[RunFolder]) -> dict[str, list[tuple[str, str]]]:
    """The configuration of a model, which its seeds share."""
    written = next((folder for folder in folders if folder.config_file.exists()), None)
    if written is None:
        return {}
    values = written.config().to_dict()
    return {part: [(key, _text(value)) for key, value in values[part].items()] for part in PARTS}


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_text, value)) if any(isinstance(each, Mapping) for each in value) else ", ".join(
            map(_text, value)
        )  # fmt: skip
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items())
    return "none" if value is None else shown(value)
