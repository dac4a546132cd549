"""``harness verify metrics NAME``: does a user's metric do what the evaluation counts on?

It is measured on the smallest model of every built-in method that has the capabilities it needs, with initial
parameters and random rows: what matters is that it returns what a metric may, the same at every call, and leaves the
model and the random numbers of the process as they were. What its numbers mean only its author can say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from harness.capability import has_members, members
from harness.data import Dataset, Status
from harness.evaluation.measure import Measurement, measure
from harness.evaluation.own_metrics import measured_once
from harness.evaluation.subject import Subject
from harness.method import CAPABILITIES, Method
from harness.plugins.metrics import Metric, metric
from harness.plugins.registry import build, built_in_names, method_class
from harness.settings.config import Cell
from harness.settings.parts import Evaluation, Phase, Training
from harness.storage.runs import OK, RunFolder
from harness.verify.subject import N_VISIBLE, FailedCheckError, NotCheckedError, Result

N_ROWS, N_ESTIMATED = 24, 10  # test rows, and those that estimates are made on
TRAINING = Training(10, 0.0, (Phase(1, 1e-3, 1),), 1, 10, 1, 1, 0.0, None, "float32", None)
EVALUATION = Evaluation(n_samples=8, rows=N_ESTIMATED, z_outer=20, z_inner=2)


@dataclass(frozen=True)
class Measured:
    """A metric on the small model of one method: twice, and what it left behind."""

    method: str
    first: Measurement
    second: Measurement
    model_is_as_it_was: bool
    process_is_as_it_was: bool

    def fail_unless(self, holds: bool, expected: str, found: object) -> None:
        """Raises FailedCheckError, naming the method."""
        if not holds:
            raise FailedCheckError(f"{self.method}: expected {expected}, found {found}")


def verify_metric(name: str) -> Iterator[Result]:
    """Results of all checks of a metric, as they come. Raises ConfigError where there is none, or its text is wrong."""
    found = metric(name)
    direction = "" if found.better == "neither" else f", {found.better} is better"
    yield Result("text", "passed", f"{found.title}, {found.unit}{direction}")
    measured = list(_everywhere(found))
    for check, question in CHECKS.items():
        try:
            if not measured:
                raise NotCheckedError(f"no built-in method has {', '.join(found.needs)}")
            for each in measured:
                question(each)
            yield Result(check, "passed", f"with {', '.join(each.method for each in measured)}")
        except NotCheckedError as reason:
            yield Result(check, "NOT CHECKED", str(reason))
        except FailedCheckError as failure:
            yield Result(check, "failed", str(failure))


def _returns(each: Measured) -> None:
    each.fail_unless(each.first.facts.get("status") is None, "a number", each.first.facts.get("message"))
    checked = each.first.checked()
    each.fail_unless("status" not in checked, "a finite number", checked.get("message"))


def _repeats(each: Measured) -> None:
    values = (each.first.facts["value"], each.second.facts["value"])
    each.fail_unless(values[0] == values[1], "the same value at every call", f"{values[0]} and {values[1]}")


def _spares_model(each: Measured) -> None:
    each.fail_unless(each.model_is_as_it_was, "the model as it was, in evaluation mode", "a changed one")


def _spares_process(each: Measured) -> None:
    expected = "random numbers of subject.generator() alone"
    each.fail_unless(each.process_is_as_it_was, expected, "the generator of the process moved on")


CHECKS: dict[str, Callable[[Measured], None]] = {
    "value": _returns,
    "determinism": _repeats,
    "model untouched": _spares_model,
    "own random numbers": _spares_process,
}


def _everywhere(found: Metric) -> Iterator[Measured]:
    """The metric on every built-in method that has what it needs."""
    for name in sorted(built_in_names()):
        cls = method_class(name)
        if all(has_members(cls, members(CAPABILITIES[need])) for need in found.needs):
            with tempfile.TemporaryDirectory() as folder:
                yield _measured(found, name, RunFolder(Path(folder)))


def _measured(found: Metric, method: str, run: RunFolder) -> Measured:
    torch.manual_seed(1)
    hyperparameters = dict(method_class(method).small)
    model: Method = build(method, N_VISIBLE, hyperparameters).eval()
    cell = Cell("small", method, "", 0, hyperparameters, TRAINING, EVALUATION)
    data, device = _rows(hyperparameters.get("n_classes", 2)), torch.device("cpu")
    run.write_config(cell)
    run.write_status(OK, model_sha256=run.save_model(model, cell), n_updates=0)
    with torch.inference_mode():
        known = [each.checked() for each in measure(model, cell, data, device)]
        subject = Subject(cell, model, data, device, known, run, f"metric {found.name}")
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        states = torch.get_rng_state(), np.random.get_state()[1].copy()
        first = measured_once(found, subject)
        same_process = torch.equal(states[0], torch.get_rng_state())
        same_process &= np.array_equal(states[1], np.random.get_state()[1])
        same_model = not model.training and all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
        second = measured_once(found, subject)
    return Measured(method, first, second, same_model, same_process)


def _rows(n_classes: int) -> Dataset:
    """Random rows of 0 and 1 with labels, the same ones at every call."""
    rng = np.random.default_rng(0)
    rows = {split: rng.integers(0, 2, (N_ROWS, N_VISIBLE), dtype=np.uint8) for split in ("train", "valid", "test")}
    labels = {f"{split}_labels": (np.arange(N_ROWS) % n_classes).astype(np.uint8) for split in rows}
    return Dataset(name="small", grey=False, status=Status(True), origin="verify", digest="", **rows, **labels)
