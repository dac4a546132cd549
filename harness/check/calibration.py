"""Variation of numbers when a model is trained again: measured between the seeds of runs, by metric and method.

An estimate is the variance between the seeds of one cell in units of a scale that the cell is known to have without
looking at its seeds. There are two scales. Where two models have values of the same rows, retraining moves the mean by
delta ~ sqrt(c) s_d, with s_d^2 the variance of the per-row differences: twice the variance between seeds over the mean
s_d^2 of their pairs estimates c. Elsewhere the scale is a function of metric and value (``rules.variance_scale``).

Estimates are pooled over cells of one metric and method; of one metric and kind of method where the method has too few;
of one metric where the kind has too few. Numbers that come out the same from every seed by construction (exact ones of
a closed form) have no spread to learn from and are kept out.

The prior of the variances is estimated as well, from a few dozen of them, whose scatter is taken from the upper end of
what they support: three standard errors above its estimate, with which false alarms are at most as many as the level
says at 1 % as at 5 % (simulated from the published runs, 12,000 times: 0.9 and 2.7 % of all comparisons for the long
preset, 0.7 and 3.4 % for quick; with two standard errors 1.6 % at a level of 1 %).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from harness.check.rules import variance_scale
from harness.check.summary import Number, Summary, equal
from harness.comparison.rows import paired
from harness.comparison.statistics import LEAST, VariancePrior, fit_prior

OF_A_METHOD = 4  # estimates from which on a method has a prior of its own


class Group(NamedTuple):
    """The group that estimates are pooled over: '' stands for all."""

    metric: str
    kind: str
    method: str


@dataclass(frozen=True)
class Estimate:
    """The variance between the seeds of one cell, in units of its scale, and its degrees of freedom."""

    number: Number
    ratio: float
    df: int

    def is_of(self, group: Group) -> bool:
        key = self.number.key
        return key.metric == group.metric and group.kind in ("", self.number.kind) and group.method in ("", key.method)


def by_value(number: Number) -> Estimate | None:
    """Of a cell with several seeds that differ, on the scale of the metric's value."""
    if len(number) < 2 or equal(min(number.values), max(number.values)):
        return None
    return Estimate(number, number.spread / variance_scale(number.scale, number.mean), len(number) - 1)


def by_rows(number: Number) -> Estimate | None:
    """Of a cell whose seeds have values of the same rows: of c."""
    if by_value(number) is None or len(number.rows) < len(number):
        return None
    pairs = [paired(number.rows[a], number.rows[b]) for a, b in itertools.combinations(number.seeds, 2)]
    squares = [pair.variance for pair in pairs if pair is not None]
    if len(squares) < len(pairs) or not any(squares):
        return None
    return Estimate(number, 2.0 * number.spread / float(np.mean(squares)), len(number) - 1)


def pooled(estimates: Iterable[Estimate | None]) -> tuple[float, int]:
    """Variance of several estimates of one cell, and its degrees of freedom; those of the same models count once."""
    distinct = {_models(each.number): each for each in estimates if each is not None}.values()
    df = sum(each.df for each in distinct)
    return (math.fsum(each.ratio * each.df for each in distinct) / df if df else math.nan), df


def _models(number: Number) -> tuple[object, ...]:
    """Identity of the trained models behind a number: digests of the weights, else the values."""
    return number.models if all(number.models) else number.values


class Calibration:
    """The spread between seeds in some runs; models that are in several of them count once."""

    def __init__(self, runs: Sequence[Summary]):
        numbers = [(run.preset, number) for run in runs for number in run.numbers.values()]
        self._numbers = list({(preset, n.key, _models(n)): n for preset, n in numbers}.values())
        self._groups: dict[tuple[str, str, str, bool], Group | None] = {}
        self._priors: dict[tuple[Group, bool], VariancePrior | None] = {}

    @cached_property
    def _of_values(self) -> dict[str, list[Estimate]]:
        """Estimates on the scale of values, by metric."""
        return _grouped(map(by_value, self._numbers))

    @cached_property
    def _of_rows(self) -> dict[str, list[Estimate]]:
        """Estimates of c, by metric."""
        return _grouped(map(by_rows, self._numbers))

    @cached_property
    def _constant(self) -> set[tuple[str, str]]:
        """Metric and method of numbers that every cell with several seeds has the same from each of them."""
        several = [number for number in self._numbers if len(number) > 1]
        varying = {(number.key.metric, number.key.method) for number in several if not number.constant}
        return {(number.key.metric, number.key.method) for number in several} - varying

    def is_constant(self, number: Number) -> bool:
        """Whether training again gives the same number by construction."""
        return number.exact and (number.key.metric, number.key.method) in self._constant

    def group(self, number: Number, with_rows: bool) -> Group | None:
        """Whose estimates make the prior of a number; None where there are too few of any."""
        place = (number.key.metric, number.kind, number.key.method, with_rows)
        if place not in self._groups:
            metric, kind, method, _ = place
            wider = (Group(metric, kind, method), Group(metric, kind, ""), Group(metric, "", ""))
            least = (OF_A_METHOD, LEAST, LEAST)
            enough = (group for group, n in zip(wider, least, strict=True) if len(self.of(group, with_rows)) >= n)
            self._groups[place] = next(enough, None)
        return self._groups[place]

    def of(self, group: Group, with_rows: bool) -> list[Estimate]:
        """The estimates of a group."""
        by_metric = self._of_rows if with_rows else self._of_values
        return [each for each in by_metric.get(group.metric, []) if each.is_of(group)]

    def prior(self, number: Number, with_rows: bool) -> VariancePrior | None:
        """The prior of a number's relative variance between seeds, or of its c; None where nothing is known."""
        group = self.group(number, with_rows)
        if group is None:
            return None
        if (group, with_rows) not in self._priors:
            estimates = self.of(group, with_rows)
            self._priors[group, with_rows] = fit_prior([e.ratio for e in estimates], [e.df for e in estimates])
        return self._priors[group, with_rows]


def _grouped(estimates: Iterable[Estimate | None]) -> dict[str, list[Estimate]]:
    found: dict[str, list[Estimate]] = {}
    for each in estimates:
        if each is not None:
            found.setdefault(each.number.key.metric, []).append(each)
    return found
