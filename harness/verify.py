"""``harness verify METHOD``: does a method do what its capabilities promise?

Every check runs on a model so small that all 2^D rows can be enumerated (``Method.small`` has its hyperparameters),
with parameters far from their initial values, and compares what the method says with sums that leave no doubt: random
quantities by z-scores over repeats, exact ones to rounding. Which checks apply follows from the capabilities; the rest
say why they do not. All randomness is seeded, so a verdict is the same whenever it is asked for.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import Tensor

from harness.exact import all_binary
from harness.method import (
    Batch,
    ClosedForm,
    Differentiable,
    Enumerable,
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
from harness.registry import build, hyperparameter_schema, method_class
from harness.step import UpdateStep

N_VISIBLE = 4
SCALES = (0.25, 0.1)  # how far parameters are from their initial values: far enough for weights to vary
FAR = 1.0  # the same where p and p*, and what is known and unknown of a row, must be told apart by samples
# A right method fails one of its checks of random quantities with this probability, whatever their number of entries.
LEVEL = 1e-5
REPEATS = 200
N_SAMPLES = 3
N_TEMPERATURES = 20
N_PROPOSALS, N_SWEEPS = 100, 5  # of chains: what both leave of a bias is far below the noise of a few thousand
ROUNDING = 1e-8  # of double-precision sums of a few hundred terms
SINGLE_ROUNDING = 1e-4  # of the same in single precision
STEP = 1e-5  # of central differences
SEEDS = 20  # of initial values, until importance weights have a finite variance
FINITE_VARIANCE = 0.5  # largest tail index of which that can be said


@dataclass(frozen=True)
class Result:
    """verdict: passed, failed or not applicable. detail: the statistic, or the reason."""

    check: str
    verdict: str
    detail: str


class FailedCheckError(Exception):
    """What was expected and what was found."""


class NotApplicableError(Exception):
    """Why a check says nothing about a method."""


class Subject:
    """Small models of the method under test."""

    def __init__(self, cls: type[Method], hyperparameters: dict | None = None):
        self.cls = cls
        self.hyperparameters = cls.small if hyperparameters is None else hyperparameters
        self.rows = all_binary(N_VISIBLE)

    def model(self, dtype: torch.dtype = torch.float64) -> Method:
        """A model whose parameters are normal draws around their initial values."""
        return self._model(*self._start).to(dtype)

    def far_model(self) -> Method:
        """A model in double precision that is further from its initial values."""
        return self._model(FAR, 0)

    @cached_property
    def _start(self) -> tuple[float, int]:
        """Scale and seed of the first model with which z-scores of importance weights mean something, or the best.

        Where q has lighter tails than p, as a Gaussian that is too narrow has, the weights have no variance.
        """
        starts = list(product(SCALES, range(SEEDS)))
        if not has(self.cls, ImportanceWeighted):
            return starts[0]
        tails: dict[tuple[float, int], float] = {}
        for start in starts:
            tails[start] = self._tail_index(*start)
            if tails[start] < FINITE_VARIANCE:
                return start
        return min(tails, key=tails.get)

    @torch.no_grad()
    def _tail_index(self, scale: float, seed: int) -> float:
        """Hill's estimate from the largest 2% of the weights of a row; the largest of all rows."""
        n_samples = 5000
        log_weights = self._model(scale, seed).log_weights(self.rows, n_samples, generator(seed))
        if tuple(log_weights.shape) != (len(self.rows), n_samples):
            return 0.0  # a check says so
        largest = log_weights.double().topk(n_samples // 50, dim=1).values  # [B, n], descending
        return (largest[:, :-1] - largest[:, -1:]).mean(1).max().item()

    def _model(self, scale: float, seed: int) -> Method:
        with _global_seed(seed):
            model = self.cls(N_VISIBLE, **self.hyperparameters).double()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=scale)
        if isinstance(model, ClosedForm):
            chosen = torch.randint(len(self.rows), (200,), generator=generator(seed))
            model.fit(Batch(self.rows[chosen]))
        return model

    def batch(self, dtype: torch.dtype = torch.float64) -> Batch:
        """Four rows, whose labels nobody knows."""
        x = self.rows[[3, 10, 12, 5]].to(dtype)
        return Batch(x, torch.full((len(x),), -1))

    def needs(self, *protocols: type) -> None:
        """Raises NotApplicableError unless the method has one of these capabilities."""
        if not any(has(self.cls, protocol) for protocol in protocols):
            raise NotApplicableError("has none of: " + ", ".join(_words(protocol) for protocol in protocols))


def has(cls: type, protocol: type) -> bool:
    """Whether a method has a capability."""
    return all(hasattr(cls, name) for name, value in vars(protocol).items() if callable(value) and name[0] != "_")


def _words(protocol: type) -> str:
    return " and ".join(name for name, value in vars(protocol).items() if callable(value) and name[0] != "_")


def generator(seed: int) -> torch.Generator:
    """A random generator on the CPU."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FailedCheckError(message)


def _compare(repeats: Tensor, expected: Tensor, what: str) -> str:
    """z-scores of the mean of repeats [R, n] against expected [n], Bonferroni-corrected over the entries."""
    repeats, expected = repeats.flatten(1).double(), expected.flatten().double()
    _require(bool(torch.isfinite(repeats).all()), f"{what}: expected finite numbers, found others")
    error = repeats.std(0) / math.sqrt(len(repeats))
    difference = repeats.mean(0) - expected
    constant = error <= ROUNDING
    _require(
        bool((difference[constant].abs() <= 100 * ROUNDING).all()),
        f"{what}: expected {_text(expected[constant])}, found {_text(repeats.mean(0)[constant])} every time",
    )
    if constant.all():
        return f"{what}: equal to rounding"
    z = (difference / error)[~constant]
    worst = z.abs().max().item()
    limit = stats.t.isf(LEVEL / 2 / len(z), len(repeats) - 1)
    text = f"{what}: |z| = {worst:.2f} at most, of {len(z)} (limit {limit:.2f})"
    _require(worst < limit, text)
    return text


def _text(values: Tensor) -> str:
    return ", ".join(f"{value:.6g}" for value in values[:4].tolist())


def _p(subject: Subject, model: Method, x: Tensor) -> tuple[Tensor, Tensor]:
    """p(x) [B] as exactly as the method can tell it, and its standard error."""
    with torch.no_grad():
        if isinstance(model, Tractable):
            exact = model.log_prob(x).double().exp()
        elif isinstance(model, Unnormalised):
            total = torch.logsumexp(model.log_unnormalised(subject.rows).double(), dim=0)
            exact = (model.log_unnormalised(x).double() - total).exp()
        else:
            weights = model.log_weights(x, 20_000, generator(9)).double().exp()
            return weights.mean(1), weights.std(1) / math.sqrt(weights.shape[1])
    return exact, torch.zeros_like(exact)


def _negative_log_p(subject: Subject, model: Method, x: Tensor) -> tuple[float, float]:
    """Mean -log p(x) and its standard error."""
    p, error = _p(subject, model, x)
    return -p.log().mean().item(), (error / p).norm().item() / len(x)


# -- checks -----------------------------------------------------------------------------------------------------------


def interface(subject: Subject) -> str:
    """Names, hyperparameters that can be checked, a way to be trained and a way to be measured."""
    cls = subject.cls
    for word in ("name", "title", "kind", "source"):
        value = getattr(cls, word, None)
        _require(isinstance(value, str) and bool(value), f"{word}: expected words, found {value!r}")
    hyperparameter_schema(cls)
    trained = any(has(cls, protocol) for protocol in (Differentiable, OwnGradients, ClosedForm))
    _require(trained, "expected loss, accumulate_gradients or fit, found none of them")
    measured = any(has(cls, protocol) for protocol in (Tractable, ImportanceWeighted, Unnormalised))
    return "can be trained and measured" if measured else "can be trained, but has no likelihood to measure"


def normalisation(subject: Subject) -> str:
    """sum_x p(x) = 1 for exact likelihoods."""
    subject.needs(Tractable)
    total = subject.model().log_prob(subject.rows).detach().double().exp().sum().item()
    text = f"sum over all x of p(x) - 1 = {total - 1:.1e}"
    _require(abs(total - 1) < ROUNDING, text)
    return text


def importance_weights(subject: Subject) -> str:
    """The mean of exp(log_weights) over all x sums to 1: E_q[p(x, h) / q(h | x)] = p(x)."""
    subject.needs(ImportanceWeighted)
    model, draws = subject.model(), generator(1)
    with torch.no_grad():
        found = model.log_weights(subject.rows, N_SAMPLES, draws)
        shape = (len(subject.rows), N_SAMPLES)
        _require(tuple(found.shape) == shape, f"log_weights: expected shape {shape}, found {tuple(found.shape)}")
        totals = [model.log_weights(subject.rows, 50, draws).double().exp().mean(1).sum() for _ in range(REPEATS)]
    return _compare(torch.stack(totals)[:, None], torch.ones(1), "sum over all x of the mean weight, against 1")


def partition_function(subject: Subject) -> str:
    """The estimator of Z^2 against sum_x (E_q sqrt(p(x, h) / q(h | x)))^2; that of Z against the sum over all x."""
    subject.needs(Partitioned, Unnormalised)
    model, draws = subject.model(), generator(2)
    with torch.no_grad():
        if isinstance(model, Unnormalised):
            repeats = [model.log_partition_samples(50, N_TEMPERATURES, draws).exp().mean() for _ in range(REPEATS)]
            expected = model.log_unnormalised(subject.rows).exp().sum()
            return _compare(torch.stack(repeats)[:, None], expected[None], "mean sample of Z, against the sum")
        repeats, expected = [], []
        for _ in range(REPEATS):
            repeats.append(model.log_z2_weights(200, 2, draws).double().exp().mean())
            # the product of two independent means of sqrt weights has no bias
            halves = (0.5 * model.log_weights(subject.rows, 200, draws).double()).exp().view(len(subject.rows), 2, -1)
            expected.append(halves.mean(2).prod(1).sum())
    return _compare((torch.stack(repeats) - torch.stack(expected))[:, None], torch.zeros(1), "Z^2 less the sum")


def loss_is_a_bound(subject: Subject) -> str:
    """The mean loss lies between -log p and what one sample a row gives, whatever the number of samples."""
    subject.needs(Tractable, ImportanceWeighted)
    subject.needs(Differentiable, OwnGradients)
    model, batch = subject.model(), subject.batch()
    draws, n_samples = generator(3), 200
    losses, singles = [], []
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(REPEATS):
        model.load_state_dict(state)
        losses.append(_loss(model, batch, n_samples, draws))
        if isinstance(model, ImportanceWeighted):
            with torch.no_grad():
                singles.append(-model.log_weights(batch.x, n_samples, draws).double().mean())
    loss = torch.stack(losses).double()
    error = loss.std().item() / math.sqrt(REPEATS)
    limit = stats.norm.isf(LEVEL)
    exact, exact_error = _negative_log_p(subject, model, batch.x)
    text = f"mean loss {loss.mean().item():.4f} ± {error:.1g}, -log p {exact:.4f}"
    _require(loss.mean().item() > exact - limit * math.hypot(error, exact_error) - ROUNDING, text)
    if singles:
        single = torch.stack(singles)
        both = math.hypot(error, single.std().item() / math.sqrt(REPEATS))
        text += f", one sample a row {single.mean().item():.4f}"
        _require(loss.mean().item() < single.mean().item() + limit * both + ROUNDING, text)
    return text


def _loss(model: Method, batch: Batch, n_samples: int, draws: torch.Generator) -> Tensor:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if isinstance(model, OwnGradients):
        return model.accumulate_gradients(batch, n_samples, draws).detach()
    loss = model.loss(batch, n_samples, draws)
    loss.backward()
    return loss.detach()


def gradient(subject: Subject) -> str:
    """Exact likelihoods: central differences of -log p. Hand-written gradients of latent models: ``exact_loss``."""
    subject.needs(Differentiable, OwnGradients)
    model, batch = subject.model(), subject.batch()
    if isinstance(model, Enumerable):
        return _gradient_by_enumeration(model, batch)
    if not isinstance(model, Tractable):
        why = "automatic differentiation of a random loss" if isinstance(model, Differentiable) else "has no exact_loss"
        raise NotApplicableError(why)
    losses = [_loss(model, batch, 1, generator(seed)).item() for seed in (1, 2)]
    found = [parameter.grad.clone() for parameter in model.parameters()]
    if losses[0] != losses[1]:
        raise NotApplicableError("automatic differentiation of a random loss")

    def objective() -> float:
        return -model.log_prob(batch.x).double().mean().item()

    _require(abs(losses[0] - objective()) < ROUNDING, f"loss: expected {objective():.8g}, found {losses[0]:.8g}")
    worst = 0.0
    with torch.no_grad():
        for parameter, gradients in zip(model.parameters(), found, strict=True):
            values = parameter.view(-1)
            for j, value in enumerate(values.tolist()):
                sides = []
                for sign in (1, -1):
                    values[j] = value + sign * STEP
                    sides.append(objective())
                values[j] = value
                slope = (sides[0] - sides[1]) / (2 * STEP)
                worst = max(worst, abs(slope - gradients.flatten()[j].item()))
    text = f"largest difference from central differences: {worst:.1e}"
    _require(worst < 1e-7, text)
    return text


def _gradient_by_enumeration(model: Method, batch: Batch) -> str:
    named = dict(model.named_parameters())
    exact = torch.autograd.grad(model.exact_loss(batch.x), list(named.values()), allow_unused=True)
    known = {name: value for name, value in zip(named, exact, strict=True) if value is not None}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    draws, repeats = generator(4), []
    for _ in range(REPEATS):
        model.load_state_dict(state)
        _loss(model, batch, 3000, draws)  # the bias of self-normalised weights falls as 1 / K
        repeats.append(torch.cat([named[name].grad.flatten() for name in known]))
    expected = torch.cat([value.flatten() for value in known.values()])
    return _compare(torch.stack(repeats), expected, "mean gradient, against that of exact_loss")


def samples(subject: Subject) -> str:
    """Chi-square of 5,000 samples over all 2^D rows against p(x), whose own error counts where it is estimated."""
    subject.needs(Sampler)
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, n = subject.model(), 5000
    drawn = model.sample(n, generator(5)).detach()
    return _chi_square(drawn, *_p(subject, model, subject.rows))


def _chi_square(drawn: Tensor, p: Tensor, error: Tensor, parts: int = 1) -> str:
    """Rows drawn [n, D] against p [2^D] with its standard error; with ``parts``, p is that of so many equal parts."""
    n = len(drawn)
    _require(tuple(drawn.shape) == (n, N_VISIBLE), f"expected shape ({n}, {N_VISIBLE}), found {tuple(drawn.shape)}")
    _require(bool(((drawn == 0) | (drawn == 1)).all()), "expected zeros and ones, found other values")
    counts = torch.bincount(_position(drawn), minlength=len(p)).double()
    statistic = ((counts - n * p) ** 2 / (n * p + (n * error) ** 2)).sum().item()
    degrees = len(counts) - parts
    p_value = stats.chi2.sf(statistic, degrees)
    text = f"chi-square {statistic:.1f}, {degrees} degrees of freedom, p = {p_value:.2g}"
    _require(p_value > LEVEL, text)
    return text


def _position(rows: Tensor) -> Tensor:
    """Of rows of 0/1 [n, d] in counting order, [n]."""
    return (rows.long() * 2 ** torch.arange(rows.shape[1] - 1, -1, -1)).sum(1)


def _p_of_samples(subject: Subject, model: Method) -> tuple[Tensor, Tensor]:
    """What chains and inpainting draw from, [2^D], and its standard error: p*(x) where there is one, else p(x)."""
    if not (isinstance(model, Partitioned) and isinstance(model, ImportanceWeighted)):
        return _p(subject, model, subject.rows)
    with torch.no_grad():
        roots = (0.5 * model.log_weights(subject.rows, 20_000, generator(9)).double()).exp()
    root, error = roots.mean(1), roots.std(1) / math.sqrt(roots.shape[1])
    p = root.square() / root.square().sum()
    return p, 2.0 * p * error / root


def layer_samples(subject: Subject) -> str:
    """Below any layer of a joint draw, a fresh draw is as good: x is of p, and goes with the layer as the first did."""
    subject.needs(LayerSampler)
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, n, draws, found = subject.far_model(), 5000, generator(13), []
    p = _p(subject, model, subject.rows)
    with torch.no_grad():
        state = model.sample_layers(n, draws)
        found.append(f"x: {_chi_square(state[0], *p)}")
        for level, layer in enumerate(state[1:], start=1):
            below = model.sample_below(level, layer, draws)
            _require(len(below) == level, f"sample_below({level}, ...): expected {level} layers, found {len(below)}")
            found.append(f"x below layer {level}: {_chi_square(below[0], *p)}")
            products = ((below[0] - state[0])[:, :, None] * layer[:, None, :]).flatten(1)
            _compare(products, torch.zeros(products.shape[1]), f"x times layer {level}, less that of the joint draw")
        difference = model.expected_visible(state[1], draws) - state[0]
    found.append(_compare(difference, torch.zeros(N_VISIBLE), "expected x less x"))
    return "; ".join(found)


def joint_samples(subject: Subject) -> str:
    """Chi-square of 5,000 chains against p*(x)."""
    subject.needs(JointSampler)
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, draws = subject.far_model(), generator(14)
    state = model.sample_layers(5000, draws)
    for _ in range(N_SWEEPS):
        state = model.sweep(state, N_PROPOSALS, draws)
    return _chi_square(state[0].detach(), *_p_of_samples(subject, model))


def inpainting(subject: Subject) -> str:
    """Chi-square of 8,000 rows whose right half is drawn given the left, against p*(x) or p(x) given that half."""
    subject.needs(Inpainter)
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, half = subject.far_model(), N_VISIBLE // 2
    halves = all_binary(half).repeat_interleave(8000 // 2**half, dim=0)  # equally many of each left half
    x = torch.cat([halves, torch.full((len(halves), N_VISIBLE - half), 0.5, dtype=halves.dtype)], dim=1)
    known = (torch.arange(N_VISIBLE) < half).expand_as(x)
    drawn, expected = model.inpaint(x, known, N_SWEEPS, N_PROPOSALS, generator(15))
    for what, values in (("rows", drawn), ("expected rows", expected)):
        _require(torch.equal(values[known], x[known]), f"{what}: expected known entries as they were, found others")
    p, error = (each.view(2**half, -1) for each in _p_of_samples(subject, model))
    given = p.sum(1, keepdim=True) * 2**half
    return _chi_square(drawn, (p / given).flatten(), (error / given).flatten(), parts=2**half)


def determinism(subject: Subject) -> str:
    """The same seed gives the same numbers whatever the global random state; another seed gives others."""
    model, batch = subject.model(), subject.batch()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    asked: dict[str, Callable[[torch.Generator], Tensor]] = {}
    if isinstance(model, (Differentiable, OwnGradients)):
        asked["loss"] = lambda draws: _loss(model, batch, N_SAMPLES, draws)
        asked["gradient"] = lambda draws: torch.cat(
            [_loss(model, batch, N_SAMPLES, draws)[None], *(p.grad.flatten() for p in model.parameters())]
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
            with _global_seed(other):
                found.append(ask(generator(seed)).clone())
        _require(torch.equal(found[0], found[1]), f"{name}: expected the same values from one seed, found others")
        differ = not torch.equal(found[0], found[2])
        _require(differ or name not in always_random, f"{name}: expected other values from another seed")
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
        with _global_seed(99):
            other = subject.cls(N_VISIBLE, **subject.hyperparameters).to(next(iter(model.state_dict().values())).dtype)
        other.load_state_dict(load_file(path))
    for name, ask in _answers(subject).items():
        with torch.no_grad() if name != "update" else torch.enable_grad():
            found = [ask(each) for each in (model, other)]
        _require(torch.equal(*found), f"{name}: expected the same values as before saving, found others")
    return ", ".join(_answers(subject))


def _answers(subject: Subject) -> dict[str, Callable[[Method], Tensor]]:
    def rows(model: Method) -> Tensor:
        return subject.rows.to(next(iter(model.state_dict().values())).dtype)

    def update(model: Method) -> Tensor:
        loss = _loss(model, subject.batch(rows(model).dtype), N_SAMPLES, generator(7))
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


def single_precision(subject: Subject) -> str:
    """In single precision, as models are used, the likelihood is still right."""
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, rows = subject.model(dtype=torch.float32), subject.rows.float()
    if isinstance(model, ImportanceWeighted) and not isinstance(model, Tractable):
        with torch.no_grad():
            draws = generator(10)
            totals = [model.log_weights(rows, 50, draws).double().exp().mean(1).sum() for _ in range(REPEATS)]
        return _compare(torch.stack(totals)[:, None], torch.ones(1), "sum over all x of the mean weight, against 1")
    name = "log_prob" if isinstance(model, Tractable) else "log_unnormalised"
    found = getattr(model, name)(rows).detach().double()
    expected = getattr(subject.model(), name)(subject.rows).detach().double()
    worst = (found - expected).abs().max().item()
    text = f"{name}: largest difference from double precision: {worst:.1e} nats"
    _require(worst < SINGLE_ROUNDING, text)
    return text


def device_parity(subject: Subject) -> str:
    """Likelihoods on a GPU are those on the CPU."""
    if not torch.cuda.is_available():
        raise NotApplicableError("no CUDA device here")
    subject.needs(Tractable, Unnormalised)
    name = "log_prob" if has(subject.cls, Tractable) else "log_unnormalised"
    here = getattr(subject.model(), name)(subject.rows).detach()
    there = getattr(subject.model().cuda(), name)(subject.rows.cuda()).detach().cpu()
    worst = (here - there).abs().max().item()
    text = f"{name}: largest difference from the CPU: {worst:.1e} nats"
    _require(worst < ROUNDING, text)
    return text


def learning(subject: Subject) -> str:
    """Updates lower the loss on rows that can be learned."""
    subject.needs(Differentiable, OwnGradients)
    subject.needs(Tractable, ImportanceWeighted)
    model = subject.model(dtype=torch.float32)
    batch = Batch(subject.rows[[3, 3, 3, 12]].float(), torch.full((4,), -1))
    before, _ = _negative_log_p(subject, model, batch.x)
    step, draws = UpdateStep(model, "float32"), generator(11)
    for _ in range(300):
        loss = step.run(batch, N_SAMPLES, draws, 0.02, 0.0)
        _require(math.isfinite(loss.item()), f"loss: expected a number, found {loss.item()}")
    after, _ = _negative_log_p(subject, model, batch.x)
    text = f"-log p of two kinds of rows: {before:.2f} before 300 updates, {after:.2f} after"
    _require(after < before, text)
    return text


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


CHECKS: dict[str, Callable[[Subject], str]] = {
    "interface": interface,
    "normalisation": normalisation,
    "importance weights": importance_weights,
    "partition function": partition_function,
    "loss is a bound": loss_is_a_bound,
    "gradient": gradient,
    "samples": samples,
    "layer samples": layer_samples,
    "joint samples": joint_samples,
    "inpainting": inpainting,
    "determinism": determinism,
    "checkpoint": checkpoint,
    "single precision": single_precision,
    "device parity": device_parity,
    "learning": learning,
    "bad input": bad_input,
}


def run_check(name: str, subject: Subject) -> Result:
    """The verdict of one check; an exception in the method is a failure."""
    try:
        return Result(name, "passed", CHECKS[name](subject))
    except NotApplicableError as reason:
        return Result(name, "not applicable", str(reason))
    except FailedCheckError as failure:
        return Result(name, "failed", str(failure))
    except Exception as error:
        return Result(name, "failed", f"{type(error).__name__}: {error}")


def verify(name: str) -> Iterator[Result]:
    """Results of all checks of the method of this name, as they come. Raises ConfigError when there is none."""
    subject = Subject(method_class(name))
    build(name, N_VISIBLE, subject.hyperparameters)  # says what is wrong with ``small``
    yield from map(partial(run_check, subject=subject), CHECKS)
