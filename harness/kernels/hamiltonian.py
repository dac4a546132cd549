"""Fused kernels of Hamiltonian transitions in the latent space of a decoder, and of their gradients, one pass each.

Between two products of a force d log p(x, z) / dz, and of the gradient through it, an activation is multiplied by
slopes and curvatures of tanh units, or of Bernoulli logits; a leapfrog step moves positions and momenta by the force;
the reverse model adds what it sees of rows and of positions. Arrays are float32 or bfloat16 as in
``harness.kernels.gaussian``: products and units either, positions, momenta, forces and biases float32.
"""

from __future__ import annotations

import numpy as np

from harness.kernels.bernoulli import _working_array
from harness.kernels.bfloat16 import load, round_like
from harness.kernels.fastmath import exp, tanh
from harness.kernels.gaussian import HALF, ONE, TWO, ZERO, _jit, _put

# -- the force, and the gradient through it ---------------------------------------------------------------------------


@_jit
def pass_slope(missed: np.ndarray, units: np.ndarray) -> None:
    """From the gradient by tanh units [N, n] to that by their activations, in place."""
    n_rows, n = missed.shape
    passed = _working_array(n, np.float32)
    for row in range(n_rows):
        gradients, values = missed[row], units[row]
        for j in range(n):
            unit = load(values[j])
            passed[j] = load(gradients[j]) * (ONE - unit * unit)
        for j in range(n):
            gradients[j] = round_like(missed, passed[j])


@_jit
def bend(adjoint: np.ndarray, units: np.ndarray, passed: np.ndarray, curvature: np.ndarray) -> None:
    """Gradient through ``pass_slope``, whose result was ``passed``: all [N, n].

    adjoint: that by the result, which that by the argument overwrites. curvature: float32, written: that by the
    activations of the units.
    """
    n_rows, n = adjoint.shape
    through = _working_array(n, np.float32)
    bent = _working_array(n, np.float32)
    for row in range(n_rows):
        gradients, values, results, target = adjoint[row], units[row], passed[row], curvature[row]
        for j in range(n):
            unit, gradient = load(values[j]), load(gradients[j])
            through[j] = gradient * (ONE - unit * unit)
            bent[j] = -TWO * unit * gradient * load(results[j])
        for j in range(n):
            gradients[j] = round_like(adjoint, through[j])
        for j in range(n):
            target[j] = bent[j]


@_jit
def pass_bent(missed: np.ndarray, units: np.ndarray, curvature: np.ndarray, bias_gradient: np.ndarray) -> None:
    """``pass_slope`` with the curvature [N, n] of ``bend`` added; column sums are added to bias_gradient [n]."""
    n_rows, n = missed.shape
    passed = _working_array(n, np.float32)
    for row in range(n_rows):
        gradients, values, bent = missed[row], units[row], curvature[row]
        for j in range(n):
            unit = load(values[j])
            passed[j] = load(gradients[j]) * (ONE - unit * unit) + bent[j]
        _put(missed, gradients, passed, bias_gradient)


@_jit
def pass_residual(
    adjoint: np.ndarray, missed: np.ndarray, value: np.ndarray, weight: float, bias_gradient: np.ndarray
) -> None:
    """Gradient by the logits through missed = value - sigmoid(logits), which overwrites that by ``missed``, [N, n].

    weight: that by the log-probability of the value, which is ``missed`` itself. value [V, n], N a multiple of V;
    column sums are added to bias_gradient [n].
    """
    n_rows, n = adjoint.shape
    repeats = n_rows // max(1, value.shape[0])
    factor = np.float32(weight)
    passed = _working_array(n, np.float32)
    for row in range(n_rows):
        gradients, residuals, values = adjoint[row], missed[row], value[row // repeats]
        for j in range(n):
            residual = load(residuals[j])
            probability = values[j] - residual
            passed[j] = factor * residual - load(gradients[j]) * probability * (ONE - probability)
        _put(adjoint, gradients, passed, bias_gradient)


# -- leapfrog steps ---------------------------------------------------------------------------------------------------


@_jit
def drift(
    momentum: np.ndarray,
    force: np.ndarray,
    position: np.ndarray,
    step: np.ndarray,
    half: np.ndarray,
    moved: np.ndarray,
    rounded: np.ndarray,
) -> None:
    """half = momentum + step force / 2 and moved = position + step half, also as ``rounded``: all [N, n], step [n]."""
    n_rows, n = position.shape
    new = _working_array(n, np.float32)
    for row in range(n_rows):
        momenta, forces, positions = momentum[row], force[row], position[row]
        halves, targets, copies = half[row], moved[row], rounded[row]
        for j in range(n):
            new[j] = momenta[j] + HALF * step[j] * forces[j]
        for j in range(n):
            halves[j] = new[j]
        for j in range(n):
            new[j] = positions[j] + step[j] * new[j]
        for j in range(n):
            targets[j] = new[j]
        for j in range(n):
            copies[j] = round_like(rounded, new[j])


@_jit
def kick(
    product: np.ndarray,
    position: np.ndarray,
    half: np.ndarray,
    step: np.ndarray,
    force: np.ndarray,
    momentum: np.ndarray,
) -> None:
    """force = product - position and momentum = half + step force / 2: all [N, n], step [n]."""
    n_rows, n = position.shape
    new = _working_array(n, np.float32)
    for row in range(n_rows):
        products, positions, halves = product[row], position[row], half[row]
        forces, momenta = force[row], momentum[row]
        for j in range(n):
            new[j] = load(products[j]) - positions[j]
        for j in range(n):
            forces[j] = new[j]
        for j in range(n):
            new[j] = halves[j] + HALF * step[j] * new[j]
        for j in range(n):
            momenta[j] = new[j]


@_jit
def pass_kick(
    by_momentum: np.ndarray,
    force: np.ndarray,
    step: np.ndarray,
    by_force: np.ndarray,
    by_position: np.ndarray,
    rounded: np.ndarray,
    by_step: np.ndarray,
) -> None:
    """Gradient through ``kick``, given that by its momentum and, by_force, by the force from elsewhere: all [N, n].

    rounded: written, the whole gradient by the force, and so by the product. by_position: that by the position is added
    to it. by_step [n]: that by the step is added to it.
    """
    n_rows, n = force.shape
    whole = _working_array(n, np.float32)
    of_step = _working_array(n, np.float32)
    for row in range(n_rows):
        momenta, forces, others = by_momentum[row], force[row], by_force[row]
        positions, targets = by_position[row], rounded[row]
        for j in range(n):
            whole[j] = others[j] + HALF * step[j] * momenta[j]
            of_step[j] = HALF * momenta[j] * forces[j]
        for j in range(n):
            by_step[j] += of_step[j]
        for j in range(n):
            positions[j] -= whole[j]
        for j in range(n):
            targets[j] = round_like(rounded, whole[j])


@_jit
def pass_drift(
    product: np.ndarray,
    by_position: np.ndarray,
    by_momentum: np.ndarray,
    half: np.ndarray,
    force: np.ndarray,
    step: np.ndarray,
    by_force: np.ndarray,
    by_step: np.ndarray,
) -> None:
    """Gradient through ``drift``: ``product`` joins that by the position moved to, before it is passed on.

    by_position [N, n] becomes that by the position moved from; by_momentum, that by ``half``, that by the momentum;
    by_force: written. by_step [n]: that by the step is added to it. half, force: of ``drift``.
    """
    n_rows, n = force.shape
    of_position = _working_array(n, np.float32)
    of_momentum = _working_array(n, np.float32)
    passed = _working_array(n, np.float32)
    for row in range(n_rows):
        products, positions, momenta = product[row], by_position[row], by_momentum[row]
        halves, forces, targets = half[row], force[row], by_force[row]
        for j in range(n):
            of_position[j] = positions[j] + load(products[j])
        for j in range(n):
            of_momentum[j] = momenta[j] + step[j] * of_position[j]
        for j in range(n):
            passed[j] = of_position[j] * halves[j] + HALF * of_momentum[j] * forces[j]
        for j in range(n):
            by_step[j] += passed[j]
        for j in range(n):
            positions[j] = of_position[j]
        for j in range(n):
            momenta[j] = of_momentum[j]
        for j in range(n):
            passed[j] = HALF * step[j] * of_momentum[j]
        for j in range(n):
            targets[j] = passed[j]


# -- reverse model ----------------------------------------------------------------------------------------------------


@_jit
def join_tanh(of_position: np.ndarray, of_row: np.ndarray, bias: np.ndarray, n_groups: int) -> None:
    """Overwrite of_position [G * N, n] with tanh(of_position + of_row + bias).

    of_row [R, G * n], bias [G * n]: group g has its columns from g n on, and N / R positions share a row.
    """
    n = of_position.shape[1]
    n_positions = of_position.shape[0] // max(1, n_groups)
    repeats = n_positions // max(1, of_row.shape[0])
    units = _working_array(n, np.float32)
    for group in range(n_groups):
        biases = bias[group * n : (group + 1) * n]
        for position in range(n_positions):
            products = of_position[group * n_positions + position]
            rows = of_row[position // repeats][group * n : (group + 1) * n]
            for j in range(n):
                units[j] = tanh(load(products[j]) + load(rows[j]) + biases[j])
            for j in range(n):
                products[j] = round_like(of_position, units[j])


@_jit
def pass_join(
    missed: np.ndarray, units: np.ndarray, by_row: np.ndarray, bias_gradient: np.ndarray, n_groups: int
) -> None:
    """Gradient through ``join_tanh``, whose result was ``units``: in place from that by units, missed [G * N, n].

    by_row [R, G * n]: written, that by ``of_row``; column sums are added to bias_gradient [G * n].
    """
    n = missed.shape[1]
    n_rows = by_row.shape[0]
    repeats = missed.shape[0] // max(1, n_groups * n_rows)
    passed = _working_array(n, np.float32)
    pooled = _working_array(n, np.float32)
    for group in range(n_groups):
        sums = bias_gradient[group * n : (group + 1) * n]
        for row in range(n_rows):
            for j in range(n):
                pooled[j] = ZERO
            for repeat in range(repeats):
                index = (group * n_rows + row) * repeats + repeat
                gradients, values = missed[index], units[index]
                for j in range(n):
                    unit = load(values[j])
                    passed[j] = load(gradients[j]) * (ONE - unit * unit)
                for j in range(n):
                    gradients[j] = round_like(missed, passed[j])
                for j in range(n):
                    pooled[j] += passed[j]
            _put(by_row, by_row[row][group * n : (group + 1) * n], pooled, sums)


@_jit
def score_momenta(
    product: np.ndarray,
    bias: np.ndarray,
    value: np.ndarray,
    weight: np.ndarray,
    log_prob: np.ndarray,
    value_gradient: np.ndarray,
    bias_gradient: np.ndarray,
) -> None:
    """``score`` and ``score_gradients`` of ``harness.kernels.gaussian`` at once, for groups of rows with their biases.

    product [G * N, 2 n], overwritten; bias, bias_gradient [G, 2 n]; value, value_gradient [G * N, n]. Log-densities of
    all groups are added to log_prob [N] double, to which each has the same weight [N].
    """
    n_groups, n_rows, n = bias.shape[0], len(log_prob), value.shape[1]
    missed = _working_array(n, np.float32)
    of_scale = _working_array(n, np.float32)
    for group in range(n_groups):
        mean_bias, scale_bias = bias[group][:n], bias[group][n:]
        mean_gradient, scale_gradient = bias_gradient[group][:n], bias_gradient[group][n:]
        for row in range(n_rows):
            index, factor = group * n_rows + row, weight[row]
            means, scales = product[index][:n], product[index][n:]
            values, target = value[index], value_gradient[index]
            total = ZERO
            for j in range(n):
                log_std = load(scales[j]) + scale_bias[j]
                inverse = exp(-log_std)
                distance = (values[j] - load(means[j]) - mean_bias[j]) * inverse
                total += HALF * distance * distance + log_std
                missed[j] = factor * distance * inverse
                of_scale[j] = factor * (distance * distance - ONE)
            log_prob[row] -= np.float64(total)
            for j in range(n):
                target[j] = -missed[j]
            _put(product, means, missed, mean_gradient)
            _put(product, scales, of_scale, scale_gradient)
