"""The reverse model of Hamiltonian transitions: log r_t(v_t | x, z_t) and its gradients written out.

r_t is a diagonal normal distribution whose mean and log standard deviation come from one layer of tanh units that sees
features of x and the position z_t. All transitions are independent of each other given these, so their products are one
batch, and since a loss is known to fall by the same amount with every log r, its gradient is computed with the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.blocks import hamiltonian
from harness.blocks.factor import Factor
from harness.blocks.scratch import Scratch
from harness.method import RoundedWeight


class Through(NamedTuple):
    """Gradients of a loss by what r was given: features [B, H], and T tensors [N, n] of positions and of momenta."""

    features: Tensor
    z: list[Tensor]
    v: list[Tensor]


class ReverseMomenta:
    """T reverse models of R units each; nothing here is differentiable.

    parameters: a module's own, among them reverse_features [T * R, H], reverse_bias [T * R], reverse_state [T, n, R],
    reverse_output [T, R, 2 n] and reverse_output_bias [T * 2 n].
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], n_transitions: int, scratch: Scratch):
        names = "reverse_features", "reverse_state", "reverse_output"
        self._features, self._state, self._output = self._weights = [Factor(parameters, name) for name in names]
        self._parameters, self._n_transitions, self._scratch = parameters, n_transitions, scratch

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """See ``Factor.use_rounded``."""
        for weight in self._weights:
            weight.use_rounded(weights)

    def add_gradients(self, features: Tensor, z: Tensor, v: Tensor, by_log_r: Tensor, log_r: Tensor) -> Through:
        """Add sum_t log r_t(v_t | x, z_t) to log_r [N] double, nats, and the gradients of a loss to the parameters'.

        features [B, H] and z [T, N, n], N a multiple of B, in the data type of products; v [T * N, n]. by_log_r [N]:
        the loss's gradient by log r. The densities are without their constants, as in ``harness.blocks.normal``.
        """
        units = self._units(features, z)
        output, _ = self._take("reverse output", z.shape[1], 2 * z.shape[2], z)
        torch.bmm(units, self._output.value(z.dtype), out=output)
        by_v, v_parts = self._scratch.take_parts("by v", self._n_transitions, *z.shape[1:], v.dtype, v.device)
        bias = self._parameters["reverse_output_bias"]
        biases, sums = (each.view(self._n_transitions, -1) for each in (bias.detach(), bias.grad))
        hamiltonian.score_momenta(output.flatten(0, 1), biases, v, by_log_r, log_r, by_v, sums)
        self._output.add_product(units, output)
        by_units, _ = self._take("by reverse units", z.shape[1], units.shape[2], z)
        torch.bmm(output, self._output.value(z.dtype).mT, out=by_units)
        by_row = self._of_row("by features of rows", features)
        flat = by_units.flatten(0, 1), units.flatten(0, 1)
        hamiltonian.pass_join(*flat, by_row, self._parameters["reverse_bias"].grad, self._n_transitions)
        self._state.add_product(z, by_units)
        self._features.add_product(by_row, features)
        by_z, z_parts = self._take("by z", *z.shape[1:], z)
        torch.bmm(by_units, self._state.value(z.dtype).mT, out=by_z)
        by_features = self._scratch.take("by features", *features.shape, features.dtype, features.device)
        torch.mm(by_row, self._features.value(features.dtype), out=by_features)
        return Through(by_features, z_parts, v_parts)

    def _units(self, features: Tensor, z: Tensor) -> Tensor:
        """tanh units [T, N, R]."""
        of_row = self._of_row("features of rows", features)
        torch.mm(features, self._features.value(features.dtype).t(), out=of_row)
        units, _ = self._take("reverse units", z.shape[1], of_row.shape[1] // self._n_transitions, z)
        torch.bmm(z, self._state.value(z.dtype), out=units)
        hamiltonian.join_tanh(units.flatten(0, 1), of_row, self._parameters["reverse_bias"], self._n_transitions)
        return units

    def _of_row(self, key: str, features: Tensor) -> Tensor:
        n_units = len(self._parameters["reverse_bias"])
        return self._scratch.take(key, len(features), n_units, features.dtype, features.device)

    def _take(self, key: str, n_rows: int, n_columns: int, like: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[T, n_rows, n_columns] and its T parts."""
        shape = self._n_transitions, n_rows, n_columns
        whole, parts = self._scratch.take_parts(key, *shape, like.dtype, like.device)
        return whole.view(shape), parts
