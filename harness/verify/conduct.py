"""Checks of how a method behaves: its interface, seeds, files, and what it says of wrong input."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.capability import members
from harness.method import (
    CAPABILITIES,
    Batch,
    Classifier,
    ClosedForm,
    Differentiable,
    Discriminative,
    ImportanceWeighted,
    Method,
    OwnGradients,
    Tractable,
    Unnormalised,
    has,
)
from harness.plugins.registry import hyperparameter_schema
from harness.training.optimizers import step_of
from harness.verify.gradients import loss_and_gradients
from harness.verify.questions import draws_of, scores
from harness.verify.subject import (
    N_SAMPLES,
    N_VISIBLE,
    FailedCheckError,
    NotApplicableError,
    Subject,
    generator,
    global_seed,
    require,
    trainable,
)


def interface(subject: Subject) -> str:
    """Names, hyperparameters that can be checked, a way to be trained and a way to be measured."""
    cls = subject.cls
    for word in ("name", "title", "kind", "source"):
        value = getattr(cls, word, None)
        require(isinstance(value, str) and bool(value), f"{word}: expected words, found {value!r}")
    version = getattr(cls, "version", 1)  # as Method has it
    require(type(version) is int, f"version: expected a whole number, found {version!r}")
    hyperparameter_schema(cls)
    model = subject.new(0)
    names = {name for protocol in CAPABILITIES.values() for name in members(protocol)}
    stray = sorted(name for name in names & vars(model).keys() if callable(vars(model)[name]))  # layers are not there
    require(not stray, f"expected {', '.join(stray)} in the class, found it only in an instance, where it is ignored")
    trained = any(has(cls, protocol) for protocol in (Differentiable, OwnGradients, ClosedForm))
    require(trained, "expected loss, accumulate_gradients or fit, found none of them")
    if not has(cls, ClosedForm):
        require(bool(trainable(model)), "expected parameters that learn (requires_grad), found none")
    likelihoods = (Tractable, ImportanceWeighted, Unnormalised, Discriminative, Classifier)
    measured = any(has(cls, protocol) for protocol in likelihoods)
    return "can be trained and measured" if measured else "can be trained, but has no likelihood to measure"


def determinism(subject: Subject) -> str:
    """The same seed gives the same numbers whatever the global random state; another seed gives others."""
    model, batch = subject.model(), subject.batch()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    asked: dict[str, Callable[[torch.Generator], Tensor]] = {}
    if isinstance(model, (Differentiable, OwnGradients)):
        asked["loss"] = lambda draws: loss_and_gradients(model, batch, N_SAMPLES, draws)
        asked["gradient"] = lambda draws: torch.cat(
            [loss_and_gradients(model, batch, N_SAMPLES, draws)[None], *(p.grad.flatten() for p in trainable(model))]
        )
    for score in scores(subject.cls):
        asked[score.name] = lambda draws, s=score: s.ask(model, subject.batch().x, N_SAMPLES, draws).detach()
    for draw in draws_of(subject.cls):
        asked[draw.name] = lambda draws, d=draw: d.ask(model, 50, draws).detach()
    always_random = {"log_weights", *(draw.name for draw in draws_of(subject.cls))}
    for name, ask in asked.items():
        found = []
        for seed, other in ((1, 7), (1, 8), (2, 7)):
            model.load_state_dict(state)
            with global_seed(other):
                found.append(ask(generator(seed)).clone())
        hint = "; draws of torch.distributions belong in `with harness.seeds(generator):`" if name != "loss" else ""
        same = torch.equal(found[0], found[1])
        require(same, f"{name}: expected the same values from one generator, found others{hint}")
        differ = not torch.equal(found[0], found[2])
        require(differ or name not in always_random, f"{name}: expected other values from another seed")
    return ", ".join(asked) or "nothing random"


def checkpoint(subject: Subject) -> str:
    """What ``state_dict`` brings back, from a file or after more updates, computes and learns as what was saved."""
    dtype = torch.float64 if has(subject.cls, ClosedForm) else torch.float32
    model = subject.model(dtype)
    learn = _learner(subject, model, dtype)
    learn(subject.batch(dtype), 6)
    answers = _answers(subject, dtype)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = {name: ask(model).clone() for name, ask in answers.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(state, path)
        other = subject.new(99).to(dtype)
        other.load_state_dict(load_file(path))
    _require_same(answers, other, expected, "after loading it from a file")
    # training ends so: with the weights of the best look, in a model that has gone on since
    learn(Batch(subject.rows[[0, 31, 17]].to(dtype), torch.full((3,), -1)), 7)
    model.load_state_dict(state)
    _require_same(answers, model, expected, "after going back to it from later updates")
    return ", ".join(answers)


def _learner(subject: Subject, model: Method, dtype: torch.dtype) -> Callable[[Batch, int], None]:
    """What teaches a model a batch, by a few updates or by a fit."""
    if isinstance(model, ClosedForm):
        return lambda batch, seed: subject.fit(model, subject.uneven_rows(100, seed), seed)
    if not trainable(model):
        return lambda batch, seed: None
    step = step_of(model, "float32", learning_rate=0.05)

    def learn(batch: Batch, seed: int) -> None:
        model.train()
        draws = generator(seed)
        for _ in range(3):
            step.run(batch, N_SAMPLES, draws, 0.05, 0.0)
        model.eval()

    return learn


def _require_same(
    answers: dict[str, Callable[[Method], Tensor]], model: Method, expected: dict[str, Tensor], when: str
) -> None:
    for name, ask in answers.items():
        same = torch.equal(ask(model), expected[name])
        require(same, f"{name}: expected the same values {when}, found others: what is not in state_dict?")


def _answers(subject: Subject, dtype: torch.dtype) -> dict[str, Callable[[Method], Tensor]]:
    """What a model says of rows and draws, in evaluation mode, and last what it would learn, in training mode."""

    def update(model: Method) -> Tensor:
        model.train()
        with global_seed(3):  # dropout's
            loss = loss_and_gradients(model, subject.batch(dtype), N_SAMPLES, generator(7))
        model.eval()
        return torch.cat([loss.flatten().double(), *(p.grad.flatten().double() for p in trainable(model))])

    answers: dict[str, Callable[[Method], Tensor]] = {}
    for score in scores(subject.cls):
        answers[score.name] = lambda model, s=score: s.ask(
            model, subject.rows.to(dtype), N_SAMPLES, generator(8)
        ).detach()
    for draw in draws_of(subject.cls):
        answers[draw.name] = lambda model, d=draw: d.ask(model, 50, generator(8)).detach()
    if has(subject.cls, Differentiable) or has(subject.cls, OwnGradients):
        answers["update"] = update
    return answers


def bad_input(subject: Subject) -> str:
    """Rows with a column too many are refused, not scored."""
    wrong = torch.zeros(3, N_VISIBLE + 1, dtype=torch.float64)
    refused = []
    for score in scores(subject.cls):
        if score.name in ("encode", "inpaint", "validation_loss"):
            continue
        try:
            score.ask(subject.model(), wrong, N_SAMPLES, generator(12))
        except Exception:
            refused.append(score.name)
        else:
            raise FailedCheckError(
                f"{score.name}: expected an error for {N_VISIBLE + 1} columns of {N_VISIBLE}, found none"
            )
    if not refused:
        raise NotApplicableError("scores no rows")
    return ", ".join(refused)
