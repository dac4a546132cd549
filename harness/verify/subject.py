"""The method under test as checks see it: small models away from their initial values, and verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch

from harness.exact import all_binary
from harness.method import Batch, ClosedForm, ImportanceWeighted, Method

N_VISIBLE = 4
N_SAMPLES = 3
SCALES = (0.25, 0.1)  # how far parameters are from their initial values: far enough for weights to vary
FAR = 1.0  # the same where p and p*, and what is known and unknown of a row, must be told apart by samples
SEEDS = 20  # of initial values, until importance weights have a finite variance
FINITE_VARIANCE = 0.5  # largest tail index of which that can be said


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
        with global_seed(seed):
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
def global_seed(seed: int) -> Iterator[None]:
    """The global random state of this seed, until the block is left."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def require(condition: bool, message: str) -> None:
    """Raises FailedCheckError with the message unless the condition holds."""
    if not condition:
        raise FailedCheckError(message)
