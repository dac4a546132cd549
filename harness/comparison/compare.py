"""All methods of a run compared on one metric: on every data set in pairs, and over the data sets by ranks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.comparison.models import Model, adjusted_means
from harness.comparison.pairs import BETTER, CANNOT_TELL, HIGHER_IS_BETTER, WORSE, Pair, compared
from harness.comparison.ranks import Ranks, ranks_of


class Contender(NamedTuple):
    """A row of the comparison: a method, or one variant of a method that has several on some data set."""

    method: str
    variant: str
    title: str

    @property
    def name(self) -> str:
        """The title, with the variant in brackets."""
        return f"{self.title} ({self.variant})" if self.variant else self.title


@dataclass(frozen=True)
class Column:
    """A data set. models: by contender. means: of each over all rows that some model has, adjusted where it lacks some;
    as it was measured where one has no values per row, and then ``adjusted`` is False."""

    dataset: str
    models: Mapping[Contender, Model]
    means: Mapping[Contender, float]
    adjusted: bool


@dataclass(frozen=True)
class Comparison:
    """Methods compared on one metric.

    level: the probability of calling any two different that are not, in all pairs together, and again in all ranks.
    power: with which the smallest differences are found.
    """

    metric: str
    columns: Sequence[Column]
    pairs: Sequence[Pair]
    ranks: Ranks | None
    level: float
    power: float
    higher_is_better: bool = False

    @property
    def contenders(self) -> list[Contender]:
        """All rows, in the order of the measurements."""
        return list(dict.fromkeys(contender for column in self.columns for contender in column.models))

    def best(self, column: Column) -> Contender:
        """The contender with the best mean."""
        choose = max if self.higher_is_better else min
        return choose(column.means, key=lambda contender: column.means[contender])

    def against(self, column: Column, a: Contender, b: Contender) -> Pair | None:
        """The pair of two contenders, whichever is first in it; None of one with itself."""
        return self._by_cells.get(frozenset((column.models[a].cell, column.models[b].cell)))

    def behind(self, column: Column, contender: Contender) -> float:
        """By how much a contender is worse than the best of the data set, over the rows that both have; 0 for the
        best itself."""
        pair = self.against(column, contender, self.best(column))
        if pair is None:
            return 0.0
        found = pair.found
        ours_first = found.a is column.models[contender]
        return found.difference * (1.0 if ours_first != self.higher_is_better else -1.0)

    def as_good_as_best(self, column: Column, contender: Contender) -> bool:
        """Whether the test cannot tell a contender from the best of its data set."""
        pair = self.against(column, contender, self.best(column))
        return pair is None or pair.verdict == CANNOT_TELL

    def record(self, contender: Contender) -> dict[str, int]:
        """How often a contender is better, worse and not told apart, in all its pairs."""
        counts = dict.fromkeys((BETTER, WORSE, CANNOT_TELL), 0)
        turned = {BETTER: WORSE, WORSE: BETTER, CANNOT_TELL: CANNOT_TELL}
        cells = {column.models[contender].cell for column in self.columns if contender in column.models}
        for pair in self.pairs:
            a, b = pair.cells
            if a in cells:
                counts[pair.verdict] += 1
            elif b in cells:
                counts[turned[pair.verdict]] += 1
        return counts

    @cached_property
    def _by_cells(self) -> dict[frozenset, Pair]:
        return {frozenset(pair.cells): pair for pair in self.pairs}

    @property
    def frame(self) -> pd.DataFrame:
        """One row per pair; docs/results.md says what the columns are."""
        return pd.DataFrame([_record(self.metric, pair) for pair in self.pairs], columns=list(COLUMNS))

    @property
    def rank_frame(self) -> pd.DataFrame:
        """One row per ranked method and data set: its rank, and the mean over the data sets."""
        found = self.ranks
        if found is None:
            return pd.DataFrame(columns=list(RANK_COLUMNS))
        records = [
            (self.metric, method, dataset, found.ranks[i, j], found.means[j], found.critical, found.p_value)
            for j, method in enumerate(found.methods)
            for i, dataset in enumerate(found.datasets)
        ]
        return pd.DataFrame(records, columns=list(RANK_COLUMNS))


COLUMNS = (
    *("dataset", "metric", "method_a", "variant_a", "method_b", "variant_b", "value_a", "value_b"),
    *("difference", "error", "df", "p_value", "adjusted_p", "smallest", "verdict", "of", "n_rows"),
    *("n_seeds_a", "n_seeds_b", "bias"),
)
RANK_COLUMNS = ("metric", "name", "dataset", "rank", "mean_rank", "critical_difference", "p_value")


def compare(
    models: Mapping[str, Sequence[Model]], metric: str, level: float, power: float, higher_is_better: bool | None = None
) -> Comparison:
    """The comparison of ``models``, by data set, on ``metric``. Data sets with a single model are kept, unpaired.

    higher_is_better: of a metric that the harness does not know.
    """
    higher = metric in HIGHER_IS_BETTER if higher_is_better is None else higher_is_better
    columns = [_column(dataset, of_dataset, _contenders(models)) for dataset, of_dataset in models.items()]
    values = {
        column.dataset: {contender.name: mean for contender, mean in column.means.items()}
        for column in columns
        if len(column.models) > 1
    }
    pairs = compared([list(column.models.values()) for column in columns], level, power, higher)
    return Comparison(metric, columns, pairs, ranks_of(values, level, higher), level, power, higher)


def _contenders(models: Mapping[str, Sequence[Model]]) -> dict[tuple[str, str], Contender]:
    """(method, variant) -> its row: one for a method that has a single variant on every data set."""
    every = list(itertools.chain.from_iterable(models.values()))
    seen = [(model.cell.dataset, model.cell.method) for model in every]
    several = {method for (dataset, method) in seen if seen.count((dataset, method)) > 1}
    titles: dict[str, str] = {}
    for model in every:
        titles.setdefault(model.cell.method, model.title)
    return {
        (method, variant): Contender(method, variant if method in several else "", titles[method])
        for _, method, variant in (model.cell for model in every)
    }


def _column(dataset: str, models: Sequence[Model], contenders: Mapping[tuple[str, str], Contender]) -> Column:
    by_contender = {contenders[model.cell.method, model.cell.variant]: model for model in models}
    found = adjusted_means(models)
    means = [model.mean for model in models] if found is None else found.tolist()
    return Column(dataset, by_contender, dict(zip(by_contender, means, strict=True)), found is not None)


def _record(metric: str, pair: Pair) -> tuple:
    found = pair.found
    (a, b), rows = pair.cells, found.n_rows
    return (
        *(a.dataset, metric, a.method, a.variant, b.method, b.variant, found.a.mean, found.b.mean),
        *(found.difference, found.error, found.df if np.isfinite(found.df) else np.nan, found.p_value, pair.adjusted),
        *(pair.smallest, pair.verdict, found.of, rows, len(found.a), len(found.b), found.bias),
    )
