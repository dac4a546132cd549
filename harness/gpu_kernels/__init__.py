"""Triton kernels for float32 and bfloat16 on a CUDA device: what tensor operations need a dozen launches for, one does.

An update of a deep stack is a thousand small tensor operations, each over before the next can be launched, so that
their number decides how long it takes, also where they are captured as a CUDA graph. Triton comes with PyTorch's CUDA
builds, and its first kernel needs a C compiler. Where either is missing, the tensor operations that say the same do the
work, which is said once. The modules here import Triton: ask ``for_tensor`` for them.
"""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)
DTYPES = (torch.float32, torch.bfloat16)


class Kernels(NamedTuple):
    """The modules that have them."""

    bernoulli: ModuleType
    adam: ModuleType


def for_tensor(tensor: Tensor) -> Kernels | None:
    """The kernels for tensors like this one, or None."""
    return _kernels() if tensor.is_cuda and tensor.dtype in DTYPES else None


@cache
def _kernels() -> Kernels | None:
    try:
        from harness.gpu_kernels import adam, bernoulli

        logits = torch.zeros(1, 1, device="cuda")
        bernoulli.score(logits, logits[0], logits, torch.zeros(1, device="cuda", dtype=torch.float64))
    except Exception as error:  # Triton's own, and those of what it calls
        log.warning(f"without Triton kernels, which take a fraction of the time: {type(error).__name__}: {error}")
        return None
    return Kernels(bernoulli, adam)
