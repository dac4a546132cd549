"""2 log Z as a function of the number of samples: every prefix of one stream of draws, in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from harness.compute import parallel
from harness.estimators.pareto import Tail
from harness.method import Partitioned


@torch.no_grad()
def z2_log_sums(
    method: Partitioned, k_outers: Sequence[int], k_inner: int, generator: torch.Generator, chunk: int, tail: Tail
) -> Tensor:
    """log sum w and log sum w^2, [2, n] double, over the first K outer draws for each K of the n ascending k_outers.

    w: an outer draw's sample of Z^2, averaged over its ``k_inner`` inner ones (equation 3.11); ``tail`` takes them in
    as well. At most ``chunk`` (outer, inner) pairs are taken at once. The stream of draws is that of
    ``harness.estimators.log_z2`` with the same generator.
    """
    if list(k_outers) != sorted(set(k_outers)) or not k_outers or k_outers[0] < 1:
        raise ValueError(f"k_outers: expected ascending numbers of draws from 1, found {list(k_outers)}")
    size = max(1, chunk // min(k_inner, chunk))
    starts = range(0, k_outers[-1], size)

    def part(start: int, own: torch.Generator) -> tuple[list[int], Tensor]:
        """Where the pieces of a block end, and their sums [2, pieces]."""
        end = min(start + size, k_outers[-1])
        ends = [*(k for k in k_outers if start < k < end), end]
        log_w = torch.logsumexp(method.log_z2_weights(end - start, k_inner, own).double(), dim=1) - math.log(k_inner)
        tail.add(log_w)
        pieces = log_w.tensor_split([k - start for k in ends[:-1]])
        return ends, torch.stack([torch.logsumexp(torch.stack([p, 2.0 * p]), dim=1) for p in pieces], dim=1)

    generators = parallel.spawn(generator, len(starts))
    blocks = parallel.run_all([partial(part, start, own) for start, own in zip(starts, generators, strict=True)])
    running = torch.logcumsumexp(torch.cat([sums for _, sums in blocks], dim=1), dim=1)
    ends = [end for block, _ in blocks for end in block]
    return running[:, [ends.index(k) for k in k_outers]]
