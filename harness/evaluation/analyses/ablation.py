"""Log-likelihoods of single test rows, so that ablations can be compared row by row: what rows share then drops out."""

from __future__ import annotations

import pandas as pd

from harness.estimators import importance_estimates
from harness.estimators.chunks import pairs_at_once
from harness.evaluation.subject import Subject
from harness.method import Partitioned
from harness.ranges import Size

NEEDS = ("importance weights",)
ABLATIONS = True


def analyse(subject: Subject, rows: Size | None, n_samples: Size) -> pd.DataFrame:
    """Columns metric, row, value, k; nats.

    rows: of the test set, drawn at random, the same for all cells of a data set. Metrics: ``log p`` (equation 3.6), and
    for models of p* also ``log p~*`` (equation 3.5).
    """
    x = subject.rows("test", rows).x
    generator = subject.generator("ablation")
    estimates = importance_estimates(subject.model, x, n_samples, generator, pairs_at_once(x.device))
    found = {"log p": estimates.log_p}
    if isinstance(subject.model, Partitioned):
        found["log p~*"] = estimates.log_p_star
    frames = [
        pd.DataFrame({"metric": metric, "row": range(len(x)), "value": values.cpu().numpy(), "k": n_samples})
        for metric, values in found.items()
    ]
    return pd.concat(frames, ignore_index=True)
