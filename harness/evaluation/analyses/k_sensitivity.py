"""Dependence of likelihood estimates on the number K of importance samples (thesis, Figure 3.3 and section 3.7.2).

All K come from one pass over the samples of the largest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd
from torch import Tensor

from harness.estimators import Estimates, importance_curve
from harness.estimators.bias import UNKNOWN, Bias
from harness.estimators.chunks import pairs_at_once
from harness.evaluation.subject import Subject
from harness.method import Partitioned
from harness.ranges import Ascending, Size

NEEDS = ("importance weights",)


def analyse(subject: Subject, rows: Size | None, ks: Ascending) -> pd.DataFrame:
    """Columns metric, k, value, sem, sem_to_last, bias, bias_error, n_rows; nats, effective sample sizes in percent.

    rows: of the test set, drawn at random. ks: numbers of samples, ascending. Metrics: ``log p`` (equation 3.6),
    ``ess p``, and for models of p* ``log p*`` (equation 3.5 less 2 log Z as the evaluation measured it, whose error is
    part of the sem) and ``ess p*``. sem: standard error over the rows. sem_to_last: that of the difference to the value
    at the largest K, row by row, where what rows have in common drops out. bias: that of the value, so that value -
    bias is what infinitely many samples are expected to give: it is estimated at the largest K
    (``harness.estimators.bias``), and smaller ones differ by what the values do. NaN where it is not known.
    """
    x = subject.rows("test", rows).x
    curve = importance_curve(subject.model, x, ks, subject.generator("k_sensitivity"), pairs_at_once(x.device))
    last = {metric: (values, bias) for metric, values, _, bias in _per_row(curve[-1], subject)}
    records = []
    for estimates in curve:
        for metric, values, shared_error, _ in _per_row(estimates, subject):
            sem = math.hypot(_sem(values), shared_error)
            to_last = values - last[metric][0]
            bias = last[metric][1] + Bias(to_last.mean().item(), _sem(to_last))
            numbers = (values.mean().item(), sem, _sem(to_last), bias.value, bias.error, len(values))
            records.append((metric, estimates.n_samples, *numbers))
    columns = ["metric", "k", "value", "sem", "sem_to_last", "bias", "bias_error", "n_rows"]
    return pd.DataFrame(records, columns=columns)


def _sem(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values))


def _per_row(estimates: Estimates, subject: Subject) -> Iterator[tuple[str, Tensor, float, Bias]]:
    """Each metric with its values for every row [B], the error that all rows share, and the bias of the mean."""
    yield "log p", estimates.log_p, 0.0, estimates.log_p_bias
    yield "ess p", estimates.ess_p, 0.0, UNKNOWN
    minus_log_z2 = subject.measurement("-2 log Z")
    if isinstance(subject.model, Partitioned) and minus_log_z2 is not None:
        of_z2 = (minus_log_z2.get(key) for key in ("bias", "bias_error"))  # none in older measurements
        z2_bias = Bias(*(math.nan if number is None else number for number in of_z2))
        value, error = minus_log_z2["value"], minus_log_z2["sem"]
        yield "log p*", estimates.log_p_star + value, error, estimates.log_p_star_bias + z2_bias
        yield "ess p*", estimates.ess_p_star, 0.0, UNKNOWN
