"""Hamiltonian transitions in the latent space of a decoder with tanh units, and their gradients written out.

The force d log p(x, z) / dz is a pass forward and back through the decoder, so the gradient through it is another pass
forward and one more back. Automatic differentiation makes two small products per weight and evaluation of the force for
the gradient by the weights; here whatever was multiplied by a weight lies in two matrices per layer, for all positions
at which the force was evaluated, so that the gradient is one product of these, whose sums nothing rounds in between.

Of each layer, with output = inputs W' + b and, on the way back, back = missed W: the gradient of a loss by W is the sum
of missed' by_back + by_output' inputs over all positions. The four are what ``Layer`` keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.blocks import bernoulli, hamiltonian
from harness.blocks.factor import Factor
from harness.blocks.scratch import Scratch
from harness.method import RoundedWeight


@dataclass
class Layer:
    """One layer of the decoder, and what is multiplied by its weight, F tensors each, in the data type of products.

    weight [n_out, n_in], transposed: in that data type as well; bias [n_out]. inputs, by_back: [N, n_in]. missed,
    by_output: [N, n_out], the former the gradient of log p(x | z). Those that are missed come before the gradients by
    outputs in ``left`` [2 F N, n_out], and likewise in ``right`` [2 F N, n_in].
    """

    weight: Tensor
    transposed: Tensor
    bias: nn.Parameter
    left: Tensor
    right: Tensor
    missed: list[Tensor]
    by_output: list[Tensor]
    by_back: list[Tensor]
    inputs: list[Tensor]


@dataclass
class Moved:
    """Transitions of positions [N, n], with what their gradients need; valid until the next ones.

    x: [B, D]. steps: [T, n], of T transitions. z, forces, halves: F tensors [N, n], the positions at which the force
    was evaluated, the force there, and the momentum with which a position was reached; of the first there is none.
    v: T tensors [N, n], momenta after transitions, one after the other in ``whole_v`` [T * N, n]. log_likelihood:
    log p(x | z) at the last position, [N] double, nats.
    ones [N], sums [D]: weights that change nothing, and room for sums that nothing reads.
    """

    x: Tensor
    steps: Tensor
    layers: list[Layer]
    z: list[Tensor]
    forces: list[Tensor]
    halves: list[Tensor]
    whole_v: Tensor
    v: list[Tensor]
    log_likelihood: Tensor
    ones: Tensor
    sums: Tensor


class Leapfrog:
    """T transitions of ``n_steps`` leapfrog steps each; nothing here is differentiable."""

    def __init__(self, decoder: nn.Sequential, n_transitions: int, n_steps: int, scratch: Scratch):
        linears = [layer for layer in decoder if isinstance(layer, nn.Linear)]
        self._weights = [Factor(linear._parameters, "weight") for linear in linears]
        self._parameters = [linear._parameters for linear in linears]
        self._n_transitions, self._n_steps = n_transitions, n_steps
        self._n_forces = n_transitions * n_steps + 1
        self._scratch = scratch

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """See ``Factor.use_rounded``."""
        for weight in self._weights:
            weight.use_rounded(weights)

    def forward(self, x: Tensor, z: Tensor, noise: list[Tensor], steps: Tensor, dtype: torch.dtype) -> Moved:
        """Move z [N, n] given rows x [B, D], N a multiple of B; products are made in ``dtype``.

        noise: T tensors [N, n], the momenta with which transitions begin; steps [T, n]: sizes of leapfrog steps.
        """
        moved = self._room(x, z, steps, dtype)
        moved.z[0].copy_(z)
        moved.layers[0].inputs[0].copy_(z)
        torch.sub(self._force(moved, 0), z, out=moved.forces[0])
        j = 0
        for start, end, step in zip(noise, moved.v, steps.unbind(), strict=True):
            for inner in range(self._n_steps):
                before = start if inner == 0 else end, moved.forces[j], moved.z[j]
                j += 1
                hamiltonian.drift(*before, step, moved.halves[j], moved.z[j], moved.layers[0].inputs[j])
                product = self._force(moved, j)
                hamiltonian.kick(product, moved.z[j], moved.halves[j], step, moved.forces[j], end)
        return moved

    def add_gradients(
        self, moved: Moved, by_log_p: float, by_z: list[Tensor], by_v: list[Tensor], by_steps: Tensor
    ) -> Tensor:
        """Add the gradients of a loss to those of the decoder; that by the positions moved from is returned, [N, n].

        by_log_p: that by log p(x, z) at each last position. by_z, by_v: T tensors [N, n], that by position and momentum
        after each transition, from elsewhere; the latter are overwritten. by_steps [T, n]: that by the steps is added.
        """
        j = self._n_forces - 1
        like = moved.z[j]
        by_position, by_force = (
            self._scratch.take(f"by {what}", *like.shape, like.dtype, like.device) for what in ("position", "force")
        )
        torch.mul(like, -by_log_p, out=by_position)
        by_force.zero_()
        transitions = list(zip(moved.steps.unbind(), by_z, by_v, by_steps.unbind(), strict=True))
        for step, from_z, by_momentum, by_step in reversed(transitions):
            by_position += from_z
            for _ in range(self._n_steps):
                rounded = moved.layers[0].by_back[j]
                hamiltonian.pass_kick(by_momentum, moved.forces[j], step, by_force, by_position, rounded, by_step)
                product = self._pass_force(moved, j, by_log_p if j == self._n_forces - 1 else 0.0)
                state = by_position, by_momentum, moved.halves[j], moved.forces[j - 1]
                hamiltonian.pass_drift(product, *state, step, by_force, by_step)
                j -= 1
        moved.layers[0].by_back[0].copy_(by_force)
        by_position -= by_force
        by_position += self._pass_force(moved, 0, 0.0)
        for weight, layer in zip(self._weights, moved.layers, strict=True):
            weight.add_product(layer.left, layer.right)
        return by_position

    def ends(self, moved: Moved) -> Tensor:
        """Positions after each transition, [T, N, n] in the data type of products."""
        of_first = moved.layers[0].right.view(2, self._n_forces, *moved.z[0].shape)
        return of_first[1, self._n_steps :: self._n_steps]

    def _force(self, moved: Moved, j: int) -> Tensor:
        """d log p(x | z) / dz at position j, [N, n]; of the last position the likelihood as well."""
        *hidden, last = moved.layers
        for layer, above in zip(hidden, moved.layers[1:], strict=True):
            units = torch.mm(layer.inputs[j], layer.transposed, out=above.inputs[j])
            hamiltonian.tanh(units, layer.bias)
        missed = torch.mm(last.inputs[j], last.transposed, out=last.missed[j])
        if j == self._n_forces - 1:
            bernoulli.score(missed, last.bias, moved.x, moved.log_likelihood)
        hamiltonian.residual(missed, last.bias, moved.x, moved.ones, moved.sums)
        for layer, above in reversed(list(zip(hidden, moved.layers[1:], strict=True))):
            missed = torch.mm(missed, above.weight, out=layer.missed[j])
            hamiltonian.pass_slope(missed, above.inputs[j])
        return torch.mm(missed, moved.layers[0].weight, out=self._product(moved))

    def _pass_force(self, moved: Moved, j: int, by_log_p: float) -> Tensor:
        """Gradient by position j, [N, n], through the result of ``_force``, by which it is in the first by_back."""
        *hidden, last = moved.layers
        curvatures = []
        for level, (layer, above) in enumerate(zip(hidden, moved.layers[1:], strict=True)):
            by_slope = torch.mm(layer.by_back[j], layer.transposed, out=above.by_back[j])
            shape = *by_slope.shape, moved.z[j].dtype, by_slope.device
            curvatures.append(self._scratch.take(f"curvature {level}", *shape))
            hamiltonian.bend(by_slope, above.inputs[j], layer.missed[j], curvatures[-1])
        by_output = torch.mm(last.by_back[j], last.transposed, out=last.by_output[j])
        hamiltonian.pass_residual(by_output, last.missed[j], moved.x, by_log_p, last.bias.grad)
        for layer, above in reversed(list(zip(hidden, moved.layers[1:], strict=True))):
            by_output = torch.mm(by_output, above.weight, out=layer.by_output[j])
            hamiltonian.pass_bent(by_output, above.inputs[j], curvatures.pop(), layer.bias.grad)
        return torch.mm(by_output, moved.layers[0].weight, out=self._product(moved))

    def _product(self, moved: Moved) -> Tensor:
        """Memory for a product as large as the positions."""
        like = moved.layers[0].inputs[0]
        return self._scratch.take("by inputs", *like.shape, like.dtype, like.device)

    def _room(self, x: Tensor, z: Tensor, steps: Tensor, dtype: torch.dtype) -> Moved:
        """Memory for transitions of z, nothing of which is computed."""
        take, n_rows, n_forces = self._scratch.take_parts, len(z), self._n_forces
        layers = []
        for level, (factor, parameters) in enumerate(zip(self._weights, self._parameters, strict=True)):
            weight = factor.value(dtype)
            n_out, n_in = weight.shape
            left, outputs = take(f"left {level}", 2 * n_forces, n_rows, n_out, dtype, z.device)
            right, inputs = take(f"right {level}", 2 * n_forces, n_rows, n_in, dtype, z.device)
            halves = outputs[:n_forces], outputs[n_forces:], inputs[:n_forces], inputs[n_forces:]
            layers.append(Layer(weight, weight.t(), parameters["bias"], left, right, *halves))
        of_positions = [take(what, n_forces, *z.shape, z.dtype, z.device)[1] for what in ("z", "forces", "halves")]
        of_transitions = take("v", self._n_transitions, *z.shape, z.dtype, z.device)
        log_likelihood = torch.zeros(n_rows, dtype=torch.float64, device=z.device)
        unweighted = z.new_ones(n_rows), z.new_zeros(x.shape[1])
        return Moved(x, steps, layers, *of_positions, *of_transitions, log_likelihood, *unweighted)
