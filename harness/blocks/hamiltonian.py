"""What Hamiltonian transitions do between matrix products: slopes and curvatures of units, leapfrog steps, gradients.

Like ``harness.blocks.normal``, the one place that decides how: float32 and bfloat16 products on the CPU go to the fused
kernels of ``harness.kernels.hamiltonian``, all others through tensor operations that say the same thing and serve as
the kernels' reference. Everything is written where the caller wants it. Products and units may be rounded; positions,
momenta, forces, biases and the gradients by these are in the data type of the parameters.

A leapfrog step of sizes s [n], from position z and momentum v, each [N, n], for the force f(z) = product(z) - z:
v' = v + s f(z) / 2 and z' = z + s v' (``drift``), then v'' = v' + s f(z') / 2 (``kick``).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.blocks import bernoulli, perceptron
from harness.blocks.bernoulli import array

# -- the force, and the gradient through it ---------------------------------------------------------------------------


def tanh(product: Tensor, bias: Tensor) -> None:
    """Overwrite product [N, n] with tanh(product + bias)."""
    units = perceptron.activate(product, bias, nn.Tanh)
    if units is not product:
        product.copy_(units)


def residual(product: Tensor, bias: Tensor, value: Tensor, ones: Tensor, sums: Tensor) -> None:
    """Overwrite product [N, n] with value - sigmoid(product + bias); value [V, n], N a multiple of V.

    ones [N]: just that. Column sums are added to ``sums`` [n].
    """
    missed = bernoulli.residual(product, bias, value, ones, sums)
    if missed is not product:
        product.copy_(missed)


def pass_slope(missed: Tensor, units: Tensor) -> None:
    """From the gradient by tanh units [N, n] to that by their activations, in place."""
    if _fused(missed):
        _kernels().pass_slope(array(missed), array(units))
        return
    seen = units.to(torch.promote_types(units.dtype, torch.float32))
    missed.copy_(missed * (1.0 - seen.square()))


def bend(adjoint: Tensor, units: Tensor, passed: Tensor, curvature: Tensor) -> None:
    """Gradient through ``pass_slope``, whose result was ``passed``: all [N, n].

    adjoint: that by the result, which that by the argument overwrites; curvature: written, that by the activations.
    """
    if _fused(adjoint):
        _kernels().bend(*(array(t) for t in (adjoint, units, passed, curvature)))
        return
    wide, seen = adjoint.to(curvature.dtype), units.to(curvature.dtype)
    torch.mul(seen * -2.0, wide * passed, out=curvature)
    adjoint.copy_(wide * (1.0 - seen.square()))


def pass_bent(missed: Tensor, units: Tensor, curvature: Tensor, bias_gradient: Tensor) -> None:
    """``pass_slope`` with the curvature [N, n] of ``bend`` added; column sums are added to bias_gradient [n]."""
    if _fused(missed):
        _kernels().pass_bent(*(array(t) for t in (missed, units, curvature, bias_gradient)))
        return
    passed = missed * (1.0 - units.to(curvature.dtype).square()) + curvature
    bias_gradient += passed.sum(0)
    missed.copy_(passed)


def pass_residual(adjoint: Tensor, missed: Tensor, value: Tensor, weight: float, bias_gradient: Tensor) -> None:
    """Gradient by the logits of ``residual``, whose result was ``missed``; it overwrites that by the result, [N, n].

    weight: the gradient by the value's log-probability. Column sums are added to bias_gradient [n].
    """
    if _fused(adjoint):
        arrays = array(adjoint), array(missed), array(value)
        _kernels().pass_residual(*arrays, weight, array(bias_gradient))
        return
    residuals = missed.to(bias_gradient.dtype)
    probability = value.repeat_interleave(len(missed) // max(1, len(value)), dim=0) - residuals
    passed = weight * residuals - adjoint * probability * (1.0 - probability)
    bias_gradient += passed.sum(0)
    adjoint.copy_(passed)


# -- leapfrog steps ---------------------------------------------------------------------------------------------------


def drift(
    momentum: Tensor, force: Tensor, position: Tensor, step: Tensor, half: Tensor, moved: Tensor, rounded: Tensor
) -> None:
    """The first half of a step: v' is written to ``half``, z' to ``moved`` and, in its data type, to ``rounded``."""
    if _fused(rounded):
        _kernels().drift(*(array(t) for t in (momentum, force, position, step, half, moved, rounded)))
        return
    torch.addcmul(momentum, step, force, value=0.5, out=half)
    torch.addcmul(position, step, half, out=moved)
    rounded.copy_(moved)


def kick(product: Tensor, position: Tensor, half: Tensor, step: Tensor, force: Tensor, momentum: Tensor) -> None:
    """The second half of a step: f(z') is written to ``force``, v'' to ``momentum``."""
    if _fused(product):
        _kernels().kick(*(array(t) for t in (product, position, half, step, force, momentum)))
        return
    torch.sub(product, position, out=force)
    torch.addcmul(half, step, force, value=0.5, out=momentum)


def pass_kick(
    by_momentum: Tensor,
    force: Tensor,
    step: Tensor,
    by_force: Tensor,
    by_position: Tensor,
    rounded: Tensor,
    by_step: Tensor,
) -> None:
    """Gradient through ``kick``, given that by v'' and, by_force [N, n], that by f(z') from elsewhere.

    All of that by f(z') is written to ``rounded`` [N, n]; that by z' is added to by_position [N, n], that by the step
    to by_step [n].
    """
    if _fused(rounded):
        tensors = by_momentum, force, step, by_force, by_position, rounded, by_step
        _kernels().pass_kick(*(array(t) for t in tensors))
        return
    whole = by_force + 0.5 * step * by_momentum
    by_step += 0.5 * (by_momentum * force).sum(0)
    by_position -= whole
    rounded.copy_(whole)


def pass_drift(
    product: Tensor,
    by_position: Tensor,
    by_momentum: Tensor,
    half: Tensor,
    force: Tensor,
    step: Tensor,
    by_force: Tensor,
    by_step: Tensor,
) -> None:
    """Gradient through ``drift``; a product [N, n] is added to that by z' first.

    by_position becomes that by z, and by_momentum, that by v', that by v; that by f(z) is written to by_force, all
    [N, n]; that by the step is added to by_step [n].
    """
    if _fused(product):
        tensors = product, by_position, by_momentum, half, force, step, by_force, by_step
        _kernels().pass_drift(*(array(t) for t in tensors))
        return
    by_position += product
    by_momentum += step * by_position
    by_step += (by_position * half + 0.5 * by_momentum * force).sum(0)
    torch.mul(by_momentum, 0.5 * step, out=by_force)


# -- reverse model ----------------------------------------------------------------------------------------------------


def join_tanh(of_position: Tensor, of_row: Tensor, bias: Tensor, n_groups: int) -> None:
    """Overwrite of_position [G * N, n] with tanh(of_position + of_row + bias).

    of_row [R, G * n], bias [G * n]: the columns of group g are those from g n on; N / R positions share a row.
    """
    if _fused(of_position):
        _kernels().join_tanh(array(of_position), array(of_row), array(bias), n_groups)
        return
    n_rows, n = of_row.shape[0], of_position.shape[1]
    rows = (of_row + bias).view(n_rows, n_groups, 1, n).transpose(0, 1)
    joined = of_position.view(n_groups, n_rows, -1, n)
    joined.copy_(torch.tanh(joined + rows))


def pass_join(missed: Tensor, units: Tensor, by_row: Tensor, bias_gradient: Tensor, n_groups: int) -> None:
    """Gradient through ``join_tanh``, whose result was ``units``: in place from that by units, missed [G * N, n].

    That by of_row is written to by_row [R, G * n], its column sums are added to bias_gradient [G * n].
    """
    if _fused(missed):
        _kernels().pass_join(*(array(t) for t in (missed, units, by_row, bias_gradient)), n_groups)
        return
    n_rows, n = by_row.shape[0], missed.shape[1]
    passed = missed.to(bias_gradient.dtype) * (1.0 - units.to(bias_gradient.dtype).square())
    missed.copy_(passed)
    pooled = passed.view(n_groups, n_rows, -1, n).sum(2).transpose(0, 1).reshape(by_row.shape)
    bias_gradient += pooled.sum(0)
    by_row.copy_(pooled)


def score_momenta(
    product: Tensor,
    bias: Tensor,
    value: Tensor,
    weight: Tensor,
    log_prob: Tensor,
    value_gradient: Tensor,
    bias_gradient: Tensor,
) -> None:
    """Log-densities of values [G * N, n] and their gradients at once, for G groups of rows with a bias [G, 2 n] each.

    Means and log standard deviations, and constants left out, are those of ``harness.blocks.normal``. The sums over
    groups are added to log_prob [N] double. weight [N]: the gradient by these; that by the product [G * N, 2 n]
    overwrites it, that by values is written to value_gradient [G * N, n], that by the bias is added to bias_gradient.
    """
    if _fused(product):
        tensors = product, bias, value, weight, log_prob, value_gradient, bias_gradient
        _kernels().score_momenta(*(array(t) for t in tensors))
        return
    n_groups, n = len(bias), value.shape[1]
    outputs = product.view(n_groups, -1, 2 * n)
    mean, log_std = (outputs + bias[:, None]).chunk(2, dim=2)
    inverse = torch.exp(-log_std)
    distance = (value.view(mean.shape) - mean) * inverse
    log_prob -= (0.5 * distance.square() + log_std).sum((0, 2), dtype=torch.float64)
    of_mean = weight[:, None] * distance * inverse
    value_gradient.copy_(-of_mean.view(value.shape))
    both = torch.cat([of_mean, weight[:, None] * (distance.square() - 1.0)], dim=2)
    bias_gradient += both.sum(1)
    outputs.copy_(both)


def _fused(product: Tensor) -> bool:
    return product.device.type == "cpu" and product.dtype in (torch.float32, torch.bfloat16)


@cache
def _kernels() -> Any:
    from harness.kernels import hamiltonian  # for the reason that ``harness.blocks.bernoulli`` gives

    return hamiltonian
