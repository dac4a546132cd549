"""Adam with an L1 penalty on flat float32 arrays, in one pass over memory.

An update of a wide but shallow network spends a tenth of its time reading and writing parameters, gradients and moments
again and again: the penalty, the step and clearing the gradient are one loop here.
"""

import numba as nb
import numpy as np

from harness.kernels.bfloat16 import load
from harness.kernels.fastmath import FAST

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@nb.njit(fastmath=FAST, nogil=True, error_model="numpy", cache=True)
def step(values, gradients, products, first, second, n_weights, l1, rate, beta1, beta2, scale2, epsilon):
    """One update in place along ``gradients`` + ``products``, which are zero afterwards.

    All arrays [n] float32, but for products: bfloat16 as uint16, [n_weights], or [0] where there are none. l1 sign(w)
    is added to the gradient of the first ``n_weights`` entries. All scalars float32: rate is the learning rate over
    1 - beta1^t, scale2 is 1 / sqrt(1 - beta2^t), epsilon is added to the corrected root of the second moment (Kingma
    and Ba, 2015).
    """
    n_products = len(products)
    product = products[:n_products]
    for j in range(n_products):
        gradients[j] += load(product[j])
        product[j] = 0
    for part in range(2):
        start, stop = (0, n_weights) if part == 0 else (n_weights, len(values))
        strength = l1 if part == 0 else _ZERO
        value, gradient, mean, square = values[start:stop], gradients[start:stop], first[start:stop], second[start:stop]
        for j in range(stop - start):
            v = value[j]
            penalty = strength if v > _ZERO else -strength
            g = gradient[j] + (penalty if v != _ZERO else _ZERO)
            m = beta1 * mean[j] + (_ONE - beta1) * g
            s = beta2 * square[j] + (_ONE - beta2) * g * g
            mean[j] = m
            square[j] = s
            value[j] = v - rate * m / (np.sqrt(s) * scale2 + epsilon)
            gradient[j] = _ZERO
