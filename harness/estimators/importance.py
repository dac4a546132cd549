"""Per-row estimates from importance weights that are seen once and dropped, and exact log-likelihoods.

Importance weights arrive in chunks ``lw = log p(x, h_k) - log q(h_k | x)``; four running sums a row (of exp(lw / 2),
exp(lw), exp(2 lw) in the log domain, and of lw) give every estimate at once, and those of a few groups of samples tell
its bias (see ``harness.estimators.bias``), so memory does not grow with K. Sums are in double precision. Equations are
the thesis'; log-probabilities are in nats. Work is cut into blocks that have random generators of their own, so results
do not depend on how many threads share them. Methods get copies of rows, which they may edit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from harness.compute import parallel
from harness.estimators import bias
from harness.estimators.bias import Bias
from harness.estimators.log_sums import GROUPS, GroupedPowerSums, RunningLogSumExp
from harness.method import ImportanceWeighted, Orderings, Tractable
from harness.storage import pieces

T = TypeVar("T")
PER_ROW = ("log_p", "log_p_star", "bound", "ess_p", "ess_p_star")  # fields of Estimates


@dataclass(frozen=True)
class Estimates:
    """Per-row estimates, each a double tensor [B], from K importance samples."""

    n_samples: int
    log_p: Tensor  # log p~(x), equation 3.6
    log_p_star: Tensor  # log p~*(x), equation 3.5: log p*(x) up to -2 log Z
    bound: Tensor  # E_q[lw], the K = 1 estimate: a lower bound of log p(x)
    ess_p: Tensor  # effective sample size for p(h | x), in percent of K
    ess_p_star: Tensor  # effective sample size for p*(h | x), in percent of K
    log_means: Tensor | None = None  # log mean exp(lw / 2) and exp(lw) of groups of samples [2, B, groups]; tell biases

    @classmethod
    def of_blocks(cls, blocks: Sequence[Estimates]) -> Estimates:
        """The estimates of several blocks of rows, in one."""
        joined = (torch.cat([getattr(block, name) for block in blocks]) for name in PER_ROW)
        known = blocks[0].log_means is not None
        return cls(blocks[0].n_samples, *joined, torch.cat([b.log_means for b in blocks], dim=1) if known else None)

    @property
    def log_p_bias(self) -> Bias:
        """The bias of the mean of log_p over the rows."""
        return bias.UNKNOWN if self.log_means is None else bias.of_log_means(self.log_means[1], self.n_samples)

    @property
    def log_p_star_bias(self) -> Bias:
        """The bias of the mean of log_p_star over the rows."""
        return bias.UNKNOWN if self.log_means is None else 2.0 * bias.of_log_means(self.log_means[0], self.n_samples)

    @property
    def log_p_variance(self) -> Tensor:
        """Monte-Carlo variance of log_p by the delta method, [B]: (100 / ess - 1) / K."""
        return _delta_variance(self.ess_p, self.n_samples)

    @property
    def log_p_star_variance(self) -> Tensor:
        """Monte-Carlo variance of log_p_star, [B]: that of twice the log of a mean."""
        return 4.0 * _delta_variance(self.ess_p_star, self.n_samples)


def _delta_variance(ess_percent: Tensor, n_samples: int) -> Tensor:
    # var(mean w) / mean(w)^2 = (mean(w^2) / mean(w)^2 - 1) / K, and ess = 100 mean(w)^2 / mean(w^2); the unbiased
    # variance divides by K - 1. One sample carries no information on its variance.
    if n_samples == 1:
        return torch.full_like(ess_percent, math.nan)
    return (100.0 / ess_percent - 1.0) / (n_samples - 1)


class ImportanceSums:
    """The running sums behind :class:`Estimates` for a fixed set of rows.

    expected: how many samples there will be, which decides the groups that biases are estimated from; None: without.
    """

    def __init__(self, expected: int | None = None) -> None:
        self.n_samples, self._expected = 0, expected
        self._groups = None if expected is None else GroupedPowerSums(expected)
        self._half, self._full, self._double = RunningLogSumExp(), RunningLogSumExp(), RunningLogSumExp()
        self._sum: Tensor | float = 0.0

    def add(self, log_weights: Tensor) -> None:
        """Take in a chunk of log-weights [B, k]."""
        if self._groups is not None:
            self._groups.add(0.5 * log_weights)
        log_weights = log_weights.double()
        self.n_samples += log_weights.shape[1]
        self._half.add(0.5 * log_weights)
        self._full.add(log_weights)
        self._double.add(2.0 * log_weights)
        self._sum = self._sum + log_weights.sum(1)

    def estimates(self) -> Estimates:
        """The estimates from the samples so far."""
        log_k = math.log(self.n_samples)
        half, full, double = self._half.total, self._full.total, self._double.total
        return Estimates(
            n_samples=self.n_samples,
            log_p=full - log_k,
            log_p_star=2.0 * (half - log_k),
            bound=self._sum / self.n_samples,
            ess_p=100.0 * torch.exp(2.0 * full - double - log_k),
            ess_p_star=100.0 * torch.exp(2.0 * half - full - log_k),
            log_means=self._groups.log_means() if self.n_samples == self._expected >= GROUPS else None,
        )


def parts_of(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def by_blocks(x: Tensor, n_samples: int, generator: torch.Generator, chunk: int, estimate: Callable[..., T]) -> list[T]:
    """``estimate(rows, sample counts, generator)`` of every block of rows x [B, D].

    No more than ``chunk`` (row, sample) pairs are to be taken at once: a block's rows times any of its sample counts.
    """
    per_row = min(n_samples, chunk)
    counts = parts_of(n_samples, per_row)
    blocks = x.split(max(1, chunk // per_row))
    generators = parallel.spawn(generator, len(blocks))
    return pieces.run_all(
        [partial(estimate, rows, counts, own) for rows, own in zip(blocks, generators, strict=True)], (Estimates,)
    )


@torch.no_grad()
def importance_estimates(
    method: ImportanceWeighted, x: Tensor, n_samples: int, generator: torch.Generator, chunk: int
) -> Estimates:
    """Estimates for rows x [B, D] from K = n_samples draws per row, at most ``chunk`` (row, sample) pairs at once.

    A chunk's samples belong to one block of rows, so memory is bounded by ``chunk`` a thread, whatever B and K are.
    """

    def estimate(rows: Tensor, counts: list[int], own: torch.Generator) -> Estimates:
        sums = ImportanceSums(n_samples)
        for k in counts:
            sums.add(method.log_weights(rows.clone(), k, own))
        return sums.estimates()

    return Estimates.of_blocks(by_blocks(x, n_samples, generator, chunk, estimate))


class PrefixCurve:
    """Estimates for every K of an ascending list from one stream of samples, for a fixed set of rows.

    Of the first ``HEAD`` samples every K's disjoint groups are averaged, which takes most of the noise out of the small
    ones; a larger K has its prefix of the stream alone. The largest K comes with what its bias is estimated from.
    """

    HEAD = 1000

    def __init__(self, ks: Sequence[int]):
        self.ks, self._prefix, self._found = ks, ImportanceSums(ks[-1]), {}

    def counts(self, chunk: int) -> list[int]:
        """Sizes of the chunks to take in: they end at the head and at each larger K, none above ``chunk``."""
        ends = [min(self.HEAD, self.ks[-1]), *(k for k in self.ks if k > self.HEAD)]
        starts = [0, *ends[:-1]]
        return [n for start, end in zip(starts, ends, strict=True) for n in parts_of(end - start, chunk)]

    def add(self, log_weights: Tensor) -> None:
        """Take in a chunk of log-weights [B, k], of the next size of ``counts``."""
        if self._prefix.n_samples == 0:
            for k in (k for k in self.ks if k <= log_weights.shape[1] and k < self.ks[-1]):
                self._found[k] = _mean_of_groups(log_weights, k)
        self._prefix.add(log_weights)
        if self._prefix.n_samples in self.ks:
            self._found.setdefault(self._prefix.n_samples, self._prefix.estimates())

    def estimates(self) -> list[Estimates]:
        """One for each K."""
        return [self._found[k] for k in self.ks]


def _mean_of_groups(log_weights: Tensor, k: int) -> Estimates:
    """What K = k samples say on average: log-weights [B, n] cut into n // k groups."""
    n_rows, n = log_weights.shape
    groups = n // k
    sums = ImportanceSums()
    sums.add(log_weights[:, : groups * k].reshape(n_rows * groups, k))
    found = sums.estimates()
    return Estimates(k, *(getattr(found, name).view(n_rows, groups).mean(1) for name in PER_ROW))


@torch.no_grad()
def importance_curve(
    method: ImportanceWeighted, x: Tensor, ks: Sequence[int], generator: torch.Generator, chunk: int
) -> list[Estimates]:
    """Estimates for rows x [B, D] and every K of the ascending ``ks``, all from one pass over the largest K's samples.

    At most ``chunk`` (row, sample) pairs are taken at once. The variances of an Estimates are those of one group.
    """
    if list(ks) != sorted(set(ks)) or not ks or ks[0] < 1:
        raise ValueError(f"ks: expected ascending numbers of samples from 1, found {list(ks)}")
    if chunk < PrefixCurve.HEAD:
        raise ValueError(f"chunk: expected at least {PrefixCurve.HEAD}, found {chunk}")

    def estimate(rows: Tensor, counts: list[int], own: torch.Generator) -> list[Estimates]:
        curve = PrefixCurve(ks)
        for k in curve.counts(chunk // len(rows)):
            curve.add(method.log_weights(rows.clone(), k, own))
        return curve.estimates()

    blocks = by_blocks(x, ks[-1], generator, chunk, estimate)
    return [Estimates.of_blocks(same_k) for same_k in zip(*blocks, strict=True)]


@torch.no_grad()
def exact_log_prob(method: Tractable, x: Tensor, chunk: int) -> Tensor:
    """log p(x) [B] in double, for rows x [B, D], ``chunk`` rows at once."""
    parts = [partial(method.log_prob, rows.clone()) for rows in x.split(chunk)]
    return torch.cat([log_p.double() for log_p in pieces.run_all(parts)])


def log_prob_orders(method: Orderings, x: Tensor, chunk: int) -> Tensor:
    """log p(x) under every ordering, [B, M] double, for rows x [B, D], ``chunk`` rows at once."""
    parts = [partial(method.log_prob_orders, rows.clone()) for rows in x.split(chunk)]
    return torch.cat(pieces.run_all(parts)).double()
