"""Are two sets of rows draws from one distribution? The squared maximum mean discrepancy (MMD), with its error.

Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012: E k(x, x') + E k(y, y') - 2 E k(x, y) vanishes where both
distributions are the same, and only there for the kernels used here. Rows come in pairs (x_i, y_i), so that the
unbiased estimate is the mean over i != j of one symmetric matrix, and a difference of two estimates that share their
rows y is the mean of a difference of matrices, with an error of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Of the median squared distance; one kernel each, and their mean is used. Wider ones see little but the rows' mean.
SCALES = (0.125, 0.25, 0.5, 1.0)
FEWEST = 3  # rows that a mean over pairs has an error for


def median_distance(rows: Tensor) -> float:
    """The median squared Euclidean distance of two of the rows [n, D]; 0 where all are alike.

    Where more than half of the pairs are alike, that of the others: a kernel of width 0 would be no kernel.
    """
    n = len(rows)
    above = torch.ones(n, n, dtype=torch.bool, device=rows.device).triu_(1)
    found = _squared_distances(rows, rows)[above]
    median = found.median()
    if median == 0.0 and (found > 0.0).any():
        median = found[found > 0.0].median()
    return median.item()


def mmd_terms(x: Tensor, y: Tensor, distance: float) -> Tensor:
    """[n, n] double, k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j), for rows x, y [n, D].

    k(x, y) is the mean of exp(-|x - y|^2 / (s distance)) over s in ``SCALES``.
    """
    across = _kernel(x, y, distance)
    return _kernel(x, x, distance) + _kernel(y, y, distance) - across - across.t()


def mean_of_pairs(terms: Tensor) -> tuple[float, float]:
    """Mean of terms [n, n] over i != j and its standard error by the jackknife, which is not too small on average.

    The jackknife's variance is biased upward (Efron and Stein, 1981). n >= ``FEWEST``.
    """
    n = len(terms)
    by_row = terms.sum(1) - terms.diagonal()
    total = by_row.sum()
    without_one = (total - 2.0 * by_row) / ((n - 1) * (n - 2))
    variance = (n - 1) / n * (without_one - without_one.mean()).square().sum()
    return (total / (n * (n - 1))).item(), math.sqrt(variance.item())


def _kernel(x: Tensor, y: Tensor, distance: float) -> Tensor:
    squared = _squared_distances(x, y)
    return torch.stack([torch.exp(squared / (-scale * distance)) for scale in SCALES]).mean(0)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """[n, m] double."""
    x, y = x.double(), y.double()
    squares = x.square().sum(1)[:, None] + y.square().sum(1)
    return (squares - 2.0 * x @ y.t()).clamp_(min=0.0)
