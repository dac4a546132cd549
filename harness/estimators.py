"""Streaming estimators: everything the tables report about a model, from samples that are seen once and dropped.

Importance weights arrive in chunks ``lw = log p(x, h_k) - log q(h_k | x)``; four running sums a row (of exp(lw / 2),
exp(lw), exp(2 lw) in the log domain, and of lw) give every estimate at once, and those of a few groups of samples tell
its bias (see ``harness.bias``), so memory does not grow with K. Sums are in double precision. Equations are the
thesis'; log-probabilities are in nats. Work is cut into blocks that have random generators of their own, so results do
not depend on how many threads share them. Methods get copies of rows, which they may edit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from harness import bias, parallel, pareto, pieces
from harness.bias import Bias
from harness.log_sums import GROUPS, GroupedPowerSums, RunningLogSumExp
from harness.method import Batch, Classifier, ImportanceWeighted, Orderings, Partitioned, Tractable, Unnormalised

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
        """Those of several blocks of rows, in one."""
        joined = (torch.cat([getattr(block, name) for block in blocks]) for name in PER_ROW)
        known = blocks[0].log_means is not None
        return cls(blocks[0].n_samples, *joined, torch.cat([b.log_means for b in blocks], dim=1) if known else None)

    @property
    def log_p_bias(self) -> Bias:
        """Of the mean of log_p over the rows."""
        return bias.UNKNOWN if self.log_means is None else bias.of_log_means(self.log_means[1], self.n_samples)

    @property
    def log_p_star_bias(self) -> Bias:
        """Of the mean of log_p_star over the rows."""
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

    expected: how many samples there will be, from which groups of them follow that tell biases; None: without these.
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
            log_means=self._groups.log_means() if self.n_samples == self._expected >= GROUPS else None,
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
    return pieces.run_all(
        [partial(estimate, rows, counts, own) for rows, own in zip(blocks, generators, strict=True)], (Estimates,)
    )


@torch.no_grad()
def importance_estimates(
    method: ImportanceWeighted, x: Tensor, n_samples: int, generator: torch.Generator, chunk: int
) -> Estimates:
    """Estimates for rows x [B, D] from K = n_samples draws a row, at most ``chunk`` (row, sample) pairs at once.

    A chunk's samples belong to one block of rows, so memory is bounded by ``chunk`` a thread, whatever B and K are.
    """

    def estimate(rows: Tensor, counts: list[int], own: torch.Generator) -> Estimates:
        sums = ImportanceSums(n_samples)
        for k in counts:
            sums.add(method.log_weights(rows.clone(), k, own))
        return sums.estimates()

    return Estimates.of_blocks(_by_blocks(x, n_samples, generator, chunk, estimate))


class PrefixCurve:
    """Estimates for every K of an ascending list from one stream of samples, for a fixed set of rows.

    Of the first ``HEAD`` samples every K's disjoint groups are averaged, which takes most of the noise out of the small
    ones; a larger K has its prefix of the stream alone. The largest K comes with what tells its bias.
    """

    HEAD = 1000

    def __init__(self, ks: Sequence[int]):
        self.ks, self._prefix, self._found = ks, ImportanceSums(ks[-1]), {}

    def counts(self, chunk: int) -> list[int]:
        """Sizes of the chunks to take in: they end at the head and at each larger K, none above ``chunk``."""
        ends = [min(self.HEAD, self.ks[-1]), *(k for k in self.ks if k > self.HEAD)]
        starts = [0, *ends[:-1]]
        return [n for start, end in zip(starts, ends, strict=True) for n in _parts(end - start, chunk)]

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

    blocks = _by_blocks(x, ks[-1], generator, chunk, estimate)
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


@dataclass(frozen=True)
class LogZ2:
    """2 log Z with its error.

    value: log of the mean of the samples of Z^2. bias: of value, which is low by about standard_error^2 / 2, as the log
    is concave; unknown where there is doubt.
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
    delta_bias: Bias = bias.UNKNOWN

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

    @property
    def bias(self) -> Bias:
        return self.delta_bias if self.reliable else bias.UNKNOWN


@torch.no_grad()
def log_z2(method: Partitioned, n_outer: int, n_inner: int, generator: torch.Generator, chunk: int) -> LogZ2:
    """2 log Z from n_outer draws (x, h) ~ p, each with n_inner draws h' ~ q(h | x) (equation 3.11).

    The error is that of the mean over the independent outer draws, each averaged over its inner ones.
    """
    if n_outer < 2:
        raise ValueError(f"n_outer: expected at least 2 samples for an error bar, found {n_outer}")

    tail, seen = pareto.Tail(n_outer), pareto.Tail(n_outer)

    def sums(outer: int, own: torch.Generator) -> tuple[Tensor, Tensor]:
        mean = torch.logsumexp(method.log_z2_weights(outer, n_inner, own).double(), dim=1) - math.log(n_inner)
        return _log_power_sums(mean), seen.add(mean)

    value, error, ess, delta_bias, largest = _log_mean(n_outer, max(1, chunk // min(n_inner, chunk)), generator, sums)
    for some in largest:
        tail.add(some)
    return LogZ2(value, error, ess, n_outer, n_inner, tail.pareto_k(), delta_bias)


def _log_power_sums(log_w: Tensor) -> Tensor:
    """log sum w^m for m = 1 to 4, [4], for log weights [n]."""
    return torch.logsumexp(torch.stack([m * log_w for m in (1.0, 2.0, 3.0, 4.0)]), dim=1)


def _log_mean(
    n: int, chunk: int, generator: torch.Generator, sums: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
) -> tuple[float, float, float, Bias, list[Tensor]]:
    """Log of the mean of n independent samples, its error by the delta method, their effective number in percent of n,
    and the bias of that log.

    sums: log sum w^m for m = 1 to 4, [4], of as many new samples as asked for, no more than ``chunk``, and what else is
    to be known of these: the last thing returned, for every call. The error of a mean that is not finite is NaN.
    """
    parts = _parts(n, chunk)
    generators = parallel.spawn(generator, len(parts))
    blocks = pieces.run_all([partial(sums, size, own) for size, own in zip(parts, generators, strict=True)])
    log_sums = torch.logsumexp(torch.stack([found for found, _ in blocks]), dim=0).tolist()
    rest = [other for _, other in blocks]
    log_sum, log_sum_squares = log_sums[:2]
    if not math.isfinite(log_sum):
        return log_sum, math.nan, math.nan, bias.UNKNOWN, rest
    ess = math.exp(2.0 * log_sum - log_sum_squares) / n
    error = bias.root((1.0 / ess - 1.0) / (n - 1))
    delta_bias = bias.of_log_mean([each - math.log(n) for each in log_sums], n)
    return log_sum - math.log(n), error, 100.0 * ess, delta_bias, rest


@dataclass(frozen=True)
class LogZ:
    """log Z by annealed importance sampling, with its error.

    value: log of the mean weight of the chains. standard_error: by the delta method. ess: of the chains, percent.
    bias: of value, which is low by about standard_error^2 / 2 (and by whatever no chain has found). reliable: False
    where the relative error is above 0.3 or fewer than 20 effective chains carry the mean, so that the error bar itself
    cannot be trusted; the bias is then unknown.
    """

    value: float
    standard_error: float
    ess: float
    n_chains: int
    delta_bias: Bias = bias.UNKNOWN

    @property
    def reliable(self) -> bool:
        return self.standard_error < 0.3 and self.ess / 100.0 * self.n_chains > 20

    @property
    def bias(self) -> Bias:
        return self.delta_bias if self.reliable else bias.UNKNOWN


@torch.no_grad()
def log_z(method: Unnormalised, n_chains: int, n_temperatures: int, generator: torch.Generator, chunk: int) -> LogZ:
    """log Z from independent annealed chains, at most ``chunk`` of them at once."""
    if n_chains < 2:
        raise ValueError(f"n_chains: expected at least 2 for an error bar, found {n_chains}")

    def sums(n: int, own: torch.Generator) -> tuple[Tensor, Tensor]:
        log_weights = method.log_partition_samples(n, n_temperatures, own).double()
        return _log_power_sums(log_weights), log_weights[:0]

    value, error, ess, delta_bias, _ = _log_mean(n_chains, chunk, generator, sums)
    return LogZ(value, error, ess, n_chains, delta_bias)


@dataclass(frozen=True)
class LabelEstimates:
    """Per-row estimates of a joint model of rows and labels, from K samples that all classes share."""

    n_samples: int
    log_p_star: Tensor  # 2 log A(x) [B], a lower bound of log p*(x) (thesis, equation 4.8)
    log_label: Tensor  # log p~*(y | x) = log B(x, y) - log A(x) [B, n_classes]; never above 0 as A = sum_y B
    log_means: Tensor | None = None  # log B(x, y) from groups of samples [B, n_classes, groups]; tell biases

    @property
    def log_p_star_bias(self) -> Bias:
        """Of the mean of log_p_star over the rows."""
        if self.log_means is None:
            return bias.UNKNOWN
        return 2.0 * bias.of_log_means(torch.logsumexp(self.log_means, dim=1), self.n_samples)

    def log_label_bias(self, y: Tensor) -> Bias:
        """Of the mean of log p~*(y | x) over the rows, for their classes y [B]."""
        if self.log_means is None:
            return bias.UNKNOWN
        log_b = self.log_means[torch.arange(len(y), device=y.device), y]
        return bias.of_log_ratios(log_b, torch.logsumexp(self.log_means, dim=1), self.n_samples)


@torch.no_grad()
def label_estimates(
    method: Classifier, x: Tensor, n_samples: int, generator: torch.Generator, chunk: int
) -> LabelEstimates:
    """A(x) and B(x, y) of every class from the same draws h ~ q(h | x) (equations 4.3 to 4.5, y summed exactly)."""

    def estimate(rows: Tensor, counts: list[int], own: torch.Generator) -> tuple[Tensor, ...]:
        running, groups = RunningLogSumExp(), GroupedPowerSums(n_samples)
        for k in counts:
            log_weights = method.log_label_weights(rows.clone(), k, own).double().transpose(1, 2)  # [B, n_classes, k]
            running.add(log_weights)
            groups.add(log_weights)
        log_a = torch.logsumexp(running.total, dim=1)
        found = 2.0 * (log_a - math.log(n_samples)), running.total - log_a[:, None]
        return (*found, groups.log_means()[0]) if n_samples >= GROUPS else found

    blocks = _by_blocks(x, n_samples, generator, chunk, estimate)
    return LabelEstimates(n_samples, *(torch.cat(parts) for parts in zip(*blocks, strict=True)))


@torch.no_grad()
def joint_label_loss(method: Classifier, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
    """-log p~*(x) - log p~*(y | x) [B] for rows with labels, what early stopping of joint models watches."""
    log_b = torch.logsumexp(method.log_label_weights(batch.x, n_samples, generator), dim=1)  # [B, n_classes]
    log_a = torch.logsumexp(log_b, dim=1)
    return 2.0 * math.log(n_samples) - log_a - log_b.gather(1, batch.y[:, None]).squeeze(1)
