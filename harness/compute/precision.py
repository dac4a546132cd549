"""The precision of matrix products, by device, decided by what the machine can do.

Evaluation and float32 training: on a GPU, PyTorch's exact products. On a CPU, PyTorch takes MKL for float32 products
unless its precision is set to ``medium``, which hands them to oneDNN: on some processors twice as fast. But ``medium``
also permits oneDNN to round operands to bfloat16 where the processor has instructions for that, which estimates of
likelihoods cannot afford. So it is kept only where a product comes out as exact as float32 allows.

Training a method that has ``multiply_in`` may multiply in bfloat16, twice as fast again where hardware does it:
one factor of nearly every product is 0/1 and stays exact, and what rounding does to the other is far below the noise
of sampling. On a CPU that is measured (``harness.compute.product_speed``), unless the settings name a precision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache

import torch

from harness.compute.product_speed import bfloat16_pays
from harness.errors import ConfigError
from harness.method import Method, MixedPrecision

# operands rounded to bfloat16 lose 2^-9 each, float32 2^-24: anything between tells them apart
TOLERANCE = 1e-5
CPU = torch.device("cpu")
PRECISIONS = ("auto", "float32", "bfloat16")


def choose_float32_products(device: torch.device = CPU) -> str:
    """Set and return the float32 matmul precision: ``medium`` where it is exact on the device, else ``highest``.

    On a GPU it would permit TensorFloat-32, whose operands have ten bits.
    """
    if device.type != "cpu":
        torch.set_float32_matmul_precision("highest")
        return "highest"
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.set_float32_matmul_precision("medium")
    found = (left.float() @ right.float()).double()
    expected = left.float().double() @ right.float().double()
    error = (found - expected).norm() / expected.norm()
    if error > TOLERANCE:
        torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()


@contextlib.contextmanager
def float32_products(device: torch.device = CPU) -> Iterator[str]:
    """``choose_float32_products`` until the block ends; then PyTorch's setting is again what it was."""
    with products_set_to(torch.get_float32_matmul_precision()):
        yield choose_float32_products(device)


@contextlib.contextmanager
def products_set_to(setting: str) -> Iterator[None]:
    """PyTorch's float32 matmul precision, as it is named there, until the block ends."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def product_dtype(model: Method, precision: str, device: torch.device) -> torch.dtype | None:
    """Data type of the products that training ``model`` makes, where it is not that of the parameters; else None.

    ``auto`` is bfloat16 for methods of ``MixedPrecision`` where the device is faster at it.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"training.precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    learning = next((parameter for parameter in model.parameters() if parameter.requires_grad), None)
    if not isinstance(model, MixedPrecision) or learning is None or learning.dtype != torch.float32:
        return None
    if precision == "float32" or (precision == "auto" and not multiplies_bfloat16(device)):
        return None
    return torch.bfloat16


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device is clearly faster at products in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    return _bfloat16_pays_here()


@cache
def _bfloat16_pays_here() -> bool:
    """``bfloat16_pays`` against the float32 products that training would make; the setting stays as it is."""
    with float32_products():
        return bfloat16_pays()
