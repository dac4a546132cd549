"""Checks of how a method behaves: its interface, seeds, files, and what it says of wrong input."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.method import (
    ClosedForm,
    Differentiable,
    ImportanceWeighted,
    Inpainter,
    JointSampler,
    LayerSampler,
    Method,
    OwnGradients,
    Partitioned,
    Sampler,
    Tractable,
    Unnormalised,
)
from harness.registry import hyperparameter_schema
from harness.step import UpdateStep
from harness.verify.questions import N_TEMPERATURES
from harness.verify.subject import (
    N_SAMPLES,
    N_VISIBLE,
    FailedCheckError,
    NotApplicableError,
    Subject,
    generator,
    global_seed,
    has,
    require,
)
from harness.verify.updates import loss_and_gradients


def interface(subject: Subject) -> str:
    """Names, hyperparameters that can be checked, a way to be trained and a way to be measured."""
    cls = subject.cls
    for word in ("name", "title", "kind", "source"):
        value = getattr(cls, word, None)
        require(isinstance(value, str) and bool(value), f"{word}: expected words, found {value!r}")
    hyperparameter_schema(cls)
    trained = any(has(cls, protocol) for protocol in (Differentiable, OwnGradients, ClosedForm))
    require(trained, "expected loss, accumulate_gradients or fit, found none of them")
    measured = any(has(cls, protocol) for protocol in (Tractable, ImportanceWeighted, Unnormalised))
    return "can be trained and measured" if measured else "can be trained, but has no likelihood to measure"


def determinism(subject: Subject) -> str:
    """The same seed gives the same numbers whatever the global random state; another seed gives others."""
    model, batch = subject.model(), subject.batch()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    asked: dict[str, Callable[[torch.Generator], Tensor]] = {}
    if isinstance(model, (Differentiable, OwnGradients)):
        asked["loss"] = lambda draws: loss_and_gradients(model, batch, N_SAMPLES, draws)
        asked["gradient"] = lambda draws: torch.cat(
            [loss_and_gradients(model, batch, N_SAMPLES, draws)[None], *(p.grad.flatten() for p in model.parameters())]
        )
    if isinstance(model, ImportanceWeighted):
        asked["log_weights"] = lambda draws: model.log_weights(batch.x, N_SAMPLES, draws).detach()
    if isinstance(model, Partitioned):
        asked["log_z2_weights"] = lambda draws: model.log_z2_weights(50, 2, draws).detach()
    if isinstance(model, Unnormalised):
        asked["log_partition_samples"] = lambda draws: model.log_partition_samples(50, N_TEMPERATURES, draws)
    if isinstance(model, Sampler):
        asked["sample"] = lambda draws: model.sample(50, draws)
    if isinstance(model, LayerSampler):
        asked["sample_layers"] = lambda draws: torch.cat(model.sample_layers(50, draws), dim=1)
    if isinstance(model, JointSampler):
        asked["sweep"] = lambda draws: torch.cat(model.sweep(model.sample_layers(50, draws), 5, draws), dim=1)
    if isinstance(model, Inpainter):
        unknown = torch.zeros_like(batch.x, dtype=torch.bool)
        asked["inpaint"] = lambda draws: model.inpaint(batch.x, unknown, 2, 5, draws)[0]
    always_random = {"log_weights", "log_z2_weights", "log_partition_samples", "sample", "sample_layers", "sweep"}
    for name, ask in asked.items():
        found = []
        for seed, other in ((1, 7), (1, 8), (2, 7)):
            model.load_state_dict(state)
            with global_seed(other):
                found.append(ask(generator(seed)).clone())
        require(torch.equal(found[0], found[1]), f"{name}: expected the same values from one seed, found others")
        differ = not torch.equal(found[0], found[2])
        require(differ or name not in always_random, f"{name}: expected other values from another seed")
    return ", ".join(asked) or "nothing random"


def checkpoint(subject: Subject) -> str:
    """What a file of ``state_dict`` brings back computes and learns as the model that was saved."""
    model = subject.model()
    if not isinstance(model, ClosedForm):
        model = model.float()
        step = UpdateStep(model, "float32")
        batch, draws = subject.batch(torch.float32), generator(6)
        for _ in range(3):
            step.run(batch, N_SAMPLES, draws, 0.05, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, path)
        with global_seed(99):
            other = subject.cls(N_VISIBLE, **subject.hyperparameters).to(next(iter(model.state_dict().values())).dtype)
        other.load_state_dict(load_file(path))
    for name, ask in _answers(subject).items():
        with torch.no_grad() if name != "update" else torch.enable_grad():
            found = [ask(each) for each in (model, other)]
        require(torch.equal(*found), f"{name}: expected the same values as before saving, found others")
    return ", ".join(_answers(subject))


def _answers(subject: Subject) -> dict[str, Callable[[Method], Tensor]]:
    def rows(model: Method) -> Tensor:
        return subject.rows.to(next(iter(model.state_dict().values())).dtype)

    def update(model: Method) -> Tensor:
        loss = loss_and_gradients(model, subject.batch(rows(model).dtype), N_SAMPLES, generator(7))
        return torch.cat([loss.flatten().double(), *(p.grad.flatten().double() for p in model.parameters())])

    answers: dict[str, Callable[[Method], Tensor]] = {}
    if has(subject.cls, Tractable):
        answers["log_prob"] = lambda model: model.log_prob(rows(model))
    if has(subject.cls, ImportanceWeighted):
        answers["log_weights"] = lambda model: model.log_weights(rows(model), N_SAMPLES, generator(8))
    if has(subject.cls, Unnormalised):
        answers["log_unnormalised"] = lambda model: model.log_unnormalised(rows(model))
    if has(subject.cls, Sampler):
        answers["sample"] = lambda model: model.sample(50, generator(8))
    if has(subject.cls, Differentiable) or has(subject.cls, OwnGradients):
        answers["update"] = update
    return answers


def bad_input(subject: Subject) -> str:
    """Rows with a column too many are refused, not scored."""
    asked = {
        "log_prob": lambda model, x: model.log_prob(x),
        "log_weights": lambda model, x: model.log_weights(x, N_SAMPLES, generator(12)),
        "log_unnormalised": lambda model, x: model.log_unnormalised(x),
    }
    wrong = torch.zeros(3, N_VISIBLE + 1, dtype=torch.float64)
    refused = []
    for name, ask in asked.items():
        if hasattr(subject.cls, name):
            try:
                ask(subject.model(), wrong)
            except Exception:
                refused.append(name)
            else:
                raise FailedCheckError(
                    f"{name}: expected an error for {N_VISIBLE + 1} columns of {N_VISIBLE}, found none"
                )
    if not refused:
        raise NotApplicableError("scores no rows")
    return ", ".join(refused)
