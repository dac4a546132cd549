"""Ranks of methods over data sets, whether they differ at all (Friedman), and by how much mean ranks have to differ.

After Demsar (2006), "Statistical comparisons of classifiers over multiple data sets", section 3.2. Every method has a
rank on every data set, 1 for the best, the mean rank where values are equal. Friedman's statistic is tested in the form
of Iman and Davenport (1980). Two methods differ where their mean ranks are at least the critical difference of Nemenyi
(1963) apart, which holds for all pairs together. A data set counts once, however many rows it has: with eight of them
and a dozen methods only large differences in rank are more than chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEAST = 2  # methods, and data sets


@dataclass(frozen=True)
class Ranks:
    """methods: k of them, by mean rank. datasets: N. ranks: [N, k]. p_value: of no difference among any of them;
    NaN where all ranks are equal. critical: the difference of mean ranks that is more than chance for all pairs
    together, at ``level``."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    ranks: np.ndarray
    p_value: float
    critical: float
    level: float

    @property
    def means(self) -> np.ndarray:
        """Mean ranks [k], ascending."""
        return self.ranks.mean(0)

    def differ(self, a: str, b: str) -> bool:
        """Whether the mean ranks of two methods are apart by the critical difference."""
        i, j = self.methods.index(a), self.methods.index(b)
        return bool(abs(self.means[i] - self.means[j]) >= self.critical)

    def groups(self) -> list[tuple[int, int]]:
        """First and last position of the largest runs of methods among which no two differ; runs of one left out."""
        means, found = self.means, []
        for first in range(len(means)):
            last = int(np.flatnonzero(means - means[first] < self.critical).max())
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def ranks_of(values: Mapping[str, Mapping[str, float]], level: float, higher_is_better: bool = False) -> Ranks | None:
    """The ranks of methods, by data set -> method -> value.

    Only methods that have all of the data sets can be ranked together: methods and data sets are chosen so that as many
    values as possible count. None where these are fewer than two methods on two data sets.
    """
    datasets, methods = _largest_whole_part(values)
    if len(datasets) < LEAST or len(methods) < LEAST:
        return None
    table = np.array([[values[dataset][method] for method in methods] for dataset in datasets])  # [N, k]
    ranks = stats.rankdata(-table if higher_is_better else table, axis=1)
    order = np.argsort(ranks.mean(0), kind="stable")
    critical = critical_difference(len(methods), len(datasets), level)
    return Ranks(tuple(methods[i] for i in order), tuple(datasets), ranks[:, order], friedman(ranks), critical, level)


def friedman(ranks: np.ndarray) -> float:
    """p-value of ``ranks`` [N, k] that differ by chance alone (Iman and Davenport's F); NaN where all are equal."""
    n, k = ranks.shape
    ties = ranks.var(1).sum() * k / (k - 1)  # N k (k + 1) / 12 without ties
    if ties == 0:
        return math.nan
    statistic = n**2 * ((ranks.mean(0) - (k + 1) / 2) ** 2).sum() / ties
    most = n * (k - 1)
    if statistic >= most * (1.0 - 1e-12):
        return 0.0  # the same order on every data set
    return float(stats.f.sf((n - 1) * statistic / (most - statistic), k - 1, (k - 1) * (n - 1)))


def critical_difference(k: int, n: int, level: float) -> float:
    """Nemenyi's critical difference of the mean ranks of ``k`` methods over ``n`` data sets."""
    return float(stats.studentized_range.ppf(1.0 - level, k, math.inf) * math.sqrt(k * (k + 1) / (12.0 * n)))


def _largest_whole_part(values: Mapping[str, Mapping[str, float]]) -> tuple[Sequence[str], Sequence[str]]:
    """Data sets and methods, each method with a value on each of the data sets, as many values as possible.

    Looked for among the data sets of one method and those that two have in common.
    """
    methods = list(dict.fromkeys(method for column in values.values() for method in column))
    covered = {method: frozenset(d for d, column in values.items() if method in column) for method in methods}
    candidates = {a & b for a in covered.values() for b in covered.values()}

    def members(chosen: frozenset[str]) -> list[str]:
        return [method for method in methods if chosen <= covered[method]]

    def size(chosen: frozenset[str]) -> tuple[int, int]:
        of_methods = len(members(chosen))
        return (len(chosen) * of_methods if min(len(chosen), of_methods) >= LEAST else 0), len(chosen)

    best = max(candidates, key=lambda chosen: (*size(chosen), sorted(chosen)), default=frozenset())
    return [dataset for dataset in values if dataset in best], members(best)
