"""The criterion of early stopping for every validation row, of a model that is trained: to compare trainings in pairs.

Looks keep its mean alone. Here the model that training chose is scored once more, as a look does it and with its random
numbers, on more rows; the scores lie beside the model, and are made again for another model or another number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from harness.data import Dataset
from harness.errors import DataError
from harness.settings.config import Cell
from harness.storage.records import read_json, write_json
from harness.storage.runs import RunFolder
from harness.training import looks, validation
from harness.training.state import TrainingState

FILE = "validation.json"


def validation_scores(
    cell: Cell, load: Callable[[], Dataset], run: RunFolder, device: torch.device, rows: int | None
) -> np.ndarray:
    """Losses on so many validation rows (None: all), [B] double, nats: those on disk, else computed and put there.

    The same rows for all trainings of a cell, and for all methods on a data set; without a likelihood, one value per
    batch of them. Raises DataError where the folder has no model of this cell.
    """
    path, status = run.path / FILE, run.status_of(cell)
    key = {"model_sha256": status.get("model_sha256"), "rows": rows}
    if key["model_sha256"] is None:
        raise DataError(run.status_file, "a trained model", status["status"])
    try:
        found = read_json(path)
    except DataError:
        found = {}
    if {name: found.get(name) for name in key} != key:
        data = load()
        found = {**key, "losses": _losses(cell, data, run, device, rows, status["model_sha256"])}
        write_json(path, found)
    return np.array(found["losses"])


def _losses(
    cell: Cell, data: Dataset, run: RunFolder, device: torch.device, rows: int | None, model_digest: str
) -> list[float]:
    asked = replace(cell, training=replace(cell.training, validation_rows=rows or len(data.valid)))
    state = TrainingState(cell, data.n_features, device)
    run.load_model(state.model, model_digest)
    batch = looks.validation_rows(asked, data, device)
    return validation.losses(state.model, state.step, batch, asked, device).tolist()
