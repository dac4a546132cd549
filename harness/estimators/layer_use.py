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

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.method import InStages, LayerEncoder

IDLE = 0.01  # mean activation of a unit that is as good as off
VARIES = 0.01  # correlation of two draws of a unit: at m = 1/2, p(x) then varies by 0.05
SURE = 2.0
TINY = 1e-300


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


class NotBinaryError(Exception):
    """Activations are no probabilities of binary units; the message says of which layer."""


def layers_used(
    model: LayerEncoder, x: Tensor, n_samples: int, generator: torch.Generator, chunk: int
) -> tuple[list[LayerUse], list[int]]:
    """What becomes of every layer on rows x [N, D], N >= 2; and the units of each layer above them that still waits.

    n_samples: draws per row behind each of the two estimates. chunk: draws at once. Raises NotBinaryError.
    """

    def encoded() -> list[Tensor]:
        blocks = [model.encode(part, n_samples, generator) for part in x.split(max(1, chunk // n_samples))]
        return [torch.cat(parts) for parts in zip(*blocks, strict=True)]

    found = []
    for level, (first, second) in enumerate(zip(encoded(), encoded(), strict=True), start=1):
        if not all(((each >= 0) & (each <= 1)).all() for each in (first, second)):
            raise NotBinaryError(f"activations of layer {level} are no probabilities of binary units")
        found.append(layer_use(first, second))
    return found, list(model.waiting_units()) if isinstance(model, InStages) else []


def layer_use(first: Tensor, second: Tensor) -> LayerUse:
    """From two independent unbiased estimates [N, n] of p_i(x) for N >= 2 rows, made of equally many draws each."""
    first, second = first.double(), second.double()
    both = (first + second) / 2
    mean = both.mean(0)  # [n]
    products = (first - first.mean(0)) * (second - second.mean(0))  # [N, n], on average Var_x[p_i(x)]
    reliability, reliability_error = _reliability(products, both, mean)
    entropy = _entropy(both)
    halves = entropy if torch.equal(first, second) else (_entropy(first) + _entropy(second)) / 2  # p(x) may be exact
    inflation = entropy - halves  # [N], of half the draws beyond that of all
    # the mean of the divergence of p(x) from m is H(m) - H(p(x)), and it hardly depends on m: terms are independent
    divergence = -(both @ _log(mean) + (1 - both) @ _log(1 - mean)) - entropy
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
    return -(p * _log(p) + (1 - p) * _log(1 - p)).sum(1)


def _log(p: Tensor) -> Tensor:
    """The logarithm of a probability that stands before it as a factor: finite, as 0 log 0 is 0."""
    return p.clamp_min(TINY).log()


def _error(values: Tensor) -> Tensor:
    """Standard error of the mean over rows."""
    n = len(values)
    return ((values - values.mean(0)).square().sum(0) / (n * (n - 1))).sqrt()  # of columns, ten times as fast as std
