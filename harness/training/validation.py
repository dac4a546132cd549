"""The criterion that early stopping watches on validation rows: the same rows and random numbers at every look.

A look leaves no trace: the model is in evaluation mode meanwhile, so that no layer leaves units out or counts the rows
it sees, the rows that a method gets are copies, and PyTorch's own generators are as before.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.estimators import log_z
from harness.estimators.chunks import pairs_at_once
from harness.method import Batch, ImportanceWeighted, Method, Tractable, Unnormalised, Validated
from harness.settings import seeds
from harness.settings.config import Cell
from harness.training.step import UpdateStep

NEAR_THE_CACHE = 2048  # (row, sample) pairs
TEMPERATURES = 1000  # of the annealed chains that estimate Z


@torch.no_grad()
def losses(model: Method, step: UpdateStep | None, rows: Batch, cell: Cell, device: torch.device) -> Tensor:
    """Criterion of early stopping for every row, [B] double, nats; for every batch where it is the training loss.

    NaN where there is nothing to go by: a model that is fitted in closed form (step: None) and has no likelihood.
    """
    axes = seeds.axes_of(cell)
    generator = seeds.generator_for(device, *axes, "validation")
    chunk = pairs_at_once(device, NEAR_THE_CACHE)
    with evaluating(model), seeds.global_seed(device, *axes, "validation"):
        if isinstance(model, Unnormalised) and not isinstance(model, Validated):
            # the same random numbers at every look, so that looks differ less than estimates of Z do
            z = log_z(model, cell.training.validation_samples, TEMPERATURES, generator, chunk)
            return z.value - model.log_unnormalised(rows.x.clone()).double()
        if isinstance(model, Validated | Tractable | ImportanceWeighted):
            n_samples = 1 if isinstance(model, Tractable) else cell.training.validation_samples
            parts = _parts(rows, max(1, chunk // n_samples))
            return torch.cat([_of_rows(model, part, n_samples, generator).double() for part in parts])
        if step is None:
            return torch.full((rows.x.shape[0],), math.nan, dtype=torch.float64, device=device)
        return _of_batches(model, step, rows, cell, generator)


def _of_batches(model: Method, step: UpdateStep, rows: Batch, cell: Cell, generator: torch.Generator) -> Tensor:
    """What training minimises, on every batch of validation rows: for methods without a likelihood."""
    before = [buffer.clone() for buffer in model.buffers()]  # what a loss counts are updates
    found = [
        step.loss(part, cell.training.validation_samples, generator).double()
        for part in _parts(rows, cell.training.batch_size)
    ]
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
    return torch.stack(found)


def _of_rows(model: Method, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
    """The method's own criterion, else -log p, exact or estimated (equation 3.6), [B]."""
    if isinstance(model, Validated):
        return model.validation_loss(batch, n_samples, generator)
    if isinstance(model, Tractable):
        return -model.log_prob(batch.x)
    return math.log(n_samples) - torch.logsumexp(model.log_weights(batch.x, n_samples, generator), dim=1)


def _parts(rows: Batch, size: int) -> Iterator[Batch]:
    """Copies of so many rows at a time: a method may edit what it is given."""
    for start in range(0, rows.x.shape[0], size):
        part = slice(start, start + size)
        yield Batch(rows.x[part].clone(), None if rows.y is None else rows.y[part].clone())


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode until the block ends, then every module as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
