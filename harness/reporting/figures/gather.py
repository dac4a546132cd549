"""Tables of one analysis, from all runs that have one, with the facts of their cells; and why others are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.data import CATALOGUE
from harness.data.outside import of_plugin
from harness.evaluation.manifest import LEFT_OUT, OK, read_manifest, read_table
from harness.evaluation.plan import analyses_of
from harness.plugins.datasets import plugin_datasets
from harness.plugins.listing import listed
from harness.settings.config import Cell
from harness.storage.runs import RunFolder

GREY = "grey"  # column of images of users' data sets: whether pixels are grey levels
CELL = ("dataset", "method", "title", "kind", "variant")  # what pooling over seeds keeps apart, besides an x axis


def gather(
    name: str, settings: Mapping[str, Any], cells: Sequence[Cell], runs_folder: Path
) -> tuple[pd.DataFrame, list[str]]:
    """All tables of the analysis ``name`` below each other, columns ``CELL`` and ``seed`` in front; and remarks.

    Remarks say which cells take no part, and why. Raises DataError for a run without ``analyses.json``.
    """
    frames, absent = [], {}
    for cell in cells:
        planned = next((each for each in analyses_of(settings, cell) if each.name == name), None)
        if planned is None:
            continue
        if planned.lacks:
            absent.setdefault(f"no {', no '.join(planned.lacks)}", []).append(cell.method)
            continue
        run = RunFolder(runs_folder / cell.path)
        found = read_manifest(run.manifest_file)["analyses"][name]
        if found["status"] == OK:
            frames.append(_with_facts(read_table(run.table_file(name), found), cell, settings))
        else:
            who = cell.method if found["status"] == LEFT_OUT else f"{cell.method} on {cell.dataset}"
            absent.setdefault(found["message"], []).append(who)
    remarks = [f"{', '.join(dict.fromkeys(who))}: {reason}" for reason, who in absent.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(), remarks


def stand_ins(data: pd.DataFrame, cells: Sequence[Cell], runs_folder: Path) -> list[str]:
    """A sentence for every data set of a figure whose rows are not those of the literature."""
    shown = set(zip(data["dataset"], data["method"], strict=True))
    found = {}
    for cell in cells:
        if (cell.dataset, cell.method) in shown:
            facts = RunFolder(runs_folder / cell.path).measurements()[0]
            if facts["data_official"] is False:
                found[cell.dataset] = f"{cell.dataset} is a stand-in: {facts['data_note']}"
    return list(found.values())


def _with_facts(frame: pd.DataFrame, cell: Cell, settings: Mapping[str, Any]) -> pd.DataFrame:
    method = listed(cell.method)
    facts = (cell.dataset, cell.method, method.title, method.kind, cell.variant, cell.seed)
    named: dict[str, object] = dict(zip((*CELL, "seed"), facts, strict=True))
    if "pixel_0" in frame and (grey := _is_grey(cell.dataset, settings)) is not None:
        named[GREY] = grey
    columns = pd.DataFrame(named, index=frame.index)
    return pd.concat([columns, frame], axis=1)  # columns inserted one by one make a wide table slow


def _is_grey(dataset: str, settings: Mapping[str, Any]) -> bool | None:
    """Whether a data set of the user, or of a plugin, has grey levels; None of one of the catalogue."""
    entry = settings.get("data", {}).get("own", {}).get(dataset)
    if entry is not None:
        return bool(entry.get("grey"))
    return None if dataset in CATALOGUE or dataset not in plugin_datasets() else of_plugin(dataset).grey


def over_seeds(frame: pd.DataFrame, by: Sequence[str], errors: Sequence[str] = ("sem",)) -> pd.DataFrame:
    """Mean ``value`` of the seeds, its ``errors``, their degrees of freedom, ``n_seeds``; one row per cell and ``by``.

    A standard error is sqrt(mean_s sem_s^2 + var_s / n), as in the tables: all seeds share one test set. Its degrees of
    freedom (``sem_df`` of ``sem``, infinite for one seed) are Satterthwaite's, where the test rows are many.
    """

    def pooled(group: pd.DataFrame) -> pd.Series:
        n = len(group)
        between = group["value"].var() / n if n > 1 else 0.0
        sems = {error: math.sqrt((group[error] ** 2).mean() + between) for error in errors}
        dfs = {f"{error}_df": (n - 1) * (sem**2 / between) ** 2 if between else math.inf for error, sem in sems.items()}
        return pd.Series({"value": group["value"].mean(), **sems, **dfs, "n_seeds": n})

    keys = [*CELL, *by]
    found = frame.groupby(keys, sort=False)[["value", *errors]].apply(pooled).reset_index()
    return found.astype({"n_seeds": int})
