"""Fused kernels between the matrix products of perceptrons and of diagonal normal distributions, one pass each.

What automatic differentiation needs a dozen passes, and as many tensors, for: an activation and its derivative, drawing
and scoring normal variables whose means and log standard deviations a product gives, and the gradients of both.
Everything is ``product[row, j] + bias[j]``, so that no pass adds a bias; of a normal distribution the first half of the
columns is the mean, the second the log standard deviation. Arrays are float32 or bfloat16, the latter as its bits in
uint16; noise, samples and biases are float32, sums over a row are double.

What a loop computes goes to a working array first (see ``harness.kernels.bernoulli``), so products may be overwritten
and results do not depend on where arrays lie. One thread does everything, as these passes take a few percent of an
update.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from harness.kernels.bernoulli import _working_array, random_word
from harness.kernels.bfloat16 import load, round_like
from harness.kernels.fastmath import FAST, exp, tanh

ZERO, HALF, ONE, TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
BITS = 65536  # values of the 16 random bits that decide whether a unit is kept

_jit = nb.njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)


@nb.njit(inline="always")
def _put(matrix, row, values, sums):
    """Write values to a row of the matrix, or to a part of one, and add them to the sums."""
    for j in range(len(values)):
        row[j] = round_like(matrix, values[j])
    for j in range(len(values)):
        sums[j] += values[j]


# -- perceptrons ------------------------------------------------------------------------------------------------------


@_jit
def apply_tanh(product: np.ndarray, bias: np.ndarray) -> None:
    """Overwrite product [N, n] with tanh(product + bias)."""
    n_rows, n = product.shape
    units = _working_array(n, np.float32)
    for row in range(n_rows):
        products = product[row]
        for j in range(n):
            units[j] = tanh(load(products[j]) + bias[j])
        for j in range(n):
            products[j] = round_like(product, units[j])


@_jit
def apply_relu(product: np.ndarray, bias: np.ndarray) -> None:
    """Overwrite product [N, n] with max(product + bias, 0)."""
    n_rows, n = product.shape
    units = _working_array(n, np.float32)
    for row in range(n_rows):
        products = product[row]
        for j in range(n):
            activation = load(products[j]) + bias[j]
            units[j] = ZERO if activation < ZERO else activation  # NaN stays
        for j in range(n):
            products[j] = round_like(product, units[j])


@_jit
def pass_tanh(missed: np.ndarray, units: np.ndarray, bias_gradient: np.ndarray) -> None:
    """From the gradient by units [N, n] to that by their activations, in place; column sums go to ``bias_gradient``."""
    n_rows, n = missed.shape
    passed = _working_array(n, np.float32)
    for row in range(n_rows):
        gradients, values = missed[row], units[row]
        for j in range(n):
            unit = load(values[j])
            passed[j] = load(gradients[j]) * (ONE - unit * unit)
        _put(missed, gradients, passed, bias_gradient)


@_jit
def pass_relu(missed: np.ndarray, units: np.ndarray, scale: float, bias_gradient: np.ndarray) -> None:
    """``pass_tanh`` for rectified units, whose positive part has the slope ``scale``."""
    n_rows, n = missed.shape
    passed = _working_array(n, np.float32)
    factor = np.float32(scale)
    for row in range(n_rows):
        gradients, values = missed[row], units[row]
        for j in range(n):
            passed[j] = factor * load(gradients[j]) if load(values[j]) > ZERO else ZERO
        _put(missed, gradients, passed, bias_gradient)


# -- leaving units out ------------------------------------------------------------------------------------------------


@nb.njit(inline="always")
def _fill_words(words, seed, row):
    first = np.uint64(row) * np.uint64(len(words))
    for i in range(len(words)):
        words[i] = random_word(seed, first + np.uint64(i))


@_jit
def drop(units: np.ndarray, n_dropped: int, scale: float, seed: int, out: np.ndarray) -> None:
    """out [N, n]: each of the units [N, n] times ``scale``, or zero with probability n_dropped / 65,536."""
    n_rows, n = units.shape
    kept = _working_array(n, np.float32)
    words = _working_array((n + 3) // 4, np.uint64)
    bits = words.view(np.uint16)[:n]
    factor, limit, seed = np.float32(scale), np.int32(n_dropped), np.uint64(seed)
    for row in range(n_rows):
        _fill_words(words, seed, row)
        values, target = units[row], out[row]
        for j in range(n):
            kept[j] = ZERO if np.int32(bits[j]) < limit else factor * load(values[j])
        for j in range(n):
            target[j] = round_like(out, kept[j])


@_jit
def drop_relu(product: np.ndarray, bias: np.ndarray, n_dropped: int, scale: float, seed: int) -> None:
    """Overwrite product [N, n] with max(product + bias, 0), thinned out as by ``drop``."""
    n_rows, n = product.shape
    kept = _working_array(n, np.float32)
    words = _working_array((n + 3) // 4, np.uint64)
    bits = words.view(np.uint16)[:n]
    factor, limit, seed = np.float32(scale), np.int32(n_dropped), np.uint64(seed)
    for row in range(n_rows):
        _fill_words(words, seed, row)
        products = product[row]
        for j in range(n):
            activation = load(products[j]) + bias[j]
            unit = ZERO if activation < ZERO else factor * activation
            kept[j] = ZERO if np.int32(bits[j]) < limit else unit
        for j in range(n):
            products[j] = round_like(product, kept[j])


# -- normal distributions ---------------------------------------------------------------------------------------------


@_jit
def draw(
    product: np.ndarray,
    bias: np.ndarray,
    noise: np.ndarray,
    value: np.ndarray,
    rounded: np.ndarray,
    log_prob: np.ndarray,
) -> None:
    """value [N, n] = mean + std * noise, also as ``rounded``, and its log-density, added to log_prob [N] double.

    product [R, 2 n], bias [2 n]; noise [N, n], N a multiple of R, the draws of a row next to each other. ``rounded``
    may be ``value``. Densities are without the constant -log(2 pi) / 2 an entry.
    """
    n_rows, n = product.shape[0], value.shape[1]
    repeats = noise.shape[0] // max(1, n_rows)
    mean = _working_array(n, np.float32)
    std = _working_array(n, np.float32)
    drawn = _working_array(n, np.float32)
    mean_bias, scale_bias = bias[:n], bias[n:]
    for row in range(n_rows):
        means, scales = product[row][:n], product[row][n:]
        for j in range(n):
            mean[j] = load(means[j]) + mean_bias[j]
        for j in range(n):
            std[j] = exp(load(scales[j]) + scale_bias[j])
        log_std = ZERO
        for j in range(n):
            log_std += load(scales[j]) + scale_bias[j]
        for repeat in range(repeats):
            target = row * repeats + repeat
            noises, values, copies = noise[target], value[target], rounded[target]
            for j in range(n):
                drawn[j] = mean[j] + std[j] * noises[j]
            for j in range(n):
                values[j] = drawn[j]
            for j in range(n):
                copies[j] = round_like(rounded, drawn[j])
            squares = ZERO
            for j in range(n):
                squares += noises[j] * noises[j]
            log_prob[target] -= np.float64(HALF * squares) + np.float64(log_std)


@_jit
def score(product: np.ndarray, bias: np.ndarray, value: np.ndarray, log_prob: np.ndarray) -> None:
    """Add log N(value | mean, std^2), summed over columns and without its constant, to log_prob [N] double.

    product [N, 2 n], bias [2 n], value [N, n].
    """
    n_rows, n = value.shape
    mean_bias, scale_bias = bias[:n], bias[n:]
    for row in range(n_rows):
        means, scales, values = product[row][:n], product[row][n:], value[row]
        total = ZERO
        for j in range(n):
            log_std = load(scales[j]) + scale_bias[j]
            distance = (values[j] - load(means[j]) - mean_bias[j]) * exp(-log_std)
            total += HALF * distance * distance + log_std
        log_prob[row] -= np.float64(total)


@_jit
def score_gradients(
    product: np.ndarray,
    bias: np.ndarray,
    value: np.ndarray,
    weight: np.ndarray,
    bias_gradient: np.ndarray,
    value_gradient: np.ndarray,
) -> None:
    """Gradients of sum_r weight[r] times the log-density of ``score``, which overwrite ``product`` [N, 2 n].

    weight [N]; column sums are added to bias_gradient [2 n]; value_gradient [N, n] is written.
    """
    n_rows, n = value.shape
    missed = _working_array(n, np.float32)
    of_scale = _working_array(n, np.float32)
    mean_bias, scale_bias = bias[:n], bias[n:]
    mean_gradient, scale_gradient = bias_gradient[:n], bias_gradient[n:]
    for row in range(n_rows):
        means, scales, values, target = product[row][:n], product[row][n:], value[row], value_gradient[row]
        factor = weight[row]
        for j in range(n):
            inverse = exp(-(load(scales[j]) + scale_bias[j]))
            distance = (values[j] - load(means[j]) - mean_bias[j]) * inverse
            missed[j] = factor * distance * inverse
            of_scale[j] = factor * (distance * distance - ONE)
        for j in range(n):
            target[j] = -missed[j]
        _put(product, means, missed, mean_gradient)
        _put(product, scales, of_scale, scale_gradient)


@_jit
def draw_gradients(
    product: np.ndarray,
    bias: np.ndarray,
    noise: np.ndarray,
    gradient: np.ndarray,
    weight: np.ndarray,
    divergence: float,
    bias_gradient: np.ndarray,
) -> None:
    """Gradients through what ``draw`` did, which overwrite ``product`` [R, 2 n].

    gradient [N, n]: by the values; weight [N]: by their log-densities; divergence: by the Kullback-Leibler divergence
    of every row from the standard normal distribution. Column sums are added to bias_gradient [2 n].
    """
    n_rows, n = product.shape[0], noise.shape[1]
    repeats = noise.shape[0] // max(1, n_rows)
    factor = np.float32(divergence)
    of_mean = _working_array(n, np.float32)
    of_scale = _working_array(n, np.float32)
    std = _working_array(n, np.float32)
    mean_bias, scale_bias = bias[:n], bias[n:]
    mean_gradient, scale_gradient = bias_gradient[:n], bias_gradient[n:]
    for row in range(n_rows):
        means, scales = product[row][:n], product[row][n:]
        total = ZERO
        for repeat in range(repeats):
            total += weight[row * repeats + repeat]
        for j in range(n):
            std[j] = exp(load(scales[j]) + scale_bias[j])
        for j in range(n):
            of_mean[j] = ZERO
        for j in range(n):
            of_scale[j] = ZERO
        for repeat in range(repeats):
            gradients, noises = gradient[row * repeats + repeat], noise[row * repeats + repeat]
            for j in range(n):
                of_mean[j] += load(gradients[j])
            for j in range(n):
                of_scale[j] += load(gradients[j]) * noises[j]
        for j in range(n):
            of_mean[j] += factor * (load(means[j]) + mean_bias[j])
        for j in range(n):
            of_scale[j] = std[j] * (of_scale[j] + factor * std[j]) - factor - total
        _put(product, means, of_mean, mean_gradient)
        _put(product, scales, of_scale, scale_gradient)


@_jit
def add_divergence(product: np.ndarray, bias: np.ndarray, total: np.ndarray) -> None:
    """Add the Kullback-Leibler divergence of every row from the standard normal distribution to total [R] double."""
    n_rows, n = product.shape[0], product.shape[1] // 2
    mean_bias, scale_bias = bias[:n], bias[n:]
    for row in range(n_rows):
        means, scales = product[row][:n], product[row][n:]
        found = ZERO
        for j in range(n):
            mean, log_std = load(means[j]) + mean_bias[j], load(scales[j]) + scale_bias[j]
            found += HALF * (mean * mean + exp(TWO * log_std) - ONE) - log_std
        total[row] += np.float64(found)


# -- class labels -----------------------------------------------------------------------------------------------------


@_jit
def softmax_gradients(
    product: np.ndarray,
    bias: np.ndarray,
    labels: np.ndarray,
    weight: float,
    log_prob: np.ndarray,
    bias_gradient: np.ndarray,
) -> None:
    """Gradient of -weight sum_r log softmax(product[r] + bias)[labels[r]], which overwrites ``product`` [N, C].

    labels [N]: rows of negative ones count nothing. The log-probability is added to log_prob [N] double, column sums
    of the gradient to bias_gradient [C].
    """
    n_rows, n = product.shape
    factor = np.float32(weight)
    share = _working_array(n, np.float32)
    for row in range(n_rows):
        products, label = product[row], labels[row]
        largest = load(products[0]) + bias[0]
        for j in range(n):
            largest = max(largest, load(products[j]) + bias[j])
        for j in range(n):
            share[j] = exp(load(products[j]) + bias[j] - largest)
        total = ZERO
        for j in range(n):
            total += share[j]
        known = factor if label >= 0 else ZERO
        if label >= 0:
            own = np.float64(load(products[label]) + bias[label] - largest)
            log_prob[row] += own - np.log(np.float64(total))
        for j in range(n):
            share[j] *= known / total
        if label >= 0:
            share[label] -= known
        _put(product, products, share, bias_gradient)


@_jit
def decay(weight: np.ndarray, gradient: np.ndarray, strength: float) -> float:
    """Add that of strength / 2 times the sum of squares of the weight to the gradient, both [n, m]; the sum."""
    factor, total = np.float32(strength), 0.0
    for row in range(len(weight)):
        values, gradients = weight[row], gradient[row]
        squares = ZERO
        for j in range(len(values)):
            squares += values[j] * values[j]
        total += np.float64(squares)
        for j in range(len(values)):
            gradients[j] += factor * values[j]
    return total
