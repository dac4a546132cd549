"""Memory that is used again: tensors which live no longer than one call of a method.

The C library gives the pages of a large tensor back to the operating system when it is freed, and each comes back with
a page fault: a sixth of an update's time. A ``Scratch`` keeps what it has handed out and hands it out again under the
same key, so two tensors that are needed at the same time need two keys. Every thread has its own memory. Other devices
need none of this, as PyTorch keeps their memory itself, and what a CUDA graph writes to must not be handed out again.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor


class Scratch(threading.local):
    """Matrices by key; the contents of what is taken are whatever was there.

    plans: what else its users keep for one thread's calls to come, such as views of matrices.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[object, ...], Tensor] = {}
        self._parts: dict[tuple[object, ...], tuple[Tensor, list[Tensor]]] = {}
        self.plans: dict[Any, Any] = {}

    def take(self, key: str, n_rows: int, n_columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A contiguous [n_rows, n_columns], valid until the next ``take`` of the same key by the same thread."""
        if device.type != "cpu":
            return torch.empty(n_rows, n_columns, dtype=dtype, device=device)
        full_key = (key, n_columns, dtype)
        buffer = self._buffers.get(full_key)
        if buffer is None or buffer.shape[0] < n_rows:  # len() of a tensor takes longer
            with torch.inference_mode(False):  # may be written to in any mode
                buffer = torch.empty(n_rows, n_columns, dtype=dtype)
            self._buffers[full_key] = buffer
        return buffer if buffer.shape[0] == n_rows else buffer[:n_rows]

    def take_parts(
        self, key: str, n_parts: int, n_rows: int, n_columns: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, list[Tensor]]:
        """``take`` of n_parts times n_rows rows, and each part of it as a tensor of its own, [n_rows, n_columns]."""
        whole = self.take(key, n_parts * n_rows, n_columns, dtype, device)
        if device.type != "cpu":
            return whole, list(whole.split(n_rows))
        full_key = (key, n_rows, n_columns, dtype)
        known = self._parts.get(full_key)
        if known is None or known[0].data_ptr() != whole.data_ptr() or known[0].shape != whole.shape:
            known = self._parts[full_key] = whole, list(whole.split(n_rows))
        return known

    def __deepcopy__(self, memo: dict[int, Any]) -> Scratch:
        return Scratch()

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()
