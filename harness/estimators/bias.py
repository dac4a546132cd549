"""The bias of the log of a mean: how far likelihood estimates fall short, from the samples that they are made of.

By Jensen's inequality the log of a mean of K weights is below the log of their expectation, on average. With light
tails the gap is var(w) / (2 K E[w]^2), the term of the delta method; with the heavy tails of importance weights it is
several times that, and falls more slowly than 1 / K. How it falls can be seen: averages over disjoint groups of K/16,
K/8, K/4, K/2 and all K samples say how much the estimate still rises from one doubling to the next, and a power law
says what is left to rise (Richardson's extrapolation, with the power estimated as in Aitken's).

What it is worth, for log p at K = 500 in nats, mean over repeats on 100 to 200 rows each; the reference of the real
models is K = 40,000, that of the enumerated one exact:

=================================  ======  ===============================  =============  ==========
weights                              bias  found here (varies by, says it)  last doubling  delta term
=================================  ======  ===============================  =============  ==========
log-normal, s.d. 1                  0.003  0.004  (0.001, 0.001)                    0.003       0.003
log-normal, s.d. 2                   0.11  0.12  (0.04, 0.04)                        0.05        0.04
log-normal, s.d. 3                   0.70  0.68  (0.19, 0.22)                        0.17        0.10
log-normal, s.d. 4                   1.95  1.59  (0.33, 0.48)                        0.31        0.15
BiHM on rcv1                        0.085  0.12  (0.04, 0.04)                        0.05        0.04
VIMCO on rcv1                       0.040  0.054  (0.019, 0.015)                    0.030       0.027
BiHM on connect4                    0.011  0.013  (0.012, 0.008)                    0.006       0.006
DARN on rcv1                       0.0015  0.0016  (0.0003, 0.0003)                0.0015      0.0015
BiHM, 6 binary units, enumerated    0.040  0.060  (0.014, 0.013)
=================================  ======  ===============================  =============  ==========

For log p~* of the same models, whose tails are lighter, it is mostly within a quarter, on enumerated ones up to two
fifths too large. On binarized MNIST, the published
rise from K = 500 to 10,000, plus what a power law leaves there, is about 1.5 for BiHM with 12 layers (found: 1.2), 1.1
for RWS (1.1), 0.6 for a VAE (0.56), 1.6 for VIMCO (1.5), 1.5 for IWAE (1.8), 2.0 for wake-sleep (2.4) and 1.3 for NVIL
(2.6, with a power at the limit). So it finds the size of the bias, mostly to a third, where the others miss most of it;
it is rather too large where the tail is bounded and K large enough to get to its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.estimators.log_sums import GROUPS

# An increment as a part of the one before: 1/2 for light tails, where the bias falls as 1 / K; at 0.9, where it falls
# as K^-0.15, nine times as much is left as the last doubling gave, and slower ones cannot be told apart.
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
        """The bias of a sum of independent estimates."""
        return Bias(self.value + other.value, math.hypot(self.error, other.error))


NO_BIAS, UNKNOWN = Bias(0.0, 0.0), Bias(math.nan, math.nan)


def of_log_means(log_means: Tensor, n_samples: int) -> Bias:
    """By how much the mean over rows of a log mean of n_samples weights exceeds its limit; negative, as it is below.

    log_means: of the weights of every group, [B, GROUPS]. The error is the jackknife's over the rows; it does not know
    that a power law is not quite what happens (see above).
    """
    return _extrapolated(levels(log_means), n_samples)


def of_log_ratios(above: Tensor, below: Tensor, n_samples: int) -> Bias:
    """The same of log(mean / mean) of weights of the same samples; arguments as of ``of_log_means``.

    Heavy weights are in both means and drop out, and what is left has either sign: the bias falls as 1 / K.
    """
    rises = (levels(above) - levels(below)).diff(dim=1)[:, -1]
    beyond = n_samples / (GROUPS * (n_samples // GROUPS))
    n = len(rises)
    return Bias(-rises.mean().item() / beyond, rises.std().item() / math.sqrt(n) / beyond if n > 1 else math.nan)


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
    mean = rises.mean(0)
    if n == 1:
        return Bias(-_left_to_rise(mean, _ratio(mean), beyond).item(), math.nan)
    without_one = (rises.sum(0) - rises) / (n - 1)  # [B, 4]
    ratio, ratios = _ratio(mean), _ratio(without_one)
    noise = (n - 1) * ratios.var(correction=0)
    value = -_left_to_rise(mean, _less_noisy(ratio, noise), beyond)
    values = -_left_to_rise(without_one, _less_noisy(ratios, noise), beyond)  # [B]
    return Bias(value.item(), math.sqrt((n - 1) * values.var(correction=0).item()))


def _ratio(rises: Tensor) -> Tensor:
    """By how much a rise is smaller than the one before, [...], from those of four doublings [..., 4]."""
    earlier, later = rises[..., :-1].sum(-1), rises[..., 1:].sum(-1)
    # noise may turn signs where there is next to no bias
    return torch.where(earlier * later > 0.0, later / earlier, FASTEST)


def _less_noisy(ratio: Tensor, variance: Tensor) -> Tensor:
    """Drawn toward that of light tails by as much as its noise may have driven it away, as the bias is not linear."""
    signal = (ratio - FASTEST).clamp(min=0.0)
    return FASTEST + signal * (signal**2 / (signal**2 + variance)).nan_to_num(0.0)


def _left_to_rise(rises: Tensor, ratio: Tensor, beyond: float) -> Tensor:
    """[...], for increments [..., 4] that end where ``beyond`` times as many samples are."""
    ratio = ratio.clamp(FASTEST, SLOWEST)
    return rises[..., -1] * ratio / (1.0 - ratio) * beyond ** torch.log2(ratio)


def of_log_mean(moments: tuple[float, float, float, float], n: int) -> Bias:
    """The bias of the log of a mean of n independent samples: minus half its squared error, a term of the delta method.

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
