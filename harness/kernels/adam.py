"""Adam with an L1 penalty on flat float32 arrays, in one pass over memory.

An update of a wide but shallow network spends a quarter of its time reading and writing parameters, gradients and
moments: the penalty, the step, clearing the gradient and rounding the new weights are one pass here. It writes as
little as it can: gradients that are zero already, as those of weights are whose products are in bfloat16, stay as they
are, and products are for whoever makes the next ones to overwrite.
"""

import numba as nb
import numpy as np

from harness.kernels import threads
from harness.kernels.bernoulli import _working_array
from harness.kernels.bfloat16 import load, round_like
from harness.kernels.fastmath import FAST

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


BLOCK = 2048  # entries whose gradients stay in the nearest cache between two loops
NAN_BITS = np.uint16(0x7FC0)  # of a bfloat16, as PyTorch rounds it


@nb.njit(inline="always")
def _any(gradient):
    """Whether any entry is not zero."""
    bits, found = gradient.view(np.uint32), np.uint32(0)
    for j in range(len(bits)):
        found |= bits[j]
    return found != 0


@nb.njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def _step_part(start, stop, values, gradients, products, first, second, rounded, n_weights, scalars):
    """Entries start .. stop - 1; scalars: l1, rate, beta1, beta2, scale2, epsilon."""
    beta1, beta2 = scalars[2], scalars[3]
    total = _working_array(BLOCK, np.float32)
    for part in range(2):
        begin, end = (start, min(stop, n_weights)) if part == 0 else (max(start, n_weights), stop)
        strength = scalars[0] if part == 0 else _ZERO
        rate, scale2, epsilon = scalars[1], scalars[4], scalars[5]
        for low in range(begin, end, BLOCK):
            high = min(low + BLOCK, end)
            value, mean, square = values[low:high], first[low:high], second[low:high]
            # products and rounded weights: none of biases; loops from 0 up become vectors, those from ``low`` do not
            own, product, target = gradients[low:high], products[low:high], rounded[low:high]
            is_written = len(product) == 0 or _any(own)
            gradient = own if is_written else total[: high - low]
            if is_written:
                for j in range(len(product)):
                    gradient[j] += load(product[j])
            else:
                for j in range(len(product)):
                    gradient[j] = load(product[j])
            for j in range(high - low):
                v = value[j]
                penalty = strength if v > _ZERO else -strength
                g = gradient[j] + (penalty if v != _ZERO else _ZERO)
                m = beta1 * mean[j] + (_ONE - beta1) * g
                s = beta2 * square[j] + (_ONE - beta2) * g * g
                mean[j] = m
                square[j] = s
                value[j] = v - rate * m / (np.sqrt(s) * scale2 + epsilon)
            if is_written:
                for j in range(high - low):
                    gradient[j] = _ZERO
            for j in range(len(target)):
                target[j] = round_like(target, value[j]) if value[j] == value[j] else NAN_BITS


@nb.cfunc(threads.TASK, cache=True)
def _task(data):
    block = threads.block_at(data)
    values, gradients = threads.vector(block, 0, np.float32), threads.vector(block, 1, np.float32)
    products = threads.vector(block, 2, np.uint16)
    first, second = threads.vector(block, 3, np.float32), threads.vector(block, 4, np.float32)
    _, start, stop = threads.own_part(block, len(values))
    rounded, scalars = threads.vector(block, 5, np.uint16), threads.vector(block, 6, np.float32)
    arguments = start, stop, values, gradients, products, first, second, rounded, block[-1], scalars
    threads.call(_step_part, block, arguments)


@nb.njit(nogil=True, cache=True)
def _share_step(points, task, n_threads, values, gradients, products, first, second, rounded, n_weights, scalars):
    block = threads.new_block()
    threads.put(block, 0, values)
    threads.put(block, 1, gradients)
    threads.put(block, 2, products)
    threads.put(block, 3, first)
    threads.put(block, 4, second)
    threads.put(block, 5, rounded)
    threads.put(block, 6, scalars)
    block[-1] = n_weights
    threads.share_out(points, task, block, n_threads)


def step(
    values: np.ndarray,
    gradients: np.ndarray,
    products: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    rounded: np.ndarray,
    n_weights: int,
    l1: float,
    rate: float,
    beta1: float,
    beta2: float,
    scale2: float,
    epsilon: float,
) -> None:
    """One update in place along ``gradients`` + ``products``; gradients are zero afterwards.

    All arrays [n] float32, but for products and rounded: bfloat16 as uint16, [n_weights], or [0] where there are none.
    The new weights are written to ``rounded``, too. l1 sign(w) is added to the gradient of the first ``n_weights``
    entries. rate is the learning rate over 1 - beta1^t, scale2 is 1 / sqrt(1 - beta2^t), epsilon is added to the
    corrected root of the second moment (Kingma and Ba, 2015).
    """
    scalars = np.array([l1, rate, beta1, beta2, scale2, epsilon], np.float32)
    n_threads = threads.n_threads(len(values))
    arrays = values, gradients, products, first, second, rounded, n_weights, scalars
    if n_threads == 1:
        _step_part(0, len(values), *arrays)
    else:
        _share_step(threads.points_for(_step_part, 0, 0, *arrays), _task.address, n_threads, *arrays)
