"""Checkpoints: one safetensors file with all that an interrupted training run needs to continue bit for bit.

Tensors are parameters, best parameters, buffers, optimiser moments and the states of generators; everything else (the
position, the learning curve so far, how it is computed, the digest of the configuration) is JSON in the file's header,
with a digest of all tensors and of itself. A checkpoint that is damaged, of another configuration or otherwise
useless is reported in one line, and the run starts again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from harness import atomic

log = logging.getLogger(__name__)

SINCE = "random."  # tensors that checkpoints of earlier versions lack
OPEN = "optimizer.state."  # tensors that there are only after an update, of a size that their optimiser knows
_ENTRY = "bihm-harness"


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], digest: str) -> None:
    """Write atomically. state: what JSON can hold. Tensors may share memory. Raises HarnessError naming the file."""
    on_cpu = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    record = {"state": state, "digest": digest}
    record["sha256"] = _digest(on_cpu, record)
    # one entry: the library keeps several in no fixed order
    atomic.write_bytes(path, safetensors.torch.save(on_cpu, {_ENTRY: json.dumps(record)}))


def load(
    path: Path,
    digest: str,
    like: Mapping[str, Tensor] | None = None,
    fields: Collection[str] = (),
    consequence: str = "training starts again",
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and state; None where there is no checkpoint to continue, with a line on why unless there is no file.

    like: tensors of the names, shapes and types that are expected; any will do where it is None. fields: what the state
    must have. consequence: the end of that line.
    """
    if not path.exists():
        return None
    try:
        return _usable(path.read_bytes(), digest, like, fields)
    except (OSError, SafetensorError, _UselessError, KeyError, TypeError, ValueError) as error:
        reason = error if isinstance(error, _UselessError) else f"cannot be read ({type(error).__name__}: {error})"
        log.warning(f"{path}: {reason}; {consequence}")
        return None


class _UselessError(Exception):
    """Why a checkpoint is not continued."""


def _usable(
    content: bytes, digest: str, like: Mapping[str, Tensor] | None, fields: Collection[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = safetensors.torch.load(content)
    record = json.loads(_metadata(content)[_ENTRY])
    if set(record) == {"state", "digest"}:  # of an earlier version, which knew neither digest nor global generators
        tensors = {**{name: tensor for name, tensor in (like or {}).items() if name.startswith(SINCE)}, **tensors}
    elif record.pop("sha256", None) != _digest(tensors, record):
        raise _UselessError("damaged: its content is not what was written")
    if record["digest"] != digest:
        raise _UselessError("of other settings, other data or another kind of device")
    found = _kinds(tensors)
    expected = found if like is None else _kinds(like)
    if expected != found:
        name = next(name for name in sorted({**expected, **found}) if expected.get(name) != found.get(name))
        raise _UselessError(f"tensor {name}: expected {_words(expected.get(name))}, found {_words(found.get(name))}")
    if missing := sorted(set(fields) - set(record["state"])):
        raise _UselessError(f"state: expected {', '.join(missing)}, found none")
    return tensors, record["state"]


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(each.shape), each.dtype) for name, each in tensors.items() if not name.startswith(OPEN)}


def _words(kind: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "none" if kind is None else f"{list(kind[0])} of {kind[1]}"


def _metadata(content: bytes) -> dict[str, str]:
    """The free part of a safetensors header."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def _digest(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """sha256 of names, types, shapes and bytes of all tensors, and of what goes with them."""
    total = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()
