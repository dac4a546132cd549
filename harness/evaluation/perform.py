"""Running the analyses that a cell is due, each one once: a result on disk that is still valid is kept.

``analyses.json`` is the only declared output of the workflow's rule, so Snakemake never deletes the tables themselves.
It does delete ``analyses.json`` before it runs the rule again, so what is known of each table lies beside it as well,
written when the table is: of several analyses that take hours, a kill costs one at most, and of that one no more than
the last few seconds of estimates (see ``harness.storage.pieces``).
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from harness import atomic
from harness.data import Dataset
from harness.errors import DataError, HarnessError, InterruptedMeasuringError
from harness.evaluation.evaluate import measuring_facts
from harness.evaluation.manifest import FAILED, LEFT_OUT, NO_MODEL, OK, read_manifest
from harness.evaluation.plan import Planned
from harness.evaluation.subject import LeftOutError, Subject
from harness.plugins.analyses import ANALYSE, REGISTRY, settings_schema
from harness.plugins.registry import build
from harness.plugins.versions import FIRST, version_of
from harness.schema import arguments_schema, check
from harness.settings.config import Cell
from harness.storage import pieces
from harness.storage.records import check_file, file_digest, write_json
from harness.storage.runs import HAVE_MODEL, RunFolder

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
FACTS = ("dataset", "method", "title", "kind", "variant", "seed")  # columns that figures get with every table


def analyse_cell(
    run: Path, cell: Cell, planned: Sequence[Planned], load: Callable[[], Dataset], device: torch.device, strict: bool
) -> dict[str, dict[str, Any]]:
    """Do what is due for the run in the folder ``run``; analysis -> how it ended, which ``analyses.json`` holds too.

    load: gives the data set; called only where something is to be computed. An analysis that fails does not take the
    others along, unless ``strict``. Raises ConfigError for a missing, unknown or ill-typed setting, DataError where
    files of the run are missing, not those that training wrote, or of the training of another cell.
    """
    for each in planned:
        check_settings(each)
    folder = RunFolder(run)
    status = folder.status_of(cell)
    subject = cache(lambda: _subject(folder, cell, load(), device, status["model_sha256"]))
    earlier, version = _earlier(folder), version_of(cell.method)
    found = {}
    for each in planned:
        facts = {"digest": each.digest, "model_sha256": status.get("model_sha256"), "status": OK, "message": ""}
        facts["snapshots"] = cell.training.snapshots
        facts["method_version"] = None if version == FIRST else version  # as before there were versions
        kept = earlier["analyses"].get(each.name, {})
        unharmed = _is_unharmed(folder.table_file(each.name), kept)
        if unharmed and all(kept.get(key) == value for key, value in facts.items()):
            found[each.name] = kept
        else:
            found[each.name] = {**facts, **_one(folder, each, cell, status, subject, strict)}
            together = {**earlier["analyses"], **found}
            write_json(folder.manifest_copy, {"analyses": together, "failures": earlier["failures"]})
    crashed = any(each["status"] == FAILED for each in found.values())
    manifest = {"analyses": found, "failures": earlier["failures"] + crashed}
    write_json(folder.manifest_copy, manifest)
    write_json(folder.manifest_file, manifest)
    return found


def _is_unharmed(path: Path, kept: Mapping[str, Any]) -> bool:
    """Whether the table of an earlier analysis is there as it was written; a damaged one is reported in one line."""
    if not path.is_file():
        return False
    try:
        check_file(path, kept.get("table_sha256", file_digest(path)))
    except DataError as error:
        log.warning(f"{error}; analysed again")
        return False
    return True


def check_settings(planned: Planned) -> None:
    """Raises ConfigError for a missing, unknown or ill-typed setting: those are arguments of ``analyse``."""
    of_user = planned.code  # which may do anything when it is run
    schema = settings_schema(planned.name) if of_user else arguments_schema(_module(planned).analyse, n_given=1)
    if schema is not None:
        check(dict(planned.settings), schema, f"analyses.{planned.name}")


def _earlier(run: RunFolder) -> dict[str, Any]:
    for path in (run.manifest_copy, run.manifest_file):
        try:
            return read_manifest(path)
        except DataError as error:
            if path.exists():
                log.warning(f"{error}; analysed again")
    return {"analyses": {}, "failures": 0}


def _module(planned: Planned) -> ModuleType:
    if planned.code:
        return REGISTRY.module(planned.name)
    return importlib.import_module(f"{__package__}.analyses.{planned.name}")


def analysed(planned: Planned, subject: Subject) -> pd.DataFrame:
    """The table of an analysis; raises whatever it does, TypeError for what a user's must not return."""
    try:
        frame = _module(planned).analyse(subject, **planned.settings)
    except HarnessError as error:
        if planned.code:  # other analyses do not depend on it
            raise ValueError(str(error)) from error
        raise
    if planned.code and (fault := fault_of(frame)):
        raise TypeError(f"{ANALYSE}(subject, ...): {fault}")
    return frame


def fault_of(frame: Any) -> str | None:
    """The fault of what an analysis returned, ``expected ..., found ...``; None if it is fine."""
    import pandas as pd  # training, which may come before in the same process, does without

    if not isinstance(frame, pd.DataFrame):
        return f"expected a DataFrame, found a {type(frame).__name__}"
    columns = list(frame.columns)
    wrong = [each for each in columns if not isinstance(each, str) or not each.strip()]
    if wrong or not columns:
        return f"expected columns with names that are words, found {repr(wrong[0]) if wrong else 'none'}"
    taken = [each for each in columns if each in FACTS or columns.count(each) > 1]
    if taken:
        return f"expected every column once, and none of {', '.join(FACTS)}, found {taken[0]!r}"
    return None


def _one(
    run: RunFolder, each: Planned, cell: Cell, status: Mapping[str, Any], subject: Callable[[], Subject], strict: bool
) -> dict[str, Any]:
    """Do one analysis; how it ended."""
    if each.lacks:
        return {"status": LEFT_OUT, "message": f"{cell.method} has no {', no '.join(each.lacks)}"}
    if status["status"] not in HAVE_MODEL:
        return {"status": NO_MODEL, "message": f"{status['status']}: {status['message']}"}
    started, table = time.perf_counter(), run.table_file(each.name)
    try:
        facts = {"analysis": each.digest, **measuring_facts(cell, subject().data.digest, status["model_sha256"])}
        file, device = table.with_suffix(".safetensors"), subject().device
        facts["measured"] = [[row["metric"], row["value"], row.get("sem")] for row in subject().measured]
        with torch.inference_mode(), pieces.kept(file, facts, device):
            frame = analysed(each, subject())
    except LeftOutError as reason:
        return {"status": LEFT_OUT, "message": str(reason)}
    except (HarnessError, InterruptedMeasuringError):
        raise
    except (Exception, SystemExit) as error:  # a method may raise anything, and other analyses do not depend on it
        if strict:
            raise
        log.exception("%s: %s", cell.path, each.name)
        return {"status": FAILED, "message": f"{type(error).__name__}: {error}"}
    atomic.write(table, lambda temporary: frame.to_csv(temporary, index=False))
    file.unlink(missing_ok=True)  # the table is not made again
    facts = {"table_sha256": file_digest(table)}
    return {"seconds": round(time.perf_counter() - started, 3), **facts}


def _subject(run: RunFolder, cell: Cell, data: Dataset, device: torch.device, model_sha256: str) -> Subject:
    model = build(cell.method, data.n_features, dict(cell.model)).to(device)
    run.load_model(model, model_sha256)
    return Subject(cell, model.eval(), data, device, run.measurements(), run)
