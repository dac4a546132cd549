"""Everything that the harness asks of a trained model, in one form, so that a check can ask it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.method import (
    Batch,
    Classifier,
    Discriminative,
    ImportanceWeighted,
    Inpainter,
    JointSampler,
    LayerEncoder,
    LayerSampler,
    Method,
    Orderings,
    Partitioned,
    Sampler,
    Tractable,
    Unnormalised,
    Validated,
    has,
)
from harness.verify.subject import N_VISIBLE, labels

N_TEMPERATURES = 20


@dataclass(frozen=True)
class Score:
    """A score of rows by a model.

    ask: (model, x [B, D], n_samples, generator) -> one entry per row, [B, ...]. random: whether another seed gives
    other numbers. features: of an answer, [B, F], whose means over seeds depend on the row alone. any_count: whether
    that is so for any n_samples as well. cheap: whether it can be asked thousands of times.
    """

    name: str
    ask: Callable[[Method, Tensor, int, torch.Generator], Tensor]
    random: bool
    features: Callable[[Tensor], Tensor] = lambda answer: answer.double().reshape(len(answer), -1)
    any_count: bool = True
    cheap: bool = True


@dataclass(frozen=True)
class Draw:
    """Draws of a model, from nothing but itself: ask: (model, n, generator) -> [n, ...], independent rows.

    cheap: whether it can be asked for some hundred thousands.
    """

    name: str
    ask: Callable[[Method, int, torch.Generator], Tensor]
    cheap: bool = True


def scores(cls: type[Method]) -> list[Score]:
    """The scores of a method, from its capabilities."""
    found = []
    if has(cls, Tractable):
        found.append(Score("log_prob", lambda model, x, k, draws: model.log_prob(x), random=False))
    if has(cls, Orderings):
        found.append(Score("log_prob_orders", lambda model, x, k, draws: model.log_prob_orders(x), random=False))
    if has(cls, Unnormalised):
        found.append(Score("log_unnormalised", lambda model, x, k, draws: model.log_unnormalised(x), random=False))
    if has(cls, Discriminative):
        found.append(Score("log_label_prob", lambda model, x, k, draws: model.log_label_prob(x), random=False))
    if has(cls, ImportanceWeighted):
        found.append(Score("log_weights", lambda model, x, k, draws: model.log_weights(x, k, draws), True, _weights))
    if has(cls, Classifier):
        found.append(
            Score("log_label_weights", lambda model, x, k, draws: model.log_label_weights(x, k, draws), True, _weights)
        )
    if has(cls, LayerEncoder):
        found.append(Score("encode", _encode, random=True, cheap=False))
    if has(cls, Inpainter):
        found.append(Score("inpaint", _inpaint, random=True, cheap=False))
    if has(cls, Validated):
        # a stochastic estimate, but of exact label probabilities
        chance = not has(cls, Discriminative)
        found.append(Score("validation_loss", _validation_loss, random=chance, any_count=False))
    return found


def draws_of(cls: type[Method]) -> list[Draw]:
    """The draws of a method, from its capabilities."""
    found = []
    if has(cls, Sampler):
        found.append(Draw("sample", lambda model, n, draws: model.sample(n, draws)))
    if has(cls, LayerSampler):
        found.append(
            Draw("sample_layers", lambda model, n, draws: torch.cat(model.sample_layers(n, draws), dim=1), cheap=False)
        )
    if has(cls, JointSampler):
        found.append(Draw("sweep", _sweep, cheap=False))
    if has(cls, Partitioned):
        found.append(Draw("log_z2_weights", lambda model, n, draws: model.log_z2_weights(n, 2, draws)))
    if has(cls, Unnormalised):
        found.append(
            Draw("log_partition_samples", lambda model, n, draws: model.log_partition_samples(n, N_TEMPERATURES, draws))
        )
    return found


def _weights(log_weights: Tensor) -> Tensor:
    """Means over K of lw and sqrt(w), [B, 2 ...]: sqrt(w) has a variance wherever w has a mean."""
    log_weights = log_weights.double().flatten(2) if log_weights.dim() > 2 else log_weights.double()[..., None]
    return torch.cat([log_weights.mean(1), torch.exp(0.5 * log_weights).mean(1)], dim=1)


def _encode(model: Method, x: Tensor, n_samples: int, draws: torch.Generator) -> Tensor:
    return torch.cat(model.encode(x, n_samples, draws), dim=1)


def _inpaint(model: Method, x: Tensor, n_samples: int, draws: torch.Generator) -> Tensor:
    """The right half, drawn, and its expected value."""
    known = (torch.arange(N_VISIBLE) < N_VISIBLE // 2).expand_as(x).clone()
    drawn, expected = model.inpaint(x, known, 2, 5, draws)
    return torch.cat([drawn[:, N_VISIBLE // 2 :], expected[:, N_VISIBLE // 2 :]], dim=1)


def _validation_loss(model: Method, x: Tensor, n_samples: int, draws: torch.Generator) -> Tensor:
    return model.validation_loss(Batch(x, labels(model, x)), n_samples, draws)


def _sweep(model: Method, n: int, draws: torch.Generator) -> Tensor:
    return torch.cat(model.sweep(model.sample_layers(n, draws), 5, draws), dim=1)
