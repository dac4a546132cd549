"""Checks of learning: the loss, and that updates help. Gradients have ``harness.verify.gradients``."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from scipy import stats
from torch import Tensor

from harness.method import (
    Batch,
    Classifier,
    Differentiable,
    Discriminative,
    ImportanceWeighted,
    Method,
    OwnGradients,
    Tractable,
    Unnormalised,
)
from harness.training.optimizers import step_of
from harness.verify import causes
from harness.verify.comparisons import LEVEL, REPEATS, ROUNDING, negative_log_p
from harness.verify.gradients import Seeded
from harness.verify.label_batches import log_label_prob, n_classes, takes_labels
from harness.verify.subject import N_SAMPLES, Subject, generator, global_seed, require

BOUND_SAMPLES = 200  # a row, where a loss is compared with -log p
COPY_REPEATS = 80  # a wrong factor is far larger than the noise of so many
UPDATES, RATE = 300, 0.02
WRONG_FACTOR = 1.5  # any loss of twice as many rows that is no mean is further from what it should be


# -- the value of the loss --------------------------------------------------------------------------------------------


def loss_is_a_bound(subject: Subject) -> str:
    """The mean loss lies between -log p and what one sample per row gives, however many samples there are.

    In evaluation mode and, where that says something else, in training mode.
    """
    subject.needs(Tractable, ImportanceWeighted)
    subject.needs(Differentiable, OwnGradients)
    found = {mode: _bound(subject, mode) for mode in ("evaluation mode", "training mode")}
    if len(set(found.values())) == 1:
        return found["training mode"]
    return "; ".join(f"{mode}: {text}" for mode, text in found.items())


def _bound(subject: Subject, mode: str) -> str:
    model, batch = subject.model().train(mode == "training mode"), subject.batch()
    seeded, draws = Seeded(model, batch, BOUND_SAMPLES), generator(3)
    losses, singles = [], []
    for repeat in range(REPEATS):
        losses.append(seeded.value(repeat, draws))
        if isinstance(model, ImportanceWeighted):
            with torch.no_grad():
                singles.append(-model.log_weights(batch.x, BOUND_SAMPLES, draws).double().mean())
    loss = torch.stack(losses).double()
    mean, error = loss.mean().item(), loss.std().item() / math.sqrt(REPEATS)
    limit = stats.norm.isf(LEVEL)
    with global_seed(0):
        exact, exact_error = negative_log_p(subject, model, batch.x)
    text = f"mean loss {mean:.4f} ± {error:.1g}, -log p {exact:.4f}"
    too_low = limit * math.hypot(error, exact_error) + ROUNDING
    require(mean > exact - too_low, f"{mode}: {text}{_cause(mean, exact, too_low, batch)}")
    if singles:
        single = torch.stack(singles)
        highest, highest_error = single.mean().item(), single.std().item() / math.sqrt(REPEATS)
        text += f", one sample per row {highest:.4f}"
        too_high = limit * math.hypot(error, highest_error) + ROUNDING
        require(mean < highest + too_high, f"{mode}: {text}{_cause(mean, highest, too_high, batch)}")
    return text


def _cause(found: float, expected: float, allowed: float, batch: Batch) -> str:
    """The likely cause of a loss outside of its bounds, which would be just outside of the nearer one without it."""
    cause = causes.likely_value(
        torch.tensor(expected), lambda value: abs(found - value.item()) < allowed, len(batch.x), BOUND_SAMPLES
    )
    return f" ({cause})" if cause else ""


def loss_is_a_mean(subject: Subject) -> str:
    """Copies of the rows change neither the mean loss nor the mean gradient: both are means over rows, whatever B is.

    In evaluation mode exactly; in training mode, where layers may look at the batch's statistics, no factor of two.
    """
    subject.needs(Differentiable, OwnGradients)
    found = []
    for mode in ("evaluation mode", "training mode"):
        model = subject.model().train(mode == "training mode")
        y = torch.arange(3) % n_classes(subject) if takes_labels(subject.cls) else None
        once, *others = (_moments(model, Batch(subject.rows[[3, 10, 12]], y), copies) for copies in (1, 2, 3))
        for n_rows, other in zip((6, 9), others, strict=True):
            for what, ours, theirs in zip(("loss", "gradient"), once, other, strict=True):
                _same_mean(f"{mode}: mean {what} of {n_rows} rows, copies of 3", ours, theirs, n_rows, mode)
        found.append(f"{mode}: the same for 3, 6 and 9 rows")
    return "; ".join(found)


def _moments(model: Method, batch: Batch, copies: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Mean and standard error of loss [1] and gradient [n] on copies of the batch."""
    y = None if batch.y is None else batch.y.repeat(copies)
    seeded, draws = Seeded(model, Batch(batch.x.repeat(copies, 1), y), N_SAMPLES), generator(20 + copies)
    losses, gradients = [], []
    for repeat in range(COPY_REPEATS):
        losses.append(seeded.value(repeat + copies * COPY_REPEATS, draws).double().view(1))
        gradients.append(seeded.gradient())
    both = torch.stack(losses), torch.stack(gradients)
    return tuple((each.mean(0), each.std(0) / math.sqrt(COPY_REPEATS)) for each in both)


def _same_mean(what: str, once: tuple[Tensor, Tensor], copied: tuple[Tensor, Tensor], n_rows: int, mode: str) -> None:
    (expected, error), (found, other_error) = once, copied
    both = torch.hypot(error, other_error)
    allowed = stats.t.isf(LEVEL / 2 / len(expected), COPY_REPEATS - 1) * both + 100 * ROUNDING

    def agrees(value: Tensor, factor: float = 1.0) -> bool:
        return bool(((found - value).abs() <= max(1.0, factor) * allowed).all())

    if agrees(expected):
        return
    ratio = ((found @ expected) / (expected @ expected)).item()
    if mode == "training mode" and 1 / WRONG_FACTOR < ratio < WRONG_FACTOR:
        return
    text = f"{what}: expected that of the 3 rows, found {ratio:.3g} times that"
    for words, factor in {"a sum over rows instead of a mean?": n_rows / 3, "divided by B twice?": 3 / n_rows}.items():
        if agrees(factor * expected, factor):
            text += f" ({words})"
    require(False, text)


# -- learning ---------------------------------------------------------------------------------------------------------


def learning(subject: Subject) -> str:
    """Updates in training mode better what the method is measured by in evaluation mode, on rows that can be learned.

    Every parameter that this depends on moves, and frozen ones do not.
    """
    subject.needs(Differentiable, OwnGradients)
    model = subject.model(dtype=torch.float32).train()
    y = torch.tensor([0, 0, 0, 1]) if takes_labels(subject.cls) else torch.full((4,), -1)
    batch = Batch(subject.rows[[3, 3, 3, 12]].float(), y)
    goals = _goals(subject, batch)
    before, started = {what: goal(model.eval()) for what, goal in goals.items()}, _values(model)
    train_on(model, batch)
    found = []
    for what, goal in goals.items():
        after = goal(model.eval())
        text = f"{what}: {before[what]:.2f} before {UPDATES} updates, {after:.2f} after"
        require(after < before[what], text + (" (the sign of the gradient?)" if after > before[what] else ""))
        found.append(text)
    if y.max() > 0:
        _labels_learned(subject, model, batch)
    _moved(subject, model, batch, started)
    return "; ".join(found)


def train_on(model: Method, batch: Batch) -> None:
    """``UPDATES`` updates on one batch, in training mode."""
    step, draws = step_of(model.train(), "float32", learning_rate=RATE), generator(11)
    with global_seed(11):
        for _ in range(UPDATES):
            loss = step.run(batch, N_SAMPLES, draws, RATE, 0.0)
            require(math.isfinite(loss.item()), f"loss: expected a number, found {loss.item()}")


def _goals(subject: Subject, batch: Batch) -> dict[str, Callable[[Method], float]]:
    """What updates must lower; the loss itself where a method is measured by nothing else."""
    goals: dict[str, Callable[[Method], float]] = {}
    model = subject.model()
    if isinstance(model, (Tractable, ImportanceWeighted, Unnormalised)):
        goals["-log p of two kinds of rows"] = lambda trained: negative_log_p(subject, trained, batch.x)[0]
    if isinstance(model, (Discriminative, Classifier)):
        goals["-log p of their labels"] = lambda trained: -_of_label(log_label_prob(trained, batch.x), batch.y).item()
    if not goals:
        goals["loss of two kinds of rows"] = lambda trained: _mean_loss(trained, batch)
    return goals


def _mean_loss(model: Method, batch: Batch) -> float:
    seeded = Seeded(model, batch, N_SAMPLES)
    return sum(seeded.value(seed).item() for seed in range(50)) / 50


def _of_label(log_probs: Tensor, y: Tensor) -> Tensor:
    return log_probs.gather(1, y[:, None]).mean()


def _labels_learned(subject: Subject, model: Method, batch: Batch) -> None:
    """Of all ways to shift the labels, that of training is the likeliest afterwards."""
    if not isinstance(model, (Discriminative, Classifier)):
        return
    count = n_classes(subject)
    by_shift = [_of_label(log_label_prob(model, batch.x), (batch.y + shift) % count) for shift in range(count)]
    best = int(torch.stack(by_shift).argmax())
    require(
        best == 0, f"labels: expected those of training to be the likeliest afterwards, found those shifted by {best}"
    )


def _values(model: Method) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _moved(subject: Subject, model: Method, batch: Batch, before: dict[str, Tensor]) -> None:
    """Parameters that stayed must be frozen, or of no influence; frozen ones must have stayed."""
    for name, parameter in model.named_parameters():
        same = torch.equal(parameter.detach(), before[name])
        if not parameter.requires_grad:
            require(same, f"{name}: expected a frozen parameter to stay as it is, found that updates change it")
        elif same:
            require(
                not _matters(subject, model, batch, name),
                f"{name}: expected updates to change it, as what the method computes depends on it, found it unchanged "
                "(no gradient reaches it?)",
            )


def _matters(subject: Subject, model: Method, batch: Batch, name: str) -> bool:
    """Whether loss, likelihood or label probabilities are others for another value of a parameter."""
    answers = []
    for shift in (0.0, 0.5):
        shifted = copy.deepcopy(model).eval()
        with torch.no_grad():
            parameter = dict(shifted.named_parameters())[name]
            parameter += shift * torch.randn(parameter.shape, generator=generator(12))
        found = [Seeded(shifted, batch, N_SAMPLES).value(1).view(1).double()]
        with torch.no_grad():
            if isinstance(model, (Tractable, ImportanceWeighted, Unnormalised)):
                found.append(torch.tensor([negative_log_p(subject, shifted, batch.x)[0]], dtype=torch.float64))
            if isinstance(model, (Discriminative, Classifier)):
                found.append(log_label_prob(shifted, batch.x).flatten().double())
        answers.append(torch.cat(found))
    return not torch.equal(*answers)
