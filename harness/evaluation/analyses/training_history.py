"""Development of estimates during training (thesis, Figures 3.4, 3.7 and 3.8): every snapshot of a run is measured.

On validation rows, since a curve over training is what one would choose a budget by. All snapshots meet the same rows
and the same random numbers, so that a curve moves with the weights rather than with the noise of its estimates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from harness.estimators import importance_curve, log_z2
from harness.estimators.chunks import pairs_at_once
from harness.evaluation.subject import LeftOutError, Subject
from harness.method import Method, Partitioned
from harness.ranges import Ascending, Draws, Size

NEEDS = ("importance weights",)


def analyse(subject: Subject, rows: Size | None, ks: Ascending, z_outer: Draws) -> pd.DataFrame:
    """Columns update, seconds, metric, k, value, sem, n_rows, doubt; nats.

    rows: of the validation set, drawn at random. ks: numbers of samples, ascending. z_outer: draws for Z, one inner
    sample each. seconds: of training, without validation. Metrics: ``log p`` (equation 3.6), and for models of p* also
    ``log p~*`` (equation 3.5), ``log p*`` and ``2 log Z``. sem: standard error over the rows, that of 2 log Z included
    where that enters. doubt: why 2 log Z cannot be trusted, else empty.
    """
    cell = subject.cell
    if cell.training.snapshots == 0:
        raise LeftOutError("no snapshots of the weights, as training.snapshots is 0")
    curve = pd.read_csv(subject.run.checked(subject.run.curve_file, subject.run.status()))
    x = subject.rows("valid", rows).x
    records = []
    for update, model in subject.snapshots():
        seconds = float(np.interp(update, curve["update"], curve["seconds"]))
        found = _measured(model, subject, x, ks, z_outer)
        records += [{"update": update, "seconds": round(seconds, 6), **row} for row in found]
    return pd.DataFrame(records)


def _measured(model: Method, subject: Subject, x: Tensor, ks: list[int], z_outer: int) -> Iterator[dict[str, Any]]:
    curve = importance_curve(model, x, ks, subject.generator("training history"), pairs_at_once(x.device))
    for estimates in curve:
        yield _row("log p", estimates.n_samples, estimates.log_p)
    if not isinstance(model, Partitioned):
        return
    z2 = log_z2(model, z_outer, 1, subject.generator("training history Z"), pairs_at_once(x.device))
    for estimates in curve:
        star = _row("log p~*", estimates.n_samples, estimates.log_p_star)
        yield star
        sem = math.hypot(star["sem"], z2.standard_error)
        yield {**star, "metric": "log p*", "value": star["value"] - z2.value, "sem": sem, "doubt": z2.doubt}
    shared = {"value": z2.value, "sem": z2.standard_error, "n_rows": 0, "doubt": z2.doubt}
    yield {"metric": "2 log Z", "k": z_outer, **shared}


def _row(metric: str, k: int, values: Tensor) -> dict[str, Any]:
    sem = values.std().item() / math.sqrt(len(values))
    return {"metric": metric, "k": k, "value": values.mean().item(), "sem": sem, "n_rows": len(values), "doubt": ""}
