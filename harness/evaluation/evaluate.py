"""Evaluating a run: its model is measured, and the results are written to the run's folder.

``rows.parquet`` is written before ``metrics.json``: where there are measurements, there are their values per row. A run
that failed has one row that says so.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.compute.provenance import describe_device, git_commit, versions
from harness.data import Dataset
from harness.errors import HarnessError
from harness.evaluation import per_row
from harness.evaluation.measure import Measurement, measure
from harness.evaluation.own_metrics import measure_own
from harness.evaluation.per_row import TEST_ROWS, RowValues
from harness.plugins.listing import listed
from harness.plugins.registry import build, method_class
from harness.settings.config import Cell
from harness.settings.seeds import seed_for
from harness.storage import pieces, starts
from harness.storage.method_code import code_of_class
from harness.storage.runs import FAILED, HAVE_MODEL, RunFolder
from harness.training.batches import random_rows


def evaluate(run: Path, cell: Cell, data: Dataset | None, device: torch.device, preset: str) -> list[dict[str, Any]]:
    """Measure the model in the folder ``run``; write ``rows.parquet``, then ``metrics.json``, and return its rows.

    Those of an earlier evaluation are removed first: where this one fails there are none. A run without a model gives
    one row that carries its status. Raises DataError when files of the run are missing or not those that training
    wrote, or are of the training of another cell, whose measurements then stay.
    """
    folder = RunFolder(run)
    status = folder.status_of(cell)
    folder.remove_measurements()
    if status["status"] in HAVE_MODEL and data is not None:
        model = build(cell.method, data.n_features, dict(cell.model)).to(device)
        folder.load_model(model, status["model_sha256"])
        facts = measuring_facts(cell, data.digest, status["model_sha256"])
        with torch.inference_mode(), pieces.kept(folder.pieces_file, facts, device):
            measured = measure(model.eval(), cell, data, device)
        measured += measure_own(model, cell, data, device, folder, measured, facts)
    else:
        measured = [NOTHING]
    facts = {
        "status": status["status"],
        "message": status["message"],
        "n_updates": status.get("n_updates"),
        "best_update": status.get("best_update"),
        "train_seconds": status.get("train_seconds"),
        "model_sha256": status.get("model_sha256"),
        "data_digest": data.digest if data else "",
        "n_test": len(data.test) if data else None,
        "data_official": data.status.official if data else None,
        "data_note": data.status.note if data else "",
        "device": describe_device(device),
        **({starts.STARTED: started} if (started := starts.in_words(status)) else {}),
    }
    cls = method_class(cell.method)
    return _write(folder, cell, preset, {"title": cls.title, "kind": cls.kind, **facts}, measured)


def measuring_facts(cell: Cell, data_digest: str, model_sha256: str) -> dict[str, Any]:
    """All that measurements of a trained model depend on, but for the harness and the machine."""
    try:
        source = inspect.getsourcefile(method_class(cell.method))
    except (OSError, TypeError):  # of a class that is in no file
        source = None
    code = pieces.digest_of_source(Path(source)) if source else code_of_class(cell.method, method_class(cell.method))
    values = cell.to_dict()
    values["evaluation"].pop("metrics", None)  # of users, on which no other measurement depends
    return {**values, "data_digest": data_digest, "model_sha256": model_sha256, "code": str(code)}


def record_failure(run: Path, cell: Cell, preset: str, message: str) -> None:
    """``metrics.json`` of a run that crashed: one row with the status ``failed``."""
    folder = RunFolder(run)
    folder.remove_measurements()
    facts = {**_words_in_source(cell.method), "status": FAILED, "message": message}
    _write(folder, cell, preset, facts, [NOTHING])


def _words_in_source(method: str) -> dict[str, str]:
    """Title and kind of a method that perhaps cannot be imported; its name where its text cannot be read either."""
    try:
        found = listed(method)
    except HarnessError:
        return {"title": method, "kind": ""}
    return {"title": found.title, "kind": found.kind}


NOTHING = Measurement({"metric": "", "value": None})


def _write(
    run: RunFolder, cell: Cell, preset: str, facts: dict[str, Any], measured: Sequence[Measurement]
) -> list[dict[str, Any]]:
    """Write the values per row, then the measurements, each completed with where it came from; these rows."""
    common = {
        "preset": preset,
        "dataset": cell.dataset,
        "method": cell.method,
        "variant": cell.variant,
        "seed": cell.seed,
        "split": "test",
        "layers": "-".join(str(n) for n in cell.model.get("layers", [])),
        "config_digest": cell.training_digest,
        "git_commit": git_commit(),
        **versions(),
        **facts,
    }
    rows = [{**common, **{key: _finite(value) for key, value in each.checked().items()}} for each in measured]
    of_rows = [_row_values(each, cell, facts["n_test"]) for each in measured if each.values is not None]
    run.write_measurements(rows, per_row.write(run.rows_file, of_rows))
    return rows


def _row_values(measurement: Measurement, cell: Cell, n_test: int) -> RowValues:
    errors = measurement.mc_errors
    return RowValues(
        measurement.facts["metric"],
        random_rows(n_test, len(measurement.values), seed_for(cell.dataset, TEST_ROWS)),
        measurement.values.cpu().numpy(),
        errors.cpu().numpy() if isinstance(errors, Tensor) else errors,
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN: None stands for a number that does not exist."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
