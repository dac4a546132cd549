"""Checks that a row's score is that row's: whatever is scored with it, in whatever number, and whatever came before."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.method import Batch, ClosedForm, Differentiable, OwnGradients, computes_gradients, has
from harness.verify.comparisons import ROUNDING, SINGLE_ROUNDING, t_scores
from harness.verify.gradients import loss_and_gradients
from harness.verify.questions import Score, draws_of, scores
from harness.verify.subject import N_SAMPLES, NotApplicableError, Subject, generator, labels, require

# Rows at once, and where the harness, or a method that works in blocks, is likely to end one.
SIZES = (*range(1, 41), *(2**n + more for n in range(6, 13) for more in (-1, 0, 1)), 100, 300, 1000, 5000)
# Rows at once and samples per row. A call with few pairs is asked more often.
SHAPES = (
    *((1, 1), (1, 17), (1, 1000), (1, 4096), (2, 3), (3, 40), (4, 16), (5, 2), (7, 8), (15, 4), (16, 8), (17, 8)),
    *((31, 2), (32, 8), (33, 5), (65, 4), (100, 1), (129, 3), (257, 1), (300, 4), (1025, 1), (4097, 1)),
)
FEW_SHAPES = ((3, 40), (16, 8), (17, 8), (300, 4))  # where a call is expensive
ALONE_CALLS, ALONE_SAMPLES = 100, 32
CAUSE = "does it normalise or centre over the batch, keep statistics of it, or take another way for some sizes?"


def rows_alone(subject: Subject) -> str:
    """Scores of rows one at a time, and among others in any order and number, are the same."""
    asked = scores(subject.cls)
    if not asked:
        raise NotApplicableError("scores no rows")
    found = []
    for score in asked:
        if score.random:
            found.append(_random_score(score, subject))
        else:
            worst = _exact_score(score, subject, torch.float64, ROUNDING)
            single = _exact_score(score, subject, torch.float32, SINGLE_ROUNDING)
            found.append(f"{score.name}: largest difference {worst:.1e}, in single precision {single:.1e} nats")
    return "; ".join(found)


@torch.no_grad()
def _exact_score(score: Score, subject: Subject, dtype: torch.dtype, tolerance: float) -> float:
    model, rows = subject.model(dtype), subject.rows.to(dtype)
    draws, worst = generator(20), 0.0
    alone = [score.ask(model, row[None].clone(), 1, draws).double() for row in rows]
    for answer in alone:
        require(
            answer.shape[:1] == (1,), f"{score.name}: expected 1 entry for 1 row, found shape {tuple(answer.shape)}"
        )
    table = torch.cat(alone)
    orders = [torch.arange(len(rows)), torch.arange(len(rows)).flip(0)]
    orders += [torch.randint(len(rows), (size,), generator=draws) for size in SIZES]
    orders += [torch.full((size,), row) for size, row in ((2, 6), (17, 11), (300, 28))]
    for order in orders:
        answer = score.ask(model, rows[order], 1, draws).double()
        expected = table[order]
        require(
            answer.shape == expected.shape,
            f"{score.name}: expected shape {tuple(expected.shape)}, found {tuple(answer.shape)}",
        )
        difference = (answer - expected).abs().reshape(len(order), -1).amax(1)
        most = int(difference.nan_to_num(nan=math.inf).argmax())
        require(
            difference[most].item() <= tolerance,
            f"{score.name}: a row scored alone has {_first(expected[most])}, among {len(order)} rows "
            f"{_first(answer[most])}: {CAUSE}",
        )
        worst = max(worst, difference[most].item())
    return worst


@torch.no_grad()
def _random_score(score: Score, subject: Subject) -> str:
    """t-tests of what a row's score is on average: alone, and in every one of SHAPES; units are calls.

    Within a call nothing is taken to be independent, so that copies among draws are not mistaken for this fault.
    """
    model, watched, draws = subject.model(), subject.batch().x, generator(21)
    shapes = tuple(shape for shape in SHAPES if score.cheap or shape in FEW_SHAPES)
    if not score.any_count:
        shapes = tuple((size, N_SAMPLES) for size, _ in shapes)
    samples = ALONE_SAMPLES if score.any_count else N_SAMPLES
    alone = torch.stack(
        [
            torch.cat([score.features(score.ask(model, row[None].clone(), samples, draws)) for row in watched])
            for _ in range(ALONE_CALLS)
        ]
    )  # [R, W, F]
    worst, limits = 0.0, 1.0
    for number, (size, n_samples) in enumerate(shapes):
        calls = max(24, min(ALONE_CALLS, 2000 // n_samples // size))
        among = []
        for call in range(calls):
            batch, places = _among_others(subject, watched, size, generator(1000 * number + call), same=number % 3 == 2)
            answer = score.features(score.ask(model, batch, n_samples, draws))
            require(
                len(answer) == len(batch), f"{score.name}: expected {len(batch)} rows of answers, found {len(answer)}"
            )
            among.append(torch.stack([answer[place].mean(0) for place in places]))
        copies = len(places[0])
        z, limit = t_scores(torch.stack(among), alone[:, : len(places)], copies * n_samples / samples, len(shapes))
        most = z.abs().argmax().item()
        n_features = alone.shape[2]
        row, feature = divmod(most, n_features)
        require(
            z.abs().max().item() < limit,
            f"{score.name}: a row scored alone has {alone[:, row, feature].mean():.5g} on average, among {size} rows "
            f"with {n_samples} samples each {torch.stack(among)[:, row, feature].mean():.5g} "
            f"(|t| = {z.abs().max():.1f}, limit {limit:.1f}): {CAUSE}",
        )
        if z.abs().max().item() / limit > worst / limits:
            worst, limits = z.abs().max().item(), limit
    return f"{score.name}: |t| = {worst:.2f} at most (limit {limits:.2f}), {len(shapes)} shapes"


def _among_others(
    subject: Subject, watched: Tensor, size: int, draws: torch.Generator, same: bool
) -> tuple[Tensor, list[Tensor]]:
    """A batch [size, D] and the places of every watched row that is in it.

    From 16 rows on, half of the batch are watched rows, equally many of each. ``same``: the others are all alike.
    """
    watched = watched[: min(size, len(watched))]
    copies = max(1, size // 2 // len(watched)) if size >= 16 else 1
    n_watched = copies * len(watched)
    others = torch.randint(len(subject.rows), (size - n_watched,), generator=draws)
    if same:
        others = torch.full_like(others, len(subject.rows) - 1)
    batch = torch.cat([watched.repeat(copies, 1), subject.rows[others].to(watched.dtype)])
    order = torch.randperm(size, generator=draws)
    where = torch.empty_like(order)
    where[order] = torch.arange(size)
    return batch[order], [where[start : n_watched : len(watched)] for start in range(len(watched))]


def _first(values: Tensor) -> str:
    return f"{values.flatten()[0].item():.8g}"


@torch.no_grad()
def no_memory(subject: Subject) -> str:
    """Asked again after other questions on other rows, a trained model answers the same, and it has not changed."""
    asked = {
        **{score.name: (lambda model, x, k, d, s=score: s.ask(model, x, k, d)) for score in scores(subject.cls)},
        **{draw.name: (lambda model, x, k, d, s=draw: s.ask(model, k, d)) for draw in draws_of(subject.cls)},
    }
    if not asked:
        raise NotApplicableError("is asked nothing but to learn")
    used = subject.model()
    before = {name: tensor.clone() for name, tensor in used.state_dict().items()}
    n, n_columns = subject.rows.shape
    others = torch.ones(37, n_columns, dtype=torch.float64), subject.rows[:1], subject.rows.flip(0)
    for name, ask in asked.items():
        first = ask(subject.model(), subject.rows, n, generator(22))
        for other, disturb in asked.items():
            for x in others:
                disturb(used, x, len(x), generator(23))
            again = ask(used, subject.rows, n, generator(22))
            require(
                torch.equal(first, again),
                f"{name}: expected what a fresh model answers, after {other} of other rows found another answer: "
                "what does it keep?",
            )
    for name, tensor in used.state_dict().items():
        left = torch.equal(tensor, before[name])
        require(left, f"{name}: expected to be left as it was by evaluation, found changed")
    return ", ".join(asked)


def batch_untouched(subject: Subject) -> str:
    """The rows, masks and labels that a method is given are the harness' own; it leaves them as they are."""
    model, seen = subject.model(), []
    for dtype in (torch.float64, torch.float32):
        model = model.to(dtype)
        for score in scores(subject.cls):
            # what is unknown to an inpainter is no 0 or 1
            x = torch.where(subject.rows.bool(), 1.0, 0.5 if score.name == "inpaint" else 0.0).to(dtype)
            before = x.clone()
            with torch.no_grad():
                score.ask(model, x, N_SAMPLES, generator(24))
            require(torch.equal(x, before), f"{score.name}: expected the rows it was given as they were, found edited")
            seen.append(score.name)
    seen += _losses_leave_batches(subject) + _fit_leaves_rows(subject)
    if not seen:
        raise NotApplicableError("is given no rows")
    return ", ".join(dict.fromkeys(seen))


def _losses_leave_batches(subject: Subject) -> list[str]:
    model = subject.model(torch.float32).train()
    if not isinstance(model, (Differentiable, OwnGradients)):
        return []
    name = "accumulate_gradients" if computes_gradients(model) else "loss"
    x = subject.rows.float()
    y = labels(model, x)
    y[::2] = -1
    kept = x.clone(), y.clone()
    loss_and_gradients(model, Batch(x, y), N_SAMPLES, generator(25))
    require(torch.equal(x, kept[0]), f"{name}: expected the rows it was given as they were, found edited")
    require(torch.equal(y, kept[1]), f"{name}: expected the labels it was given as they were, found edited")
    return [name]


def _fit_leaves_rows(subject: Subject) -> list[str]:
    if not has(subject.cls, ClosedForm):
        return []
    model = subject.new(0)
    train = subject.uneven_rows(300, 1)
    before = train.x.clone()
    subject.fit(model, train)
    require(torch.equal(train.x, before), "fit: expected the rows it was given as they were, found edited")
    return ["fit"]
