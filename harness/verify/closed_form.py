"""The check of methods that fit themselves: what they find is a function of the rows, and of the seed if they take one.

A closed form must find the same in any order of the rows and however often it is asked; a loop of a method's own, which
takes a generator, the same from the same beginning.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method import Batch, ClosedForm, ImportanceWeighted, Method, Tractable, Unnormalised, has
from harness.training.fitting import is_random
from harness.verify.comparisons import ROUNDING, negative_log_p
from harness.verify.questions import scores
from harness.verify.subject import NotApplicableError, Subject, generator, require

SIZES = (1, 2, 15, 16, 17, 200, 257, 600, 5000)  # training rows
SIZES_OF_LOOPS = (16, 257)  # the same for loops
ORDER_ROUNDING = 1e-6  # of sums in another order, which iterations carry on


def closed_form(subject: Subject) -> str:
    """Fitted again, or after other rows, or to the rows in another order, a model is the same; to others, another."""
    subject.needs(ClosedForm)
    if not subject.new(0).state_dict():
        raise NotApplicableError("has neither parameters nor buffers that fit could set")
    text = _of_a_loop(subject) if is_random(subject.cls) else _at_once(subject)
    if any(has(subject.cls, protocol) for protocol in (Tractable, ImportanceWeighted, Unnormalised)):
        text += "; " + _fits(subject)
    return text


def _at_once(subject: Subject) -> str:
    seeds = iter(range(6 * len(SIZES)))  # another global state each time
    for n in SIZES:
        train = subject.uneven_rows(n, 1)
        model = subject.new(0)
        subject.fit(model, train, next(seeds))
        first = _answer(subject, model)
        order = torch.randperm(n, generator=generator(50))
        shuffled = subject.new(0)
        subject.fit(shuffled, Batch(train.x[order], None if train.y is None else train.y[order]), next(seeds))
        _same(_answer(subject, shuffled), first, ORDER_ROUNDING, f"fit: {n} rows in another order: are some left out?")
        subject.fit(model, train, next(seeds))
        _same(_answer(subject, model), first, ROUNDING, f"fit: {n} rows a second time: does it continue where it was?")
        subject.fit(model, subject.uneven_rows(300, 2), next(seeds))
        other = _answer(subject, model)
        fresh = subject.new(0)
        subject.fit(fresh, subject.uneven_rows(300, 2), next(seeds))
        _same(other, _answer(subject, fresh), ROUNDING, f"fit: other rows after {n}: is something kept from before?")
    require(not torch.equal(first, other), "fit: expected another model from other rows, found the same")
    return f"the same from the same {', '.join(map(str, SIZES))} rows"


def _of_a_loop(subject: Subject) -> str:
    for n in SIZES_OF_LOOPS:
        answers = []
        for rows in (1, 1, 2):
            model = subject.new(0)
            subject.fit(model, subject.uneven_rows(n, rows), seed=3)
            answers.append(_answer(subject, model))
        _same(answers[1], answers[0], 0.0, f"fit: {n} rows again, from the same seed: what else does it depend on?")
        require(not torch.equal(answers[0], answers[2]), f"fit: expected another model from other {n} rows")
    return f"the same from the same {', '.join(map(str, SIZES_OF_LOOPS))} rows and the same seed"


def _fits(subject: Subject) -> str:
    """Rows are likelier under a model that was fitted to them than under one that was fitted to others."""
    batches = [subject.uneven_rows(2000, seed) for seed in (1, 2)]
    losses = []
    for fitted in batches:
        model = subject.new(0)
        subject.fit(model, fitted)
        losses.append([negative_log_p(subject, model, batch.x)[0] for batch in batches])
    text = f"-log p of rows {losses[0][0]:.3f} where fitted to them, {losses[1][0]:.3f} where fitted to others"
    require(losses[0][0] < losses[1][0] and losses[1][1] < losses[0][1], text)
    return text


@torch.no_grad()
def _answer(subject: Subject, model: Method) -> Tensor:
    """What a fitted model says of all rows; its state where it says nothing."""
    answers = [score.ask(model, subject.rows, 20, generator(51)).double().flatten() for score in scores(subject.cls)]
    return torch.cat(answers or [tensor.double().flatten() for tensor in model.state_dict().values()])


def _same(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    require(found.shape == expected.shape, f"{what} Shapes differ")
    difference = (found - expected).abs().max().item() if len(found) else 0.0
    require(difference <= tolerance, f"{what} Largest difference {difference:.2g}")
