"""What ``snakemake -n`` says on one screen: cells done and to do, by table and by method, the time and the jobs.

Snakemake lists its jobs by rule, at the beginning and again at the end, and explains what makes it run any of them; it
knows neither cells nor times. ``--verbose`` or ``--printshellcmds`` bring all of that back.
"""

from __future__ import annotations

import logging
import math
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.cli.terminal import counted
from harness.settings.config import Cell
from harness.storage.durations import Durations

HEADER = "workflow_started"  # Snakemake's event: versions and folders, as long as all the rest
WIDTH = 100  # columns of the screen
LONGEST = 4  # lines that a list takes
TIED = "\u00a0"  # a blank where no line ends
FOLLOWS = "input files updated by another job"  # a reason of Snakemake's that says nothing of its own


class InPlaceOfJobs:
    """A filter of log records: the first count of jobs prints ``lines`` of it; header and what follows are left out.

    Snakemake hands the jobs by rule to every handler of its logger; warnings and errors pass.
    """

    def __init__(self, lines: Callable[[Mapping[str, int]], Sequence[str]], out: Any = None):
        self._lines, self._out, self._told = lines, out, False

    def __call__(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        if str(getattr(record, "event", "") or "").lower() == HEADER:
            return False
        jobs = getattr(record, "stats", None)
        if jobs is None or self._told:
            return not self._told
        self._told = True
        print(*self._lines(jobs), sep="\n", file=self._out or sys.stderr, flush=True)
        return False


def summary(
    results: Path,
    shown: Mapping[str, Sequence[Cell]],
    asked: Sequence[Cell],
    due: Sequence[Cell],
    jobs: Mapping[str, int],
    reasons: Mapping[str, int],
    durations: Durations,
    slots: int,
) -> list[str]:
    """Lines of at most ``WIDTH`` columns.

    shown: the cells behind each table, and the like. asked: those behind the targets; due: those of them that are to be
    trained or measured, ``slots`` at once. jobs, reasons: how many of each kind.
    """
    to_do = {cell.path for cell in due}
    at_once = f" with {counted(slots, 'job')} at once" if slots > 1 else ", one after the other"
    time = f", {_time(due, durations, slots)}{at_once}" if due else ""
    lines = [f"{results}: {len(due)} of {counted(len(asked), 'cell')} to train or measure{time}"]
    rows = []
    for name, cells in shown.items():
        left = [cell for cell in cells if cell.path in to_do]
        rows.append(
            [name, len(cells), len(cells) - len(left), len(left), _time(left, durations, slots) if left else ""]
        )
    if rows:
        lines += ["", *tabulate(rows, ["for", "cells", "done", "to do", "time"], tablefmt="plain").splitlines(), ""]
    lines += _listed("cells to do", Counter(cell.method for cell in due))
    lines += _listed("jobs", jobs)
    lines += _listed("why", {reason: n for reason, n in reasons.items() if reason != FOLLOWS})
    return [*lines, "Nothing was run: -n. With --printshellcmds, every job is listed."]


def _time(cells: Sequence[Cell], durations: Durations, slots: int) -> str:
    """What cells take, from the longest of them to all in equal parts."""
    seconds = [durations.seconds(cell) for cell in cells]
    minutes = max(*seconds, sum(seconds) / slots) / 60.0
    if minutes < 1.0:
        return "less than a minute"
    return f"about {math.ceil(minutes)} min" if minutes < 120.0 else f"about {math.ceil(minutes / 60.0)} h"


def _listed(title: str, counts: Mapping[str, int]) -> list[str]:
    """``title: name 3, name 2``, in few lines."""
    if not counts:
        return []
    items = (f"{name} {n}".replace(" ", TIED) for name, n in counts.items())
    lines = textwrap.wrap(
        f"{title}: {', '.join(items)}",
        WIDTH,
        subsequent_indent="  ",
        break_on_hyphens=False,
        max_lines=LONGEST,
        placeholder=" ...",
    )
    return [line.replace(TIED, " ") for line in lines]
