"""Checkpoints: one safetensors file with all that an interrupted training run needs to go on bit for bit.

Tensors are parameters, best parameters, buffers, optimiser moments and the generator's state; everything else (the
position, the learning curve so far, the digest of the configuration) is JSON in the file's header. A checkpoint of
another configuration is ignored, not an error: the run starts again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness import atomic

FILE_NAME = "checkpoint.safetensors"


def save(path: Path, tensors: dict[str, Tensor], state: dict[str, Any], digest: str) -> None:
    """Write atomically."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # one entry: the library keeps several in no fixed order
    metadata = {"bihm-harness": json.dumps({"state": state, "digest": digest})}
    atomic.write(path, lambda temporary: save_file(on_cpu, temporary, metadata))


def load(path: Path, digest: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and state; None where there is no checkpoint, it cannot be read or is of another configuration."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()["bihm-harness"])
            if metadata["digest"] != digest:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, metadata["state"]  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
