"""The check of training and evaluation mode."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from harness.method import Differentiable, Method, OwnGradients
from harness.verify.comparisons import ROUNDING
from harness.verify.gradients import loss_and_gradients
from harness.verify.questions import draws_of, scores
from harness.verify.subject import (
    N_SAMPLES,
    FailedCheckError,
    NotApplicableError,
    Subject,
    generator,
    global_seed,
    require,
    trainable,
)

_DROPOUTS = (
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, F.rrelu),
    F.batch_norm,
)


class HeldStill(TorchFunctionMode):
    """Dropout and batch normalisation do, until the block is left, what they do in evaluation mode."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in _DROPOUTS:
            return func(*args, **(kwargs or {}))
        bound = inspect.signature(func).bind(*args, **(kwargs or {}))
        if func is not F.batch_norm or bound.arguments.get("running_mean") is not None:
            bound.arguments["training"] = False
        return func(*bound.args, **bound.kwargs)


def modes(subject: Subject) -> str:
    """Training and evaluation mode differ by dropout and batch normalisation alone; evaluation builds no graph."""
    asked = _everything(subject)
    if not asked:
        raise NotApplicableError("is asked nothing")
    for name, ask in asked.items():
        answers = {}
        for mode in ("evaluation", "training"):
            model = subject.model().train(mode == "training")
            with HeldStill(), global_seed(40):
                answers[mode] = ask(model)
        here, there = answers["evaluation"], answers["training"]
        require(
            here.shape == there.shape, f"{name}: shape {tuple(here.shape)} in evaluation mode, {tuple(there.shape)}"
        )
        differ = (here - there).abs() > ROUNDING
        require(
            not bool(differ.any()) and torch.equal(here.isnan(), there.isnan()),
            f"{name}: {_one(here[differ])} in evaluation mode, {_one(there[differ])} in training mode, with dropout "
            "and batch normalisation held still: what else depends on self.training?",
        )
        if name not in ("loss", "gradient"):
            model = subject.model()
            try:
                with torch.inference_mode():
                    inferred = ask(model)
            except Exception as error:
                raise FailedCheckError(
                    f"{name}: fails in torch.inference_mode(), in which the harness evaluates: {error}"
                ) from error
            same = torch.allclose(inferred, here, atol=ROUNDING, rtol=0.0, equal_nan=True)
            require(same, f"{name}: expected the same values in torch.inference_mode(), found others")
    return ", ".join(asked)


def _one(values: Tensor) -> str:
    return f"{values[0].item():.6g}" if len(values) else "a number"


def _everything(subject: Subject) -> dict[str, Callable[[Method], Tensor]]:
    """Loss and gradient, scores and draws, each under a seed of its own."""
    asked: dict[str, Callable[[Method], Tensor]] = {}
    for score in scores(subject.cls):
        asked[score.name] = lambda model, s=score: (
            s.ask(model, subject.rows, N_SAMPLES, generator(41)).detach().double()
        )
    for draw in draws_of(subject.cls):
        asked[draw.name] = lambda model, d=draw: d.ask(model, 50, generator(42)).detach().double()
    if any(issubclass(subject.cls, protocol) for protocol in (OwnGradients, Differentiable)):
        asked["loss"] = lambda model: loss_and_gradients(model, subject.batch(), N_SAMPLES, generator(43)).double()[
            None
        ]
        asked["gradient"] = lambda model: _gradient(subject, model)
    return asked


def _gradient(subject: Subject, model: Method) -> Tensor:
    loss_and_gradients(model, subject.batch(), N_SAMPLES, generator(44))
    return torch.cat([parameter.grad.flatten().double() for parameter in trainable(model)])
