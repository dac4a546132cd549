"""Logits of an order-agnostic NADE with one hidden layer under one ordering, float32 on the CPU.

Telling the network which columns it has seen changes the hidden layer at every column, whether a one or a zero was
seen. Hence a pass over all columns, which at each reads a row's activations, multiplies and advances them in one loop.
``ROWS`` rows share what is loaded of the weights; their activations stay in the nearest cache.
"""

import numba as nb
import numpy as np

from harness.kernels.fastmath import FAST

ROWS = 8

_ZERO = np.float32(0.0)


@nb.njit(fastmath=FAST, nogil=True, error_model="numpy", inline="always")
def _visit(activation, r, x, seen, inputs, outputs, d):
    """Row r's rectified units times row d of ``outputs``; then column d counts as seen, with value x."""
    total = _ZERO
    for j in range(activation.shape[1]):
        a = activation[r, j]
        total += (a if a > _ZERO else _ZERO) * outputs[d, j]
        activation[r, j] = a + (seen[d, j] + x * inputs[d, j])
    return total


@nb.njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def logits(x, inputs, seen, outputs, hidden_bias, result):
    """Logits, without the bias, of every column given those before it.

    x, result [B, D]; inputs, seen, outputs [D, H], columns in the ordering; hidden_bias [H]. All contiguous float32.
    """
    activation = np.empty((ROWS, len(hidden_bias)), np.float32)
    for start in range(0, len(x), ROWS):
        stop = min(start + ROWS, len(x))
        for r in range(stop - start):
            for j in range(len(hidden_bias)):
                activation[r, j] = hidden_bias[j]
        for d in range(x.shape[1]):
            for r in range(stop - start):
                result[start + r, d] = _visit(activation, r, x[start + r, d], seen, inputs, outputs, d)
