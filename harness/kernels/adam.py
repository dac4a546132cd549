"""Adam with an L1 penalty on flat float32 arrays, in one pass over memory.

An update of a wide but shallow network spends a tenth of its time reading and writing parameters, gradients and moments
again and again: the penalty, the step and clearing the gradient are one loop here.
"""

import numba as nb
import numpy as np

from harness.kernels import threads
from harness.kernels.bfloat16 import load
from harness.kernels.fastmath import FAST

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


BLOCK = 2048  # entries whose gradients stay in the nearest cache between two loops


@nb.njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _step_part(start, stop, values, gradients, products, first, second, n_weights, scalars):
    """Entries start .. stop - 1; scalars: l1, rate, beta1, beta2, scale2, epsilon."""
    beta1, beta2 = scalars[2], scalars[3]
    for part in range(2):
        begin, end = (start, min(stop, n_weights)) if part == 0 else (max(start, n_weights), stop)
        strength = scalars[0] if part == 0 else _ZERO
        rate, scale2, epsilon = scalars[1], scalars[4], scalars[5]
        for low in range(begin, end, BLOCK):
            high = min(low + BLOCK, end)
            value, gradient, mean, square = values[low:high], gradients[low:high], first[low:high], second[low:high]
            product = products[low:high]  # none of biases; loops from 0 up become vectors, those from ``low`` do not
            for j in range(len(product)):
                gradient[j] += load(product[j])
            for j in range(len(product)):
                product[j] = 0
            for j in range(high - low):
                v = value[j]
                penalty = strength if v > _ZERO else -strength
                g = gradient[j] + (penalty if v != _ZERO else _ZERO)
                m = beta1 * mean[j] + (_ONE - beta1) * g
                s = beta2 * square[j] + (_ONE - beta2) * g * g
                mean[j] = m
                square[j] = s
                value[j] = v - rate * m / (np.sqrt(s) * scale2 + epsilon)
                gradient[j] = _ZERO


@nb.cfunc(threads.TASK, cache=True)
def _task(data):
    block = threads.block_at(data)
    values, gradients = threads.vector(block, 0, np.float32), threads.vector(block, 1, np.float32)
    products = threads.vector(block, 2, np.uint16)
    first, second = threads.vector(block, 3, np.float32), threads.vector(block, 4, np.float32)
    _, start, stop = threads.own_part(block, len(values))
    scalars = threads.vector(block, 5, np.float32)
    arguments = start, stop, values, gradients, products, first, second, block[-1], scalars
    threads.call(_step_part, block, arguments)


@nb.njit(nogil=True, cache=True)
def _share_step(points, task, n_threads, values, gradients, products, first, second, n_weights, scalars):
    block = threads.new_block()
    threads.put(block, 0, values)
    threads.put(block, 1, gradients)
    threads.put(block, 2, products)
    threads.put(block, 3, first)
    threads.put(block, 4, second)
    threads.put(block, 5, scalars)
    block[-1] = n_weights
    threads.share_out(points, task, block, n_threads)


def step(
    values: np.ndarray,
    gradients: np.ndarray,
    products: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    n_weights: int,
    l1: float,
    rate: float,
    beta1: float,
    beta2: float,
    scale2: float,
    epsilon: float,
) -> None:
    """One update in place along ``gradients`` + ``products``, which are zero afterwards.

    All arrays [n] float32, but for products: bfloat16 as uint16, [n_weights], or [0] where there are none. l1 sign(w)
    is added to the gradient of the first ``n_weights`` entries. rate is the learning rate over 1 - beta1^t, scale2 is
    1 / sqrt(1 - beta2^t), epsilon is added to the corrected root of the second moment (Kingma and Ba, 2015).
    """
    scalars = np.array([l1, rate, beta1, beta2, scale2, epsilon], np.float32)
    n_threads = threads.n_threads(len(values))
    arrays = values, gradients, products, first, second, n_weights, scalars
    if n_threads == 1:
        _step_part(0, len(values), *arrays)
    else:
        _share_step(threads.points_for(_step_part, 0, 0, *arrays), _task.address, n_threads, *arrays)
