"""Fused kernels for products of Bernoullis with given logits: draw, score, and what a gradient needs, one pass each.

Between two matrix products a layer needs exp, log and comparisons on every activation. Written with tensor operations
that is a dozen passes over memory and most of an update's time; here each activation is read once, stays in registers,
and only samples, sums and residuals are written. Logits arrive as ``product[row, j] + bias[j]``, so that no pass adds
a bias. Arrays are float32 or bfloat16, the latter as its bits in uint16; sums over a row are carried in double.

Sampling is exact to 2^-40 a draw: 16 random bits are compared with the leading 16 bits of the probability, and only
where they are equal (once in 65,536 draws) do 24 further bits decide. Bits come from Doty-Humphrey's generator SFC64,
seeded by the caller; a call's draws are a function of its seed and its inputs alone.

The loops are one thread's work and release the interpreter lock.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from harness.kernels.fastmath import FAST, exp_neg, sigmoid

ZERO, ONE = np.float32(0.0), np.float32(1.0)
# factors 1 + exp(-|a|) <= 2 multiplied before one logarithm is taken: 2^112 is still a float32
TERMS_A_LOGARITHM = 112
BFLOAT16_ONE = np.uint16(0x3F80)
SCALE = np.float32(65536.0)
LOW_BITS = np.float32(2.0**-24)

_jit = nb.njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)


@intrinsic
def _bits_to_float(context: Any, bits: Any) -> Any:
    """The float32 whose upper half are the bits of a bfloat16 (uint16)."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = builder.zext(arguments[0], ir.IntType(32))
        return builder.bitcast(builder.shl(wide, ir.Constant(ir.IntType(32), 16)), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _float_to_bits(context: Any, value: Any) -> Any:
    """Bits (uint16) of a float32 rounded to the nearest bfloat16, ties to even; value must be finite."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(word, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, ir.Constant(word, 16)), ir.IntType(16))

    return types.uint16(types.float32), generate


def _load(value):
    """An array's element as float32."""


@overload(_load, inline="always")
def _load_overload(value):
    if value == types.uint16:
        return lambda value: _bits_to_float(value)  # noqa: PLW0108 -- an overload returns a Python function
    return lambda value: value


def _round(array, value):
    """A float32 as an element of ``array``."""


@overload(_round, inline="always")
def _round_overload(array, value):
    if array.dtype == types.uint16:
        return lambda array, value: _float_to_bits(value)
    return lambda array, value: value


def _bit(array, value):
    """0 or 1 as an element of ``array``."""


@overload(_bit)
def _bit_overload(array, value):
    if array.dtype == types.uint16:
        return lambda array, value: BFLOAT16_ONE if value else np.uint16(0)
    return lambda array, value: ONE if value else ZERO


@nb.njit(inline="always")
def _next(a, b, c, d):
    """One step of SFC64: (64 random bits, new state)."""
    word = a + b + d
    return (
        word,
        b ^ (b >> np.uint64(11)),
        c + (c << np.uint64(3)),
        ((c << np.uint64(24)) | (c >> np.uint64(40))) + word,
        d + np.uint64(1),
    )


@_jit
def _decide_ties(bits, threshold, rest, logits, out, a, b, c, d):
    """Draw where the leading bits are equal; (sum of the logits of what came out as 1, state of the generator)."""
    on = 0.0
    for j in range(len(bits)):
        if np.int32(bits[j]) == threshold[j]:
            word, a, b, c, d = _next(a, b, c, d)
            if np.float32(word >> np.uint64(40)) * LOW_BITS < rest[j]:
                out[j] = _bit(out, True)
                on += np.float64(logits[j])
    return on, a, b, c, d


@_jit
def draw(
    product: np.ndarray, bias: np.ndarray, repeats: int, seed: int, sample: np.ndarray, log_prob: np.ndarray
) -> None:
    """Draw ``repeats`` samples for every row of logits and add their log-probability.

    product [R, n] and bias [n] give the logits; sample [R * repeats, n] is written, 0 or 1, a row's repeats next to
    each other; log_prob [R * repeats] double, nats, is added to. seed: any 64-bit integer.
    """
    n_rows, n = product.shape
    logits = np.empty(n, np.float32)
    threshold = np.empty(n, np.int32)
    rest = np.empty(n, np.float32)
    words = np.empty((n + 3) // 4, np.uint64)
    bits = words.view(np.uint16)[:n]
    a, b, c, d = np.uint64(seed), np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03), np.uint64(1)
    for _ in range(16):
        _, a, b, c, d = _next(a, b, c, d)
    for row in range(n_rows):
        base = 0.0  # sum_j log(1 + exp(a_j))
        products = product[row]
        for start in range(0, n, TERMS_A_LOGARITHM):
            stop = min(n, start + TERMS_A_LOGARITHM)
            part, part_bias, part_logits = products[start:stop], bias[start:stop], logits[start:stop]
            part_threshold, part_rest = threshold[start:stop], rest[start:stop]
            positive, factors = ZERO, ONE
            for j in range(stop - start):
                activation = _load(part[j]) + part_bias[j]
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
            for i in range(len(words)):
                words[i], a, b, c, d = _next(a, b, c, d)
            on = 0.0
            ties = 0
            for start in range(0, n, TERMS_A_LOGARITHM):
                stop = min(n, start + TERMS_A_LOGARITHM)
                part_bits, part_threshold, part_logits = bits[start:stop], threshold[start:stop], logits[start:stop]
                part_out = out[start:stop]
                part_on = ZERO
                for j in range(stop - start):
                    hit = np.int32(part_bits[j]) < part_threshold[j]
                    part_on += part_logits[j] if hit else ZERO
                    part_out[j] = _bit(out, hit)
                for j in range(stop - start):
                    ties += np.int32(part_bits[j]) == part_threshold[j]
                on += np.float64(part_on)
            if ties:
                more, a, b, c, d = _decide_ties(bits, threshold, rest, logits, out, a, b, c, d)
                on += more
            log_prob[target] += on - base


@_jit
def score(product: np.ndarray, bias: np.ndarray, value: np.ndarray, log_prob: np.ndarray) -> None:
    """Add the log-probability of values: log_prob[r] += sum_j value_j a_j - log(1 + exp(a_j)), a = product[r] + bias.

    product [N, n]; value [V, n], probabilities or 0/1, where row r belongs to value row r // (N / V); log_prob [N]
    double, nats.
    """
    n_rows, n = product.shape
    repeats = n_rows // max(1, value.shape[0])
    for row in range(n_rows):
        total = 0.0
        products, values = product[row], value[row // repeats]
        for start in range(0, n, TERMS_A_LOGARITHM):
            stop = min(n, start + TERMS_A_LOGARITHM)
            part, part_bias, part_values = products[start:stop], bias[start:stop], values[start:stop]
            linear, factors = ZERO, ONE
            for j in range(stop - start):
                activation = _load(part[j]) + part_bias[j]
                linear += _load(part_values[j]) * activation - max(activation, ZERO)
                factors *= ONE + exp_neg(activation)
            total += np.float64(linear) - math.log(np.float64(factors))
        log_prob[row] += total


@_jit
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
    n_rows, n = product.shape
    repeats = n_rows // max(1, value.shape[0])
    missed = np.empty(n, np.float32)
    for row in range(n_rows):
        products, values, target, scale = product[row], value[row // repeats], out[row], weight[row]
        for j in range(n):
            missed[j] = scale * (_load(values[j]) - sigmoid(_load(products[j]) + bias[j]))
        for j in range(n):
            target[j] = _round(out, missed[j])
        for j in range(n):
            bias_gradient[j] += missed[j]


@_jit
def pooled_residual(
    product: np.ndarray,
    bias: np.ndarray,
    value: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    bias_gradient: np.ndarray,
) -> None:
    """``residual`` for values that share their row of logits: the sum over a row's values.

    product [R, n]; value [R * repeats, n]; weight [R * repeats]; out [R, n]; bias_gradient [n].
    """
    n_rows, n = product.shape
    repeats = value.shape[0] // max(1, n_rows)
    missed = np.empty(n, np.float32)
    for row in range(n_rows):
        missed[:] = ZERO
        total = ZERO
        for repeat in range(repeats):
            values, scale = value[row * repeats + repeat], weight[row * repeats + repeat]
            total += scale
            for j in range(n):
                missed[j] += scale * _load(values[j])
        products, target = product[row], out[row]
        for j in range(n):
            missed[j] -= total * sigmoid(_load(products[j]) + bias[j])
        for j in range(n):
            target[j] = _round(out, missed[j])
        for j in range(n):
            bias_gradient[j] += missed[j]
