"""Functions of the Snakefile: how many jobs fit the machine, and which earlier results deserve another attempt.

A result that is unavailable, a stand-in or failed is a file like any other, so Snakemake would keep it forever. A
number on disk counts the attempts, the rule has it as a parameter, and a number that grows makes Snakemake run the rule
again: beside the record of a data set lies its own, the folder of a run counts its crashes (see
``harness.storage.crashes``). Results that are fine keep their number, so a second call does nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness import atomic
from harness.cli.terminal import counted
from harness.compute.gpu_slots import means_gpu
from harness.compute.processors import n_processors
from harness.data import DataSettings, cached_route, is_local, is_outside
from harness.data.outside import own_data
from harness.data.sightings import identity
from harness.errors import ConfigError, DataError, HarnessError
from harness.plugins.registry import origin
from harness.settings.check import Source
from harness.settings.config import Cell, canonical_json, cells_named, data_settings, read_settings
from harness.settings.datasets import anchored
from harness.settings.text import read_yaml, typed
from harness.storage.durations import Durations
from harness.storage.method_code import MethodCode, code_of, in_one_line, is_by_other_code, training_key
from harness.storage.records import read_json
from harness.storage.runs import RunFolder
from harness.storage.search import Trial

SHORT_UPDATES = 40_000


def use_this_python() -> None:
    """Let jobs find the python that runs Snakemake, whether or not its environment was activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def schedule_at_once(scheduler: Any) -> None:
    """Take Snakemake's limit of submissions per second off jobs of this machine, and its search for the best selection.

    Each round of the scheduler has a timer wake it once more, so that every job that ended wakes it every second for
    the rest of the call: after 150 jobs it had run 31,000 rounds in seven minutes. Jobs here all take the same cores,
    so the one of highest priority is the best choice, and no integer programme need be solved to find it.
    """
    scheduler.job_rate_limiter = None
    scheduler._job_selector = scheduler.job_selector_greedy


def check_place(folder: Path) -> None:
    """Raises ConfigError for a checkout in a folder whose path has braces, which Snakemake takes for wildcards."""
    if "{" in str(folder) or "}" in str(folder):
        raise ConfigError(f"{folder}: expected a path without braces, which Snakemake takes for wildcards")


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Ends the program where settings are wrong, with the one line that says so; Snakemake would add a traceback."""
    try:
        yield
    except ConfigError as error:
        sys.exit(f"harness: {error}")


def settings_given(config: Mapping[str, Any], files: Iterable[Path], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of this call of Snakemake.

    config: what Snakemake made of everything. files: those of ``--configfile``, which are read anew, since Snakemake's
    own reader takes 1e-3 for a word and the last of two equal keys. arguments: those of ``--config``, whose words are
    read as in a file, also those deep inside. Raises ConfigError that names the file, or ``--config``, and the key.
    """
    files = list(files)
    if not all(path.is_file() for path in files):  # a pipe, which cannot be read twice
        return read_settings([Source("--configfile and --config", typed(config, "--configfile and --config"))])
    given = [Source(str(path), anchored(read_yaml(path), path.parent)) for path in files]
    return read_settings([*given, Source("--config", typed(arguments, "--config"))])


def record_settings(settings: Mapping[str, Any], folder: Path) -> Path:
    """Write the settings of this call for its jobs; the file's name follows from its content."""
    path = folder / f"{short_digest(settings)}.json"
    if _record(path) != settings:
        atomic.write_json(path, settings)
    return path


def facts_of_cells(
    settings: Mapping[str, Any], cells: Iterable[Cell], results: Path, attempts: Mapping[str, int | str]
) -> dict[str, list[Any]]:
    """The content of tables: by path of a cell, what it is and measures, its crashes so far, attempts at its data.

    A digest of it is a parameter of the rules that aggregate, which thus run again where any of it has changed.
    """
    ablations = cells_named(settings, "ablations")
    return {
        cell.path: [
            training_key(cell),
            cell.training.snapshots,
            cell.to_dict()["evaluation"],
            (cell.method, cell.dataset, cell.variant) in ablations,
            RunFolder(results / "runs" / cell.path).crashes.count(),
            attempts[cell.dataset],
        ]
        for cell in cells
    }


def attempts_at_data(settings: Mapping[str, Any], cells: Iterable[Cell], results: Path) -> dict[str, int | str]:
    """``data_attempt`` of every data set, for the records in ``results``."""
    lacking = {}
    for cell in cells:
        run = RunFolder(results / "runs" / cell.path)
        lacks = not run.metrics_file.exists() or run.crashes.count() > 0
        lacking[cell.dataset] = lacking.get(cell.dataset, False) or lacks
    return {
        name: data_attempt(results / "data" / f"{name}.json", name, settings, lacks) for name, lacks in lacking.items()
    }


def sources_of(cells: Iterable[Cell], known: Mapping[str, Cell]) -> list[Cell]:
    """The cells that these start from, and those that they do in turn. known: all cells by their paths."""
    found: dict[str, Cell] = {}
    due = [cell.training.start_from for cell in cells]
    while due:
        start = due.pop()
        if start is not None and start.path not in found:
            found[start.path] = known[start.path]
            due.append(known[start.path].training.start_from)
    return list(found.values())


def priorities(
    cells_of: Mapping[str, Sequence[Cell]], durations: Durations, known: Mapping[str, Cell]
) -> dict[str, int]:
    """By path of a cell, how early it should start: the higher, the earlier.

    cells_of: those behind each table. known: all cells by their paths. A cell that others start from is as early as
    they are. The table that takes the least time comes first, then the one that adds least to
    those before it; of the cells that are new in a table, the longest first, so that none is left over at the end.
    """
    order: list[Cell] = []
    left = {name: list(cells) for name, cells in cells_of.items()}
    while left:
        done = {cell.path for cell in order}
        left = {name: [cell for cell in cells if cell.path not in done] for name, cells in left.items()}
        name = min(left, key=lambda name: sum(durations.seconds(cell) for cell in left[name]))
        order += sorted(left.pop(name), key=durations.seconds, reverse=True)
    found = {cell.path: len(order) - place for place, cell in enumerate(order)}
    for cell in order:  # the earliest first
        for source in sources_of([cell], known):
            found[source.path] = max(found[cell.path], found.get(source.path, 0))
    return found


def trained_by_other_code(
    cells: Iterable[Cell], trials: Iterable[Trial], results: Path, settings_file: Path
) -> list[str]:
    """Which cells and trials other code of their methods has trained: a line or two per method that has any.

    settings_file: with the settings of this call, for the command that removes them.
    """
    places = [("cell", cell.path, cell.method, results / "runs") for cell in cells]
    places += [("trial", trial.path, trial.cell.method, results / "searches") for trial in trials]
    codes = cache(code_of)
    made: dict[tuple[str, int, int], list[tuple[str, str]]] = {}  # (kind, path), by method and its version then and now
    for kind, path, method, folder in places:
        status, code = _record(RunFolder(folder / path).status_file), codes(method)
        if is_by_other_code(status, code):
            then = MethodCode.recorded_in(status).version
            made.setdefault((method, then, code.version), []).append((kind, path))
    lines = []
    for (method, then, now), found in made.items():
        kinds = Counter(kind for kind, _ in found)
        what = f"{' and '.join(counted(n, kind) for kind, n in kinds.items())} of {method} trained by"
        named = in_one_line([path for _, path in found])
        if then == now:
            settings = "" if origin(method) == "built in" else f" --settings {settings_file}"
            remedy = f"`harness forget {method} --results {results}{settings}` removes them"
            lines.append(f"{what} other code: {named}; {remedy}")
        else:
            lines.append(f"{what} version {then}, not {now}: {named}; they are trained again when needed")
    return lines


def short_digest(value: Any) -> str:
    """Of a value that JSON can hold, short enough for a parameter or a file's name."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def cores_per_job(cores: int | None) -> int:
    """Snakemake cores that a single-threaded job takes: ``--cores 8`` on 2 processors then runs 2 jobs at once."""
    return max(1, -(-(cores or 1) // n_processors()))


def is_short(cell: Cell) -> bool:
    """Whether a cell takes minutes on one core rather than hours."""
    return sum(phase.updates for phase in cell.training.phases) <= SHORT_UPDATES


def minutes(cell: Cell, settings: Mapping[str, Any]) -> int:
    """Time that a cluster should grant a cell in one go; a long one continues from its checkpoint in the next.

    Snakemake adds it up over the cells that share a job, so there is one number for those and one for the others.
    """
    return settings["cluster"]["short_minutes" if is_short(cell) else "long_minutes"]


def gpu_resources(settings: Mapping[str, Any], n_gpus: int) -> tuple[dict[str, int | str], int]:
    """What Snakemake must know where cells run on GPUs: the resources of one cell, and how many slots there are in all.

    ``gpu_slots`` is counted on this machine. ``gres`` is what a cluster's scheduler hands out: one card for a whole
    group of cells, since Snakemake adds up the numbers of a group but not its words. No resources where no GPU is used.
    """
    device, slots = settings["device"], settings["gpu"]["slots_per_device"] * settings["gpu"]["stack"]
    if not means_gpu(device, n_gpus):
        return {}, 0
    # without a GPU here, the cells are for a machine that has one
    return {"gpu_slots": 1, "gres": "gpu:1"}, slots * (max(1, n_gpus) if device in ("auto", "cuda") else 1)


def _record(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except DataError:
        return {}


def data_attempt(record: Path, dataset: str, settings: Mapping[str, Any], lacking: bool) -> int | str:
    """A parameter of the rule that fetches a data set: another one than last time where it is to be fetched again.

    Its number is one more than last time when better data can now be obtained without a network: any data where there
    were none, official data where there was a stand-in; when the record cannot be read; and, where a cell is
    ``lacking`` what is to be measured, when the cache no longer has what the record describes. It is kept beside the
    record, which may be lost. Where the user points at a file, a digest of its path, size and time follows; of a data
    set of the user's own, or of a plugin, nothing else counts.
    """
    last, number = _record(record), _last_attempt(record)
    where = data_settings(settings)
    if is_outside(dataset, where):
        return f"{number + (record.exists() and not last)}-{_files_of(dataset, where)}"
    if not last:
        number += record.exists()
    elif not last.get("available"):
        number += is_local(dataset, where)
    elif dataset not in where.paths:
        gone = lacking and cached_route(dataset, where, last.get("digest")) is None
        number += gone or (not last.get("official") and is_local(dataset, where, official=True))
    return number if dataset not in where.paths else f"{number}-{_identity_of(where.paths[dataset])}"


def changed_data(settings: Mapping[str, Any], cells: Iterable[Cell], results: Path) -> list[str]:
    """A line for each data set of the user whose content is not what it was in the last call."""
    n_cells = Counter(cell.dataset for cell in cells)
    lines = []
    for name, seen in settings["data"]["known"].items():
        last = _record(results / "data" / f"{name}.json").get("digest")
        if n_cells[name] and seen and last not in (None, seen["digest"]):
            now = f"digest {seen['digest'][:12]}, not {last[:12]}"
            lines.append(f"{name}: the data have changed ({now}): {counted(n_cells[name], 'cell')} trained again")
    return lines


def _files_of(dataset: str, where: DataSettings) -> str:
    """What tells whether the files of a data set are still those that they were, short."""
    try:
        return identity(own_data(dataset, where))[:16]
    except HarnessError as error:
        return short_digest(str(error))


def attempts_file(record: Path) -> Path:
    """Where the last ``data_attempt`` lies beside the record of a data set."""
    return record.with_suffix(".attempt.json")


def _last_attempt(record: Path) -> int:
    last = _record(attempts_file(record)) or _record(record)  # earlier versions kept it in the record
    number = str(last.get("attempt", 0)).partition("-")[0]
    return int(number) if number.isdecimal() else 0


def _identity_of(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return short_digest(str(path))
    return short_digest([str(path), state.st_size, state.st_mtime_ns])
