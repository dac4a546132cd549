"""What the Snakefile asks for: how many jobs fit the machine, and which earlier results deserve another try.

A result that is unavailable, a stand-in or failed is a file like any other, so Snakemake would keep it for ever. A
number on disk counts the attempts, the rule has it as a parameter, and a number that grows makes Snakemake run the rule
again: the record of a data set holds its own, the folder of a run counts its crashes (see ``harness.runs``). Results
that are fine keep their number, so a second call does nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import atomic, runs
from harness.config import Cell, canonical_json, data_settings, read_settings
from harness.data import is_local
from harness.errors import ConfigError, DataError
from harness.gpu_slots import means_gpu
from harness.settings_check import Source
from harness.settings_text import read_yaml, typed

SHORT_UPDATES = 40_000
SHORT_MINUTES, LONG_MINUTES = 20, 12 * 60


def use_this_python() -> None:
    """Let jobs find the python that runs Snakemake, whether or not its environment was activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


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
    given = [Source(str(path), read_yaml(path)) for path in files]
    return read_settings([*given, Source("--config", typed(arguments, "--config"))])


def record_settings(settings: Mapping[str, Any], folder: Path) -> Path:
    """Write the settings of this call for its jobs; the file's name follows from its content."""
    path = folder / f"{hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:16]}.json"
    if _record(path) != settings:
        atomic.write_json(path, settings)
    return path


def cores_per_job(cores: int | None) -> int:
    """Snakemake cores that a single-threaded job takes: ``--cores 8`` on 2 processors then runs 2 jobs at once."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, -(-(cores or 1) // processors))


def is_short(cell: Cell) -> bool:
    """Whether a cell takes minutes on one core rather than hours."""
    return sum(phase.updates for phase in cell.training.phases) <= SHORT_UPDATES


def minutes(cell: Cell) -> int:
    """Time that a cluster should grant a cell in one go; a long one goes on from its checkpoint in the next."""
    return SHORT_MINUTES if is_short(cell) else LONG_MINUTES


def gpu_resources(settings: Mapping[str, Any], n_gpus: int) -> tuple[dict[str, int | str], int]:
    """What Snakemake must know where cells run on GPUs: the resources of one cell, and how many slots there are in all.

    ``gpu_slots`` is counted on this machine. ``gres`` is what a cluster's scheduler hands out: one card for a whole
    group of cells, since Snakemake adds up the numbers of a group but not its words. No resources where no GPU is used.
    """
    device, slots = settings["device"], settings["gpu"]["slots_per_device"]
    if not means_gpu(device, n_gpus):
        return {}, 0
    # without a GPU here, the cells are for a machine that has one
    return {"gpu_slots": 1, "gres": "gpu:1"}, slots * (max(1, n_gpus) if device in ("auto", "cuda") else 1)


def _record(path: Path) -> dict[str, Any]:
    try:
        return runs.read_json(path)
    except DataError:
        return {}


def data_attempt(record: Path, dataset: str, settings: Mapping[str, Any]) -> int:
    """One more than last time when a better answer can be had without network now.

    That is any data where there were none, and official data where there was a stand-in.
    """
    last = _record(record)
    number = last.get("attempt", 0)
    if not last or last.get("official"):
        return number
    return number + is_local(dataset, data_settings(settings), official=last["available"])
