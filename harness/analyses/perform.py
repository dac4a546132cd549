"""Doing the analyses that a cell is due, each one once: a result on disk that still holds is kept.

``analyses.json`` is the only declared output of the workflow's rule, so Snakemake never deletes the tables themselves.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from harness import atomic, runs
from harness.analyses.manifest import FAILED, LEFT_OUT, MANIFEST, NO_MODEL, OK, read_manifest, table_of
from harness.analyses.plan import Planned
from harness.analyses.subject import LeftOutError, Subject
from harness.config import Cell
from harness.data import Dataset
from harness.errors import DataError, HarnessError
from harness.registry import build
from harness.schema import arguments_schema, check

log = logging.getLogger(__name__)


def analyse_cell(
    run: Path, cell: Cell, planned: Sequence[Planned], load: Callable[[], Dataset], device: torch.device, strict: bool
) -> dict[str, dict[str, Any]]:
    """Do what is due for the run in the folder ``run``; analysis -> how it ended, which ``analyses.json`` holds too.

    load: gives the data set; called only where something is to be computed. An analysis that fails does not take the
    others along, unless ``strict``. Raises ConfigError for a missing, unknown or ill-typed setting, DataError where
    files of the run are missing or not those that training wrote.
    """
    for each in planned:
        check_settings(each)
    status = runs.read_json(run / "status.json")
    subject = cache(lambda: _subject(run, cell, load(), device, status["model_sha256"]))
    earlier = _earlier(run)
    found = {}
    for each in planned:
        facts = {"digest": each.digest, "model_sha256": status.get("model_sha256"), "status": OK, "message": ""}
        facts["snapshots"] = cell.training.snapshots
        kept = earlier["analyses"].get(each.name, {})
        if table_of(run, each.name).is_file() and all(kept.get(key) == value for key, value in facts.items()):
            found[each.name] = kept
        else:
            found[each.name] = {**facts, **_one(run, each, cell, status, subject, strict)}
    crashed = any(each["status"] == FAILED for each in found.values())
    atomic.write_json(run / MANIFEST, {"analyses": found, "failures": earlier["failures"] + crashed})
    return found


def check_settings(planned: Planned) -> None:
    """Raises ConfigError for a missing, unknown or ill-typed setting: those are arguments of ``analyse``."""
    schema = arguments_schema(_module(planned.name).analyse, n_given=1)
    check(dict(planned.settings), schema, f"analyses.{planned.name}")


def _earlier(run: Path) -> dict[str, Any]:
    try:
        return read_manifest(run)
    except DataError:
        return {"analyses": {}, "failures": 0}


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")


def _one(
    run: Path, each: Planned, cell: Cell, status: Mapping[str, Any], subject: Callable[[], Subject], strict: bool
) -> dict[str, Any]:
    """Do one analysis; how it ended."""
    if each.lacks:
        return {"status": LEFT_OUT, "message": f"{cell.method} has no {', no '.join(each.lacks)}"}
    if status["status"] not in runs.HAVE_MODEL:
        return {"status": NO_MODEL, "message": f"{status['status']}: {status['message']}"}
    started = time.perf_counter()
    try:
        with torch.inference_mode():
            frame = _module(each.name).analyse(subject(), **each.settings)
    except LeftOutError as reason:
        return {"status": LEFT_OUT, "message": str(reason)}
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:  # a method may raise anything, and other analyses do not depend on it
        if strict:
            raise
        log.exception("%s: %s", cell.path, each.name)
        return {"status": FAILED, "message": f"{type(error).__name__}: {error}"}
    atomic.write(table_of(run, each.name), lambda temporary: frame.to_csv(temporary, index=False))
    return {"seconds": round(time.perf_counter() - started, 3)}


def _subject(run: Path, cell: Cell, data: Dataset, device: torch.device, model_sha256: str) -> Subject:
    model = build(cell.method, data.n_features, dict(cell.model)).to(device)
    runs.load_model(run / "model.safetensors", model, model_sha256)
    measured = runs.read_json(run / "metrics.json")["rows"]
    return Subject(cell, model.eval(), data, device, measured, run)
