"""Checks of labels: predicted probabilities, weights of joint models, learning from known and hidden ones, and the
criterion of early stopping."""

from __future__ import annotations

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
    LabelEnumerable,
    Method,
    OwnGradients,
    Tractable,
    Validated,
    ValidationEnumerable,
)
from harness.verify import causes
from harness.verify.comparisons import LEVEL, ROUNDING, compare
from harness.verify.gradients import Seeded
from harness.verify.label_batches import MANY_SAMPLES, labelled, log_label_prob, n_classes, takes_labels
from harness.verify.subject import (
    N_SAMPLES,
    NotApplicableError,
    NotCheckedError,
    Subject,
    generator,
    global_seed,
    require,
)
from harness.verify.updates import train_on

SIZES = (1, 2, 3, 4, 5, 7, 16, 17, 33)  # of batches of rows
REPEATS = 60
CRITERION_SAMPLES = 7  # of validation losses: log K is then not the entropy of three classes


def label_probabilities(subject: Subject) -> str:
    """p(y | x) sums to one in both modes and for any number of rows, and depends on its row alone."""
    subject.needs(Discriminative)
    model = subject.model()
    count = n_classes(subject, model)
    alone = torch.cat([_label_prob(model.eval(), row[None], count, "evaluation mode") for row in subject.rows])
    for mode in ("evaluation mode", "training mode"):
        model.train(mode == "training mode")
        for n_rows in SIZES:
            chosen = torch.randint(len(subject.rows), (n_rows,), generator=generator(n_rows))
            found = _label_prob(model, subject.rows[chosen], count, f"{mode}, {n_rows} rows")
            if mode == "evaluation mode":
                _close(found, alone[chosen], f"{n_rows} rows: expected log p(y | x) of every row by itself")
    _ignores_history(subject, model, alone)
    return f"{count} classes, batches of {', '.join(map(str, SIZES))} rows"


@torch.no_grad()
def _label_prob(model: Method, x: Tensor, count: int, words: str) -> Tensor:
    found = model.log_label_prob(x).double()
    shape = (len(x), count)
    require(tuple(found.shape) == shape, f"{words}: expected shape {shape}, found {tuple(found.shape)}")
    totals = found.exp().sum(1)
    worst = totals[(totals - 1.0).abs().argmax()].item()
    require(abs(worst - 1.0) < ROUNDING, f"{words}: expected label probabilities that sum to 1, found {worst:.6g}")
    return found


def _close(found: Tensor, expected: Tensor, words: str) -> None:
    worst = (found - expected).abs().max().item()
    require(worst < ROUNDING, f"{words}, found values up to {worst:.2g} nats away")


def _ignores_history(subject: Subject, model: Method, before: Tensor) -> None:
    """What was asked with labels must not be remembered: p(y | x) is the same after losses on other labels."""
    model.eval()
    x, count = subject.rows, before.shape[1]
    for shift in range(count):
        batch = Batch(x, (torch.arange(len(x)) + shift) % count)
        if isinstance(model, Validated):
            model.validation_loss(batch, N_SAMPLES, generator(1))
        if isinstance(model, (Differentiable, OwnGradients)):
            Seeded(model, batch, N_SAMPLES).value(1)
        with torch.no_grad():
            found = model.log_label_prob(x).double()
        _close(found, before, "after a loss on labels: expected the log p(y | x) of before, which reads no labels")


def label_weights(subject: Subject) -> str:
    """Mean label weights are B(x, y) of the enumeration for any number of rows; summed over y, they are A(x).

    A(x) is also the mean square root of the importance weights.
    """
    subject.needs(Classifier)
    model = subject.model().eval()
    count, draws, found = n_classes(subject, model), generator(17), []
    for n_rows in (1, 5, 16, 17):
        chosen = torch.randperm(len(subject.rows), generator=draws).repeat(2)[:n_rows]
        x, shape = subject.rows[chosen], (n_rows, 100, count)
        means, roots = [], []
        with torch.no_grad():
            for _ in range(REPEATS):
                weights = model.log_label_weights(x, 100, draws).double()
                require(tuple(weights.shape) == shape, f"expected shape {shape}, found {tuple(weights.shape)}")
                means.append(weights.exp().mean(1))
                if isinstance(model, ImportanceWeighted):
                    roots.append((0.5 * model.log_weights(x, 100, draws).double()).exp().mean(1))
        repeats = torch.stack(means)  # [R, n_rows, count]
        if roots:
            difference = repeats.sum(2) - torch.stack(roots)
            compare(difference, torch.zeros(n_rows), f"{n_rows} rows: A(x) less the mean root of log_weights")
        if isinstance(model, LabelEnumerable):
            exact = model.exact_label_weights(x).detach().double().exp()
            words = f"{n_rows} rows: B(x, y)"
            found.append(compare(repeats, exact, words))
    if not found:
        raise NotCheckedError(
            "B(x, y): log_label_weights have nothing to be compared with; a method can say what they are weights of "
            "with `exact_label_weights` (harness.method.LabelEnumerable)"
        )
    return "; ".join(found)


# -- labels in learning -----------------------------------------------------------------------------------------------


def labels_in_learning(subject: Subject) -> str:
    """Known labels decide the gradient, hidden ones are taken for no class, and rows keep their own label."""
    subject.needs(Differentiable, OwnGradients)
    if not takes_labels(subject.cls):
        raise NotApplicableError("learns from no labels")
    count = n_classes(subject)
    model = subject.model().train()
    known, partly, hidden = (labelled(subject, kind) for kind in ("known", "partly known", "hidden"))
    of_known = _mean_gradient(model, known)
    shifted = Batch(known.x, (known.y + 1) % count)
    require(
        _differ(of_known, _mean_gradient(model, shifted)), "known labels: expected others to give another gradient, "
        "found the same (labels are ignored?)",
    )  # fmt: skip
    for batch, words in ((hidden, "all labels hidden"), (partly, "some labels hidden")):
        found = _mean_gradient(model, batch)
        for label in range(count):
            as_label = Batch(batch.x, torch.where(batch.y < 0, label, batch.y))
            require(
                _differ(found, _mean_gradient(model, as_label)),
                f"{words}: expected another gradient than with class {label} in their place, found the same (a label "
                f"of -1 is read as class {label}?)",
            )
    order = torch.tensor([2, 0, 3, 1])
    permuted = _mean_gradient(model, Batch(partly.x[order], partly.y[order]))
    require(
        not _differ(_mean_gradient(model, partly), permuted),
        "rows in another order: expected the same mean gradient, found another (labels of other rows are used?)",
    )
    return "gradients depend on known labels; hidden ones count as no class; the order of rows does not matter"


def _mean_gradient(model: Method, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean gradient [n] over repeats and its standard error, with samples of their own for every batch."""
    seeded, repeats = Seeded(model, batch, 20), []
    draws = generator(int((batch.y + 2).mul(torch.tensor([1, 5, 25, 125])).sum()))
    for repeat in range(REPEATS):
        seeded.value(repeat, draws)
        repeats.append(seeded.gradient())
    found = torch.stack(repeats)
    return found.mean(0), found.std(0) / math.sqrt(REPEATS)


def _differ(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    error = torch.hypot(one[1], other[1])
    limit = stats.t.isf(LEVEL / 2 / len(error), REPEATS - 1)
    return bool(((one[0] - other[0]).abs() > limit * error + 100 * ROUNDING).any())


# -- early stopping ---------------------------------------------------------------------------------------------------


def validation_loss(subject: Subject) -> str:
    """It is per row, of its row alone, lower after learning, and one of the things that early stopping can watch.

    Those are -log p(x), -log p~*(x), -log p(y | x), -log p~*(y | x), sums of one of the former and one of the latter,
    the training loss of a row by itself, or the method's ``exact_validation_loss``.
    """
    subject.needs(Validated)
    model = subject.model().eval()
    knows = takes_labels(subject.cls)
    batch = labelled(subject, "known") if knows else Batch(subject.batch().x, None)
    found = _criterion(model, batch, REPEATS)
    require(torch.equal(_criterion(model, batch, 2), found[:2]), "expected the same values from one seed, found others")
    _of_its_row_alone(model, batch, found)
    _falls(subject, knows)
    return _stands_for(model, batch, found)


@torch.no_grad()
def _criterion(model: Method, batch: Batch, repeats: int, first_seed: int = 0) -> Tensor:
    """Validation losses [R, B] double, one row per seed."""
    rows = []
    for seed in range(first_seed, first_seed + repeats):
        with global_seed(seed):
            values = model.validation_loss(batch, CRITERION_SAMPLES, generator(seed))
        shape = (len(batch.x),)
        require(tuple(values.shape) == shape, f"expected a value per row, {shape}, found {tuple(values.shape)}")
        require(bool(torch.isfinite(values).all()), f"expected finite values, found {values.tolist()}")
        rows.append(values.double())
    return torch.stack(rows)


def _of_its_row_alone(model: Method, batch: Batch, found: Tensor) -> None:
    """Each row by itself, in another order, and in odd company: the same on average."""
    orders = [[i] for i in range(len(batch.x))] + [[2, 0, 3, 1], [1, 1, 3, 0, 2, 2, 0]]
    for seed, order in enumerate(orders, start=1):
        part = Batch(batch.x[order], None if batch.y is None else batch.y[order])
        again = _criterion(model, part, REPEATS, 1000 * seed)
        require(
            _same(again, found[:, order]),
            f"rows {order} of {len(batch.x)}: expected {_mean_of(found[:, order])} per row as among all rows, "
            f"found {_mean_of(again)} (it depends on other rows?)",
        )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether repeats [R, n] have the same means."""
    error = torch.hypot(one.std(0), other.std(0)) / math.sqrt(len(one))
    limit = stats.t.isf(LEVEL / 2 / one.shape[1], len(one) - 1)
    return bool(((one.mean(0) - other.mean(0)).abs() <= limit * error + 100 * ROUNDING).all())


def _mean_of(repeats: Tensor) -> str:
    return ", ".join(f"{value:.5g}" for value in repeats.mean(0).tolist())


def _falls(subject: Subject, knows: bool) -> None:
    """Learning lowers it on the rows learned from, and the labels learned have the lowest of all shifts."""
    y = torch.tensor([0, 0, 0, 1]) if knows else None
    batch = Batch(subject.rows[[3, 3, 3, 12]].float(), y)
    model = subject.model(torch.float32)
    before = _criterion(model.eval(), batch, REPEATS).mean().item()
    train_on(model, batch)
    after = _criterion(model.eval(), batch, REPEATS).mean().item()
    text = f"expected learning to lower it on the rows learned from, found {before:.5g} before and {after:.5g} after"
    require(after < before, text + (" (its sign?)" if after > before else " (a constant?)"))
    if not knows:
        return
    count = n_classes(subject)
    shifted = [_criterion(model, Batch(batch.x, (y + shift) % count), REPEATS).mean().item() for shift in range(count)]
    best = min(range(count), key=shifted.__getitem__)
    require(best == 0, f"expected it lowest for the labels learned, found it lowest for those shifted by {best}")


def _stands_for(model: Method, batch: Batch, found: Tensor) -> str:
    if isinstance(model, ValidationEnumerable):
        many = []
        for seed in range(REPEATS):
            many.append(model.validation_loss(batch, MANY_SAMPLES, generator(seed)).detach().double())
        exact = model.exact_validation_loss(batch).detach().double()
        return compare(torch.stack(many), exact, "against exact_validation_loss")
    candidates = _candidates(model, batch)
    for words, repeats in candidates.items():
        if _same(found, repeats):
            return f"it is {words}"
    for words, repeats in candidates.items():

        def agrees(value: Tensor) -> bool:
            return _same(found, value)

        cause = causes.likely_value(repeats, agrees, len(batch.x), CRITERION_SAMPLES)
        require(not cause or "zero" in cause, f"expected {words}, of which it differs: {cause}")
    for shift in range(1, 1 if batch.y is None else n_classes_of(model, batch.x)):
        other = Batch(batch.x, (batch.y + shift) % n_classes_of(model, batch.x))
        for words, repeats in _candidates(model, other).items():
            require(not _same(found, repeats), f"expected {words} of the row's label, found that of label + {shift}")
    raise NotCheckedError(
        f"none of: {', '.join(candidates)}; a method can say what it is with `exact_validation_loss` "
        "(harness.method.ValidationEnumerable)"
    )


def n_classes_of(model: Method, x: Tensor) -> int:
    """Number of classes of a method that predicts labels."""
    return log_label_prob(model, x[:1]).shape[1]


def _candidates(model: Method, batch: Batch) -> dict[str, Tensor]:
    """Repeats [R, B] of what early stopping can watch, from as many samples and seeds of their own."""
    of_rows: dict[str, Callable[[torch.Generator], Tensor]] = {}
    of_labels: dict[str, Callable[[torch.Generator], Tensor]] = {}
    log_k, x, y = math.log(CRITERION_SAMPLES), batch.x, batch.y
    if isinstance(model, Tractable):
        of_rows["-log p(x)"] = lambda draws: -model.log_prob(x)
    elif isinstance(model, ImportanceWeighted):
        of_rows["-log p(x)"] = lambda draws: (
            log_k - torch.logsumexp(model.log_weights(x, CRITERION_SAMPLES, draws), dim=1)
        )
        of_rows["-log p~*(x)"] = lambda draws: (
            2 * (log_k - torch.logsumexp(0.5 * model.log_weights(x, CRITERION_SAMPLES, draws), dim=1))
        )
    if isinstance(model, Discriminative) and y is not None:
        of_labels["-log p(y | x)"] = lambda draws: -model.log_label_prob(x).gather(1, y[:, None]).squeeze(1)
    found = dict(of_rows) | dict(of_labels)
    if isinstance(model, Classifier) and y is not None:

        def joint(draws: torch.Generator, rows: float, labels: float) -> Tensor:
            """-rows log p~*(x) - labels log p~*(y | x), both from the same draws."""
            log_b = torch.logsumexp(model.log_label_weights(x, CRITERION_SAMPLES, draws).double(), dim=1)
            log_a = torch.logsumexp(log_b, dim=1)
            return 2 * rows * (log_k - log_a) - labels * (log_b.gather(1, y[:, None]).squeeze(1) - log_a)

        found["-log p~*(x)"] = lambda draws: joint(draws, 1.0, 0.0)
        found["-log p~*(y | x)"] = lambda draws: joint(draws, 0.0, 1.0)
        found["-log p~*(x) - log p~*(y | x)"] = lambda draws: joint(draws, 1.0, 1.0)
    for row, of_row in of_rows.items():
        for label, of_label in of_labels.items():
            found[f"{row}{label.replace('-', ' - ', 1)}"] = lambda draws, of_row=of_row, of_label=of_label: (
                of_row(draws).double() + of_label(draws).double()
            )
    with torch.no_grad():
        drawn = {
            words: torch.stack([ask(generator(50_000 + seed)).double() for seed in range(REPEATS)])
            for words, ask in found.items()
        }
    if isinstance(model, (Differentiable, OwnGradients)):
        drawn["the training loss of the row"] = _row_losses(model, batch)
    return drawn


def _row_losses(model: Method, batch: Batch) -> Tensor:
    rows = [Batch(batch.x[i : i + 1], None if batch.y is None else batch.y[i : i + 1]) for i in range(len(batch.x))]
    each = [Seeded(model, row, CRITERION_SAMPLES) for row in rows]
    return torch.stack([torch.stack([one.value(60_000 + seed).double() for one in each]) for seed in range(REPEATS)])
