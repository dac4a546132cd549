"""Adam with an L1 penalty on flat float32 vectors in one pass over memory, as ``harness.kernels.adam`` on the CPU.

Rate, scale and strength are read from the device, where a captured update finds new ones each time.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit(do_not_specialize=["n", "n_weights", "n_products"])
def _step(
    values,
    gradients,
    products,
    first,
    second,
    scalars,
    n,
    n_weights,
    n_products,
    beta1,
    beta2,
    epsilon,
    BLOCK: tl.constexpr,
):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < n
    rate, scale, l1 = tl.load(scalars), tl.load(scalars + 1), tl.load(scalars + 2)
    v = tl.load(values + places, mask=inside, other=0.0)
    g = tl.load(gradients + places, mask=inside, other=0.0)
    g += tl.load(products + places, mask=places < n_products, other=0.0).to(tl.float32)
    sign = tl.where(v > 0.0, 1.0, tl.where(v < 0.0, -1.0, 0.0))
    g += tl.where(places < n_weights, sign * l1, 0.0)
    m = tl.load(first + places, mask=inside, other=0.0)
    s = tl.load(second + places, mask=inside, other=0.0)
    m += (1.0 - beta1) * (g - m)
    s = beta2 * s + (1.0 - beta2) * g * g
    tl.store(first + places, m, mask=inside)
    tl.store(second + places, s, mask=inside)
    tl.store(values + places, v - rate * m / (tl.sqrt(s) * scale + epsilon), mask=inside)
    tl.store(gradients + places, tl.zeros([BLOCK], tl.float32), mask=inside)


def step(
    values: Tensor,
    gradients: Tensor,
    products: Tensor,
    first: Tensor,
    second: Tensor,
    scalars: Tensor,
    n_weights: int,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    """One update in place along ``gradients`` + ``products``; gradients are zero afterwards.

    All [n], products [m] with m <= n. scalars: learning rate over 1 - beta1^t, 1 / sqrt(1 - beta2^t), and l1, of which
    l1 sign(w) is added to the gradient of the first ``n_weights`` entries (Kingma and Ba, 2015).
    """
    tensors = values, gradients, products if len(products) else gradients, first, second, scalars
    numbers = len(values), n_weights, len(products), beta1, beta2, epsilon
    _step[(triton.cdiv(len(values), BLOCK),)](*tensors, *numbers, BLOCK=BLOCK)
