"""The contenders: each one's job in a case as a function to call repeatedly, or the reason why it has none.

A rival's library is imported when the rival is built, not before: the package runs without any of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.bench import cases
from harness.bench.cases import Case
from harness.compute.precision import float32_products, multiplies_bfloat16, products_set_to

# contender -> module to import, and its package where the names differ
_PYRO = ("pyro", "pyro-ppl")
_PACKAGES = {
    cases.PYRO_RWS: _PYRO,
    cases.PYRO_TRACE_GRAPH: _PYRO,
    cases.PYRO_MEAN_FIELD: _PYRO,
    cases.PYRO_RENYI: _PYRO,
    cases.PYTHAE: ("pythae", "pythae"),
}
PYTORCH_DEFAULT = "highest"  # of torch.set_float32_matmul_precision
Job = Callable[[], Any]  # one update on the next batch, or one whole evaluation


class AbsentError(Exception):
    """A contender that cannot take part here; the message says why."""


@dataclass(frozen=True)
class Workload:
    """What a case is done with: rows x [N, D] on the device, and the file of trained weights where it needs them."""

    case: Case
    x: Tensor
    weights: Path | None = None

    @property
    def units(self) -> int:
        """How many of the case's units (see ``cases.UNITS``) one call of a job does."""
        return len(self.x) if self.case.job == cases.EVALUATION else 1


def check_present(contender: str, device: torch.device) -> None:
    """Raises AbsentError for a contender whose package is missing, or who would only repeat another one here."""
    if contender in _PACKAGES:
        module, package = _PACKAGES[contender]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise AbsentError(f"{package} cannot be imported ({error}): pip install -e '.[bench]'") from error
    if contender in (cases.OURS_FLOAT32, cases.TEXTBOOK_BFLOAT16) and not multiplies_bfloat16(device):
        raise AbsentError("the device is not clearly faster at products in bfloat16 than in float32")
    if contender == cases.OURS_TOGETHER and device.type != "cuda":
        raise AbsentError("models share a program on a GPU alone")
    if contender == cases.TEXTBOOK_FASTER and (device.type != "cpu" or our_float32_products(device) == PYTORCH_DEFAULT):
        raise AbsentError("PyTorch's default library for float32 products is the one that ours uses here")


def job(contender: str, workload: Workload) -> Job:
    """The contender's work in a case, its network new or loaded; initial weights come from a fixed seed.

    Rivals multiply float32 matrices as PyTorch does when nobody asks for anything else; ours, and one textbook, as
    ``harness.compute.precision`` chooses. Raises AbsentError.
    """
    check_present(contender, workload.x.device)
    as_set = contender in (cases.OURS, cases.OURS_FLOAT32, cases.OURS_TOGETHER, cases.TEXTBOOK_FASTER)
    setting = our_float32_products(workload.x.device) if as_set else PYTORCH_DEFAULT
    return with_setting(setting, _job(contender, workload))


@cache
def our_float32_products(device: torch.device) -> str:
    """The setting of float32 products that ours works with."""
    with float32_products(device) as setting:
        return setting


def with_setting(setting: str, work: Job) -> Job:
    """``work`` under a setting of ``torch.set_float32_matmul_precision``."""

    def work_with_setting() -> Any:
        with products_set_to(setting):
            return work()

    return work_with_setting


def _job(contender: str, workload: Workload) -> Job:
    case, x = workload.case, workload.x
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if case.job == cases.UPDATE:
            return _in_turn(_update(contender, case, x.device), x.split(case.rows))
    from harness.bench import ours

    model = ours.loaded(case, workload.weights, x.device)
    if contender == cases.OURS:
        return ours.evaluation(case, model, x)
    from harness.bench.rivals import textbook

    return textbook.evaluation(case, textbook.belief_net_like(model), x)


def _update(contender: str, case: Case, device: torch.device) -> Callable[[Tensor], Any]:
    if contender in (cases.OURS, cases.OURS_FLOAT32):
        from harness.bench import ours

        return ours.update(case, device, "auto" if contender == cases.OURS else "float32")
    if contender == cases.OURS_TOGETHER:
        from harness.bench import ours

        return ours.together(case, device, cases.N_TOGETHER)
    if contender in (cases.TEXTBOOK, cases.TEXTBOOK_FASTER, cases.TEXTBOOK_BFLOAT16):
        from harness.bench.rivals import textbook

        return textbook.update(case, device, bfloat16=contender == cases.TEXTBOOK_BFLOAT16)
    if contender == cases.PYTHAE:
        from harness.bench.rivals import pythae

        return pythae.update(case, device)
    from harness.bench.rivals import pyro

    return pyro.update(contender.removeprefix("Pyro "), case, device)


def _in_turn(update: Callable[[Tensor], Any], batches: Sequence[Tensor]) -> Job:
    position = -1

    def next_update() -> Any:
        nonlocal position
        position = (position + 1) % len(batches)
        return update(batches[position])

    return next_update
