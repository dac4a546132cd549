"""The part that all rivals' updates share: Adam and the L1 penalty around gradients that each obtains in its own way.

The choices are the fastest here of what a practitioner would try: PyTorch's fused Adam (per tensor and multi-tensor
forms take half a millisecond to two longer on BiHM-12), and the penalty added to gradients in one multi-tensor
operation (as a term of the loss it costs a millisecond more).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def adam_update(
    network: nn.Module,
    add_gradients: Callable[[Tensor], object],
    learning_rate: float,
    l1: float,
    weight_decay: float = 0.0,
) -> Callable[[Tensor], None]:
    """An update on a batch x [B, D]: ``add_gradients(x)`` into empty ``.grad``, then on weights, then Adam.

    On weights: l1 sign(w), and weight_decay w, by the optimiser, which is faster than as a term of the loss.
    """
    weights = [parameter for parameter in network.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in network.parameters() if parameter.dim() < 2]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others}]
    optimizer = torch.optim.Adam(groups, lr=learning_rate, fused=True)

    def update(x: Tensor) -> None:
        optimizer.zero_grad()
        add_gradients(x)
        if l1:
            with torch.no_grad():
                torch._foreach_add_([w.grad for w in weights], torch._foreach_sign(weights), alpha=l1)
        optimizer.step()

    return update


def by_backward(loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], None]:
    """Gradients of a loss by automatic differentiation."""

    def add_gradients(x: Tensor) -> None:
        loss(x).backward()

    return add_gradients
