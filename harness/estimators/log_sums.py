"""Log-domain sums over streams of samples that are seen once, in memory that does not grow with their number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GROUPS = 16  # disjoint parts of a stream; averages are over 1, 2, 4, 8 and all of them


class RunningLogSumExp:
    """log sum_k exp(a_k) over the last axis of the chunks seen, element by element of the other axes."""

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Take in a chunk [..., k]."""
        chunk = torch.logsumexp(values, dim=-1)
        self.total = chunk if self.total is None else torch.logaddexp(self.total, chunk)


class GroupedPowerSums:
    """log sum w and log sum w^2 over each of ``GROUPS`` equal parts of a stream of n_samples log-weights.

    What does not fill a group is left out: all of it where there are fewer samples than groups.
    """

    def __init__(self, n_samples: int):
        self.size = n_samples // GROUPS
        self._seen = 0
        self._sums: list[Tensor] = []  # [2, ..., groups] of whole groups, and perhaps of one that has begun

    def add(self, log_weights: Tensor) -> None:
        """Take in a chunk [..., k]."""
        position, start = self._seen, self._seen
        self._seen += log_weights.shape[-1]
        stop = min(self._seen, GROUPS * self.size)
        while position < stop:
            begun = position % self.size
            n = min(self.size - begun, stop - position)  # into the group at hand
            groups = (stop - position) // self.size if begun == 0 and n == self.size else 1  # whole ones at once
            part = log_weights[..., position - start : position - start + n * groups]
            sums = _log_power_sums(part.unflatten(-1, (groups, n)))
            if begun:
                self._sums[-1] = torch.logaddexp(self._sums[-1], sums)
            else:
                self._sums.append(sums)
            position += n * groups

    def log_means(self) -> Tensor:
        """log mean w and log mean w^2 of every group, [2, ..., GROUPS]; no groups of too few samples, [0]."""
        return torch.cat(self._sums, dim=-1) - math.log(self.size) if self.size else torch.empty(0)


def _log_power_sums(log_weights: Tensor) -> Tensor:
    """log sum w and log sum w^2 over the last axis, [2, ...] double, with one exponential for both.

    Log-weights in single precision stay so until they are summed up: what is asked of the sums is no more.
    """
    top = log_weights.amax(-1, keepdim=True)
    top = torch.where(top == -math.inf, 0.0, top)  # no weight at all: the logarithm of zero, not NaN
    w = torch.exp(log_weights - top)
    top = top.double().squeeze(-1)
    return torch.stack([w.sum(-1), w.square_().sum(-1)]).double().log_().add_(torch.stack([top, 2.0 * top]))
