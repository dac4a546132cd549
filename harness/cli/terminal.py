"""What a call of the workflow says on the terminal.

A line for every cell that is finished, with its number, and at the end where tables and figures are and what went
wrong. What Snakemake has to say of every job goes to its log alone, unless ``--printshellcmds`` or ``--verbose`` asks
for it.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.settings.config import Cell
from harness.storage.durations import Durations
from harness.storage.method_code import TOLD
from harness.storage.records import read_json
from harness.storage.runs import FAILED, HAVE_MODEL, STATUSES, RunFolder

METRICS = ("-log p", "error", "-log p~", "bound -log p")  # of a finished cell, the first that it has is told
OF_JOBS = ("job_info", "job_started", "job_finished", "progress", "shellcmd")  # Snakemake's events
CHATTER = ("Select jobs to execute...", "Finished jobid", "Touching output")
RED, PLAIN = "\033[31m", "\033[0m"
LOOK_EVERY_S = 0.5


def hush(logger: logging.Logger, *filters: Callable[[logging.LogRecord], bool]) -> None:
    """Keep Snakemake's lines about single jobs, but for errors, from the terminal; its log files have them.

    filters: what else must let a line pass.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            for each in (_is_worth_a_line, *filters):
                handler.addFilter(each)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    event = str(getattr(record, "event", "") or "").lower()
    if event == "progress":
        return False
    if record.levelno >= logging.WARNING:
        return True
    return event not in OF_JOBS and not record.getMessage().startswith(CHATTER)


class Progress(threading.Thread):
    """Prints a line whenever one of the cells in ``due`` is measured, until the call ends.

    durations: how long cells may take, for the time that is left with ``slots`` jobs at once.
    """

    def __init__(self, due: Sequence[Cell], runs: Path, durations: Durations, slots: int, out: Any = None):
        super().__init__(daemon=True)
        self._waiting = {cell.path: cell for cell in due}
        self._n, self._runs, self._durations, self._slots = len(due), runs, durations, max(1, slots)
        self._begin, self._done_s = time.time(), 0.0
        self._over = threading.Event()
        self._out = out

    def run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self.look()

    def end(self) -> None:
        """Tell what has finished since the last look, and stop looking."""
        if not self._over.is_set():
            self._over.set()
            self.look()

    def look(self) -> None:
        """One line for every cell that has been measured since the last look."""
        for path, cell in list(self._waiting.items()):
            run = RunFolder(self._runs / path)
            try:
                if run.metrics_file.stat().st_mtime < self._begin:
                    continue
                rows = run.measurements()
            except (OSError, DataError):  # not yet
                continue
            del self._waiting[path]
            self._done_s += self._durations.seconds(cell)
            place = f"[{self._n - len(self._waiting)}/{self._n}]"
            parts = cell.dataset, cell.method, cell.variant, f"seed {cell.seed}" if cell.seed else ""
            name = "/".join(part for part in parts if part)
            print(f"{place} {name} {outcome(rows)}{self._left()}", file=self._out or sys.stderr, flush=True)

    def _left(self) -> str:
        if not self._waiting:
            return ""
        rest = sum(self._durations.seconds(cell) for cell in self._waiting.values())
        # how much slower than expected, jobs beside each other included; cells under way count as not begun
        pace = (time.time() - self._begin) * self._slots / self._done_s
        minutes = rest * pace / self._slots / 60.0
        return f", about {math.ceil(minutes)} min left" if minutes > 1.0 else ", less than a minute left"


def outcome(rows: Sequence[Mapping[str, Any]]) -> str:
    """A cell's most telling number and what it took, or why it has none."""
    # metrics of one pass over the rows share what it took
    seconds = sum(sum({float(row.get(of) or 0.0) for row in rows}) for of in ("train_seconds", "seconds"))
    took = f", {seconds:.0f} s" if seconds >= 1.0 else ""
    by_metric = {row.get("metric"): row for row in rows if row.get("metric")}
    row = next((by_metric[metric] for metric in METRICS if metric in by_metric), rows[0])
    value, sem = row.get("value"), row.get("sem")
    if value is None or row.get("status") not in HAVE_MODEL:
        return f"{row.get('status')}{took}"
    digits = 3 if row["metric"] == "error" else 2
    spread = f" ± {sem:.{digits}f}" if sem is not None and math.isfinite(sem) else ""
    return f"{row['metric']} {value:.{digits}f}{spread}{took}"


def what_was_made(targets: Iterable[str], results: Path) -> list[str]:
    """Where the files are that people read, as far as the targets of a call ask for them."""
    asked = set(targets) or {"all"}
    gathered = asked & {"tables", "report", "check", "all"}
    tables = (
        [*(results / "tables").glob("*.md")]
        if gathered
        else [results / "tables" / f"{name}.md" for name in asked if name.startswith(("table_", "metrics"))]
    )
    made = {
        "tables": sorted(tables),
        "figures": [results / "figures"] if asked & {"figures", "report", "all"} else [],
        "report": [results / "report.html"] if asked & {"report", "all"} else [],
        "measurements": [results / "metrics.parquet"] if gathered else [],
    }
    there = {kind: [str(path) for path in paths if path.exists()] for kind, paths in made.items()}
    return [f"{kind}: {' '.join(paths)}" for kind, paths in there.items() if paths]


def what_is_left(targets: Iterable[str], planned: Collection[Cell], shown: Collection[Cell]) -> list[str]:
    """A line on the cells that tables have no row of yet, since the targets of this call did not ask for them."""
    n_left = len(planned) - len(shown)
    if not n_left or not any(target == "tables" or target.startswith("table_") for target in targets):
        return []
    return [f"left out: {counted(n_left, 'cell')} beyond the thesis; `snakemake overview` or `all` adds their rows"]


def how_it_ended(cells: Iterable[Cell], results: Path, early: bool) -> list[str]:
    """Lines for the end of a call: which cells have no number, why, and what that does to the tables.

    early: something went wrong, so that cells that are not measured keep back what is made of them.
    """
    without: dict[str, list[str]] = {}
    waiting = []
    for cell in cells:
        run = RunFolder(results / "runs" / cell.path)
        # a crash while measuring is in the measurements alone
        ended = (_record(run.metrics_file).get("rows") or [_record(run.status_file)])[0]
        if not run.metrics_file.exists():
            waiting.append(cell.path)
        word = ended.get("status")
        if word in STATUSES and word not in HAVE_MODEL:
            times = f", tried {tried} times" if (tried := run.crashes.count()) > 1 else ""
            without.setdefault(word, []).append(f"{cell.path}: {ended.get('message') or word}{times}")
    lines = []
    for word, told in without.items():
        again = "; the next call tries again" if word == FAILED else ""
        lines.append(f"{counted(len(told), 'cell')} {word}, as tables and figures say in their place{again}:")
        lines += _first(told)
    if early and waiting:
        lines.append(
            f"{counted(len(waiting), 'cell')} not measured yet. Tables and figures wait for the cells that they show,"
        )
        lines.append(
            "the report for all. The same command continues; cells that are null in the grid are not waited for."
        )
        lines += _first(waiting)
    return lines


def tell(lines: Iterable[str]) -> None:
    """Lines to the terminal, after what Snakemake says."""
    for line in lines:
        red = f" {FAILED}, " in line and sys.stderr.isatty()
        before, after = (RED, PLAIN) if red else ("", "")
        print(f"{before}harness: {line}{after}", file=sys.stderr)


def counted(n: int, kind: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{n} {kind}" + "s" * (n != 1)


def _first(told: Sequence[str]) -> list[str]:
    """Some of many lines."""
    more = [f"  and {len(told) - TOLD} more"] if len(told) > TOLD else []
    return [f"  {line}" for line in told[:TOLD]] + more


def _record(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except DataError:
        return {}
