"""Pareto-k of importance weights: whether the mean of a sample of weights can be trusted, read off their upper tail.

The largest weights are fitted with a generalised Pareto distribution. Its shape k says how heavy the tail is: moments
of order 1 / k and above do not exist, so from k = 0.5 on the variance of the mean is infinite, and above about 0.7
neither the mean of any practical number of weights nor its error bar means much (Vehtari, Simpson, Gelman, Yao, Gabry:
Pareto Smoothed Importance Sampling, JMLR 25, 2024). Weights arrive in a stream; memory holds the tail alone.
"""

from __future__ import annotations

import math
import threading

import numpy as np
import torch
from torch import Tensor

LEAST = 5  # weights above the threshold that a fit takes
PRIOR_WEIGHT, PRIOR_K = 10, 0.5  # Vehtari et al., appendix: an estimate from few weights is drawn towards 0.5


def tail_size(n: int) -> int:
    """How many of n weights are the tail: min(n / 5, 3 sqrt(n)) (Vehtari et al., section 3)."""
    return math.ceil(min(0.2 * n, 3.0 * math.sqrt(n)))


def threshold(n: int) -> float:
    """The largest k at which the mean of n weights can be trusted: min(1 - 1 / log10(n), 0.7) (Vehtari et al.)."""
    return min(1.0 - 1.0 / math.log10(n), 0.7) if n > 10 else 0.0


class Tail:
    """The largest of ``n_total`` weights, seen in any order, by any number of threads."""

    def __init__(self, n_total: int):
        self._n_kept = tail_size(n_total) + 1  # the one below the tail is the threshold
        self._kept = torch.empty(0, dtype=torch.float64)
        self._lock = threading.Lock()

    def add(self, log_weights: Tensor) -> Tensor:
        """Take in log-weights [N]; returns those that were among the largest by then: all that a tail ever needs."""
        with self._lock:
            if len(self._kept) == self._n_kept:
                log_weights = log_weights[log_weights > self._kept[-1]]
            log_weights = log_weights.topk(min(self._n_kept, len(log_weights))).values
            together = torch.cat([self._kept.to(log_weights), log_weights])
            self._kept = together.topk(min(self._n_kept, len(together))).values  # descending
            return log_weights

    @property
    def kept(self) -> Tensor:
        """Log-weights of the tail so far and the largest below it, descending."""
        return self._kept

    def pareto_k(self) -> float:
        """Shape of the tail; -inf where the largest weight occurs so often that there is none.

        NaN where there are fewer than 5 weights, or no finite ones.
        """
        kept = self._kept.cpu().numpy()
        if len(kept) <= LEAST or not np.isfinite(kept[0]):
            return math.nan
        weights = np.exp(kept - kept[0])
        excesses = (weights - weights[-1])[::-1]
        excesses = excesses[excesses > 0.0]
        if len(excesses) == 0:
            return -math.inf
        if len(excesses) < LEAST:
            return math.nan
        n = len(excesses)
        return (n * generalised_pareto_shape(excesses) + PRIOR_WEIGHT * PRIOR_K) / (n + PRIOR_WEIGHT)


def generalised_pareto_shape(excesses: np.ndarray) -> float:
    """Shape k of a generalised Pareto distribution from positive excesses over its threshold, sorted ascending.

    The posterior mean of theta = -k / scale on a grid, by the profile likelihood and the data-driven prior of Zhang and
    Stephens (Technometrics 51, 2009, section 3), which is quick and needs no starting point.
    """
    n = len(excesses)
    n_grid = 30 + int(math.sqrt(n))
    quartile = excesses[int(n / 4 + 0.5) - 1]
    theta = 1.0 / excesses[-1] + (1.0 - np.sqrt(n_grid / (np.arange(1, n_grid + 1) - 0.5))) / (3.0 * quartile)
    shapes = np.array([np.log1p(-value * excesses).mean() for value in theta])
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = n * (np.log(-theta / shapes) - shapes - 1.0)
    profile = np.where(np.isfinite(profile), profile, -np.inf)
    posterior = np.exp(profile - profile.max())
    return float(np.log1p(-(posterior @ theta) / posterior.sum() * excesses).mean())
