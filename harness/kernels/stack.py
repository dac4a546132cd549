"""The small upper layers of a sigmoid belief stack in one pass: draws, log-probabilities, and gradients of all of them.

A product of ten by twenty units takes a library longer to begin than to make, and every layer costs several calls. Here
sixteen rows at a time go through all layers while they are in the nearest cache, and a second pass adds up the
gradients of all weights. Products are float32, by the parameters themselves.

A block of 16 rows keeps what gradients need in a record, a row of ``work``: a vector of 16 for each unit, layers one
after the other, first the units, then for every conditional what was missed, v - sigmoid(a). A ``plan`` says where. It
is int64 [L + 1, FIELDS], a row for each layer of units h_0 .. h_L, where h_0 is what the stack is given:

====================  ==============================================================================================
SIZE, UNITS           number of units, and the place of their vectors in a record, counted in vectors
Q_MISSED, P_MISSED    places of what q(h_{l+1} | h_l) and p(h_l | h_{l+1}) missed; of row L the latter is p(h_L)
SEED                  of the draws of h_{l+1}
Q_WEIGHT ... P_BIAS   addresses of the parameters of these; there are no weights of p(h_L)
the others            addresses of their gradients
====================  ==============================================================================================

Draws take the bits that ``harness.kernels.bernoulli.draw`` takes for a layer and a seed, and logarithms are taken of
products over several layers. Results do not depend on the number of threads: rows of log-probabilities belong to one
thread, and so do rows of a weight.
"""

from __future__ import annotations

import math
from functools import cache

import numba as nb
import numpy as np

from harness.kernels import threads
from harness.kernels.bernoulli import random_word
from harness.kernels.bfloat16 import load as load_number
from harness.kernels.vectors import (
    BYTES,
    LANES,
    ROWS,
    SIDE,
    any_equal,
    bits_of_words,
    broadcast,
    exp_neg,
    floor,
    load,
    multiply,
    outer,
    random_words,
    splat,
    store,
    sum_of,
    where_less,
)

SIZE, UNITS, Q_MISSED, P_MISSED, SEED = range(5)
Q_WEIGHT, Q_BIAS, P_WEIGHT, P_BIAS = range(5, 9)
Q_WEIGHT_GRADIENT, Q_BIAS_GRADIENT, P_WEIGHT_GRADIENT, P_BIAS_GRADIENT = range(9, 13)
FIELDS = 13

ZERO, ONE = np.float32(0.0), np.float32(1.0)
SCALE, LOW_BITS = np.float32(65536.0), np.float32(2.0**-24)
# factors 1 + exp(-|a|) <= 2 multiplied in float32, and products of those in double, before a logarithm is taken
TERMS_A_PRODUCT, TERMS_A_LOGARITHM = 112, 896

_jit = nb.njit(nogil=True, error_model="numpy", cache=True)


def places(sizes: list[int]) -> tuple[np.ndarray, int]:
    """A plan [L + 1, FIELDS] for these layers without seeds and addresses, and the number of vectors in a record."""
    plan = np.zeros((len(sizes), FIELDS), np.int64)
    plan[:, SIZE] = sizes
    end = 0
    for field, first in ((UNITS, 0), (P_MISSED, 0), (Q_MISSED, 1)):
        for row in range(len(sizes) - first):
            plan[row, field] = end
            end += sizes[row + first]
    # an odd number, so that the same place in many records is not always in the same set of the cache
    return plan, end | 1


def infer(
    plan: np.ndarray, below: np.ndarray, work: np.ndarray, log_p: np.ndarray, log_q: np.ndarray, with_prior: bool
) -> None:
    """Draw h_1 .. h_L for h_0 = below [N, n_0], 0/1; add log p(h_0 .. h_L) and log q(h_1 .. h_L | h_0) to [N] double.

    work [ceil(N / 16), W] float32 gets the records of ``places``, W of LANES numbers a vector. with_prior: whether
    log p(h_L) counts.
    """
    n_threads = threads.n_threads(work.size)
    if n_threads == 1:
        _infer_blocks(plan, below, 0, len(work), work, log_p, log_q, with_prior)
    else:
        points = threads.points_for(_infer_blocks, plan, below, 0, len(work), work, log_p, log_q, with_prior)
        _share_infer(points, _infer_task(below.dtype), n_threads, plan, below, work, log_p, log_q, with_prior)


@nb.njit(inline="always")
def _address(array):
    return np.int64(array.ctypes.data)


@_jit
def _decide_ties(bits, scaled, units, seed, first_row, n, unit):
    """Draw where the leading bits are those of the probability; bits, scaled and units: addresses of 16 numbers."""
    bits, scaled, units = _lanes(bits), _lanes(scaled), _lanes(units)
    for lane in range(LANES):
        leading = np.floor(scaled[lane])
        if bits[lane] == leading:
            word = random_word(seed, np.uint64(first_row + lane) * np.uint64(n) + np.uint64(unit))
            if np.float32(word >> np.uint64(40)) * LOW_BITS < scaled[lane] - leading:
                units[lane] = ONE


@nb.njit(inline="always")
def _lanes(address):
    return nb.carray(threads.pointer(address), LANES, np.float32)


@_jit
def _carry(linear, factors, sums, products, room):
    """Add 16 sums to ``sums`` and multiply ``products`` by 16 factors, both double; room: for two vectors."""
    store(room, linear)
    store(room + BYTES, factors)
    numbers = nb.carray(threads.pointer(room), 2 * LANES, np.float32)
    for lane in range(LANES):
        sums[lane] += np.float64(numbers[lane])
        products[lane] *= np.float64(numbers[LANES + lane])


@_jit
def _take_logarithms(sums, products):
    for lane in range(LANES):
        sums[lane] -= math.log(products[lane])
        products[lane] = 1.0


@_jit
def _draw(weight, bias, n_out, n_in, below, seed, first_row, units, missed, room, sums, products):
    """Draw 16 rows of a layer of n_out units given 16 rows of the n_in units below, and add their log-probability.

    weight .. missed but for the numbers are addresses; room has ROWS + 6 vectors.
    """
    bits_place, scaled_place, words = room + ROWS * BYTES, room + (ROWS + 1) * BYTES, room + (ROWS + 2) * BYTES
    n_words = np.uint64((n_out + 3) // 4)
    seed = np.uint64(seed)
    further = random_word(seed, np.uint64(2**63))
    zero, one = splat(ZERO), splat(ONE)
    linear, factors, terms = zero, one, 0
    for first in range(0, n_out, ROWS):
        multiply(weight, first, n_out, n_in, below, room)
        for unit in range(first, min(first + ROWS, n_out)):
            if unit % 4 == 0:
                random_words(words, seed, np.uint64(first_row) * n_words + np.uint64(unit // 4), n_words)
            activation = load(room + (unit - first) * BYTES) + broadcast(bias + 4 * unit)
            exponential = exp_neg(activation)
            factor = one + exponential
            inverse = one / factor
            probability = where_less(activation, zero, exponential * inverse, inverse)
            scaled = probability * splat(SCALE)
            leading = floor(scaled)
            bits = bits_of_words(words, unit % 4)
            value = where_less(bits, leading, one, zero)
            store(units + unit * BYTES, value)
            if any_equal(bits, leading):
                store(bits_place, bits)
                store(scaled_place, scaled)
                _decide_ties(bits_place, scaled_place, units + unit * BYTES, further, first_row, n_out, unit)
                value = load(units + unit * BYTES)
            store(missed + unit * BYTES, value - probability)
            linear = linear + value * activation - where_less(activation, zero, zero, activation)
            factors = factors * factor
            terms += 1
            if terms == TERMS_A_PRODUCT:
                _carry(linear, factors, sums, products, bits_place)
                linear, factors, terms = zero, one, 0
    _carry(linear, factors, sums, products, bits_place)


@_jit
def _score(weight, bias, n_out, n_in, above, units, missed, room, sums, products):
    """Add the log-probability of 16 rows of n_out units given 16 rows of the n_in units above; as ``_draw``.

    n_in may be 0.
    """
    zero, one = splat(ZERO), splat(ONE)
    linear, factors, terms = zero, one, 0
    for first in range(0, n_out, ROWS):
        multiply(weight, first, n_out, n_in, above, room)
        for unit in range(first, min(first + ROWS, n_out)):
            activation = load(room + (unit - first) * BYTES) + broadcast(bias + 4 * unit)
            value = load(units + unit * BYTES)
            exponential = exp_neg(activation)
            factor = one + exponential
            inverse = one / factor
            store(missed + unit * BYTES, value - where_less(activation, zero, exponential * inverse, inverse))
            linear = linear + value * activation - where_less(activation, zero, zero, activation)
            factors = factors * factor
            terms += 1
            if terms == TERMS_A_PRODUCT:
                _carry(linear, factors, sums, products, room + ROWS * BYTES)
                linear, factors, terms = zero, one, 0
    _carry(linear, factors, sums, products, room + ROWS * BYTES)


@_jit
def _infer_blocks(plan, below, first_block, last_block, work, log_p, log_q, with_prior):
    n_rows, n_layers = len(below), len(plan) - 1
    memory = np.empty((ROWS + 6) * LANES, np.float32)
    room = _address(memory)
    p_sums, p_products = np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    q_sums, q_products = np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    for block in range(first_block, last_block):
        first_row, here = block * LANES, min(LANES, n_rows - block * LANES)
        numbers = work[block]
        record = _address(numbers)
        n_given = plan[0, SIZE]
        for row in range(LANES):
            if row < here:
                given = below[first_row + row]
                for unit in range(n_given):
                    numbers[unit * LANES + row] = load_number(given[unit])
            else:
                for unit in range(n_given):
                    numbers[unit * LANES + row] = ZERO
        p_sums[:], q_sums[:] = 0.0, 0.0
        p_products[:], q_products[:] = 1.0, 1.0
        p_terms, q_terms = 0, 0
        for level in range(n_layers):
            layer, above = plan[level], plan[level + 1]
            n_lower, n_upper = layer[SIZE], above[SIZE]
            lower, upper = record + layer[UNITS] * BYTES, record + above[UNITS] * BYTES
            missed, seed = record + layer[Q_MISSED] * BYTES, layer[SEED]
            weight, bias = layer[Q_WEIGHT], layer[Q_BIAS]
            _draw(weight, bias, n_upper, n_lower, lower, seed, first_row, upper, missed, room, q_sums, q_products)
            q_terms += n_upper
            if level + 1 == n_layers or q_terms + plan[level + 2, SIZE] > TERMS_A_LOGARITHM:
                _take_logarithms(q_sums, q_products)
                q_terms = 0
        for level in range(n_layers + 1 if with_prior else n_layers):
            layer = plan[level]
            n_lower, n_upper = layer[SIZE], 0
            lower, upper = record + layer[UNITS] * BYTES, record
            if level < n_layers:
                n_upper, upper = plan[level + 1, SIZE], record + plan[level + 1, UNITS] * BYTES
            missed = record + layer[P_MISSED] * BYTES
            if p_terms + n_lower > TERMS_A_LOGARITHM:
                _take_logarithms(p_sums, p_products)
                p_terms = 0
            _score(layer[P_WEIGHT], layer[P_BIAS], n_lower, n_upper, upper, lower, missed, room, p_sums, p_products)
            p_terms += n_lower
        _take_logarithms(p_sums, p_products)
        for row in range(here):
            log_p[first_row + row] += p_sums[row]
            log_q[first_row + row] += q_sums[row]


@_jit
def _share_infer(points, task, n_threads, plan, below, work, log_p, log_q, with_prior):
    block = threads.new_block()
    threads.put(block, 0, plan)
    threads.put(block, 1, below)
    threads.put(block, 2, work)
    threads.put(block, 3, log_p)
    threads.put(block, 4, log_q)
    block[-1] = with_prior
    threads.share_out(points, task, block, n_threads)


@cache
def _infer_task(dtype):
    @nb.cfunc(threads.TASK, cache=True)
    def task(data):
        block = threads.block_at(data)
        plan, below = threads.matrix(block, 0, np.int64), threads.matrix(block, 1, dtype)
        work = threads.matrix(block, 2, np.float32)
        log_p, log_q = threads.vector(block, 3, np.float64), threads.vector(block, 4, np.float64)
        _, start, stop = threads.own_part(block, len(work))
        threads.call(_infer_blocks, block, (plan, below, start, stop, work, log_p, log_q, block[-1] != 0))

    return task.address


def add_gradients(plan: np.ndarray, work: np.ndarray, weights: np.ndarray, first: int, last: int, of_p: bool) -> None:
    """Add sum_n weights[n] d log p(h_l | h_{l+1}), or d log q(h_{l+1} | h_l), for l = first .. last - 1.

    weights [N] float32. p(h_L) is that of l = L. work is as ``infer`` left it; what these conditionals missed is
    overwritten.
    """
    n_threads = threads.n_threads(work.size)
    cost = _cost(plan, first, last, of_p)
    if n_threads == 1:
        _add_part(plan, work, weights, first, last, of_p, 0, cost)
    else:
        points = threads.points_for(_add_part, plan, work, weights, first, last, of_p, 0, cost)
        _share_gradients(points, _gradients_task.address, n_threads, plan, work, weights, first, last, of_p)


@nb.njit(inline="always")
def _sizes(plan, level, of_p):
    """(units, units given) of p(h_l | h_{l+1}), or of q(h_{l+1} | h_l)."""
    upper = plan[level + 1, SIZE] if level + 1 < len(plan) else 0
    return (plan[level, SIZE], upper) if of_p else (upper, plan[level, SIZE])


@_jit
def _cost(plan, first, last, of_p):
    """Products of all groups of SIDE rows of the weights, and what comes with them: the work to share out."""
    total = 0
    for level in range(first, last):
        n_out, n_in = _sizes(plan, level, of_p)
        total += (n_out + SIDE - 1) // SIDE * (n_in + SIDE)
    return total


@_jit
def _add_part(plan, work, weights, first_level, last_level, of_p, start, stop):
    """The rows of weights at which the count of ``_cost`` is from start to before stop."""
    n_blocks, stride = work.shape[0], work.shape[1] * 4
    memory = np.empty(SIDE * SIDE, np.float32)
    found, record, factors = _address(memory), _address(work), _address(weights)
    last_factors = np.zeros(LANES, np.float32)  # no row has those behind the last one
    n_whole = len(weights) // LANES
    for row in range(n_whole * LANES, len(weights)):
        last_factors[row - n_whole * LANES] = weights[row]
    behind_whole = _address(last_factors)
    count = 0
    for level in range(first_level, last_level):
        layer = plan[level]
        n_out, n_in = _sizes(plan, level, of_p)
        missed = record + (layer[P_MISSED] if of_p else layer[Q_MISSED]) * BYTES
        seen = record
        if of_p and n_in > 0:
            seen += plan[level + 1, UNITS] * BYTES
        elif not of_p:
            seen += layer[UNITS] * BYTES
        weight_gradient = nb.carray(
            threads.pointer(layer[P_WEIGHT_GRADIENT] if of_p else layer[Q_WEIGHT_GRADIENT]), (n_out, n_in), np.float32
        )
        bias_gradient = nb.carray(
            threads.pointer(layer[P_BIAS_GRADIENT] if of_p else layer[Q_BIAS_GRADIENT]), n_out, np.float32
        )
        for row in range(0, n_out, SIDE):
            mine = start <= count < stop
            count += n_in + SIDE
            if not mine:
                continue
            behind = min(row + SIDE, n_out)
            for unit in range(row, behind):
                total = splat(ZERO)
                for block in range(n_blocks):
                    place = missed + unit * BYTES + block * stride
                    value = load(place) * load(factors + block * BYTES if block < n_whole else behind_whole)
                    store(place, value)
                    total = total + value
                bias_gradient[unit] += sum_of(total)
            for column in range(0, n_in, SIDE):
                outer(missed, row, n_out, seen, column, n_in, stride, n_blocks, found)
                for unit in range(row, behind):
                    for given in range(column, min(column + SIDE, n_in)):
                        weight_gradient[unit, given] += memory[(unit - row) * SIDE + given - column]


@_jit
def _share_gradients(points, task, n_threads, plan, work, weights, first, last, of_p):
    block = threads.new_block()
    threads.put(block, 0, plan)
    threads.put(block, 1, work)
    threads.put(block, 2, weights)
    block[-1], block[-2] = 2 * last + of_p, first
    threads.share_out(points, task, block, n_threads)


@nb.cfunc(threads.TASK, cache=True)
def _gradients_task(data):
    block = threads.block_at(data)
    plan, work, weights = (
        threads.matrix(block, 0, np.int64),
        threads.matrix(block, 1, np.float32),
        threads.vector(block, 2, np.float32),
    )
    first, last, of_p = block[-2], block[-1] // 2, block[-1] % 2 == 1
    _, start, stop = threads.own_part(block, _cost(plan, first, last, of_p))
    threads.call(_add_part, block, (plan, work, weights, first, last, of_p, start, stop))
