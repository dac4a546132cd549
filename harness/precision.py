"""Which library multiplies float32 matrices on the CPU, decided by what it returns.

PyTorch takes MKL for float32 products unless its precision is set to ``medium``, which hands them to oneDNN: on some
processors twice as fast. But ``medium`` also permits oneDNN to round operands to bfloat16 where the processor has
instructions for that, which estimates of likelihoods cannot afford. So it is kept only where a product comes out as
exact as float32 allows.
"""

from __future__ import annotations

import torch

# operands rounded to bfloat16 lose 2^-9 each, float32 2^-24: anything between tells them apart
TOLERANCE = 1e-5


def choose_float32_products() -> str:
    """Set and return the float32 matmul precision: ``medium`` where it is exact here, else ``highest``."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.set_float32_matmul_precision("medium")
    found = (left.float() @ right.float()).double()
    expected = left.float().double() @ right.float().double()
    error = (found - expected).norm() / expected.norm()
    if error > TOLERANCE:
        torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()
