"""The notes below a table: what its signs and words mean, and for which cells.

The status of a data set comes from the rows of the cells that had the data, and is repeated here in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.reporting.tables import chance
from harness.reporting.tables.build import NOT_PLANNED, Grid, display_name
from harness.reporting.tables.cell_text import (
    AT_CHANCE,
    BIASED,
    DECIMALS,
    FEWER,
    MOST_DECIMALS,
    NOT_COMPARABLE,
    NOTED,
    REMARKED,
    STAND_IN,
    STOPPED,
    WORSE_THAN_CONTROL,
    bias_text,
    number,
)
from harness.reporting.tables.pooling import FAILURES, OK, TIMEOUT
from harness.storage.starts import STARTED


@dataclass(frozen=True)
class DataStatus:
    """Whether a data set was the official one wherever it was read, and the remarks about it."""

    official: bool
    notes: tuple[str, ...]

    @property
    def mark(self) -> str:
        return STAND_IN if not self.official else NOTED if self.notes else ""


def data_statuses(grid: Grid) -> dict[str, DataStatus]:
    """Data set -> its status, for those that some cell had."""
    datasets = dict.fromkeys(entry.key.dataset for entry in grid.entries())
    return {dataset: status for dataset in datasets if (status := _data_status(grid, dataset)) is not None}


def _data_status(grid: Grid, dataset: str) -> DataStatus | None:
    """From the rows of all cells that had the data; None where none had them."""
    cells = dict.fromkeys(entry.key.cell for entry in grid.entries() if entry.key.dataset == dataset)
    rows = [row for cell in cells for row in grid.rows.get(cell, ()) if row["status"] != "unavailable"]
    known = [row for row in rows if row["data_official"] is not None]
    if not known:
        return None
    official = all(row["data_official"] for row in known)
    notes = dict.fromkeys(row["data_note"] for row in known if row["data_note"] and row["data_official"] == official)
    return DataStatus(official, tuple(notes))


def notes(grid: Grid, data: Mapping[str, DataStatus]) -> tuple[str, ...]:
    """Data sets, marks, what models started from, statuses, then the remarks of the layout."""
    return (
        *_data_notes(data),
        *_mark_notes(grid),
        *_start_notes(grid),
        *_status_notes(grid),
        *grid.table.remarks,
    )


def _data_notes(data: Mapping[str, DataStatus]) -> Iterator[str]:
    for dataset, status in data.items():
        said = "; ".join(status.notes)
        if not status.official:
            yield f"{STAND_IN} {dataset} is a stand-in" + (f": {said}" if said else ".")
        elif said:
            yield f"{NOTED} {dataset} is official: {said}"
    if any(not status.official for status in data.values()):
        yield f"{NOT_COMPARABLE}: not comparable; the thesis measured on the official data, ours is on a stand-in."


def _mark_notes(grid: Grid) -> Iterator[str]:
    """One note a sign, with the cells that carry it; of chance, with its level."""
    marks = (STOPPED, FEWER, REMARKED, BIASED, WORSE_THAN_CONTROL, AT_CHANCE)
    said: dict[str, dict[str, None]] = {mark: {} for mark in marks}
    for entry in grid.entries():
        m = entry.measured
        if m.value is None:
            continue
        place = f"{display_name(entry.key.cell, grid.rows)} on {entry.key.dataset}"
        why = f" ({m.message})" if m.message else ""
        if m.status == TIMEOUT:
            said[STOPPED][place + why] = None
        if m.others:
            said[FEWER][f"{place}: seeds used: {m.n_seeds}; {', '.join(m.others)}"] = None
        if m.status == OK and why:
            said[REMARKED][f"`{entry.key.metric}` of {place}{why}"] = None
        if m.bias_dominates:
            said[BIASED][f"`{entry.key.metric}` of {place} ({bias_text(entry)})"] = None
        if entry.worse_than_control:
            theirs = number(entry.control.value, MOST_DECIMALS)
            said[WORSE_THAN_CONTROL][f"`{entry.key.metric}` of {place} (they have {theirs})"] = None
        if m.at_chance:
            guessed = number(m.chance, DECIMALS.get(entry.key.metric, MOST_DECIMALS))
            said[AT_CHANCE][chance.words(entry.key.metric, entry.key.dataset, guessed)] = None
    meanings = {
        STOPPED: "stopped by the time limit and measured as it then was",
        FEWER: "not every seed ended well, and the value is of those that did",
        REMARKED: "measured, with a reservation",
        BIASED: "with so few samples, biased by more than its standard error (by about as much as stands in brackets)",
        WORSE_THAN_CONTROL: "worse than independent Bernoullis by more than two standard errors of the difference",
        AT_CHANCE: chance.MEANING,
    }
    for mark, meaning in meanings.items():
        if said[mark]:
            yield f"{mark} {meaning}: {'; '.join(said[mark])}."


def _start_notes(grid: Grid) -> Iterator[str]:
    """One note for all models whose training began with the weights of others, whose updates the caption leaves out."""
    started: dict[str, dict[str, None]] = {}
    for cell in dict.fromkeys(entry.key.cell for entry in grid.entries() if entry.measured.value is not None):
        for row in grid.rows[cell]:
            if row[STARTED]:
                started.setdefault(f"{display_name(cell, grid.rows)} on {cell.dataset}", {})[row[STARTED]] = None
    if started:
        places = "; ".join(f"{place} (from {', from '.join(sources)})" for place, sources in started.items())
        yield f"started from the weights of another trained model, whose updates come on top of its own: {places}."


def _status_notes(grid: Grid) -> Iterator[str]:
    """One note a reason; which data sets and methods it holds for."""
    reasons: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for entry in grid.entries():
        m = entry.measured
        if m.value is None and m.status in FAILURES:
            why = "; ".join(m.others) if len(m.others) > 1 else m.message
            where = reasons.setdefault((m.status, why), {})
            where.setdefault(entry.key.dataset, {})[display_name(entry.key.cell, grid.rows)] = None
    for (status, why), where in reasons.items():
        places = "; ".join(f"{dataset} ({', '.join(names)})" for dataset, names in where.items())
        yield f"{status}: {places}" + (f": {why}" if why else ".")
    statuses = {entry.measured.status for entry in grid.entries()}
    if NOT_PLANNED in statuses:
        yield f"{NOT_PLANNED}: this configuration has no such cell; the thesis' value stands alone."
