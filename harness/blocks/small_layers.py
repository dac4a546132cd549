"""The upper layers of a sigmoid belief stack where they are small: one call for all of them instead of ten a layer.

``harness.blocks.sigmoid_belief`` asks for what the layers from some level upward do: draws, log-probabilities and
gradients. On the CPU, in float32, ``harness.kernels.stack`` does that, by the parameters themselves and not by rounded
ones; everywhere else there are no such layers, and each does its own part. Draws are the same to the last bits of their
probabilities: the generator gives a seed to each layer, upward, as it does to layers on their own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from harness.blocks.bernoulli import array, draw_seed
from harness.blocks.conditional import Scored
from harness.blocks.scratch import Scratch
from harness.blocks.sigmoid_layer import Bernoullis, SigmoidLayer

# weights of a layer's conditional up to which the kernel beats a library for products, whose calls cost microseconds
SMALL = 8192
LANES = 16  # rows that share a record of the kernel

_here = threading.local()


@contextlib.contextmanager
def one_by_one() -> Iterator[None]:
    """Until the block ends, every layer goes by itself in this thread: what the kernel is compared with."""
    before = getattr(_here, "one_by_one", False)
    _here.one_by_one = True
    try:
        yield
    finally:
        _here.one_by_one = before


class OnDemand(Sequence[Any]):
    """Entries that are known, and behind them others that are made when somebody asks, once."""

    def __init__(self, known: Sequence[Any], n_more: int, make: Callable[[int], Any]):
        self._entries: list[Any] = [*known, *[None] * n_more]
        self._make = make

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        found = self._entries[index]
        if found is None:
            found = self._entries[index] = self._make(range(len(self))[index])
        return found

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class Passed:
    """What the kernel left: see ``harness.kernels.stack``. first: the level of the lowest layer that it passed."""

    layers: SmallLayers
    first: int
    plan: Any
    work: Tensor
    n_rows: int
    dtype: torch.dtype

    def all_layers(
        self, h: Sequence[Tensor], q: Sequence[Scored], p: Sequence[Scored]
    ) -> tuple[OnDemand, OnDemand, OnDemand]:
        """These of the layers below with those from here on."""
        first, n_more = self.first, len(self.plan) - 1

        def score(level: int, of_p: bool) -> Scored:
            return self.layers.score_again(self, level, of_p)

        return (
            OnDemand(h, n_more, lambda level: self.units(level + 1 - first)),
            OnDemand(q, n_more, lambda level: score(level, False)),
            OnDemand(p, n_more, lambda level: score(level, True)),
        )

    def units(self, row: int) -> Tensor:
        """h_{first + row}, [N, n]."""
        from harness.kernels import stack

        start, n = self.plan[row, stack.UNITS] * LANES, self.plan[row, stack.SIZE]
        blocks = self.work[:, start : start + n * LANES].view(len(self.work), n, LANES)
        return blocks.transpose(1, 2).reshape(-1, n)[: self.n_rows].to(self.dtype)

    def add_gradients(self, weights: Tensor, first: int, last: int, of_p: bool) -> None:
        """Add those of p_layers, the prior behind the last of them, or of q_layers from level first to before last."""
        self.layers.add_gradients(self, weights, first, last, of_p)


class SmallLayers:
    """The layers of a stack that the kernel passes through together.

    p_layers, q_layers and prior are the stack's, h_0 = x; what is in them may change.
    """

    def __init__(self, p_layers: Sequence[Any], q_layers: Sequence[Any], prior: Any, scratch: Scratch):
        self._p_layers, self._q_layers, self._prior, self._scratch = p_layers, q_layers, prior, scratch

    def first(self) -> int:
        """The level of the lowest layer from which on all are small; the number of layers where none are.

        The lowest layer of a stack, given one row for several samples, is none of them.
        """
        n_layers = len(self._q_layers)
        if (
            getattr(_here, "one_by_one", False)
            or type(self._prior) is not Bernoullis
            or not _is_plain(self._prior.bias)
        ):
            return n_layers
        for level in range(n_layers - 1, 0, -1):
            pair = self._q_layers[level], self._p_layers[level]
            if not all(type(layer) is SigmoidLayer for layer in pair):
                return level + 1
            parameters = [parameter for layer in pair for parameter in layer.parameters()]
            if pair[0].weight.numel() > SMALL or not all(map(_is_plain, parameters)):
                return level + 1
        return min(1, n_layers)

    def infer(
        self, below: Tensor, first: int, generator: torch.Generator, log_p: Tensor, log_q: Tensor, with_prior: bool
    ) -> Passed:
        """Pass upward from the units of level ``first``, [N, n] 0/1 in float32 or bfloat16.

        log_p, log_q [N] double are added to.
        """
        from harness.kernels import stack

        pairs = list(zip(self._q_layers[first:], self._p_layers[first:], strict=True))
        plan, width = stack.places([below.shape[1], *(q.bias.shape[0] for q, _ in pairs)])
        for row, (q, p) in enumerate(pairs):
            parameters = q.weight, q.bias, p.weight, p.bias
            plan[row, stack.SEED] = draw_seed(generator)
            plan[row, stack.Q_WEIGHT : stack.P_BIAS + 1] = [each.data_ptr() for each in parameters]
        plan[-1, stack.P_BIAS] = self._prior.bias.data_ptr()
        n_rows = below.shape[0]
        work = self._scratch.take("small layers", -(-n_rows // LANES), width * LANES, torch.float32, below.device)
        stack.infer(plan, array(below), array(work), array(log_p), array(log_q), with_prior)
        return Passed(self, first, plan, work, n_rows, below.dtype)

    def add_gradients(self, passed: Passed, weights: Tensor, first: int, last: int, of_p: bool) -> None:
        """See ``Passed.add_gradients``."""
        from harness.kernels import stack

        plan, copies = passed.plan, []
        weight_field = stack.P_WEIGHT_GRADIENT if of_p else stack.Q_WEIGHT_GRADIENT
        bias_field = stack.P_BIAS_GRADIENT if of_p else stack.Q_BIAS_GRADIENT
        layers = self._p_layers if of_p else self._q_layers
        for level in range(first, last):
            layer = self._prior if level == len(layers) else layers[level]
            *weight, bias = layer.parameters()
            for parameter, field in zip((bias, *weight), (bias_field, weight_field), strict=False):
                gradient = parameter.grad
                if not _is_plain(gradient):
                    gradient = torch.zeros(parameter.shape)
                    copies.append((parameter.grad, gradient))
                plan[level - passed.first, field] = gradient.data_ptr()
        stack.add_gradients(plan, array(passed.work), array(weights), first - passed.first, last - passed.first, of_p)
        for gradient, copied in copies:
            gradient.add_(copied)

    @torch.no_grad()
    def score_again(self, passed: Passed, level: int, of_p: bool) -> Scored:
        """What the layer of a level would have scored by itself."""
        lower, upper = (passed.units(level - passed.first + more).float() for more in (0, 1))
        layer = (self._p_layers if of_p else self._q_layers)[level]
        value, seen = (lower, upper) if of_p else (upper, lower)
        return layer.score(layer.multiply_for_gradients(seen), value, torch.zeros(len(value), dtype=torch.float64))


def _is_plain(parameter: Tensor) -> bool:
    """Whether the kernel can work on a parameter, or a gradient, where it is."""
    return parameter.dtype == torch.float32 and parameter.device.type == "cpu" and parameter.is_contiguous()
