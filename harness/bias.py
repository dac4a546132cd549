"""How far the log of a mean falls short: the bias of likelihood estimates, from the samples that they are made of.

By Jensen's inequality the log of a mean of K weights is below the log of their expectation, on average. With light
tails the gap is var(w) / (2 K E[w]^2), the term of the delta method; with the heavy tails of importance weights it is
several times that, and falls more slowly than 1 / K. How it falls can be seen: averages over disjoint groups of K/16,
K/8, K/4, K/2 and all K samples say how much the estimate still rises from one doubling to the next, and a power law
says what is left to rise (Richardson's extrapolation, with the power estimated as in Aitken's).

What it is worth, K about 500, in nats; a value measured on few rows has an error bar of about a third of itself:

==============================================  =====  ==============  =============  ==========
log p of                                         bias  power law here  last doubling  delta term
==============================================  =====  ==============  =============  ==========
log-normal weights, 200 rows, s about 1          0.003           0.004          0.003       0.003
the same, s about 2                              0.11            0.13           0.05        0.04
the same, s about 3                              0.70            0.69           0.17        0.10
the same, s about 4                              1.95            1.61           0.31        0.15
BiHM on rcv1                                     0.087           0.115          0.053       0.044
VIMCO on rcv1                                    0.040           0.053          0.030       0.027
BiHM on connect4                                 0.011           0.011          0.006       0.006
DARN on rcv1                                     0.0015          0.0016         0.0015      0.0015
==============================================  =====  ==============  =============  ==========

For log p~* of the same models, where tails are lighter, all of them are within a tenth or two. On binarized MNIST the
rise from K = 500 to 10,000, plus what is left there, is about 1.5 for BiHM-12 (found: 1.2), 1.1 for RWS (1.1), 0.6 for
a VAE (0.56), 1.5 for IWAE (1.8), 2.0 for wake-sleep (2.4), and 1.3 for NVIL (2.6, with a power next to the limit).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.log_sums import GROUPS

# An increment as a part of the one before: 1/2 for light tails, where the bias falls as 1 / K; at 0.9, where it falls
# as K^-0.15, ten times as much is left as the last doubling gave, and more cannot be told apart.
FASTEST, SLOWEST = 0.5, 0.9


@dataclass(frozen=True)
class Bias:
    """An estimated bias and its standard error; NaN where it is not known."""

    value: float
    error: float

    def __neg__(self) -> Bias:
        return -1.0 * self

    def __rmul__(self, factor: float) -> Bias:
        return Bias(factor * self.value, abs(factor) * self.error)

    def __add__(self, other: Bias) -> Bias:
        """Of a sum of independent estimates."""
        return Bias(self.value + other.value, math.hypot(self.error, other.error))


NO_BIAS, UNKNOWN = Bias(0.0, 0.0), Bias(math.nan, math.nan)


def of_log_means(log_means: Tensor, n_samples: int) -> Bias:
    """What the mean over rows of a log mean of n_samples weights is above its limit; negative, as it is below.

    log_means: of the weights of every group, [B, GROUPS]. The error is the jackknife's over the rows; it does not know
    that a power law is not quite what happens (see above).
    """
    return _extrapolated(levels(log_means), n_samples)


def of_log_ratios(above: Tensor, below: Tensor, n_samples: int) -> Bias:
    """The same of log(mean / mean) of weights of the same samples; arguments as of ``of_log_means``."""
    return _extrapolated(levels(above) - levels(below), n_samples)


def levels(log_means: Tensor) -> Tensor:
    """Averages of the log mean of n/16, n/8, n/4, n/2 and all n samples, [B, 5], from groups of n/16, [B, GROUPS]."""
    found = [log_means.mean(1)]
    while log_means.shape[1] > 1:
        log_means = torch.logaddexp(log_means[:, 0::2], log_means[:, 1::2]) - math.log(2.0)
        found.append(log_means.mean(1))
    return torch.stack(found, dim=1)


def _extrapolated(averages: Tensor, n_samples: int) -> Bias:
    rises = averages.diff(dim=1)  # [B, 4]
    n = len(rises)
    beyond = n_samples / (GROUPS * (n_samples // GROUPS))
    value = -_left_to_rise(rises.mean(0), beyond)
    without_one = -_left_to_rise((rises.sum(0) - rises) / (n - 1), beyond)  # [B]
    return Bias(value.item(), math.sqrt((n - 1) * without_one.var(correction=0).item()) if n > 1 else math.nan)


def _left_to_rise(rises: Tensor, beyond: float) -> Tensor:
    """[...], from increments [..., 4], for ``beyond`` times the samples that the last increment ends at."""
    earlier, later = rises[..., :-1].sum(-1), rises[..., 1:].sum(-1)
    # noise may turn signs where there is next to no bias
    ratio = torch.where(earlier * later > 0.0, later / earlier, FASTEST).clamp(FASTEST, SLOWEST)
    return rises[..., -1] * ratio / (1.0 - ratio) * beyond ** torch.log2(ratio)


def of_log_mean(moments: tuple[float, float, float, float], n: int) -> Bias:
    """Of the log of one mean of n independent samples: minus half its squared error, the term of the delta method.

    moments: logs of the means of w, w^2, w^3 and w^4, which also give the error of that term. One mean has no rows to
    average over, so that nothing can be seen of how it falls: where the tail is heavy, the bias is larger.
    """
    second, third, fourth = (math.exp(m - k * moments[0]) for k, m in enumerate(moments[1:], start=2))
    variance = second - 1.0
    # v = var(w) / E[w]^2 of w scaled to mean 1 has the influence function (w - 1)^2 - v - 2 v (w - 1)
    central3 = third - 3.0 * second + 2.0
    central4 = fourth - 4.0 * third + 6.0 * second - 3.0
    spread = central4 - variance**2 + 4.0 * variance**3 - 4.0 * variance * central3
    return Bias(-variance / (2.0 * (n - 1)), root(spread / n) / (2.0 * n))


def root(variance: float) -> float:
    """Its square root; 0 where rounding made it negative, while NaN stays NaN."""
    return 0.0 if variance <= 0.0 else math.sqrt(variance)
