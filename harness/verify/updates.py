"""Checks of what a method learns from: the loss, its gradient, and that updates help."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from harness.method import Batch, Differentiable, Enumerable, ImportanceWeighted, Method, OwnGradients, Tractable
from harness.step import UpdateStep
from harness.verify.comparisons import LEVEL, REPEATS, ROUNDING, compare, negative_log_p
from harness.verify.subject import N_SAMPLES, NotApplicableError, Subject, generator, require

STEP = 1e-5  # of central differences


def loss_and_gradients(model: Method, batch: Batch, n_samples: int, draws: torch.Generator) -> Tensor:
    """The loss of one batch (nats a row, no dimensions), detached; its gradients are left in the parameters."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if isinstance(model, OwnGradients):
        return model.accumulate_gradients(batch, n_samples, draws).detach()
    loss = model.loss(batch, n_samples, draws)
    loss.backward()
    return loss.detach()


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


def gradient(subject: Subject) -> str:
    """Exact likelihoods: central differences of -log p. Hand-written gradients of latent models: ``exact_loss``."""
    subject.needs(Differentiable, OwnGradients)
    model, batch = subject.model(), subject.batch()
    if isinstance(model, Enumerable):
        return _gradient_by_enumeration(model, batch)
    if not isinstance(model, Tractable):
        why = "automatic differentiation of a random loss" if isinstance(model, Differentiable) else "has no exact_loss"
        raise NotApplicableError(why)
    losses = [loss_and_gradients(model, batch, 1, generator(seed)).item() for seed in (1, 2)]
    found = [parameter.grad.clone() for parameter in model.parameters()]
    if losses[0] != losses[1]:
        raise NotApplicableError("automatic differentiation of a random loss")

    def objective() -> float:
        return -model.log_prob(batch.x).double().mean().item()

    require(abs(losses[0] - objective()) < ROUNDING, f"loss: expected {objective():.8g}, found {losses[0]:.8g}")
    worst = 0.0
    with torch.no_grad():
        for parameter, gradients in zip(model.parameters(), found, strict=True):
            values = parameter.view(-1)
            for j, value in enumerate(values.tolist()):
                sides = []
                for sign in (1, -1):
                    values[j] = value + sign * STEP
                    sides.append(objective())
                values[j] = value
                slope = (sides[0] - sides[1]) / (2 * STEP)
                worst = max(worst, abs(slope - gradients.flatten()[j].item()))
    text = f"largest difference from central differences: {worst:.1e}"
    require(worst < 1e-7, text)
    return text


def _gradient_by_enumeration(model: Method, batch: Batch) -> str:
    named = dict(model.named_parameters())
    exact = torch.autograd.grad(model.exact_loss(batch.x), list(named.values()), allow_unused=True)
    known = {name: value for name, value in zip(named, exact, strict=True) if value is not None}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    draws, repeats = generator(4), []
    for _ in range(REPEATS):
        model.load_state_dict(state)
        loss_and_gradients(model, batch, 3000, draws)  # the bias of self-normalised weights falls as 1 / K
        repeats.append(torch.cat([named[name].grad.flatten() for name in known]))
    expected = torch.cat([value.flatten() for value in known.values()])
    return compare(torch.stack(repeats), expected, "mean gradient, against that of exact_loss")


def learning(subject: Subject) -> str:
    """Updates lower the loss on rows that can be learned."""
    subject.needs(Differentiable, OwnGradients)
    subject.needs(Tractable, ImportanceWeighted)
    model = subject.model(dtype=torch.float32).train()
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
