"""Estimates of normalising constants, with indicators of whether to trust them: log Z^2 of p*, log Z by annealing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.compute import parallel
from harness.estimators import bias, pareto
from harness.estimators.bias import Bias
from harness.estimators.importance import parts_of
from harness.method import Partitioned, Unnormalised
from harness.storage import pieces


@dataclass(frozen=True)
class LogZ2:
    """2 log Z with its error.

    value: log of the mean of the samples of Z^2. bias: of value, which is low by about standard_error^2 / 2, as the log
    is concave; unknown where there is doubt.
    standard_error: by the delta method. ess: of the outer samples, percent. pareto_k: of the outer samples' upper tail
    (see ``harness.estimators.pareto``), NaN where there are too few. doubt: why the value and its error bar cannot be
    trusted (a relative error above 0.3, fewer than 100 effective outer samples, or a tail too heavy for this many);
    else ''.
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
    parts = parts_of(n, chunk)
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
