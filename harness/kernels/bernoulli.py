"""Fused kernels for products of Bernoullis with given logits: draw, score, and what a gradient needs, one pass each.

Between two matrix products a layer needs exp, log and comparisons on every activation. Written with tensor operations
that is a dozen passes over memory and most of an update's time; here each activation is read once, stays in registers,
and only samples, sums and residuals are written. Logits arrive as ``product[row, j] + bias[j]``, so that no pass adds
a bias. Arrays are float32 or bfloat16, the latter as its bits in uint16; sums over a row are carried in double.

Sampling is exact to 2^-40 a draw: 16 random bits are compared with the leading 16 bits of the probability, and only
where they are equal (once in 65,536 draws) do 24 further bits decide. Bits come from the generator SplitMix64 at a seed
from the caller and a counter, which vectorises since no word waits for the one before; a call's draws are a function of
its seed and its inputs alone.

The loops release the interpreter lock and share rows among as many threads as PyTorch is set to use, where there are
enough of them (``harness.kernels.threads``). Draws and log-probabilities do not depend on the number of threads; sums
over rows are added up in another order.
"""

from __future__ import annotations

import math
from functools import cache

import numba as nb
import numpy as np

from harness.kernels import threads
from harness.kernels.bfloat16 import bit_like, load, round_like
from harness.kernels.fastmath import FAST, exp_neg, sigmoid

ZERO, ONE = np.float32(0.0), np.float32(1.0)
# factors 1 + exp(-|a|) <= 2 multiplied before one logarithm is taken: 2^112 is still a float32
TERMS_A_LOGARITHM = 112
SCALE = np.float32(65536.0)
LOW_BITS = np.float32(2.0**-24)
# entries around working arrays: the compiled test that arrays do not overlap also fails where they are this close
APART = 128

_jit = nb.njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)


@nb.njit(inline="always")
def random_word(seed, index):
    """64 random bits, a function of seed and index: SplitMix64 (Steele, Lea, Flood, 2014)."""
    word = seed + index * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@nb.njit(inline="always")
def _working_array(n, dtype):
    """[n], uninitialised, far from any other array.

    A loop that stores is compiled twice, as vectors for arrays that are apart and one by one for others, and the two
    add up in a different order. Without a distance, what a small layer's sums are rounded to would depend on where
    its arrays happen to lie.
    """
    return np.empty(n + 2 * APART, dtype)[APART : APART + n]


@_jit
def _decide_ties(bits, threshold, rest, logits, out, seed, index):
    """Draw where the leading bits are equal; the sum of the logits of what came out as 1."""
    on = 0.0
    for j in range(len(bits)):
        if np.int32(bits[j]) == threshold[j]:
            word = random_word(seed, index + np.uint64(j))
            if np.float32(word >> np.uint64(40)) * LOW_BITS < rest[j]:
                out[j] = bit_like(out, True)
                on += np.float64(logits[j])
    return on


def draw(
    product: np.ndarray, bias: np.ndarray, repeats: int, seed: int, sample: np.ndarray, log_prob: np.ndarray
) -> None:
    """Draw ``repeats`` samples for every row of logits and add their log-probability.

    product [R, n] and bias [n] give the logits; sample [R * repeats, n] is written, 0 or 1, a row's repeats next to
    each other; log_prob [R * repeats] double, nats, is added to. seed: any 64-bit integer.
    """
    n_threads = threads.n_threads(sample.size)
    if n_threads == 1:
        _draw_rows(product, bias, repeats, seed, 0, len(product), sample, log_prob)
    else:
        points = threads.points_for(_draw_rows, product, bias, repeats, seed, 0, len(product), sample, log_prob)
        _share_draw(points, _draw_task(product.dtype), n_threads, product, bias, repeats, seed, sample, log_prob)


@_jit
def _draw_rows(product, bias, repeats, seed, first_row, last_row, sample, log_prob):
    n = product.shape[1]
    logits = _working_array(n, np.float32)
    threshold = _working_array(n, np.int32)
    rest = _working_array(n, np.float32)
    words = _working_array((n + 3) // 4, np.uint64)
    bits = words.view(np.uint16)[:n]
    n_words = np.uint64(len(words))
    seed = np.uint64(seed)
    further = random_word(seed, np.uint64(2**63))  # ties have a stream of their own
    for row in range(first_row, last_row):
        base = 0.0  # sum_j log(1 + exp(a_j))
        products = product[row]
        for start in range(0, n, TERMS_A_LOGARITHM):
            stop = min(n, start + TERMS_A_LOGARITHM)
            part, part_bias, part_logits = products[start:stop], bias[start:stop], logits[start:stop]
            part_threshold, part_rest = threshold[start:stop], rest[start:stop]
            positive, factors = ZERO, ONE
            for j in range(stop - start):
                activation = load(part[j]) + part_bias[j]
                part_logits[j] = activation
                exponential = exp_neg(activation)
                positive += max(activation, ZERO)
                factors *= ONE + exponential
                inverse = ONE / (ONE + exponential)
                scaled = (inverse if activation >= ZERO else exponential * inverse) * SCALE
                leading = np.int32(scaled)
                part_threshold[j] = leading
                part_rest[j] = scaled - np.float32(leading)
            base += np.float64(positive) + math.log(np.float64(factors))
        for repeat in range(repeats):
            target = row * repeats + repeat
            out = sample[target]
            first_word = np.uint64(target) * n_words
            for i in range(len(words)):
                words[i] = random_word(seed, first_word + np.uint64(i))
            on, ties = ZERO, np.int32(0)
            for j in range(n):
                hit = np.int32(bits[j]) < threshold[j]
                on += logits[j] if hit else ZERO
                ties |= np.int32(np.int32(bits[j]) == threshold[j])
                out[j] = bit_like(out, hit)
            total = np.float64(on) - base
            if ties:
                total += _decide_ties(bits, threshold, rest, logits, out, further, np.uint64(target) * np.uint64(n))
            log_prob[target] += total


@_jit
def _share_draw(points, task, n_threads, product, bias, repeats, seed, sample, log_prob):
    block = threads.new_block()
    threads.put(block, 0, product)
    threads.put(block, 1, bias)
    threads.put(block, 2, sample)
    threads.put(block, 3, log_prob)
    block[-1], block[-2] = seed, repeats
    threads.share_out(points, task, block, n_threads)


@cache
def _draw_task(dtype):
    @nb.cfunc(threads.TASK, cache=True)
    def task(data):
        block = threads.block_at(data)
        product, bias = threads.matrix(block, 0, dtype), threads.vector(block, 1, np.float32)
        sample, log_prob = threads.matrix(block, 2, dtype), threads.vector(block, 3, np.float64)
        _, start, stop = threads.own_part(block, len(product))
        threads.call(_draw_rows, block, (product, bias, block[-2], block[-1], start, stop, sample, log_prob))

    return task.address


def score(product: np.ndarray, bias: np.ndarray, value: np.ndarray, log_prob: np.ndarray) -> None:
    """Add the log-probability of values: log_prob[r] += sum_j value_j a_j - log(1 + exp(a_j)), a = product[r] + bias.

    product [N, n]; value [V, n], probabilities or 0/1, where row r belongs to value row r // (N / V); log_prob [N]
    double, nats.
    """
    n_threads = threads.n_threads(product.size)
    if n_threads == 1:
        _score_rows(product, bias, value, 0, len(product), log_prob)
    else:
        points = threads.points_for(_score_rows, product, bias, value, 0, len(product), log_prob)
        _share_score(points, _score_task(product.dtype, value.dtype), n_threads, product, bias, value, log_prob)


@_jit
def _score_rows(product, bias, value, first_row, last_row, log_prob):
    n_rows, n = product.shape
    repeats = n_rows // max(1, value.shape[0])
    for row in range(first_row, last_row):
        total = 0.0
        products, values = product[row], value[row // repeats]
        for start in range(0, n, TERMS_A_LOGARITHM):
            stop = min(n, start + TERMS_A_LOGARITHM)
            part, part_bias, part_values = products[start:stop], bias[start:stop], values[start:stop]
            linear, factors = ZERO, ONE
            for j in range(stop - start):
                activation = load(part[j]) + part_bias[j]
                linear += load(part_values[j]) * activation - max(activation, ZERO)
                factors *= ONE + exp_neg(activation)
            total += np.float64(linear) - math.log(np.float64(factors))
        log_prob[row] += total


@_jit
def _share_score(points, task, n_threads, product, bias, value, log_prob):
    block = threads.new_block()
    threads.put(block, 0, product)
    threads.put(block, 1, bias)
    threads.put(block, 2, value)
    threads.put(block, 3, log_prob)
    threads.share_out(points, task, block, n_threads)


@cache
def _score_task(dtype, value_dtype):
    @nb.cfunc(threads.TASK, cache=True)
    def task(data):
        block = threads.block_at(data)
        product, bias = threads.matrix(block, 0, dtype), threads.vector(block, 1, np.float32)
        value, log_prob = threads.matrix(block, 2, value_dtype), threads.vector(block, 3, np.float64)
        _, start, stop = threads.own_part(block, len(product))
        threads.call(_score_rows, block, (product, bias, value, start, stop, log_prob))

    return task.address


def residual(
    product: np.ndarray,
    bias: np.ndarray,
    value: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    bias_gradient: np.ndarray,
) -> None:
    """Write weight[r] (value - sigmoid(a)), the gradient by the logits, and add its column sums to ``bias_gradient``.

    product [N, n], value [V, n] as for ``score``; weight [N]; out [N, n], which may be ``product`` itself;
    bias_gradient [n].
    """
    n_threads = threads.n_threads(product.size)
    if n_threads == 1:
        _residual_rows(product, bias, value, weight, 0, len(product), out, bias_gradient)
    else:
        _share_residual(_residual_rows, n_threads, product, bias, value, weight, out, bias_gradient)


@_jit
def _residual_rows(product, bias, value, weight, first_row, last_row, out, bias_gradient):
    n_rows, n = product.shape
    repeats = n_rows // max(1, value.shape[0])
    missed = _working_array(n, np.float32)
    for row in range(first_row, last_row):
        products, values, target, scale = product[row], value[row // repeats], out[row], weight[row]
        for j in range(n):
            missed[j] = scale * (load(values[j]) - sigmoid(load(products[j]) + bias[j]))
        for j in range(n):
            target[j] = round_like(out, missed[j])
        for j in range(n):
            bias_gradient[j] += missed[j]


def pooled_residual(
    product: np.ndarray,
    bias: np.ndarray,
    value: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    bias_gradient: np.ndarray,
) -> None:
    """``residual`` for values that share their row of logits: the sum over a row's values.

    product [R, n]; value [R * repeats, n]; weight [R * repeats]; out [R, n], which may be ``product`` itself;
    bias_gradient [n].
    """
    n_threads = threads.n_threads(value.size)
    if n_threads == 1:
        _pooled_residual_rows(product, bias, value, weight, 0, len(product), out, bias_gradient)
    else:
        _share_residual(_pooled_residual_rows, n_threads, product, bias, value, weight, out, bias_gradient)


@_jit
def _pooled_residual_rows(product, bias, value, weight, first_row, last_row, out, bias_gradient):
    n_rows, n = product.shape
    repeats = value.shape[0] // max(1, n_rows)
    missed = _working_array(n, np.float32)
    for row in range(first_row, last_row):
        missed[:] = ZERO
        total = ZERO
        for repeat in range(repeats):
            values, scale = value[row * repeats + repeat], weight[row * repeats + repeat]
            total += scale
            for j in range(n):
                missed[j] += scale * load(values[j])
        products, target = product[row], out[row]
        for j in range(n):
            missed[j] -= total * sigmoid(load(products[j]) + bias[j])
        for j in range(n):
            target[j] = round_like(out, missed[j])
        for j in range(n):
            bias_gradient[j] += missed[j]


def _share_residual(rows, n_threads, product, bias, value, weight, out, bias_gradient):
    """``residual`` or ``pooled_residual``, whichever ``rows`` is the kernel of, on several threads."""
    arrays = product, bias, value, weight
    points = threads.points_for(rows, *arrays, 0, len(product), out, bias_gradient)
    task = _residual_task(product.dtype, value.dtype)
    _share_any_residual(points, task, n_threads, *arrays, out, bias_gradient)


@_jit
def _share_any_residual(points, task, n_threads, product, bias, value, weight, out, bias_gradient):
    """Every thread has a bias gradient of its own."""
    n = len(bias_gradient)
    width = n + APART
    own_gradients = np.zeros((n_threads, width), np.float32)
    block = threads.new_block()
    threads.put(block, 0, product)
    threads.put(block, 1, bias)
    threads.put(block, 2, value)
    threads.put(block, 3, weight)
    threads.put(block, 4, out)
    threads.put(block, 5, own_gradients)
    threads.share_out(points, task, block, n_threads)
    for thread in range(n_threads):
        own = own_gradients[thread]
        for j in range(n):
            bias_gradient[j] += own[j]


@cache
def _residual_task(dtype, value_dtype):
    # of both kernels, whose types are alike; one in the closure would be another one in each process to the cache
    @nb.cfunc(threads.TASK, cache=True)
    def task(data):
        block = threads.block_at(data)
        product, bias = threads.matrix(block, 0, dtype), threads.vector(block, 1, np.float32)
        value, weight = threads.matrix(block, 2, value_dtype), threads.vector(block, 3, np.float32)
        out, own_gradients = threads.matrix(block, 4, dtype), threads.matrix(block, 5, np.float32)
        thread, start, stop = threads.own_part(block, len(product))
        own = own_gradients[thread][: len(bias)]
        threads.call(_residual_rows, block, (product, bias, value, weight, start, stop, out, own))

    return task.address


@_jit
def normalise(log_weights: np.ndarray, weights: np.ndarray, log_means: np.ndarray) -> None:
    """weights [B * K] float32: softmax of each row of log_weights [B, K] double; log_means [B]: log of mean exp."""
    n_rows, n = log_weights.shape
    for row in range(n_rows):
        values = log_weights[row]
        largest = values.max()
        total = 0.0
        for k in range(n):
            total += math.exp(values[k] - largest)
        log_total = math.log(total) + largest
        for k in range(n):
            weights[row * n + k] = np.float32(math.exp(values[k] - log_total))
        log_means[row] = log_total - math.log(n)
