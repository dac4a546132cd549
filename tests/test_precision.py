"""The choice of the library for float32 products never costs accuracy."""

import torch

from harness.compute import precision


def test_products_are_as_exact_as_float32_allows():
    assert precision.choose_float32_products() in ("medium", "highest")
    left = torch.randn(300, 784, generator=torch.Generator().manual_seed(1))
    right = torch.randn(784, 200, generator=torch.Generator().manual_seed(2))
    expected = left.double() @ right.double()
    # rounding of 784 products: sqrt(784) * 2^-24 = 1.7e-6 of a typical entry, which is sqrt(784)
    assert ((left @ right).double() - expected).abs().max() < 1e-4
    assert ((left @ right).double() - expected).norm() / expected.norm() < precision.TOLERANCE


def test_rounded_products_are_rejected(monkeypatch):
    """A processor whose fast products round operands to bfloat16 keeps the exact ones."""
    exact = torch.Tensor.__matmul__

    def rounding(left, right):
        fast = left.dtype == torch.float32 and torch.get_float32_matmul_precision() == "medium"
        return exact(left.bfloat16().float(), right.bfloat16().float()) if fast else exact(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert precision.choose_float32_products() == "highest"


def test_a_gpu_multiplies_float32_as_it_is():
    """Whatever the processor beside it does: there, ``medium`` permits TensorFloat-32."""
    with precision.products_set_to("medium"), precision.float32_products(torch.device("cuda")) as setting:
        assert setting == torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cuda.matmul.allow_tf32
