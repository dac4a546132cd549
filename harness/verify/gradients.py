"""Checks of gradients: against exact ones on average, or against differences of the loss under one seed.

Which of the two applies is decided by what the method offers and how its loss behaves:

1. ``exact_loss``: the mean gradient over many updates must be that of the exact loss, in double and in single
   precision, for 2, 3 and very many samples where the method says what its updates do with so many.
2. Else, a loss that is continuous in the parameters while the random numbers stay the same (no samples, or
   reparametrised ones): d/dt E loss = E d/dt loss, so the mean of its central differences over seeds is the gradient.
   Mostly both agree seed by seed; estimators that leave out a term whose mean is zero agree on average.
3. A loss that jumps when parameters move has discrete samples. Its differences miss the jumps, so they prove nothing:
   NOT CHECKED.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from itertools import pairwise

import torch
from scipy import stats
from torch import Tensor

from harness.method import Batch, Differentiable, Enumerable, Method, OwnGradients, Tractable, computes_gradients, has
from harness.verify import causes
from harness.verify.comparisons import LEVEL, ROUNDING
from harness.verify.label_batches import KINDS, labelled, takes_labels
from harness.verify.subject import (
    N_SAMPLES,
    FailedCheckError,
    NotApplicableError,
    NotCheckedError,
    Subject,
    generator,
    global_seed,
    require,
)

STEP = 1e-5  # of central differences
DIFFERENCES = 1e-6  # what is left of them: rounding of losses of a few nats over the step, and its square
SINGLE = 3e-6  # rounding of a gradient in single precision
MANY = 3000  # samples: the bias of self-normalised weights, which falls as 1 / K, is then far below the noise
PATH, HALVINGS, JUMP = 64, 30, 1e-7  # points on a path, halvings of its roughest part, what is left of a smooth loss
COPIES, REPEATS, UPDATES = 60, 200, 1200
NEEDS_EXACT_LOSS = "a method can say what its gradient is with `exact_loss` (harness.method.Enumerable)"


def loss_and_gradients(model: Method, batch: Batch, n_samples: int, draws: torch.Generator) -> Tensor:
    """The loss of one batch (nats per row, no dimensions), detached; its gradients are left in the parameters."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if computes_gradients(model):
        return model.accumulate_gradients(batch, n_samples, draws).detach()
    loss = model.loss(batch, n_samples, draws)
    require(loss.requires_grad, "loss: expected a value that can be differentiated, found one without a graph")
    loss.backward()
    return loss.detach()


class Seeded:
    """The loss of a batch and its gradient as functions of the seed; the model's buffers stay as they are."""

    def __init__(self, model: Method, batch: Batch, n_samples: int):
        self.model, self.batch, self.n_samples = model, batch, n_samples
        self.parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def value(self, seed: int, draws: torch.Generator | None = None) -> Tensor:
        """The loss, detached; gradients are left in the parameters. draws: go on with these instead of the seed's."""
        try:
            with global_seed(seed):  # layers as torch's dropout draw from the global state
                return loss_and_gradients(self.model, self.batch, self.n_samples, draws or generator(seed))
        finally:
            with torch.no_grad():
                for buffer, before in self._buffers:
                    buffer.copy_(before)

    def gradient(self) -> Tensor:
        """What the last value left in the parameters, [n] double."""
        return torch.cat([_gradient_of(each).flatten().double() for each in self.parameters.values()])


def _gradient_of(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach()


# -- checks -----------------------------------------------------------------------------------------------------------


def gradient(subject: Subject) -> str:
    """The mean gradient is that of ``exact_loss``, or of the loss where that is continuous (see the module)."""
    subject.needs(Differentiable, OwnGradients)
    unlabelled = labelled(subject, "hidden") if takes_labels(subject.cls) else Batch(subject.batch().x, None)
    return _gradient(subject, unlabelled)


def gradient_with_labels(subject: Subject) -> str:
    """The same for rows of which all, or some, have a label."""
    subject.needs(Differentiable, OwnGradients)
    if not takes_labels(subject.cls):
        raise NotApplicableError("learns from no labels")
    if has(subject.cls, Enumerable) and not _takes(subject.cls, "batch"):
        raise NotCheckedError("exact_loss takes rows alone: expected exact_loss(self, batch)")
    found = []
    for kind in KINDS:
        if kind == "hidden":
            continue  # that is ``gradient``
        try:
            found.append(f"{kind} labels: {_gradient(subject, labelled(subject, kind))}")
        except FailedCheckError as failure:
            raise FailedCheckError(f"{kind} labels: {failure}") from None
    return "; ".join(found)


def _gradient(subject: Subject, batch: Batch) -> str:
    model = subject.model().train()
    if isinstance(model, Enumerable):
        return _by_enumeration(subject, batch)
    return f"{_by_differences(model, batch)}; {_single_precision(subject, model, batch)}"


def _takes(cls: type[Method], name: str) -> bool:
    return name in inspect.signature(cls.exact_loss).parameters


# -- exact losses -----------------------------------------------------------------------------------------------------


def _by_enumeration(subject: Subject, batch: Batch) -> str:
    """Several numbers of samples and both precisions, each against its exact gradient."""
    found = []
    for words, n_samples, k, copies, repeats, dtype in _plans(subject.cls):
        far = n_samples == 2  # where a chain, or a sample, more makes a difference
        models = [subject.far_model() if far else subject.model() for _ in range(2)]
        exact = _exact_gradients(models[0], batch, n_samples)
        require(bool(exact), "exact_loss: expected a value that depends on parameters, found a constant")
        drawn = _repeated(models[1].to(dtype), batch, exact, k, copies, repeats)
        worst = compare_gradients(drawn, exact, copies * len(batch.x), k, f"K = {k}, {words}", dtype)
        found.append(f"K = {k}, {words}: |z| <= {worst:.1f}")
    named = dict(subject.model().named_parameters())
    compared = sum(named[name].numel() for name in exact)
    total = sum(parameter.numel() for parameter in named.values())
    return f"{compared} of {total} entries against exact_loss; " + ", ".join(found)


def _plans(cls: type[Method]) -> list[tuple[str, int | None, int, int, int, torch.dtype]]:
    """(words, n_samples of the exact loss, samples, copies of the batch, updates, precision) of what is compared.

    Many updates on the batch itself are there for what depends on its other rows and samples, copies of it for
    precision, very many samples for what is done in pieces.
    """
    double, single = ("double precision", torch.float64), ("single precision", torch.float32)
    if not _takes(cls, "n_samples"):
        plans = [(double, None, MANY, 1, REPEATS), (single, None, MANY, 1, REPEATS // 2)]
    else:
        plans = [(double, 2, 2, 1, UPDATES), (single, 3, 3, COPIES, REPEATS)]
        if inspect.signature(cls.exact_loss).parameters["n_samples"].default is None:
            plans.append((single, None, MANY, 1, REPEATS // 5))
    return [(words, n, k, copies, repeats, dtype) for (words, dtype), n, k, copies, repeats in plans]


def _exact_gradients(model: Method, batch: Batch, n_samples: int | None) -> dict[str, Tensor]:
    """Gradient of the exact loss by every parameter that it depends on, double."""
    named = {name: each for name, each in model.named_parameters() if each.requires_grad}
    first = batch if _takes(type(model), "batch") else batch.x
    loss = model.exact_loss(first) if n_samples is None else model.exact_loss(first, n_samples)
    require(loss.dim() == 0, f"exact_loss: expected a scalar, found shape {tuple(loss.shape)}")
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: value.detach().double() for name, value in zip(named, found, strict=True) if value is not None}


def _repeated(
    model: Method, batch: Batch, exact: dict[str, Tensor], n_samples: int, copies: int, repeats: int
) -> dict[str, Tensor]:
    """Gradients [R, ...] of updates on so many copies of the batch, whose mean is that of the batch."""
    y = None if batch.y is None else batch.y.repeat(copies)
    x = batch.x.to(next(model.parameters()).dtype)
    seeded = Seeded(model.train(), Batch(x.repeat(copies, 1), y), n_samples)
    draws, drawn = generator(4), {name: [] for name in exact}
    for repeat in range(repeats):
        seeded.value(repeat, draws)
        for name in exact:
            drawn[name].append(_gradient_of(seeded.parameters[name]).double())
    return {name: torch.stack(values) for name, values in drawn.items()}


def compare_gradients(
    drawn: dict[str, Tensor],
    expected: dict[str, Tensor],
    batch_size: int,
    n_samples: int,
    words: str = "",
    dtype: torch.dtype = torch.float64,
) -> float:
    """Largest |z| of the mean of repeats [R, ...] against the expected gradients, by parameter.

    Raises FailedCheckError that names the parameters whose mean gradient is another one, and the likely cause of each.
    """
    n_entries = sum(value.numel() for value in expected.values())
    rounding = ROUNDING if dtype == torch.float64 else SINGLE
    wrong, largest = [], 0.0
    for name, exact in expected.items():
        values = drawn[name].flatten(1)
        require(bool(torch.isfinite(values).all()), f"gradient of {name}: expected finite numbers, found others")
        limit = stats.t.isf(LEVEL / 2 / n_entries, len(values) - 1) if len(values) > 1 else math.inf
        mean, noise = values.mean(0), values.std(0) / math.sqrt(len(values))
        allowed = limit * noise + 100 * rounding

        def agrees(value: Tensor, mean: Tensor = mean, allowed: Tensor = allowed) -> bool:
            return bool(((mean - value.flatten()).abs() <= allowed).all())

        z = (mean - exact.flatten()).abs() / (noise + 100 * rounding / limit)
        largest = max(largest, z.max().item())
        if not agrees(exact):
            j = int(z.argmax())
            found = f"{name}: expected {exact.flatten()[j]:.5g}, found {mean[j]:.5g} ± {noise[j]:.1g} at entry {j}"
            plain = bool((exact.flatten().abs() > 4 * allowed).any())  # else noise alone agrees with several causes
            cause = causes.likely(exact, agrees, batch_size, n_samples) if plain else ""
            wrong.append(found + (f" ({cause})" if cause else ""))
    if wrong:
        more = f", and {len(wrong) - 3} more parameters" if len(wrong) > 3 else ""
        raise FailedCheckError(f"mean gradient{', ' if words else ''}{words}: " + "; ".join(wrong[:3]) + more)
    return largest


# -- differences of the loss ------------------------------------------------------------------------------------------


def _by_differences(model: Method, batch: Batch) -> str:
    seeded = Seeded(model, batch, N_SAMPLES)
    require(bool(seeded.parameters), "expected parameters to train, found none")
    first = [seeded.value(seed).item() for seed in (1, 2)]
    if isinstance(model, Tractable):
        _equals_log_prob(model, batch)
    jump = largest_jump(seeded, seeds=range(4))
    if jump > JUMP:
        raise NotCheckedError(
            f"the loss jumps by {jump:.2g} when parameters move, as with discrete samples, and {NEEDS_EXACT_LOSS}"
        )
    found, slopes = _gradients_and_slopes(seeded, seeds=range(2 if first[0] == first[1] else 4))
    worst = (found - slopes).abs().max().item()
    if worst < DIFFERENCES:
        return f"largest difference from central differences under one seed: {worst:.1e}"
    if first[0] != first[1]:  # another estimator may have the same mean
        found, slopes = _gradients_and_slopes(seeded, seeds=range(40))
    sizes = [each.numel() for each in seeded.parameters.values()]
    # what scatters is the difference; with the mean slope added, the comparison is in the gradient's own units
    drawn = found - slopes + slopes.mean(0)
    by_name = {name: part.contiguous() for name, part in zip(seeded.parameters, drawn.split(sizes, dim=1), strict=True)}
    expected = dict(zip(seeded.parameters, slopes.mean(0).split(sizes), strict=True))
    try:
        worst = compare_gradients(by_name, expected, len(batch.x), N_SAMPLES)
    except FailedCheckError as failure:
        hint = f"; if the value of the loss is not what its gradient belongs to, {NEEDS_EXACT_LOSS}"
        raise FailedCheckError(f"{failure}, against central differences of the loss{hint}") from None
    return f"mean over seeds against central differences: |z| <= {worst:.1f}"


def _single_precision(subject: Subject, model: Method, batch: Batch) -> str:
    """Mean gradients in single precision, which training computes in, are those in double precision."""
    single = subject.model(torch.float32).train()
    both = Seeded(model, batch, N_SAMPLES), Seeded(single, Batch(batch.x.float(), batch.y), N_SAMPLES)
    drawn: list[Tensor] = []
    for seeded in both:
        rows = []
        for seed in range(REPEATS):
            seeded.value(seed)
            rows.append(seeded.gradient())
        drawn.append(torch.stack(rows))
    sizes = [each.numel() for each in both[0].parameters.values()]
    expected = drawn[0].mean(0)
    difference = (drawn[1] - drawn[0] + expected).split(sizes, dim=1)
    by_name = dict(zip(both[0].parameters, difference, strict=True))
    exact = dict(zip(both[0].parameters, expected.split(sizes), strict=True))
    worst = compare_gradients(by_name, exact, len(batch.x), N_SAMPLES, "single precision", torch.float32)
    return f"single precision against double: |z| <= {worst:.1f}"


def _equals_log_prob(model: Method, batch: Batch) -> None:
    """A loss that is not random, of a method with an exact likelihood, is -log p; in evaluation mode, as that is."""
    model.eval()
    try:
        seeded = Seeded(model, batch, N_SAMPLES)
        losses = [seeded.value(seed).item() for seed in (1, 2)]
        expected = -model.log_prob(batch.x).detach().double().mean()
    finally:
        model.train()
    if losses[0] != losses[1] or abs(losses[0] - expected) < ROUNDING:
        return
    found = torch.tensor(losses[0], dtype=torch.float64)
    cause = causes.likely_value(
        expected, lambda value: abs((found - value).item()) < ROUNDING, len(batch.x), model.n_visible
    ).replace("number of samples K", "number of columns")
    raise FailedCheckError(
        f"loss: expected mean -log p = {expected:.8g}, found {losses[0]:.8g}" + (f" ({cause})" if cause else "")
    )


def _gradients_and_slopes(seeded: Seeded, seeds: range) -> tuple[Tensor, Tensor]:
    """Gradients and central differences of the loss under every seed, both [S, n]."""
    gradients, slopes = [], []
    for seed in seeds:
        seeded.value(seed)
        gradients.append(seeded.gradient())
    for seed in seeds:
        row = []
        for parameter in seeded.parameters.values():
            at_rest = parameter.detach().clone()
            for j in range(parameter.numel()):
                sides = []
                for sign in (1, -1):
                    moved = at_rest.clone().flatten()
                    moved[j] += sign * STEP
                    parameter.data.copy_(moved.view_as(at_rest))
                    sides.append(seeded.value(seed).item())
                row.append((sides[0] - sides[1]) / (2 * STEP))
            parameter.data.copy_(at_rest)
        slopes.append(torch.tensor(row, dtype=torch.float64))
    return torch.stack(gradients), torch.stack(slopes)


def largest_jump(seeded: Seeded, seeds: range) -> float:
    """Largest step of the loss that stays however short the piece of a path of parameters is, nats.

    Paths are straight, in a random direction for every seed. The three pieces where the loss is roughest are halved
    again and again: a continuous loss has next to no difference left between the ends, a draw that changes has all.
    """
    starts = {name: each.detach().clone() for name, each in seeded.parameters.items()}
    largest = 0.0
    for seed in seeds:
        draws = generator(1000 + seed)
        along = {name: 0.5 * torch.randn(each.shape, generator=draws).to(each) for name, each in starts.items()}

        def at(t: float, seed: int = seed, along: dict[str, Tensor] = along) -> float:
            with torch.no_grad():
                for name, parameter in seeded.parameters.items():
                    parameter.copy_(starts[name] + t * along[name])
            return seeded.value(seed).item()

        points = [i / PATH for i in range(PATH + 1)]
        values = [at(t) for t in points]
        steps = [after - before for before, after in pairwise(values)]
        rough = [abs(step - (steps[max(i - 1, 0)] + steps[min(i + 1, PATH - 1)]) / 2) for i, step in enumerate(steps)]
        for i in sorted(range(PATH), key=rough.__getitem__)[-3:]:
            largest = max(largest, _halved(at, points[i], points[i + 1], values[i], values[i + 1]))
    with torch.no_grad():
        for name, parameter in seeded.parameters.items():
            parameter.copy_(starts[name])
    return largest


def _halved(at: Callable[[float], float], low: float, high: float, below: float, above: float) -> float:
    """|above - below| after halving, the rougher half each time."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        value = at(middle)
        if abs(value - below) > abs(above - value):
            high, above = middle, value
        else:
            low, below = middle, value
    return abs(above - below)
