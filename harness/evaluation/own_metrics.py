"""Measuring the metrics of users on a trained model: what their functions return becomes measurements like any other.

``measure(subject)`` returns a number, a number and its standard error, or the values of the test rows as a tensor [B]
or an array: of all of them, or of ``subject.test``, the part that estimates are made on. Values per row give the
standard error and stand in ``rows.parquet``, so that models are compared on the rows that they share. A metric that
raises an error, or returns anything else, is a measurement that failed and says why; the others do not depend on it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data import Dataset
from harness.errors import DataError, InterruptedMeasuringError
from harness.evaluation.measure import Measurement
from harness.evaluation.subject import Subject
from harness.method import CAPABILITIES, Method
from harness.plugins.metrics import Metric, function_of, metric
from harness.settings.config import Cell
from harness.storage import pieces
from harness.storage.runs import FAILED, RunFolder

log = logging.getLogger(__name__)

ESTIMATOR = "metric of a user"
FAILURE = {"value": None, "sem": math.nan, "status": FAILED}


def measure_own(
    model: Method,
    cell: Cell,
    data: Dataset,
    device: torch.device,
    run: RunFolder,
    measured: Sequence[Measurement],
    facts: Mapping[str, Any],
) -> Iterator[Measurement]:
    """A measurement for every metric of users that the cell asks for and the model has the capabilities for.

    measured: by the harness, before. facts: all that those depend on. Raises InterruptedMeasuringError after SIGTERM.
    """
    known = [each.checked() for each in measured]
    for name, code in cell.evaluation.metrics.items():
        found = metric(name)
        if not all(isinstance(model, CAPABILITIES[need]) for need in found.needs):
            continue
        subject = Subject(cell, model.eval(), data, device, known, run, f"metric {name}")
        file = run.pieces_file.with_name(f"measured.{name}.safetensors")
        with torch.inference_mode(), pieces.kept(file, {**facts, "metric": name, "metric_code": code}, device):
            yield measured_once(found, subject)


def measured_once(found: Metric, subject: Subject) -> Measurement:
    """The measurement of one metric."""
    described = {"unit": found.unit, "better": found.better, "matters": found.matters}
    common = {"metric": found.name, "estimator": ESTIMATOR, "k": 0, **described}
    started = pieces.clock()
    try:
        returned = function_of(found.name)(subject)
        values = _read(returned, subject)
    except InterruptedMeasuringError:
        raise
    except (Exception, SystemExit) as error:  # of code that is not ours
        log.exception("%s: metric %s", subject.cell.path, found.name)
        why = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        return Measurement({**common, **FAILURE, "n_rows": 0, "message": why, "seconds": pieces.clock() - started})
    return replace(values, facts={**common, **values.facts, "seconds": pieces.clock() - started})


def _read(returned: Any, subject: Subject) -> Measurement:
    """What a metric returned, as a measurement; raises DataError for what it must not return."""
    unknown = dict.fromkeys(("mc_error", "bias", "bias_error"), math.nan)
    if isinstance(returned, tuple) and len(returned) == 2 and all(map(_is_number, returned)):
        value, error = map(float, returned)
        if error < 0:
            raise DataError(f"metric {subject.purpose}", "a standard error of 0 or more", error)
        return Measurement({"value": value, "sem": error, "n_rows": 0, **unknown})
    if _is_number(returned):
        return Measurement({"value": float(returned), "sem": math.nan, "n_rows": 0, **unknown})
    lengths = sorted({len(subject.data.test), len(subject.test.x)})
    if not isinstance(returned, Tensor | np.ndarray) or returned.ndim != 1 or len(returned) not in lengths:
        expected = f"a number, a number and its standard error, or values of {' or '.join(map(str, lengths))} test rows"
        raise DataError(subject.purpose, expected, _named(returned))
    values = torch.as_tensor(returned).detach().cpu().double()
    sem = (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan
    facts = {"value": values.mean().item(), "sem": sem, "n_rows": len(values), **unknown}
    return Measurement(facts, values)


def _is_number(value: Any) -> bool:
    single = isinstance(value, Tensor | np.ndarray) and value.ndim == 0 and "complex" not in str(value.dtype)
    return single or (isinstance(value, Real) and not isinstance(value, bool))


def _named(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"an array of shape {list(value.shape)}"
    return repr(value) if isinstance(value, bool | str | None) else f"a {type(value).__name__}"
