"""How far likelihood estimates depend on the number K of importance samples (thesis, Figure 3.3 and section 3.7.2).

All K come from one pass over the samples of the largest.
"""

from __future__ import annotations

import math

import pandas as pd
from torch import Tensor

from harness.analyses.subject import Subject
from harness.estimators import Estimates, importance_curve
from harness.evaluation import CHUNK
from harness.method import Partitioned
from harness.ranges import Ascending, Size

NEEDS = ("importance weights",)


def analyse(subject: Subject, rows: Size | None, ks: Ascending) -> pd.DataFrame:
    """Columns metric, k, value, sem, sem_to_last, n_rows; nats, effective sample sizes in percent.

    rows: of the test set, drawn at random. ks: numbers of samples, ascending. Metrics: ``log p`` (equation 3.6),
    ``ess p``, and for models of p* ``log p*`` (equation 3.5 less 2 log Z as the evaluation measured it, whose error is
    part of the sem) and ``ess p*``. sem: standard error over the rows. sem_to_last: that of the difference to the value
    at the largest K, row by row, where what rows have in common drops out.
    """
    x = subject.rows("test", rows).x
    curve = importance_curve(subject.model, x, ks, subject.generator("k_sensitivity"), CHUNK)
    last = _per_row(curve[-1], subject)
    records = []
    for estimates in curve:
        for metric, (values, shared_error) in _per_row(estimates, subject).items():
            sem = math.hypot(_sem(values), shared_error)
            to_last = _sem(values - last[metric][0])
            records.append((metric, estimates.n_samples, values.mean().item(), sem, to_last, len(values)))
    return pd.DataFrame(records, columns=["metric", "k", "value", "sem", "sem_to_last", "n_rows"])


def _sem(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values))


def _per_row(estimates: Estimates, subject: Subject) -> dict[str, tuple[Tensor, float]]:
    """Metric -> its values for every row [B], and the error that all rows share."""
    found = {"log p": (estimates.log_p, 0.0), "ess p": (estimates.ess_p, 0.0)}
    minus_log_z2 = subject.measurement("-2 log Z")
    if isinstance(subject.model, Partitioned) and minus_log_z2 is not None:
        found["log p*"] = (estimates.log_p_star + minus_log_z2["value"], minus_log_z2["sem"])
        found["ess p*"] = (estimates.ess_p_star, 0.0)
    return found
