"""Streaming estimators: everything the tables report about a model, from samples that are seen once and dropped.

Importance weights arrive in chunks ``lw = log p(x, h_k) - log q(h_k | x)``; four running sums a row (of exp(lw / 2),
exp(lw), exp(2 lw) in the log domain, and of lw) give every estimate at once, so memory does not grow with K. Sums are
in double precision. Equations are the thesis'; log-probabilities are in nats. Work is cut into blocks that have random
generators of their own, so results do not depend on how many threads share them. Methods get copies of rows, which
they may edit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from harness import parallel, pareto
from harness.method import Batch, Classifier, ImportanceWeighted, Orderings, Partitioned, Tractable, Unnormalised

T = TypeVar("T")
PER_ROW = ("log_p", "log_p_star", "bound", "ess_p", "ess_p_star")  # fields of Estimates


class RunningLogSumExp:
    """log sum_k exp(a_k) over the last axis of the chunks seen, element by element of the other axes."""

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Take in a chunk [..., k]."""
        chunk = torch.logsumexp(values, dim=-1)
        self.total = chunk if self.total is None else torch.logaddexp(self.total, chunk)


@dataclass(frozen=True)
class Estimates:
    """Per-row estimates, each a double tensor [B], from K importance samples."""

    n_samples: int
    log_p: Tensor  # log p~(x), equation 3.6
    log_p_star: Tensor  # log p~*(x), equation 3.5: log p*(x) up to -2 log Z
    bound: Tensor  # E_q[lw], the K = 1 estimate: a lower bound of log p(x)
    ess_p: Tensor  # effective sample size for p(h | x), in percent of K
    ess_p_star: Tensor  # effective sample size for p*(h | x), in percent of K

    @classmethod
    def of_blocks(cls, blocks: Sequence[Estimates]) -> Estimates:
        """Those of several blocks of rows, in one."""
        return cls(blocks[0].n_samples, *(torch.cat([getattr(b, name) for b in blocks]) for name in PER_ROW))

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
    """The running sums behind :class:`Estimates` for a fixed set of rows."""

    def __init__(self) -> None:
        self.n_samples = 0
        self._half, self._full, self._double = RunningLogSumExp(), RunningLogSumExp(), RunningLogSumExp()
        self._sum: Tensor | float = 0.0

    def add(self, log_weights: Tensor) -> None:
        """Take in a chunk of log-weights [B, k]."""
        log_weights = log_weights.double()
        self.n_samples += log_weights.shape[1]
        self._half.add(0.5 * log_weights)
        self._full.add(log_weights)
        self._double.add(2.0 * log_weights)
        self._sum = self._sum + log_weights.sum(1)

    def estimates(self) -> Estimates:
        """What the samples so far say."""
        log_k = math.log(self.n_samples)
        half, full, double = self._half.total, self._full.total, self._double.total
        return Estimates(
            n_samples=self.n_samples,
            log_p=full - log_k,
            log_p_star=2.0 * (half - log_k),
            bound=self._sum / self.n_samples,
            ess_p=100.0 * torch.exp(2.0 * full - double - log_k),
            ess_p_star=100.0 * torch.exp(2.0 * half - full - log_k),
        )


def _parts(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _by_blocks(
    x: Tensor, n_samples: int, generator: torch.Generator, chunk: int, estimate: Callable[..., T]
) -> list[T]:
    """``estimate(rows, sample counts, generator)`` of every block of rows x [B, D].

    No more than ``chunk`` (row, sample) pairs are to be taken at once: a block's rows times any of its sample counts.
    """
    per_row = min(n_samples, chunk)
    counts = _parts(n_samples, per_row)
    blocks = x.split(max(1, chunk // per_row))
    generators = parallel.spawn(generator, len(blocks))
    return parallel.run_all(
        [partial(estimate, rows, counts, own) for rows, own in zip(blocks, generators, strict=True)]
    )


@torch.no_grad()
def importance_estimates(
    method: ImportanceWeighted, x: Tensor, n_samples: int, generator: torch.Generator, chunk: int
) -> Estimates:
    """Estimates for rows x [B, D] from K = n_samples draws a row, at most ``chunk`` (row, sample) pairs at once.

    A chunk's samples belong to one block of rows, so memory is bounded by ``chunk`` a thread, whatever B and K are.
    """

    def estimate(rows: Tensor, counts: list[int], own: torch.Generator) -> Estimates:
        sums = ImportanceSums()
        for k in counts:
            sums.add(method.log_weights(rows.clone(), k, own))
        return sums.estimates()

    return Estimates.of_blocks(_by_blocks(x, n_samples, generator, chunk, estimate))


class PrefixCurve:
    """Estimates for every K of an ascending list from one stream of samples, for a fixed set of rows.

    Of the first ``HEAD`` samples every K's disjoint groups are averaged, which takes most of the noise out of the small
    ones; a larger K has its prefix of the stream alone.
    """

    HEAD = 1000

    def __init__(self, ks: Sequence[int]):
        self.ks, self._prefix, self._found = ks, ImportanceSums(), {}

    def counts(self, chunk: int) -> list[int]:
        """Sizes of the chunks to take in: they end at the head and at each larger K, none above ``chunk``."""
        ends = [min(self.HEAD, self.ks[-1]), *(k for k in self.ks if k > self.HEAD)]
        starts = [0, *ends[:-1]]
        return [n for start, end in zip(starts, ends, strict=True) for n in _parts(end - start, chunk)]

    def add(self, log_weights: Tensor) -> None:
        """Take in a chunk of log-weights [B, k], of the next size of ``counts``."""
        if self._prefix.n_samples == 0:
            for k in (k for k in self.ks if k <= log_weights.shape[1]):
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

    blocks = _by_blocks(x, ks[-1], generator, chunk, estimate)
    return [Estimates.of_blocks(same_k) for same_k in zip(*blocks, strict=True)]


@torch.no_grad()
def exact_log_prob(method: Tractable, x: Tensor, chunk: int) -> Tensor:
    """log p(x) [B] in double, for rows x [B, D], ``chunk`` rows at once."""
    parts = [partial(method.log_prob, rows.clone()) for rows in x.split(chunk)]
    return torch.cat([log_p.double() for log_p in parallel.run_all(parts)])


def log_prob_orders(method: Orderings, x: Tensor, chunk: int) -> Tensor:
    """log p(x) under every ordering, [B, M] double, for rows x [B, D], ``chunk`` rows at once."""
    parts = [partial(method.log_prob_orders, rows.clone()) for rows in x.split(chunk)]
    return torch.cat(parallel.run_all(parts)).double()


@dataclass(frozen=True)
class LogZ2:
    """2 log Z with its error.

    value: log of the mean of the samples of Z^2 (biased low by about standard_error^2 / 2, as the log is concave).
    standard_error: by the delta method. ess: of the outer samples, percent. pareto_k: of the outer samples' upper tail
    (see ``harness.pareto``), NaN where there are too few. doubt: why the value and its error bar cannot be trusted
    (a relative error above 0.3, fewer than 100 effective outer samples, or a tail too heavy for this many); else ''.
    """

    value: float
    standard_error: float
    ess: float
    n_outer: int
    n_inner: int
    pareto_k: float = math.nan

    @property
    def doubt(self) -> str:
        n_effective = self.ess / 100.0 * self.n_outer
        if not (self.standard_error < 0.3 and n_effective > 100):
            return f"{n_effective:.2g} effective samples of {self.n_outer}"
        limit = pareto.threshold(self.n_outer)
        return f"Pareto k = {self.pareto_k:.2f} above {limit:.2f}" if self.pareto_k > limit else ""

    @property
    def reliable(self) -> bool:
        return not self.doubt


@torch.no_grad()
def log_z2(method: Partitioned, n_outer: int, n_inner: int, generator: torch.Generator, chunk: int) -> LogZ2:
    """2 log Z from n_outer draws (x, h) ~ p, each with n_inner draws h' ~ q(h | x) (equation 3.11).

    The error is that of the mean over the independent outer draws, each averaged over its inner ones.
    """
    if n_outer < 2:
        raise ValueError(f"n_outer: expected at least 2 samples for an error bar, found {n_outer}")

    tail = pareto.Tail(n_outer)

    def sums(outer: int, own: torch.Generator) -> Tensor:
        mean = torch.logsumexp(method.log_z2_weights(outer, n_inner, own).double(), dim=1) - math.log(n_inner)
        tail.add(mean)
        return torch.logsumexp(torch.stack([mean, 2.0 * mean]), dim=1)

    value, error, ess = _log_mean(n_outer, max(1, chunk // min(n_inner, chunk)), generator, sums)
    return LogZ2(value, error, ess, n_outer, n_inner, tail.pareto_k())


def _log_mean(
    n: int, chunk: int, generator: torch.Generator, sums: Callable[[int, torch.Generator], Tensor]
) -> tuple[float, float, float]:
    """Log of the mean of n independent samples, its error by the delta method, their effective number in percent of n.

    sums: log sum w and log sum w^2, [2], of as many new samples as it is told, no more than ``chunk``.
    """
    parts = _parts(n, chunk)
    generators = parallel.spawn(generator, len(parts))
    blocks = parallel.run_all([partial(sums, size, own) for size, own in zip(parts, generators, strict=True)])
    log_sum, log_sum_squares = torch.logsumexp(torch.stack(blocks), dim=0).tolist()
    ess = math.exp(2.0 * log_sum - log_sum_squares) / n
    return log_sum - math.log(n), math.sqrt(max(0.0, (1.0 / ess - 1.0) / (n - 1))), 100.0 * ess


@dataclass(frozen=True)
class LogZ:
    """log Z by annealed importance sampling, with its error.

    value: log of the mean weight of the chains (biased low by about standard_error^2 / 2, and by whatever no chain has
    found). standard_error: by the delta method. ess: of the chains, percent. reliable: False where the relative error
    is above 0.3 or fewer than 20 effective chains carry the mean, so that the error bar itself cannot be trusted.
    """

    value: float
    standard_error: float
    ess: float
    n_chains: int

    @property
    def reliable(self) -> bool:
        return self.standard_error < 0.3 and self.ess / 100.0 * self.n_chains > 20


@torch.no_grad()
def log_z(method: Unnormalised, n_chains: int, n_temperatures: int, generator: torch.Generator, chunk: int) -> LogZ:
    """log Z from independent annealed chains, at most ``chunk`` of them at once."""
    if n_chains < 2:
        raise ValueError(f"n_chains: expected at least 2 for an error bar, found {n_chains}")

    def sums(n: int, own: torch.Generator) -> Tensor:
        log_weights = method.log_partition_samples(n, n_temperatures, own).double()
        return torch.logsumexp(torch.stack([log_weights, 2.0 * log_weights]), dim=1)

    return LogZ(*_log_mean(n_chains, chunk, generator, sums), n_chains)


@dataclass(frozen=True)
class LabelEstimates:
    """Per-row estimates of a joint model of rows and labels, from K samples that all classes share."""

    n_samples: int
    log_p_star: Tensor  # 2 log A(x) [B], a lower bound of log p*(x) (thesis, equation 4.8)
    log_label: Tensor  # log p~*(y | x) = log B(x, y) - log A(x) [B, n_classes]; never above 0 as A = sum_y B


@torch.no_grad()
def label_estimates(
    method: Classifier, x: Tensor, n_samples: int, generator: torch.Generator, chunk: int
) -> LabelEstimates:
    """A(x) and B(x, y) of every class from the same draws h ~ q(h | x) (equations 4.3 to 4.5, y summed exactly)."""

    def estimate(rows: Tensor, counts: list[int], own: torch.Generator) -> tuple[Tensor, Tensor]:
        running = RunningLogSumExp()
        for k in counts:
            running.add(method.log_label_weights(rows.clone(), k, own).double().transpose(1, 2))
        log_a = torch.logsumexp(running.total, dim=1)
        return 2.0 * (log_a - math.log(n_samples)), running.total - log_a[:, None]

    tops, labels = zip(*_by_blocks(x, n_samples, generator, chunk, estimate), strict=True)
    return LabelEstimates(n_samples, torch.cat(tops), torch.cat(labels))


@torch.no_grad()
def joint_label_loss(method: Classifier, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
    """-log p~*(x) - log p~*(y | x) [B] for rows with labels, what early stopping of joint models watches."""
    log_b = torch.logsumexp(method.log_label_weights(batch.x, n_samples, generator), dim=1)  # [B, n_classes]
    log_a = torch.logsumexp(log_b, dim=1)
    return 2.0 * math.log(n_samples) - log_a - log_b.gather(1, batch.y[:, None]).squeeze(1)
