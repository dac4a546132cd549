"""When the layers of a belief stack come into use: one after the other, each once the one below it is reliable.

In a deep stack, units of upper layers die, always on or always off, while the layer below them carries no signal yet,
and a dead unit gets no gradient that would bring it back. So layers may wait: they are neither computed nor trained,
and the stack ends with the highest layer that was released, whose prior has the bias of the layer of p above it, which
is p(h_l | h_{l+1}) while all of h_{l+1} is off. That truncated stack is a model of its own, in training as in
evaluation (``harness.blocks.sigmoid_belief``).

The next layer is released when draws of the highest one are reliable: the correlation of two independent draws from
q(h_l | x), given one x, as ``harness.estimators.layer_use`` defines it, over the rows of a batch and as a moving
average over updates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.errors import ConfigError

KEPT = 0.98  # of the moving average, an update


def reliability(draws: Tensor, n_samples: int) -> Tensor:
    """1 - mean variance within a row / variance, sums over units, of binary draws [B * K, n]; a scalar, double.

    n_samples: K >= 2 draws of a row, next to each other; the variance within it is the unbiased one. 0 where no unit
    ever changes.
    """
    on = draws.reshape(-1, n_samples, draws.shape[1]).sum(1, dtype=torch.float32)  # [B, n], draws that are on
    n_pairs = len(on) * n_samples
    within = (on * (n_samples - on)).sum(dtype=torch.float64) / (n_pairs * (n_samples - 1))
    mean = on.sum(0, dtype=torch.float64) / n_pairs
    total = (mean * (1.0 - mean)).sum()
    return torch.where(total > 0, 1.0 - within / total, torch.zeros_like(total))


class Release(nn.Module):
    """How many of ``n_layers`` layers are in use, the lowest one from the start, and what decides about the next.

    threshold: the reliability above which the layer above is released. every: updates from one decision to the next.
    Buffers hold all of it, so that a checkpoint does, and weights know how many layers they are of. The two counts are
    integers, which stay when training goes back to earlier weights; averages, one for each layer, are those of the
    weights, and begin anew where these had not got that far.
    """

    def __init__(self, n_layers: int, threshold: float, every: int):
        super().__init__()
        self.threshold, self.every = threshold, every
        self.register_buffer("released", torch.ones((), dtype=torch.int64))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))  # while layers waited
        self.register_buffer("reliability", torch.zeros(n_layers, dtype=torch.float64))  # 0: nothing was seen yet
        self.n_released, self.n_updates = 1, 0  # the same on the host, since reading a buffer may wait for a GPU

    def read(self) -> None:
        """Take in the counts of buffers that were loaded."""
        self.n_released, self.n_updates = int(self.released), int(self.updates)

    @torch.no_grad()
    def see(self, draws: Tensor, n_samples: int) -> None:
        """Take in an update's draws of the highest layer in use, [B * K, n], K = n_samples of a row.

        Raises ConfigError for a single one, which says nothing about the others.
        """
        if n_samples < 2:
            raise ConfigError(f"release: n_samples: expected at least 2, to compare draws, found {n_samples}")
        average, found = self.reliability[self.n_released - 1], reliability(draws, n_samples)
        average.copy_(torch.where(average == 0, found, KEPT * average + (1.0 - KEPT) * found))

    def advance(self) -> bool:
        """Begin another update: release the next layer if it is time to decide, and time for it; whether it was."""
        due = self.n_updates % self.every == 0 and self.n_released < len(self.reliability)
        due = due and self.reliability[self.n_released - 1].item() > self.threshold
        if due:
            self.n_released += 1
            self.released.fill_(self.n_released)
        self.n_updates += 1
        self.updates.fill_(self.n_updates)
        return due
