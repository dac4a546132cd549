"""The check that training can be stopped: a checkpoint has all that updates, hooks and optimisers depend on."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from harness.method import Batch, ClosedForm, Differentiable, Method, OwnGradients, has
from harness.training.optimizers import step_of
from harness.training.step import UpdateStep
from harness.verify.subject import N_SAMPLES, NotApplicableError, Subject, generator, global_seed, require

UPDATES, RATE = 12, 0.02  # of which the second half is done by another model


def resuming(subject: Subject) -> str:
    """Updates that go on in a new model, from what a checkpoint holds, end with the very weights of those that went on.

    A number or a list that the method keeps for itself is not in a checkpoint: it belongs in a buffer.
    """
    subject.needs(Differentiable, OwnGradients)
    if has(subject.cls, ClosedForm):
        raise NotApplicableError("fits itself")
    ends = [_trained(subject, stopped) for stopped in (False, False, True)]
    for name, value in ends[0].items():
        same = torch.equal(value, ends[1][name])
        require(same, f"{name}: expected the same values from the same updates, found others: what does it depend on?")
        same = torch.equal(value, ends[2][name])
        require(
            same,
            f"{name}: expected the values of updates that were not stopped, found others: what do updates depend on "
            "that is not in state_dict?",
        )
    return f"the same after {UPDATES} updates and after two times {UPDATES // 2}"


def _trained(subject: Subject, stopped: bool) -> dict[str, Tensor]:
    """The state of a model after all updates."""
    model, step, draws = _new(subject)
    with global_seed(13):
        _update(subject, step, draws, range(UPDATES // 2))
        if stopped:
            kept = {name: value.clone() for name, value in model.state_dict().items()}
            tensors = {name: value.clone() for name, value in step.state().items()}
            numbers, random = json.loads(json.dumps(step.numbers())), (torch.get_rng_state(), draws.get_state())
            model, step, draws = _new(subject)
            model.load_state_dict(kept)
            step.load_state(tensors, numbers)
            torch.set_rng_state(random[0])
            draws.set_state(random[1])
        _update(subject, step, draws, range(UPDATES // 2, UPDATES))
    return {name: value.clone() for name, value in model.state_dict().items()}


def _new(subject: Subject) -> tuple[Method, UpdateStep, torch.Generator]:
    """As training begins: a model, its update step and a generator, the same each time."""
    model = subject.new(0).float().train()
    with global_seed(12):
        return model, step_of(model, "float32", learning_rate=RATE), generator(14)


def _update(subject: Subject, step: UpdateStep, draws: torch.Generator, numbers: range) -> None:
    for number in numbers:
        x = subject.uneven_rows(8, number).x.float()
        step.run(Batch(x, torch.full((len(x),), -1)), N_SAMPLES, draws, RATE, 0.0)
