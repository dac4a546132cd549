"""The weights that a training begins with where its cell starts from another: from whose run they come, as of when.

Before such a training begins, the weights are copied into its own folder, as ``start.safetensors``, and stay there
until it ends. Whoever trains in that folder, in this process or another, alone or beside others, finds them there, and
a training that was cut short goes on even where the other run is gone. The file says which cell they are of, and so
does ``status.json`` afterwards, with what was taken of them. Where the other run has been trained to other weights
since, the training is one of weights that no longer exist, and is made again.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import atomic
from harness.errors import DataError, HarnessError
from harness.settings.config import Cell, canonical_json
from harness.settings.parts import StartFrom
from harness.storage import weights
from harness.storage.method_code import MethodCode, code_of
from harness.storage.records import read_json
from harness.storage.runs import HAVE_MODEL, RunFolder

if TYPE_CHECKING:  # the workflow reads these files without torch
    from torch import Tensor

STARTED = "started_from"  # key of status.json and metrics.json
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Started:
    """What a training began with.

    cell: DATASET/METHOD/VARIANT/SEED. n_updates: that these weights had behind them, with those of the cell that it
    had started from itself. model_sha256: of the weights.
    """

    cell: str
    n_updates: int
    model_sha256: str


def provide(cell: Cell, run: RunFolder, runs: Path | None, data_digest: str) -> None:
    """Put the weights that the training of ``cell`` begins with into its folder, unless they are there already.

    A training under way that began with other ones is given up, and told of in one line.

    runs: the folder with the runs of all cells. data_digest: of the cell's data. Raises HarnessError, which says what
    to do, where the cell that it starts from is not trained on these data, and DataError where its model is damaged.
    """
    from harness.storage import checkpoint

    start = cell.training.start_from
    if start is None:
        return
    source = None if runs is None else RunFolder(runs / start.path)
    status, held = _trained(start, source), _held(run, start)
    if held is not None and (status is None or status["model_sha256"] == held.model_sha256):
        return
    if status is None:
        raise HarnessError(f"{cell.path}: starts from {start.path}, which {_state(source)}; {_remedy(start)}")
    if start.dataset == cell.dataset and status.get("data_digest") != data_digest:
        found = f"data of digest {status.get('data_digest')}, not {data_digest}"
        raise HarnessError(f"{cell.path}: starts from {start.path}, which was trained on {found}; {_remedy(start)}")
    started = Started(start.path, updates_in_all(status), status["model_sha256"])
    taken = weights.read(source.model_file, started.model_sha256)
    if held is not None and run.checkpoint_file.exists():
        log.warning(f"{run.checkpoint_file}: began with other weights of {start.path}; training starts again")
        with atomic.changing(run.path):
            run.checkpoint_file.unlink()
    checkpoint.save(run.start_file, taken, dataclasses.asdict(started), _digest(start))


def end_of_source(cell: Cell, runs: Path) -> tuple[str, str] | None:
    """How the training that ``cell`` starts from ended where it left no model: status, and a message for this cell.

    None where it left one, or is not there.
    """
    start = cell.training.start_from
    source = None if start is None else RunFolder(runs / start.path)
    if source is None or not source.status_file.exists():
        return None
    status = source.status()
    digest = status.get("training_digest")
    if digest is None and source.config_file.exists():  # nothing was trained
        digest = read_json(source.config_file).get("training_digest")
    if status["status"] in HAVE_MODEL or digest != start.training_digest:
        return None
    why = f" ({status['message']})" if status["message"] else ""
    return status["status"], f"starts from {start.path}, which is {status['status']}{why}"


def read(run: RunFolder, start: StartFrom) -> tuple[dict[str, Tensor], Started]:
    """The weights that ``provide`` put into a folder; raises DataError where there are none of them."""
    from harness.storage import checkpoint

    found = checkpoint.load(run.start_file, _digest(start), consequence="not used")
    if found is None:
        raise DataError(run.start_file, f"weights of {start.path} to begin with", "none that can be used")
    return found[0], Started(**found[1])


def is_current(cell: Cell, run: RunFolder, runs: Path | None) -> bool:
    """Whether the training in a folder began with the weights that the cell which it starts from has now.

    Also where that cell is not trained any more, so that nothing tells. Others are told of in one line.
    """
    start = cell.training.start_from
    if start is None or not run.status_file.exists():
        return True
    status = None if runs is None else _trained(start, RunFolder(runs / start.path))
    try:
        ours = run.status()
    except DataError:  # that whoever wants the training will tell
        return True
    if status is None or ours.get("training_digest") != cell.training_digest:
        return True
    current = ours.get(STARTED, {}).get("model_sha256") in (None, status["model_sha256"])
    if not current:
        log.warning(f"{run}: {start.path} has other weights than those that it started from; training starts again")
    return current


def in_words(status: Mapping[str, Any]) -> str:
    """What a training began with, as tables and reports say it; '' where that was nothing."""
    started = status.get(STARTED)
    return f"{started['cell']}, after {started['n_updates']:,} updates" if started else ""


def updates_in_all(status: Mapping[str, Any]) -> int | None:
    """The updates behind a trained model, with those of the models that it started from; None where none are known."""
    own = status.get("n_updates")
    return None if own is None else own + status.get(STARTED, {}).get("n_updates", 0)


def _trained(start: StartFrom, source: RunFolder | None) -> dict[str, Any] | None:
    """The status of the training that is meant; None where it is not there, is another one or left no model."""
    if source is None or not source.status_file.exists():
        return None
    try:
        status = source.status()
    except DataError as error:
        log.warning(str(error))
        return None
    of_version = code_of(start.method) is None or MethodCode.recorded_in(status).version == start.version
    meant = of_version and status.get("training_digest") == start.training_digest
    return status if meant and status["status"] in HAVE_MODEL else None


def _state(source: RunFolder | None) -> str:
    """What there is in the place of the training that is meant."""
    if source is None or not source.status_file.exists():
        return "is not trained"
    status = source.status()
    if status["status"] in HAVE_MODEL:
        return f"is trained with other settings or by another version in {source}"
    return f"has no model in {source}: {status['status']}" + (f" ({status['message']})" if status["message"] else "")


def _remedy(start: StartFrom) -> str:
    variant = f" --variant '{start.variant}'" if start.variant else ""
    named = f"--dataset {start.dataset} --method {start.method}{variant} --seed {start.seed}"
    return f"`harness run {named}`, with the same --preset and --settings, trains it"


def _held(run: RunFolder, start: StartFrom) -> Started | None:
    """Which weights that are meant a folder has; None for others. What is damaged is reported in one line."""
    from harness.storage import checkpoint

    found = checkpoint.load(run.start_file, _digest(start), consequence="not used")
    return None if found is None else Started(**found[1])


def _digest(start: StartFrom) -> str:
    return canonical_json(dataclasses.asdict(start))
