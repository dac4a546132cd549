"""NADE's log-likelihood and gradient on the CPU, with the hidden layer recomputed only where the input changes it.

The activation of the hidden layer before column d is a = c + sum_{j<d} x_j W_j. It changes at columns with x_j != 0
alone, an eighth to a third of them in the usual data; sigmoids are due only there, and over the segments in between the
hidden units stay the same. The gradient takes the changes back from the last column to the first. With n inputs other
than zero, an activation is thus wrong by at most 2n roundings, each 2^-24 of the largest activation on the way.

Everything is vector loops over the hidden units of a few rows. ``COLUMNS`` columns of the weights at a time are copied
to tiles, which remain in the cache while all rows pass over them. Their rows are padded to multiples of ``LANES`` and
so start at cache lines, and no loop leaves a remainder: a third of the time. ``ROWS`` rows advance together and share
what they load. Three habits here save half the time. Loops index whole arrays, since a view of each row would have a
reference count, which takes as long as a loop. Tiles are visited upwards, by the gradient as well, whose tiles hold
columns in descending order: the compiled test that arrays do not overlap fails for descending loops, and what follows
is not vectorised. And every loop has a function of its own; two in one function are compiled to something slower.
"""

from typing import NamedTuple

import numba as nb
import numpy as np
import torch

from harness.kernels.bernoulli import APART, random_word
from harness.kernels.fastmath import FAST, exp_neg, sigmoid

COLUMNS = 32
ROWS = 4  # written out below
LANES = 16  # of float32 in the longest vector registers, and in a cache line
FACTORS = 112  # of at most 2, whose product is still a float32
UNIFORM_STEP = 2.0**-53

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)

_kernel = nb.njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
_inlined = nb.njit(fastmath=FAST, nogil=True, error_model="numpy", inline="always")


class Weights(NamedTuple):
    """Parameters of a NADE or the gradients by them: float32 arrays, the matrices contiguous.

    The biases of a conditional NADE are matrices, a row [H] and [D] for each row of data.
    """

    inputs: np.ndarray  # W [D, H]
    outputs: np.ndarray  # V [D, H]
    hidden_bias: np.ndarray  # c [H] or [B, H]
    visible_bias: np.ndarray  # b [D] or [B, D]


class Pass(NamedTuple):
    """What the pass over all columns leaves behind; B' and H' are padded sizes."""

    log_prob: np.ndarray  # [B] float64, nats
    x: np.ndarray  # [B', D]
    logits: np.ndarray  # of p(x_d | x_<d), [B', D]
    activation: np.ndarray  # behind the last column, [B', H']
    hidden: np.ndarray  # likewise


def log_prob(x: np.ndarray, weights: Weights) -> np.ndarray:
    """log p(x) [B] float64, nats, for rows x [B, D], contiguous float32."""
    return evaluate(x, weights).log_prob


def add_gradients(x: np.ndarray, weights: Weights, gradients: Weights) -> np.ndarray:
    """Add the gradient of mean -log p(x) to ``gradients``; returns log p(x) [B] float64, nats.

    x [B, D], contiguous float32; the biases are vectors.
    """
    passed = evaluate(x, weights)
    share = np.full(len(x), -1.0 / len(x), np.float32)
    by_hidden, by_visible = add_weighted_gradients(passed, share, weights, gradients)
    gradients.hidden_bias[:] += by_hidden.sum(axis=0)
    gradients.visible_bias[:] += by_visible.sum(axis=0)
    return passed.log_prob


def evaluate(x: np.ndarray, weights: Weights) -> Pass:
    """Run over all columns of rows x [B, D], contiguous float32."""
    passed = _start(_whole_groups(x), len(x), weights)
    tiles = (_aligned(COLUMNS, passed.hidden.shape[1]) for _ in range(2))
    _ascend(passed.x, *weights[:2], passed.activation, passed.hidden, *tiles, passed.logits)
    _score(passed.x[: len(x)], passed.logits, passed.log_prob)
    return passed


def draw(seed: int, weights: Weights) -> Pass:
    """Draw a row for each row of the biases, which are matrices; column by column, the hidden layer carried along.

    seed: any 64-bit integer; the draws are a function of it and of the weights alone.
    """
    n_rows, n_columns = weights.visible_bias.shape
    passed = _start(np.empty((-(-n_rows // ROWS) * ROWS, n_columns), np.float32), n_rows, weights)
    tiles = (_aligned(COLUMNS, passed.hidden.shape[1]) for _ in range(2))
    _ascend_drawing(passed.x, *weights[:2], np.uint64(seed), passed.activation, passed.hidden, *tiles, passed.logits)
    _score(passed.x[:n_rows], passed.logits, passed.log_prob)
    return passed


def add_weighted_gradients(
    passed: Pass, weight: np.ndarray, weights: Weights, gradients: Weights
) -> tuple[np.ndarray, np.ndarray]:
    """Add sum_b weight_b d log p(x_b) by W and V to ``gradients``; returns the same by each row's biases.

    weight [B] float32. Of ``weights`` and ``gradients`` only the matrices are used. Returned are the terms of the sums
    over rows, [B, H] and [B, D]. The pass is used up.
    """
    n_rows = len(weight)
    _to_missed(passed.x, weight, passed.logits)
    shape = passed.hidden.shape
    later = _aligned(*shape)
    tiles = (_aligned(COLUMNS, shape[1]) for _ in range(4))
    _descend(passed.x, *weights[:2], passed.logits, passed.activation, passed.hidden, later, *tiles, *gradients[:2])
    return later[:n_rows, : weights.inputs.shape[1]], passed.logits[:n_rows]


def _start(x: np.ndarray, n_rows: int, weights: Weights) -> Pass:
    """Before the first column of rows x [B', D], of which ``n_rows`` are not padding: the biases alone."""
    n_hidden = weights.inputs.shape[1]
    width = -(-n_hidden // LANES) * LANES
    activation = _aligned(len(x), width)
    activation[:] = _ZERO
    activation[:n_rows, :n_hidden] = weights.hidden_bias
    logits = np.zeros_like(x)
    logits[:n_rows] = weights.visible_bias
    return Pass(np.empty(n_rows), x, logits, activation, _aligned(len(x), width))


def _whole_groups(x: np.ndarray) -> np.ndarray:
    """The rows, and rows of zeros behind them where they do not make whole groups of ``ROWS``."""
    missing = -len(x) % ROWS
    return np.pad(x, ((0, missing), (0, 0))) if missing else x


def _aligned(n_rows: int, n_columns: int) -> np.ndarray:
    """An uninitialised array that starts at a cache line, which NumPy's do not, and lies apart from any other."""
    n = n_rows * n_columns
    return torch.empty(n + 2 * APART)[APART : APART + n].view(n_rows, n_columns).numpy()


# -- loops over hidden units -----------------------------------------------------------------------------------------


@_inlined
def _advance(activation, hidden, r, x, inputs, k):
    """Add x times row k of ``inputs`` to the activations of row r and update its hidden units."""
    for j in range(activation.shape[1]):
        a = activation[r, j] + x * inputs[k, j]
        activation[r, j] = a
        hidden[r, j] = sigmoid(a)


@_inlined
def _add_products(outputs, k, hidden, r, logits, d):
    """Add row k of ``outputs`` times the hidden units of rows r .. r+3 to their logits of column d."""
    t0, t1, t2, t3 = _ZERO, _ZERO, _ZERO, _ZERO
    for j in range(hidden.shape[1]):
        t0 += outputs[k, j] * hidden[r, j]
        t1 += outputs[k, j] * hidden[r + 1, j]
        t2 += outputs[k, j] * hidden[r + 2, j]
        t3 += outputs[k, j] * hidden[r + 3, j]
    logits[r, d] += t0
    logits[r + 1, d] += t1
    logits[r + 2, d] += t2
    logits[r + 3, d] += t3


@_inlined
def _add_output_gradient(output_gradient, k, hidden, r, missed, d):
    """Add what rows r .. r+3 missed at column d, times their hidden units, to row k of the gradient by V."""
    m0, m1, m2, m3 = missed[r, d], missed[r + 1, d], missed[r + 2, d], missed[r + 3, d]
    for j in range(hidden.shape[1]):
        output_gradient[k, j] += (
            m0 * hidden[r, j] + m1 * hidden[r + 1, j] + m2 * hidden[r + 2, j] + m3 * hidden[r + 3, j]
        )


@_inlined
def _add_input_gradient(input_gradient, k, x, later, r):
    """Add x times the gradient by the activations of all later columns to row k of the gradient by W."""
    for j in range(later.shape[1]):
        input_gradient[k, j] += x * later[r, j]


@_inlined
def _add_four_columns(later, r, hidden, outputs, k, missed, d):
    """Add the gradient by the activations of columns d, d-1, d-2, d-3, whose hidden units are the same."""
    m0, m1, m2, m3 = missed[r, d], missed[r, d - 1], missed[r, d - 2], missed[r, d - 3]
    for j in range(later.shape[1]):
        by_hidden = m0 * outputs[k, j] + m1 * outputs[k + 1, j] + m2 * outputs[k + 2, j] + m3 * outputs[k + 3, j]
        later[r, j] += by_hidden * (hidden[r, j] * (_ONE - hidden[r, j]))


@_inlined
def _add_column(later, r, hidden, outputs, k, missed, d):
    """Add the gradient by the activations of column d."""
    m0 = missed[r, d]
    for j in range(later.shape[1]):
        later[r, j] += m0 * outputs[k, j] * (hidden[r, j] * (_ONE - hidden[r, j]))


@_inlined
def _finish_segment(later, r, hidden, outputs, start, stop, missed, last):
    """Add the gradient by the activations of a segment: rows start .. stop-1 of the tile, columns last - k."""
    k = start
    while stop - k >= 4:
        _add_four_columns(later, r, hidden, outputs, k, missed, last - k)
        k += 4
    while stop - k >= 1:
        _add_column(later, r, hidden, outputs, k, missed, last - k)
        k += 1


# -- tiles -----------------------------------------------------------------------------------------------------------


@_kernel
def _load(tile, matrix, first, step, size):
    """Rows first, first + step, ... of a matrix, ``size`` of them, to a tile; zeros behind them."""
    width = matrix.shape[1]
    for k in range(size):
        source, target = matrix[first + k * step], tile[k]
        for j in range(width):
            target[j] = source[j]
        for j in range(width, len(target)):
            target[j] = _ZERO


@_kernel
def _unload(tile, matrix, first, step, size):
    """Add a tile to the rows that ``_load`` would have taken it from; clear it."""
    for k in range(size):
        source, target = tile[k], matrix[first + k * step]
        for j in range(len(target)):
            target[j] += source[j]
        for j in range(len(source)):
            source[j] = _ZERO


@_kernel
def _start_hidden(activation, hidden):
    """Hidden units of all rows, given their activations."""
    for r in range(len(activation)):
        for j in range(activation.shape[1]):
            hidden[r, j] = sigmoid(activation[r, j])


# -- passes over all columns -----------------------------------------------------------------------------------------


@_kernel
def _ascend(x, inputs, outputs, activation, hidden, input_tile, output_tile, logits):
    """Logits of p(x_d | x_<d) [B', D]; leaves the activations [B', H'] and hidden units behind the last column.

    The logits come as the visible bias, the activations as the hidden bias.
    """
    n_columns = x.shape[1]
    _start_hidden(activation, hidden)
    for first in range(0, n_columns, COLUMNS):
        size = min(COLUMNS, n_columns - first)
        _load(input_tile, inputs, first, 1, size)
        _load(output_tile, outputs, first, 1, size)
        for start in range(0, len(x), ROWS):
            for k in range(size):
                d = first + k
                _add_products(output_tile, k, hidden, start, logits, d)
                for i in range(ROWS):
                    r = start + i
                    if x[r, d] != _ZERO:
                        _advance(activation, hidden, r, x[r, d], input_tile, k)


@_kernel
def _ascend_drawing(x, inputs, outputs, seed, activation, hidden, input_tile, output_tile, logits):
    """``_ascend`` that draws x on its way; column d of row r takes the random word r D + d of the seed."""
    n_columns = x.shape[1]
    _start_hidden(activation, hidden)
    for first in range(0, n_columns, COLUMNS):
        size = min(COLUMNS, n_columns - first)
        _load(input_tile, inputs, first, 1, size)
        _load(output_tile, outputs, first, 1, size)
        for start in range(0, len(x), ROWS):
            for k in range(size):
                d = first + k
                _add_products(output_tile, k, hidden, start, logits, d)
                for i in range(ROWS):
                    r = start + i
                    word = random_word(seed, np.uint64(r * n_columns + d))
                    x[r, d] = _ZERO
                    if np.float64(word >> np.uint64(11)) * UNIFORM_STEP < np.float64(sigmoid(logits[r, d])):
                        x[r, d] = _ONE
                        _advance(activation, hidden, r, _ONE, input_tile, k)


@_kernel
def _descend(
    x,
    inputs,
    outputs,
    missed,
    activation,
    hidden,
    later,
    input_tile,
    output_tile,
    input_gradient_tile,
    output_gradient_tile,
    input_gradient,
    output_gradient,
):
    """Add the gradients by W and V, given that by the logits, ``missed`` [B', D], and what ``_ascend`` left behind.

    later [B', H'] is the gradient by the activations, summed over the columns passed: in the end, all of them.
    """
    n_columns = x.shape[1]
    later[:] = _ZERO
    input_gradient_tile[:] = _ZERO
    output_gradient_tile[:] = _ZERO
    passed = np.zeros(ROWS, np.int64)  # rows of the tile whose columns are in ``later``, for each of the rows of x
    for first in range((n_columns - 1) // COLUMNS * COLUMNS, -1, -COLUMNS):
        size = min(COLUMNS, n_columns - first)
        last = first + size - 1
        _load(input_tile, inputs, last, -1, size)
        _load(output_tile, outputs, last, -1, size)
        for start in range(0, len(x), ROWS):
            passed[:] = 0
            for k in range(size):
                d = last - k
                for i in range(ROWS):
                    r = start + i
                    if x[r, d] != _ZERO:
                        _finish_segment(later, r, hidden, output_tile, passed[i], k, missed, last)
                        passed[i] = k
                        _add_input_gradient(input_gradient_tile, k, x[r, d], later, r)
                        _advance(activation, hidden, r, -x[r, d], input_tile, k)
                _add_output_gradient(output_gradient_tile, k, hidden, start, missed, d)
            for i in range(ROWS):
                _finish_segment(later, start + i, hidden, output_tile, passed[i], size, missed, last)
        _unload(input_gradient_tile, input_gradient, last, -1, size)
        _unload(output_gradient_tile, output_gradient, last, -1, size)


# -- passes over the logits ------------------------------------------------------------------------------------------


@_kernel
def _score(x, logits, total):
    """log p(x) of every row: the sum of x_d a_d - log(1 + exp(a_d)).

    log(1 + exp(a)) = max(a, 0) + log(1 + exp(-|a|)), where one logarithm is taken of a product of ``FACTORS``.
    """
    for r in range(len(x)):
        total[r] = 0.0
        for first in range(0, x.shape[1], FACTORS):
            values, a = x[r, first : first + FACTORS], logits[r, first : first + FACTORS]
            linear, product = _ZERO, _ONE
            for d in range(len(values)):
                linear += values[d] * a[d] - (a[d] if a[d] > _ZERO else _ZERO)
                product *= _ONE + exp_neg(a[d])
            total[r] += linear - np.log(product)


@_kernel
def _to_missed(x, weight, logits):
    """Turn logits a into weight_b (x - sigmoid(a)), the gradient of weight_b log p(x_b) by them; zero in padding."""
    n_rows = len(weight)
    for r in range(n_rows):
        for d in range(x.shape[1]):
            logits[r, d] = weight[r] * (x[r, d] - sigmoid(logits[r, d]))
    logits[n_rows:] = _ZERO
