"""How much of a layer of binary units a model uses: units that live, how reliable they are, what they tell about x.

All three are sums over units, and of unit i they need no more than p_i(x) = E_q[h_i | x], or two independent unbiased
estimates of it a row. Draws themselves are not needed: given x, two independent draws h_i, h'_i of it have nothing in
common but p_i(x), so that over rows their covariance is the variance of p_i(x), which is that of the two estimates too.

Reliability is the correlation of such draws, sum_i Var_x[p_i(x)] / sum_i m_i (1 - m_i) with m_i the mean of p_i(x) over
rows, the variance of h_i: 1 where x decides about every unit, 0 where it decides about none. Information is
sum_i I(h_i; x) = sum_i (H(m_i) - mean_x H(p_i(x))), unit by unit, so that what several of them say counts as often.

A model has a dead unit where it is always on or off; it has a useless one where x makes no difference to it. A unit
lives if its mean activation lies strictly between ``IDLE`` and 1 - ``IDLE``, and the correlation of two draws of it
lies above ``VARIES``, and above zero by ``SURE`` of its standard errors: of few rows or draws, less is certain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

IDLE = 0.01  # mean activation of a unit that is as good as off
VARIES = 0.01  # correlation of two draws of a unit: at m = 1/2, p(x) then varies by 0.05
SURE = 2.0


@dataclass(frozen=True)
class LayerUse:
    """What became of a layer's n_units; errors are standard errors over rows, with the noise of the draws in them.

    live: number of units. reliability: 0 for a layer whose units never change. information: nats, less
    ``information_bias``.

    The entropy of an estimate of p_i(x) is too low on average, which inflates information; as that falls with the
    reciprocal of the number of draws, information is extrapolated from half of them and all of them to infinitely many,
    and ``information_bias`` is what this took away. What remains is of second order, and largest where estimates are
    means of few draws 0 or 1. Finitely many rows N make H(m_i) too small, by at most n_units / 2N nats, which stays.
    """

    n_units: int
    live: int
    reliability: float
    reliability_error: float
    information: float
    information_error: float
    information_bias: float


def layer_use(first: Tensor, second: Tensor) -> LayerUse:
    """From two independent unbiased estimates [N, n] of p_i(x) for N >= 2 rows, made of equally many draws each."""
    first, second = first.double(), second.double()
    both = (first + second) / 2
    mean = both.mean(0)  # [n]
    products = (first - first.mean(0)) * (second - second.mean(0))  # [N, n], on average Var_x[p_i(x)]
    reliability, reliability_error = _reliability(products, both, mean)
    entropy = _entropy(both)
    inflation = entropy - (_entropy(first) + _entropy(second)) / 2  # [N], of half the draws beyond that of all
    # the mean of the divergence of p(x) from m is H(m) - H(p(x)), and it hardly depends on m: terms are independent
    divergence = -(torch.xlogy(both, mean) + torch.xlogy(1 - both, 1 - mean)).sum(1) - entropy
    information = divergence - inflation
    return LayerUse(
        n_units=len(mean),
        live=int(_lives(products, mean).sum()),
        reliability=reliability,
        reliability_error=reliability_error,
        information=information.mean().item(),
        information_error=_error(information).item(),
        information_bias=inflation.mean().item(),
    )


def _reliability(products: Tensor, both: Tensor, mean: Tensor) -> tuple[float, float]:
    """A ratio of sums over units, with the standard error of its linear approximation."""
    total = (mean * (1 - mean)).sum()
    if total == 0:
        return 0.0, 0.0
    value = products.mean(0).sum() / total
    by_row = products.sum(1) - value * ((1 - 2 * mean) * (both - mean)).sum(1)
    return value.item(), (_error(by_row) / total).item()


def _lives(products: Tensor, mean: Tensor) -> Tensor:
    """Whether each unit does, [n]."""
    covariance = products.mean(0)
    varies = (covariance > VARIES * mean * (1 - mean)) & (covariance > SURE * _error(products))
    return (mean > IDLE) & (mean < 1 - IDLE) & varies


def _entropy(p: Tensor) -> Tensor:
    """Of independent Bernoullis [N, n], summed over units: [N], nats."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum(1)


def _error(values: Tensor) -> Tensor:
    """Standard error of the mean over rows."""
    return values.std(0) / math.sqrt(len(values))
