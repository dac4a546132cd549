"""Size and power of the check, measured: the whole test on simulated runs with the variances that real runs have.

A simulated number gets its variance between seeds from the measured ones of its group, drawn with replacement, so the
cells differ among each other as much as real ones do (more, since the measured variances carry the noise of few seeds).
Seeds are drawn with it, priors are fitted to what the drawn seeds show, and the difference is tested with them. Numbers
are drawn independently of each other; metrics of one model go together, which makes real false alarms fewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.check.calibration import Calibration, Group, by_rows
from harness.check.rules import variance_scale
from harness.check.summary import Number, Summary
from harness.comparison.statistics import fit_priors, smallest_difference, two_sided
from harness.reporting.tables.reported import reported

SHIFTS = np.geomspace(0.01, 10.0, 31)  # nats
LEVELS = np.array([0.01, 0.02, 0.05, 0.1, 0.2])
LIKELIHOOD = "-log p"  # whose cells the power curve is of


@dataclass(frozen=True)
class Design:
    """The tests to simulate.

    numbers: those tested. with_rows: whether each is tested on the scale of its rows. scales: of each. sides: how many
    of the two models' cells have seeds of their own to estimate the spread from, 2 for runs, 1 for a printed number.
    n_seeds: of each. factor: variance of the difference over that of one training, of each.
    """

    numbers: Sequence[Number]
    with_rows: Sequence[bool]
    scales: np.ndarray
    n_seeds: np.ndarray
    factor: np.ndarray
    sides: int
    calibration: Calibration


@dataclass(frozen=True)
class Simulated:
    """For every repeat and number [R, m]: difference without any shift and its standard error, in the metric's unit,
    degrees of freedom and p-value. metrics: of each number [m].
    """

    difference: np.ndarray
    error: np.ndarray
    df: np.ndarray
    p_value: np.ndarray
    metrics: np.ndarray

    def false_alarms(self, level: float) -> float:
        """Share of the repeats with any alarm: Holm's procedure rejects something where the smallest p-value passes."""
        return float((self.p_value.min(1) * self.p_value.shape[1] < level).mean())

    def found(self, shift: float, level: float, metric: str = LIKELIHOOD) -> float:
        """Share of the numbers of a metric found different where each alone is shifted by so much."""
        chosen = self.metrics == metric
        p_value = two_sided(self.difference[:, chosen] + shift, self.error[:, chosen], self.df[:, chosen])
        return float((p_value * len(self.metrics) < level).mean())

    def found_at_stated(self, level: float, power: float) -> float:
        """Share found where each is shifted by the smallest difference that its test says it would find."""
        stated = smallest_difference(self.error, self.df, level / len(self.metrics), power)
        p_value = two_sided(self.difference + stated, self.error, self.df)
        return float((p_value * len(self.metrics) < level).mean())


def retraining(run: Summary, calibration: Calibration) -> Design:
    """``run`` against one of the same cells and seeds, whose models were trained independently."""
    numbers = [n for n in run.numbers.values() if not calibration.is_constant(n)]
    rows = {n.key: by_rows(n) if calibration.group(n, True) is not None else None for n in numbers}
    numbers = [n for n in numbers if calibration.group(n, rows[n.key] is not None) is not None]
    with_rows = [rows[n.key] is not None for n in numbers]
    scales = [
        2.0 * n.spread / estimate.ratio if (estimate := rows[n.key]) else 2.0 * variance_scale(n.scale, n.mean)
        for n in numbers
    ]
    n_seeds = np.array([len(n) for n in numbers], dtype=int)
    return Design(numbers, with_rows, np.array(scales), n_seeds, 1.0 / np.maximum(1, n_seeds), 2, calibration)


def thesis(run: Summary, calibration: Calibration, n_seeds: int | None = None) -> Design:
    """Numbers of ``run`` that the thesis printed, of one training there and of ``n_seeds`` here (None: as they are)."""
    printed = {key for table in reported().values() for key in table}
    numbers = [n for key, n in run.numbers.items() if key in printed and calibration.group(n, False) and not n.constant]
    seeds = np.array([n_seeds or len(n) for n in numbers], dtype=int)
    scales = np.array([variance_scale(n.scale, n.mean) for n in numbers])
    return Design(numbers, [False] * len(numbers), scales, seeds, 1.0 + 1.0 / np.maximum(1, seeds), 1, calibration)


def simulate(design: Design, repeats: int, generator: np.random.Generator) -> Simulated | None:
    """The tests of a design under the null hypothesis; None for a design without numbers."""
    if not design.numbers:
        return None
    members: dict[tuple[Group, bool], list[int]] = {}
    for i, (number, with_rows) in enumerate(zip(design.numbers, design.with_rows, strict=True)):
        members.setdefault((design.calibration.group(number, with_rows), with_rows), []).append(i)
    shape = (repeats, len(design.numbers))
    difference, variance, df = np.empty(shape), np.empty(shape), np.empty(shape)
    for (group, with_rows), indices in members.items():
        found = _group(design, group, with_rows, np.array(indices), repeats, generator)
        difference[:, indices], variance[:, indices], df[:, indices] = found
    unit = np.sqrt(design.scales * design.factor)
    difference, error = difference * unit, np.sqrt(variance) * unit
    metrics = np.array([number.key.metric for number in design.numbers])
    return Simulated(difference, error, df, two_sided(difference, error, df), metrics)


def _group(
    design: Design, group: Group, with_rows: bool, indices: np.ndarray, repeats: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference over its unit, moderated variance and degrees of freedom [R, n] of the numbers of one group."""
    estimates = design.calibration.of(group, with_rows)
    measured = np.array([each.ratio for each in estimates])
    tested = {(design.numbers[i].key, design.numbers[i].values) for i in indices}
    several = design.n_seeds[indices] > 1
    # what the tested cells' own seeds show takes the place of what was measured of them
    elsewhere = [each for each in estimates if (each.number.key, each.number.values) not in tested or not several.any()]

    def drawn(true: np.ndarray, dfs: np.ndarray) -> np.ndarray:
        return true * generator.chisquare(np.broadcast_to(dfs, true.shape)) / dfs

    true = generator.choice(measured, (repeats, len(indices)))
    own_df = design.n_seeds[indices][several] - 1.0
    own = [drawn(true[:, several], own_df) for _ in range(design.sides)]
    other_df = np.array([each.df for each in elsewhere], dtype=float)
    others = drawn(generator.choice(measured, (repeats, len(elsewhere))), other_df)
    prior = fit_priors(np.concatenate([*own, others], axis=1), np.concatenate([own_df] * design.sides + [other_df]))
    prior = type(prior)(*(np.asarray(part)[:, None] for part in (prior.typical, prior.df, prior.mean)))
    combined, dfs = np.zeros(true.shape), np.zeros(len(indices))
    combined[:, several], dfs[several] = sum(own) / design.sides, own_df * design.sides
    variance, df = prior.moderated(combined, dfs)
    return np.sqrt(true) * generator.standard_normal(true.shape), variance, df


def binomial_error(share: float, repeats: int) -> float:
    """Standard error of a share of independent repeats."""
    return math.sqrt(max(share * (1.0 - share), 1.0 / repeats) / repeats)
