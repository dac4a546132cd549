"""Checks that the contenders of an evaluation agree: without that, speed is worth nothing.

Two answers for log p~: ours against the textbook's on the same rows with samples of their own, where the mean
difference must lie within its error (the spread of the differences over rows, which samples alone cause); and ours
against a double-precision evaluation of the very same samples.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.bench import ours
from harness.bench.contenders import Workload
from harness.bench.rivals import textbook
from harness.estimators import LogZ2
from harness.estimators.bias import root
from harness.estimators.chunks import pairs_at_once
from harness.estimators.importance import parts_of
from harness.settings.seeds import generator_for

MAXIMAL_Z = 4.0
MAXIMAL_ROUNDING = 1e-4  # nats
ROWS_IN_DOUBLE = 20


@dataclass(frozen=True)
class Agreement:
    """Two means with the z-score of their difference, and what float32 changes in an estimate, nats."""

    title: str
    ours: float
    textbook: float
    z: float
    rounding: float | None = None
    reliable: bool = True  # False: an error bar that cannot be trusted decides nothing

    @property
    def holds(self) -> bool:
        return (not self.reliable or abs(self.z) < MAXIMAL_Z) and (self.rounding or 0.0) <= MAXIMAL_ROUNDING

    def __str__(self) -> str:
        verdict = "equal within the error" if self.holds else "**NOT EQUAL**"
        if not self.reliable:
            verdict += ", which itself is not reliable: too few samples carry the mean"
        text = f"{self.title}: {self.ours:.3f} (ours), {self.textbook:.3f} (textbook), z = {self.z:+.2f}: {verdict}"
        if self.rounding is None:
            return text
        limit = f"{MAXIMAL_ROUNDING:.0e}".replace("e-0", "e-")
        return f"{text}. Ours in double precision, same samples: within {self.rounding:.1e} nats (limit {limit})"


def of_log_p(workload: Workload) -> Agreement:
    """Mean log p~ over the rows."""
    case, x = workload.case, workload.x
    model = ours.loaded(case, workload.weights, x.device)
    mine = ours.evaluation(case, model, x)().log_p
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = textbook.log_p(textbook.belief_net_like(model), x, case.n_samples).double()
    difference = mine - other
    z = (difference.mean() / (difference.std() / math.sqrt(len(difference)))).item()
    title = f"mean log p~ of {len(x)} test rows, K = {case.n_samples:,}"
    return Agreement(title, mine.mean().item(), other.mean().item(), z, _rounding(workload))


@torch.inference_mode()
def _rounding(workload: Workload) -> float:
    """Greatest change of log p~ of a row when the same samples are evaluated in double precision, nats."""
    case, x = workload.case, workload.x[:ROWS_IN_DOUBLE]
    model = ours.loaded(case, workload.weights, x.device)
    exact = copy.deepcopy(model).double()
    generator = generator_for(x.device, case.key, "bench rounding")
    worst = 0.0
    for row in x.split(1):
        found, expected = [], []
        for n in parts_of(case.n_samples, pairs_at_once(x.device)):
            inferred = model.infer(row, n, generator)
            h = [layer.double() for layer in inferred.h]
            rows = row.double().expand(n, -1)
            found.append((inferred.log_p - inferred.log_q).flatten().double())
            expected.append(exact.log_joint(rows, h) - exact.log_recognition(rows, h))
        change = torch.logsumexp(torch.cat(found), 0) - torch.logsumexp(torch.cat(expected), 0)
        worst = max(worst, abs(change.item()))
    return worst


def of_log_z2(workload: Workload) -> Agreement:
    """2 log Z."""
    case, x = workload.case, workload.x
    model = ours.loaded(case, workload.weights, x.device)
    mine: LogZ2 = ours.evaluation(case, model, x)()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        value, error, reliable = _log_mean(textbook.log_z2_weights(textbook.belief_net_like(model), case.n_samples))
    z = (mine.value - value) / math.hypot(mine.standard_error, error)
    title = f"2 log Z, {case.n_samples:,} draws, ± {mine.standard_error:.3f}"
    return Agreement(title, mine.value, value, z, reliable=mine.reliable and reliable)


def _log_mean(log_values: Tensor) -> tuple[float, float, bool]:
    """log of the mean of exp(values), its standard error by the delta method, and whether that can be trusted."""
    values = log_values.double()
    log_sum, log_squares = torch.logsumexp(values, 0).item(), torch.logsumexp(2.0 * values, 0).item()
    n = len(values)
    ess = math.exp(2.0 * log_sum - log_squares)
    estimate = LogZ2(log_sum - math.log(n), root((n / ess - 1.0) / (n - 1)), 100.0 * ess / n, n, 1)
    return estimate.value, estimate.standard_error, estimate.reliable
