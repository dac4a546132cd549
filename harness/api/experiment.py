"""One cell from its data to its measurements, each step only where it was not done before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.data import Dataset
from harness.errors import DataError
from harness.settings.config import Cell
from harness.storage import starts
from harness.storage.method_code import code_of
from harness.storage.runs import RunFolder, training_to_copy
from harness.training.together import Asked, Outcome, train_together
from harness.training.train import train

Train = Callable[[Cell, Dataset, Path, torch.device], str]  # as ``train``


def train_unless_done(
    cell: Cell,
    data: Dataset,
    run: RunFolder,
    device: torch.device,
    elsewhere: Iterable[Path] = (),
    again: bool = False,
    how: Train = train,
    runs: Path | None = None,
) -> str:
    """Train ``cell`` in the folder ``run`` on as many threads as PyTorch is set to use; the status.

    Nothing is trained where the folder, or one of those ``elsewhere``, holds the same training: a trial of a search may
    be a cell of the grid. again: what the folder holds does not count. how: what trains, alone or in company. runs:
    the folder with the runs of all cells, where the one lies that this one starts from. Raises what that does, and
    HarnessError where that one is not trained.
    """
    if not _was_trained(cell, data, run, elsewhere, again, runs):
        starts.provide(cell, run, runs, data.digest)
        _say(f"{cell.path}: {how(cell, data, run.path, device)}")
    return run.status()["status"]


def train_together_unless_done(asked: Sequence[Asked], device: torch.device, runs: Path | None = None) -> list[Outcome]:
    """Train what is asked for and not yet trained side by side; how each one ended, or did when it was trained.

    runs: as for ``train_unless_done``. Raises HarnessError where a cell that one of them starts from is not trained.
    """
    missing = [each for each in asked if not _was_trained(each.cell, each.data, RunFolder(each.run), runs=runs)]
    for each in missing:
        starts.provide(each.cell, RunFolder(each.run), runs, each.data.digest)
    found = dict(zip([each.run for each in missing], train_together(missing, device), strict=True))
    for each in missing:
        _say(f"{each.cell.path}: {found[each.run] if isinstance(found[each.run], str) else 'not trained'}")
    return [found[each.run] if each.run in found else RunFolder(each.run).status()["status"] for each in asked]


def _was_trained(
    cell: Cell,
    data: Dataset,
    run: RunFolder,
    elsewhere: Iterable[Path] = (),
    again: bool = False,
    runs: Path | None = None,
) -> bool:
    """Whether the folder holds the training, perhaps as a copy from elsewhere."""
    threads = torch.get_num_threads()
    if not again and run.is_trained(cell, data.digest, threads) and starts.is_current(cell, run, runs):
        _say(f"{cell.path}: was trained before")
        run.name_other_code(cell)
        return True
    others = (folder for folder in map(RunFolder, elsewhere) if starts.is_current(cell, folder, runs))
    source = training_to_copy(others, cell, data.digest, threads)
    if source is not None:
        run.copy_training(source, cell)
        _say(f"{cell.path}: was trained before, in {source}")
    return source is not None


def is_by_other_code(cell: Cell, run: RunFolder) -> bool:
    """Whether the folder holds a training that is known to be by other code of the method than today's."""
    return run.status_file.exists() and run.is_by_other_code(code_of(cell.method))


def is_measured(cell: Cell, run: RunFolder) -> bool:
    """Whether the folder holds sound measurements of its model, made as ``cell`` asks."""
    try:
        rows, status = run.measurements(), run.status_of(cell)
        asked = run.config().evaluation == cell.evaluation
        run.check_measurements()
    except DataError:
        return False
    return asked and rows[0].get("model_sha256") == status.get("model_sha256")


def measure(
    cell: Cell, data: Dataset | None, run: RunFolder, device: torch.device, preset: str
) -> list[dict[str, Any]]:
    """Measure the model in ``run`` on the test set and say what was found; the rows of ``metrics.json``."""
    from harness.evaluation.evaluate import evaluate  # loads pyarrow, which training does without

    rows = evaluate(run.path, cell, data, device, preset)
    run.write_config(cell)  # with the settings of this evaluation
    for row in rows:
        if row["value"] is not None:
            error = "" if row["sem"] is None else f" +- {row['sem']:.4f}"
            _say(f"{cell.path}: {row['metric']} = {row['value']:.4f}{error}")
        elif row["metric"]:
            _say(f"{cell.path}: {row['metric']}: {row['status']}: {row['message']}")
    return rows


def _say(line: str) -> None:
    """To the terminal, or the log of a job, as the progress of training."""
    print(line, file=sys.stderr)
