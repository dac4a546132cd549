"""The method under test as checks see it: small models away from their initial values, and verdicts."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from harness.blocks.exact import all_binary
from harness.capability import members
from harness.method import (
    Batch,
    Classifier,
    ClosedForm,
    Differentiable,
    Discriminative,
    ImportanceWeighted,
    Method,
    computes_gradients,
    has,
)
from harness.training import fitting
from harness.training.optimizers import step_of

N_VISIBLE = 5
N_SAMPLES = 3
N_UPDATES_LEARNED = 200  # of a model whose q must follow its p
N_UPDATES_SEEN = 3  # losses of random rows before a check: running statistics are then not where they began
SCALES = (0.25, 0.1)  # how far parameters are from their initial values: far enough for weights to vary
FAR = 1.0  # the same where p and p*, and what is known and unknown of a row, must be told apart by samples
FAR_SCALES = (FAR, 0.7, 0.5)  # tried in turn, where importance weights have no variance that far
SEEDS = 20  # of initial values, until importance weights have a finite variance
FINITE_VARIANCE = 0.5  # largest tail index of which that can be said


Start = tuple[float, int] | tuple[float, int, bool]  # scale of the noise, seed, whether it has learned


@dataclass(frozen=True)
class Result:
    """verdict: passed, failed, not applicable or NOT CHECKED. detail: the statistic, or the reason."""

    check: str
    verdict: str
    detail: str


class FailedCheckError(Exception):
    """What was expected and what was found."""


class NotApplicableError(Exception):
    """Why a check has nothing to look at in a method."""


class NotCheckedError(Exception):
    """Why a capability cannot be verified."""


class Subject:
    """Small models of the method under test, in evaluation mode and away from where they begin.

    Parameters that learn are normal draws around their initial values; frozen ones are as they were made, tied ones
    stay tied. Buffers have seen a few losses of random rows in training mode.
    """

    def __init__(self, cls: type[Method], hyperparameters: dict | None = None):
        self.cls = cls
        self.hyperparameters = cls.small if hyperparameters is None else hyperparameters
        self.kept: dict[str, Any] = {}  # what several checks need and takes long

    @property
    def rows(self) -> Tensor:
        """All 2^D rows, [2^D, D], new ones each time: a method may edit what it is given."""
        return all_binary(N_VISIBLE)

    def model(self, dtype: torch.dtype = torch.float64) -> Method:
        """A model near enough to its beginning for importance weights to have a variance."""
        return self._model(*self._start).to(dtype)

    def far_model(self) -> Method:
        """A model in double precision that is further from its initial values."""
        return self._model(FAR, 0)

    @cached_property
    def _start(self) -> tuple[float, int]:
        """Scale and seed of the first model with which z-scores of importance weights mean something, or the best."""
        return self._first_telling(list(product(SCALES, range(SEEDS))))

    def telling_model(self) -> Method:
        """The furthest model in double precision whose p(x) importance weights still tell with an error bar."""
        return self._model(*self._far_start)

    @cached_property
    def _far_start(self) -> tuple[float, int, bool]:
        starts = [(scale, seed, learned) for scale in FAR_SCALES for learned in (False, True) for seed in range(3)]
        return self._first_telling([*starts, (*self._start, False)])

    def _first_telling(self, starts: list[Start]) -> Start:
        """Where q has lighter tails than p, as a Gaussian that is too narrow has, the weights have no variance."""
        if not has(self.cls, ImportanceWeighted):
            return starts[0]
        tails: dict[Start, float] = {}
        for start in starts:
            index = self._tail_index(*start)
            tails[start] = index if math.isfinite(index) else math.inf
            if index < FINITE_VARIANCE:
                return start
        return min(tails, key=tails.get)

    @torch.no_grad()
    def _tail_index(self, scale: float, seed: int, learned: bool = False) -> float:
        """Hill's estimate from the largest 2% of the weights of a row; the largest of all rows."""
        n_samples = 2500
        log_weights = self._model(scale, seed, learned).log_weights(self.rows, n_samples, generator(seed))
        if tuple(log_weights.shape) != (len(self.rows), n_samples):
            return 0.0  # a check says so
        largest = log_weights.double().topk(n_samples // 50, dim=1).values  # [B, n], descending
        return (largest[:, :-1] - largest[:, -1:]).mean(1).max().item()

    def new(self, seed: int) -> Method:
        """An untrained model in double precision, in evaluation mode, its parameters as this seed draws them."""
        with global_seed(seed):
            return self.cls(N_VISIBLE, **self.hyperparameters).double().eval()

    def _model(self, scale: float, seed: int, learned: bool = False) -> Method:
        """Initial values of this seed and noise of this scale; with ``learned``, updates bring q near to p after it."""
        kept = ("fitted", scale, seed)
        if kept in self.kept:  # a loop of its own takes its time
            return copy.deepcopy(self.kept[kept])
        model = self.new(seed)
        with torch.no_grad():
            draws = generator(seed)
            for parameter in trainable(model):
                noise = torch.randn(parameter.shape, generator=draws, dtype=parameter.dtype)
                parameter.add_(noise, alpha=scale)
        if isinstance(model, ClosedForm):
            self.fit(model, self.uneven_rows(200, seed), seed)
            if fitting.is_random(self.cls):
                self.kept[kept] = copy.deepcopy(model)
        else:
            with global_seed(seed):  # which dropout draws from
                if learned:
                    model = self._teach(model, seed)
                _see_rows(model, self.rows, seed)
        return model

    def _teach(self, model: Method, seed: int) -> Method:
        batch = Batch(self.uneven_rows(40, seed).x.float(), torch.full((40,), -1))
        step, draws = step_of(model.float().train(), "float32", learning_rate=0.02), generator(seed)
        with torch.enable_grad():
            for _ in range(N_UPDATES_LEARNED):
                step.run(batch, N_SAMPLES, draws, 0.02, 0.0)
        return model.double().eval()

    def fit(self, model: Method, train: Batch, seed: int = 0) -> None:
        """Fit a model to rows, under this seed, in training mode; validation rows are others of the same kind."""
        model.train()
        with global_seed(seed):
            fitting.fit(model, train, self.uneven_rows(100, 9), generator(seed))
        model.eval()

    def uneven_rows(self, n: int, seed: int) -> Batch:
        """n rows, some far more frequent than others."""
        draws = generator(seed)
        frequencies = torch.softmax(1.5 * torch.randn(len(self.rows), generator=draws), dim=0)
        x = self.rows[torch.multinomial(frequencies, n, replacement=True, generator=draws)]
        return Batch(x, labels(self.new(0), x))

    def batch(self, dtype: torch.dtype = torch.float64) -> Batch:
        """Four rows, whose labels nobody knows: reversed or complemented, none of them is among them."""
        x = self.rows[[1, 6, 11, 28]].to(dtype)
        return Batch(x, torch.full((len(x),), -1))

    def needs(self, *protocols: type) -> None:
        """Raises NotApplicableError unless the method has one of these capabilities."""
        if not any(has(self.cls, protocol) for protocol in protocols):
            raise NotApplicableError("has none of: " + ", ".join(_words(protocol) for protocol in protocols))

    def compares_with(self, *protocols: type) -> None:
        """Raises NotCheckedError unless the method has one of these capabilities, which a check would compare with."""
        if not any(has(self.cls, protocol) for protocol in protocols):
            raise NotCheckedError(
                "nothing to compare it with: has none of " + ", ".join(_words(protocol) for protocol in protocols)
            )


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn, tied ones once."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def labels(model: Method, x: Tensor) -> Tensor:
    """Known labels [B] that are a function of the row, of all classes that the model has; -1 where it has none."""
    with torch.no_grad():
        if isinstance(model, Discriminative):
            n_classes = model.log_label_prob(x[:1].clone()).shape[-1]
        elif isinstance(model, Classifier):
            n_classes = model.log_label_weights(x[:1].clone(), 1, torch.Generator().manual_seed(0)).shape[-1]
        else:
            return torch.full((len(x),), -1)
    return (x.long() * 2 ** torch.arange(x.shape[1])).sum(1) % n_classes


def _see_rows(model: Method, rows: Tensor, seed: int) -> None:
    """Ask for the loss of a few batches in training mode, without a step; a loss that fails is for other checks."""
    draws = generator(seed)
    model.train()
    try:
        for _ in range(N_UPDATES_SEEN):
            x = rows[torch.randint(len(rows), (16,), generator=draws)]
            batch = Batch(x, torch.full((len(x),), -1))
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            if computes_gradients(model):
                model.accumulate_gradients(batch, N_SAMPLES, draws)
            elif isinstance(model, Differentiable):
                model.loss(batch, N_SAMPLES, draws)
    except Exception:
        pass
    finally:
        for parameter in model.parameters():
            parameter.grad = None
        model.eval()


def _words(protocol: type) -> str:
    return " and ".join(members(protocol))


def generator(seed: int) -> torch.Generator:
    """A random generator on the CPU."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """The global random state of this seed, until the block is left."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def require(condition: bool, message: str) -> None:
    """Raises FailedCheckError with the message unless the condition holds."""
    if not condition:
        raise FailedCheckError(message)
