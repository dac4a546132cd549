"""Checks of what a method learns from: the loss, its gradient, and that updates help."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from harness.method import Batch, Differentiable, Enumerable, ImportanceWeighted, Method, OwnGradients, Tractable
from harness.step import UpdateStep
from harness.verify.comparisons import LEVEL, REPEATS, ROUNDING, compare, negative_log_p
from harness.verify.gradients import loss_and_gradients
from harness.verify.subject import N_SAMPLES, NotApplicableError, Subject, generator, require

def loss_is_a_bound(subject: Subject) -> str:
    """The mean loss lies between -log p and what one sample a row gives, whatever the number of samples."""
    subject.needs(Tractable, ImportanceWeighted)
    subject.needs(Differentiable, OwnGradients)
    model, batch = subject.model(), subject.batch()
    draws, n_samples = generator(3), 200
    losses, singles = [], []
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(REPEATS):
        model.load_state_dict(state)
        losses.append(loss_and_gradients(model, batch, n_samples, draws))
        if isinstance(model, ImportanceWeighted):
            with torch.no_grad():
                singles.append(-model.log_weights(batch.x, n_samples, draws).double().mean())
    loss = torch.stack(losses).double()
    error = loss.std().item() / math.sqrt(REPEATS)
    limit = stats.norm.isf(LEVEL)
    exact, exact_error = negative_log_p(subject, model, batch.x)
    text = f"mean loss {loss.mean().item():.4f} ± {error:.1g}, -log p {exact:.4f}"
    require(loss.mean().item() > exact - limit * math.hypot(error, exact_error) - ROUNDING, text)
    if singles:
        single = torch.stack(singles)
        both = math.hypot(error, single.std().item() / math.sqrt(REPEATS))
        text += f", one sample a row {single.mean().item():.4f}"
        require(loss.mean().item() < single.mean().item() + limit * both + ROUNDING, text)
    return text


def learning(subject: Subject) -> str:
    """Updates lower the loss on rows that can be learned."""
    subject.needs(Differentiable, OwnGradients)
    subject.needs(Tractable, ImportanceWeighted)
    model = subject.model(dtype=torch.float32)
    batch = Batch(subject.rows[[3, 3, 3, 12]].float(), torch.full((4,), -1))
    before, _ = negative_log_p(subject, model, batch.x)
    step, draws = UpdateStep(model, "float32"), generator(11)
    for _ in range(300):
        loss = step.run(batch, N_SAMPLES, draws, 0.02, 0.0)
        require(math.isfinite(loss.item()), f"loss: expected a number, found {loss.item()}")
    after, _ = negative_log_p(subject, model, batch.x)
    text = f"-log p of two kinds of rows: {before:.2f} before 300 updates, {after:.2f} after"
    require(after < before, text)
    return text
