"""The folder of one run: what is in it, and how it is read and written.

``config.json`` (the cell), ``model.safetensors`` (the best weights), ``curve.csv`` (the learning curve),
``status.json`` (how training ended; written last), ``metrics.json`` (what the evaluation measured), and while training
is under way ``checkpoint.safetensors``. Expected ends are statuses, not exceptions: tables render them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from harness import atomic
from harness.config import Cell, canonical_json
from harness.errors import DataError

OK, TIMEOUT, UNAVAILABLE, DIVERGED, FAILED = "ok", "timeout", "unavailable", "diverged", "failed"
STATUSES = (OK, TIMEOUT, UNAVAILABLE, DIVERGED, FAILED)
HAVE_MODEL = (OK, TIMEOUT)


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


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_model(path: Path, model: nn.Module, cell: Cell) -> None:
    """Weights and buffers; the bytes depend on them and on the configuration only."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    # one entry: the library keeps several in no fixed order, and the bytes must not depend on the process
    metadata = {"bihm-harness": canonical_json({"method": cell.method, "training_digest": cell.training_digest})}
    atomic.write(path, lambda temporary: save_file(tensors, temporary, metadata))


def load_model(path: Path, model: nn.Module, expected_digest: str) -> None:
    """Fill ``model``; raises DataError when the file is missing or is not the one that training wrote."""
    if not path.exists():
        raise DataError(path, "the weights that training wrote", "no such file")
    found = file_digest(path)
    if found != expected_digest:
        raise DataError(path, f"sha256 {expected_digest}", found)
    model.load_state_dict(load_file(path))
