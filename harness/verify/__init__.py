"""``harness verify METHOD``: does a method do what its capabilities promise?

Every check runs on a model so small that all 2^D rows can be enumerated (``Method.small`` has its hyperparameters),
with parameters far from their initial values, and compares the method's answers with sums that leave no doubt: random
quantities by z-scores over repeats, exact ones to rounding. Which checks apply follows from the capabilities; the rest
say why they do not. A capability that nothing can verify is NOT CHECKED. All randomness is seeded, so a verdict is the
same whenever it is asked for.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from harness.compute.processors import n_processors
from harness.plugins.registry import build, method_class, use_object
from harness.verify import (
    closed_form,
    conduct,
    gradients,
    independence,
    labels,
    likelihoods,
    modes,
    resuming,
    rows,
    sampling,
    updates,
)
from harness.verify.plugin import parametrize_with_checks
from harness.verify.subject import (
    N_VISIBLE,
    FailedCheckError,
    NotApplicableError,
    NotCheckedError,
    Result,
    Subject,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CHECKS", "Result", "Subject", "parametrize_with_checks", "run_check", "summary", "verify"]

VERDICTS = ("passed", "failed", "NOT CHECKED", "not applicable")
CHECKS: dict[str, Callable[[Subject], str]] = {
    "interface": conduct.interface,
    "normalisation": likelihoods.normalisation,
    "orderings": likelihoods.orderings,
    "closed form": closed_form.closed_form,
    "importance weights": likelihoods.importance_weights,
    "partition function": likelihoods.partition_function,
    "rows alone": rows.rows_alone,
    "no memory": rows.no_memory,
    "batch untouched": rows.batch_untouched,
    "independence": independence.independence,
    "modes": modes.modes,
    "loss is a bound": updates.loss_is_a_bound,
    "loss is a mean over rows": updates.loss_is_a_mean,
    "gradient": gradients.gradient,
    "gradient with labels": gradients.gradient_with_labels,
    "label probabilities": labels.label_probabilities,
    "label weights": labels.label_weights,
    "labels in learning": labels.labels_in_learning,
    "validation loss": labels.validation_loss,
    "samples": sampling.samples,
    "layer samples": sampling.layer_samples,
    "joint samples": sampling.joint_samples,
    "inpainting": sampling.inpainting,
    "layer features": sampling.layer_features,
    "determinism": conduct.determinism,
    "checkpoint": conduct.checkpoint,
    "single precision": likelihoods.single_precision,
    "device parity": likelihoods.device_parity,
    "learning": updates.learning,
    "resuming": resuming.resuming,
    "bad input": conduct.bad_input,
}


MOST_WORKERS = 4  # the longest check takes a fifth of the time of all
SLOW_CHECKS = ("independence", "rows alone", "gradient", "samples", "joint samples", "inpainting", "batch untouched")
_of_worker: dict[str, Subject] = {}  # what a process of the pool verifies


def run_check(name: str, subject: Subject) -> Result:
    """The verdict of one check; an exception in the method is a failure."""
    try:
        return Result(name, "passed", CHECKS[name](subject))
    except NotApplicableError as reason:
        return Result(name, "not applicable", str(reason))
    except NotCheckedError as reason:
        return Result(name, "NOT CHECKED", str(reason))
    except FailedCheckError as failure:
        return Result(name, "failed", str(failure))
    except (Exception, SystemExit) as error:  # a method that ends the process has failed, whatever its exit code
        return Result(name, "failed", f"{type(error).__name__}: {error}")


def verify(name: str) -> Iterator[Result]:
    """Results of all checks of the method of this name, as they come. Raises ConfigError when there is none.

    On several processors, where the system can fork, as many processes take one check after the other.
    """
    subject = Subject(method_class(name))
    build(name, N_VISIBLE, subject.hyperparameters)  # says what is wrong with ``small``
    n_workers = min(n_processors(), MOST_WORKERS)
    if n_workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield from (run_check(check, subject) for check in CHECKS)
        return
    with _workers(n_workers, subject) as pool:
        found = {check: _submitted(pool, check) for check in sorted(CHECKS, key=SLOW_CHECKS.__contains__, reverse=True)}
        yield from (_result(check, found[check], subject) for check in CHECKS)


class _Callable(ModuleType):
    """This module, which is a function as well: ``harness.verify("bihm")``."""

    def __call__(self, method: str | type) -> pd.DataFrame:
        """One row per check of a method, by name or class: check, verdict, found. Raises ConfigError for no method."""
        import pandas as pd

        name = method if isinstance(method, str) else use_object(method)
        found = [(result.check, result.verdict, result.detail) for result in verify(name)]
        return pd.DataFrame(found, columns=["check", "verdict", "found"])


sys.modules[__name__].__class__ = _Callable


def _workers(n: int, subject: Subject) -> ProcessPoolExecutor:
    forking = multiprocessing.get_context("fork")  # the class of a plugin need not be importable
    return ProcessPoolExecutor(n, forking, initializer=_begin_worker, initargs=(subject,))


def _begin_worker(subject: Subject) -> None:
    torch.set_num_threads(1)
    _of_worker["subject"] = subject


def _check_of_worker(check: str) -> Result:
    return run_check(check, _of_worker["subject"])


def _submitted(pool: ProcessPoolExecutor, check: str) -> Future[Result]:
    try:
        return pool.submit(_check_of_worker, check)
    except BrokenProcessPool as broken:
        future: Future[Result] = Future()
        future.set_exception(broken)
        return future


def _result(check: str, pending: Future[Result], subject: Subject) -> Result:
    """What the check found; where a process of the pool has died, asked again in a process of its own."""
    with contextlib.suppress(BrokenProcessPool):
        return pending.result()
    with _workers(1, subject) as pool, contextlib.suppress(BrokenProcessPool):
        return _submitted(pool, check).result()
    return Result(check, "failed", "the process of the check ended without a word: does the method crash or exit?")


def summary(results: Sequence[Result]) -> str:
    """One line: how many checks passed and failed, and the names of those that failed or were NOT CHECKED."""
    named = {verdict: [each.check for each in results if each.verdict == verdict] for verdict in VERDICTS}
    parts = [f"{len(named['passed'])} passed"]
    for verdict, word in (("failed", "failed"), ("NOT CHECKED", "not checked")):
        names = f" ({', '.join(named[verdict])})" if named[verdict] else ""
        parts.append(f"{len(named[verdict])} {word}{names}")
    return ", ".join([*parts, f"{len(named['not applicable'])} not applicable"])
