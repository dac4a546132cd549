"""Weights in the data type that training multiplies in, with memory for gradients that nobody has to clear.

The first product of an update overwrites what the memory held, so that the step of Adam need not write zeros there: an
update of a wide network spends a quarter of its time on memory that such a step reads and writes. What holds an earlier
update's gradient when no product comes is cleared then, and where the memory itself was given to a method, which may
write to it at any time, in every update.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Rounded:
    """A ``harness.method.RoundedWeight``. value, gradient: [n_out, n_in], or a batch; the latter all zero."""

    def __init__(self, value: Tensor, gradient: Tensor):
        self.value, self._gradient = value, gradient
        self._is_zero = True  # nothing was added in this update
        self._has_old = False  # what was added in an earlier one may still be there
        self._handed_out = False

    @property
    def gradient(self) -> Tensor:
        self._handed_out = True
        self.end_update()
        return self._gradient

    def add_product(self, missed: Tensor, seen: Tensor) -> None:
        self.add_transposed(missed.mT, seen if seen.dtype == missed.dtype else seen.to(missed.dtype))

    def add_transposed(self, missed: Tensor, seen: Tensor) -> None:
        is_batch = missed.dim() == 3
        if self._is_zero:  # nothing to add to: a tenth faster
            (torch.bmm if is_batch else torch.mm)(missed, seen, out=self._gradient)
            self._is_zero = False
        else:
            (self._gradient.baddbmm_ if is_batch else self._gradient.addmm_)(missed, seen)

    def begin_update(self) -> None:
        """From now on gradients are those of another update."""
        self._has_old = self._has_old or not self._is_zero
        self._is_zero = True
        if self._handed_out:
            self._gradient.zero_()
            self._has_old = False

    def end_update(self) -> None:
        """Leave in the memory what was added in this update, and nothing else."""
        if self._is_zero and self._has_old:
            self._gradient.zero_()
        self._has_old = False

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """None, as a ``RoundedWeight`` is copied."""
