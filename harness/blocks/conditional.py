"""What stacks of belief layers are made of: distributions of one layer's binary units given those of a layer beside it.

``harness.blocks.sigmoid_belief`` has the stack and the loops over its layers, ``harness.blocks.sigmoid_layer`` and
``harness.blocks.nade_layer`` have the distributions. Samples count as data, so no gradient crosses a layer, and each
layer computes those of its own parameters.

Notation: v, the layer's n units; u, its condition of n_given units, for the top of a stack nothing, [R, 0]. A condition
enters through a product of m columns with a weight of the layer, made once for each row of u and passed on. A row of
products may serve several rows of v, which then stand next to each other. Units are 0/1 in any data type.
Log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from harness.blocks.scratch import Scratch
from harness.method import RoundedWeight


def multiply(
    u: Tensor, weight: Tensor, rounded: RoundedWeight | None, dtype: torch.dtype | None, scratch: Scratch, key: str
) -> Tensor:
    """u [R, n_given] times the transpose of weight [m, n_given], in the memory of the key.

    dtype: of the product, by default that of the weight, else that of ``rounded``, which then stands for it.
    """
    if dtype is not None and dtype != weight.dtype:
        u, weight = u.to(dtype), rounded.value
    out = scratch.take(key, u.shape[0], weight.shape[0], weight.dtype, weight.device)
    return torch.mm(u, weight.t(), out=out)


class Scored(Protocol):
    """Rows of a layer with what their gradients need, valid for one computation of these."""

    value: Tensor  # v [N, n]; [V, n] where a row was scored for several conditions


class Conditional(Protocol):
    """p(v | u) with gradients written out, added to ``.grad`` of the parameters."""

    bias: Tensor  # [n], of the units v

    def parameters(self) -> Iterable[nn.Parameter]:
        """All that learns."""

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """From now on ``multiply`` in other data types by these, see ``harness.method.MixedPrecision``."""

    def product(self, u: Tensor) -> Tensor:
        """[R, m] for u [R, n_given], differentiable, in memory of its own."""

    def multiply(self, u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """``product`` in ``dtype``, None: the parameters'; valid until any layer of the stack multiplies again."""

    def multiply_for_gradients(self, u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """``multiply`` for ``draw_scored`` or ``score``, whose result stays valid until this layer does this again."""

    def draw(self, product: Tensor, repeats: int, generator: torch.Generator, log_prob: Tensor | None = None) -> Tensor:
        """``repeats`` draws of v for every row of product [R, m]; [R * repeats, n].

        Their log-probability is added to ``log_prob`` [R * repeats] double, where that is given.
        """

    def draw_scored(self, product: Tensor, repeats: int, generator: torch.Generator, log_prob: Tensor) -> Scored:
        """``draw`` into memory that is used again, with what gradients need."""

    def draw_unknown(
        self, product: Tensor, value: Tensor, known: Tensor, repeats: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``repeats`` proposals for every row of value [R, n] with its known entries; log p and that of their density.

        product [R, m], known [R, n] booleans; proposals [R * repeats, n], the others [R * repeats] double. The density
        is that of the unknown entries, up to a factor that a row's proposals share.
        """

    def score(self, product: Tensor, value: Tensor, log_prob: Tensor) -> Scored:
        """Add log p(v | u) to ``log_prob`` [N] double, for product [N, m] and value [V, n], N a multiple of V."""

    def log_prob(self, scored: Scored) -> Tensor:
        """log p(v | u) of scored rows by themselves, [N] double; call it before their gradients."""

    def log_likelihood(self, product: Tensor, value: Tensor) -> Tensor:
        """log p(v | u) [N] double, differentiable, for product [N, m] and value [N, n]."""

    def pairwise_log_likelihood(self, product: Tensor, value: Tensor) -> Tensor:
        """log p(v | u) [max(R, V)] double, for product [R, m] and value [V, n]; either may serve several rows."""

    def mean(self, product: Tensor, generator: torch.Generator) -> Tensor:
        """E[v | u], [R, n], for product [R, m]; the generator is for what has no closed form."""

    def mean_of(self, scored: Scored) -> Tensor:
        """Right on average: E[v | u] for the condition of rows that were drawn; [R, n], or [N, n]."""

    def add_gradients(self, scored: Scored, weights: Tensor, u: Tensor) -> None:
        """Add sum_n weights_n d log p(v_n | u_n), for weights [N] and u [N, n_given]."""

    def add_pooled_gradients(self, scored: Scored, weights: Tensor, u: Tensor) -> None:
        """``add_gradients`` for u [R, n_given] each of whose rows was given N / R rows of v: a product of R rows."""

    def add_gradients_of(self, value: Tensor, u: Tensor, weights: Tensor) -> None:
        """``add_gradients`` for value [N, n] that was not scored; products are in the data type of u."""


class Prior(Conditional, Protocol):
    """A distribution that is given nothing."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws, [n, n_units]."""
