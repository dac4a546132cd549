"""The folder of one run: what is in it, and how it is read and written.

``config.json`` (the cell), ``model.safetensors`` (the best weights), ``curve.csv`` (the learning curve),
``status.json`` (how training ended; written last), ``metrics.json`` (what the evaluation measured), while training is
under way ``checkpoint.safetensors``, after a long evaluation its pieces in ``measured.safetensors``, ``snapshots/``
where the cell asks for them, after a crash ``crashes.json``, and ``.lock`` while a process works there.
Expected ends are statuses, not exceptions: tables render them. Only ``metrics.json`` is an output that Snakemake knows
of, since it deletes those before it runs a job again: all else outlives a change of the evaluation, a kill and a crash.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import atomic, snapshots
from harness.config import Cell, canonical_json
from harness.errors import DataError

if TYPE_CHECKING:  # the workflow reads these files without torch, which takes a second to import
    from torch import nn

OK, TIMEOUT, UNAVAILABLE, DIVERGED, FAILED = "ok", "timeout", "unavailable", "diverged", "failed"
STATUSES = (OK, TIMEOUT, UNAVAILABLE, DIVERGED, FAILED)
HAVE_MODEL = (OK, TIMEOUT)
NO_LIKELIHOOD = "no likelihood"  # of a model that is fine, in place of its measurements
MEMORY_TRIES = 4  # on a cluster, each try has more memory up to this one (workflows/profiles/slurm/config.yaml)
FINAL = (OK, TIMEOUT, DIVERGED)  # training again would end alike; without data or after a crash it may end better


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping; raises DataError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, "a readable JSON file", error) from error
    if not isinstance(value, dict):
        raise DataError(path, "a JSON mapping", type(value).__name__)
    return value


def write_config(run: Path, cell: Cell) -> None:
    """``config.json``: the cell and the digest of its training part."""
    atomic.write_json(run / "config.json", {**cell.to_dict(), "training_digest": cell.training_digest})


def read_config(path: Path) -> Cell:
    """The cell of a ``config.json``."""
    values = read_json(path)
    values.pop("training_digest", None)
    return Cell.from_dict(values)


def write_status(run: Path, status: str, message: str = "", **facts: Any) -> None:
    """``status.json``: how training ended, with what is known about it."""
    atomic.write_json(run / "status.json", {"status": status, "message": message, **facts})


def is_trained(run: Path, cell: Cell, data_digest: str | None) -> bool:
    """Whether the folder holds the finished training of ``cell`` on the data of this digest, its weights unharmed.

    No snapshot that the cell asks for may be missing.
    """
    try:
        status = read_json(run / "status.json")
    except DataError:
        return False
    expected = {"training_digest": cell.training_digest, "data_digest": data_digest}
    if status["status"] not in FINAL or any(status.get(key) != value for key, value in expected.items()):
        return False
    if status["status"] not in HAVE_MODEL:
        return True
    model = run / "model.safetensors"
    unharmed = model.exists() and file_digest(model) == status["model_sha256"]
    return unharmed and not snapshots.missing(run, cell.training, status["n_updates"])


def copy_training(source: Path, run: Path, cell: Cell) -> None:
    """Put the finished training of ``cell`` in the folder ``source`` in place of that in ``run``; the status last."""
    for name in ("status.json", "model.safetensors"):
        (run / name).unlink(missing_ok=True)
    snapshots.remove(run)
    write_config(run, cell)
    kept = [source / "curve.csv", source / "model.safetensors", *sorted((source / snapshots.FOLDER).glob("*"))]
    for path in (*kept, source / "status.json"):
        if path.is_file():
            copy = run / path.relative_to(source)
            atomic.write(copy, lambda temporary, path=path: shutil.copyfile(path, temporary))


def crashes(run: Path) -> int:
    """How often this run has crashed so far; a success does not take that back."""
    try:
        return read_json(run / "crashes.json")["count"]
    except DataError:
        return 0


def count_crash(run: Path, message: str, killed_at: int | None = None) -> None:
    """``crashes.json``: one crash more. killed_at: the try that a SIGKILL ended."""
    here = _crashes_of_this_call(run) + 1
    facts = {"count": crashes(run) + 1, "of_this_call": here, "message": message, "killed_at": killed_at}
    atomic.write_json(run / "crashes.json", facts)


def forget_crashes(run: Path, attempt: int, succeeded: bool) -> None:
    """At the first try of a call, earlier crashes are those of other calls; those of a call that ends well never were.

    Snakemake knows the count from before the call, and would run again what has another one after it.
    """
    here = _crashes_of_this_call(run)
    if here and (succeeded or attempt == 1):
        facts = read_json(run / "crashes.json")
        count = facts["count"] - here if succeeded else facts["count"]
        atomic.write_json(run / "crashes.json", {**facts, "count": count, "of_this_call": 0})


def _crashes_of_this_call(run: Path) -> int:
    try:
        found = read_json(run / "crashes.json").get("of_this_call", 0)
    except DataError:
        return 0
    return found if isinstance(found, int) else 0


def killed_at_last(run: Path, attempt: int) -> bool:
    """Whether this is one try more after the run was killed in one that had all the memory it can get."""
    try:
        killed_at = read_json(run / "crashes.json").get("killed_at")
    except DataError:
        return False
    return isinstance(killed_at, int) and MEMORY_TRIES <= killed_at < attempt


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_model(path: Path, model: nn.Module, cell: Cell) -> None:
    """Weights and buffers; the bytes depend on them and on the configuration only."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    # one entry: the library keeps several in no fixed order, and the bytes must not depend on the process
    atomic.write(path, lambda temporary: save_file(tensors, temporary, {"bihm-harness": _origin(cell)}))


def _origin(cell: Cell) -> str:
    return canonical_json({"method": cell.method, "training_digest": cell.training_digest})


def load_model(path: Path, model: nn.Module, expected_digest: str) -> None:
    """Fill ``model``; raises DataError when the file is missing or is not the one that training wrote."""
    from safetensors.torch import load_file

    if not path.exists():
        raise DataError(path, "the weights that training wrote", "no such file")
    found = file_digest(path)
    if found != expected_digest:
        raise DataError(path, f"sha256 {expected_digest}", found)
    model.load_state_dict(load_file(path))


def load_snapshot(run: Path, update: int, model: nn.Module, cell: Cell) -> None:
    """Fill ``model`` with the weights after an update of the training of ``cell``; raises DataError where it cannot."""
    from safetensors import SafetensorError, safe_open

    path = snapshots.path_of(run, update)
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("bihm-harness")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(path, f"the weights after update {update}", error) from error
    if found != _origin(cell):
        raise DataError(path, f"weights of {_origin(cell)}", found)
    model.load_state_dict(tensors)
