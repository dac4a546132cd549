"""Files with the weights and buffers of a model, and how one knows that they are the expected ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness import atomic
from harness.errors import DataError
from harness.settings.config import Cell, canonical_json
from harness.storage.records import check_file

if TYPE_CHECKING:  # torch takes a second to import, and the workflow never reads weights
    from torch import Tensor, nn

_ENTRY = "bihm-harness"


def save(path: Path, model: nn.Module, cell: Cell) -> None:
    """Weights and buffers; the bytes depend on them and on the configuration only.

    Raises HarnessError, naming the file, where it cannot be written.
    """
    from safetensors.torch import save as content_of

    # copies, since tied weights are one tensor of two names, which the library refuses
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    # one entry: the library keeps several in no fixed order, and the bytes must not depend on the process
    atomic.write_bytes(path, content_of(tensors, {_ENTRY: _origin(cell)}))


def load(path: Path, model: nn.Module, expected_digest: str) -> None:
    """Fill ``model``; raises DataError when the file is missing or is not the one of this sha256."""
    model.load_state_dict(read(path, expected_digest))


def read(path: Path, expected_digest: str) -> dict[str, Tensor]:
    """The tensors of a file by their names; raises DataError when it is missing or is not the one of this sha256."""
    from safetensors.torch import load_file

    if not path.exists():
        raise DataError(path, "the weights that training wrote", "no such file")
    check_file(path, expected_digest)
    return load_file(path)


def load_of_cell(path: Path, model: nn.Module, cell: Cell, what: str) -> None:
    """Fill ``model``; raises DataError when the file, which holds ``what``, is not of a training of ``cell``."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get(_ENTRY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(path, what, error) from error
    if found != _origin(cell):
        raise DataError(path, f"weights of {_origin(cell)}", found)
    model.load_state_dict(tensors)


def _origin(cell: Cell) -> str:
    return canonical_json({"method": cell.method, "training_digest": cell.training_digest})
