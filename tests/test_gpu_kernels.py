"""Triton's kernels against the tensor operations that say the same in double.

On a GPU where there is one; else Triton's interpreter runs them on the CPU. Triton (0.2 GB) is not among the packages
for tests: `.ci/run` installs it for these alone.
"""

import os

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are made
pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds, and is not installed")

from harness.blocks import bernoulli as reference  # noqa: E402
from harness.gpu_kernels import adam, bernoulli  # noqa: E402
from harness.method import Batch  # noqa: E402
from harness.plugins.registry import build  # noqa: E402
from harness.training.step import UpdateStep  # noqa: E402

# what Triton's interpreter does, NumPy 2.4 refuses
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")
DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [(12, 300), (70, 17), (6, 33), (3, 1), (33, 128)]  # one block, several, and parts of blocks
REPEATS = 3
# Logits are normal times 4: a float32 term of size |a| < 20 is exact to 1e-6, exp and log among its operations
TERM_ERROR = 2e-6
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2.0**-8 if DEVICE.type == "cuda" else 2.0**-7}  # interpreted: cut off


def generator(seed):
    return torch.Generator(DEVICE).manual_seed(seed)


def inputs(n_rows, n, dtype):
    """product [N, n], bias, one value for REPEATS rows each, weight [N]."""
    draws = generator(0)
    product = (4.0 * torch.randn(n_rows * REPEATS, n, generator=draws, device=DEVICE)).to(dtype)
    bias = torch.randn(n, generator=draws, device=DEVICE)
    value = (torch.rand(n_rows, n, generator=draws, device=DEVICE) < 0.5).to(dtype)
    return product, bias, value, torch.rand(n_rows * REPEATS, generator=draws, device=DEVICE)


def double(*tensors):
    return [tensor.double() for tensor in tensors]


def ones(n, dtype=torch.float64):
    return torch.ones(n, dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestBernoulli:
    def test_score(self, shape, dtype):
        product, bias, value, weight = inputs(*shape, dtype)
        found, expected = ones(len(weight)), ones(len(weight))
        bernoulli.score(product, bias, value, found)
        reference.score(*double(product, bias, value), expected)
        assert (found - expected).abs().max() < TERM_ERROR * shape[1]

    def test_draw(self, shape, dtype):
        product, bias, _, weight = inputs(*shape, dtype)
        n_rows, n = len(weight) * REPEATS, shape[1]
        sample, found, expected = product.new_full((n_rows, n), 7.0), ones(n_rows), ones(n_rows)
        bernoulli.draw(product, bias, REPEATS, generator(1), sample, found)
        uniform = torch.rand(n_rows, n, generator=generator(1), device=DEVICE).double()
        distance = uniform - torch.sigmoid(product.double() + bias.double()).repeat_interleave(REPEATS, dim=0)
        assert torch.where(distance.abs() > 1e-6, sample == (distance < 0), (sample == 0) | (sample == 1)).all()
        reference.score(*double(product.repeat_interleave(REPEATS, dim=0), bias, sample), expected)
        assert (found - expected).abs().max() < TERM_ERROR * n
        again = torch.empty_like(sample)
        bernoulli.draw(product, bias, REPEATS, generator(1), again, None)
        assert torch.equal(sample, again)

    def test_residual(self, shape, dtype):
        product, bias, value, weight = inputs(*shape, dtype)
        sums, expected_sums = ones(shape[1], torch.float32), ones(shape[1])
        expected = reference.residual(*double(product, bias, value, weight), expected_sums)
        found = bernoulli.residual(product, bias, value, weight, sums)
        assert found.data_ptr() == product.data_ptr()
        assert ((found.double() - expected).abs() <= ROUNDING[dtype] * expected.abs() + TERM_ERROR).all()
        assert (sums - expected_sums).abs().max() < TERM_ERROR * len(weight)

    def test_pooled_residual(self, shape, dtype):
        value, bias, product, weight = inputs(*shape, dtype)
        value = (value > 0).to(dtype)
        sums, expected_sums = ones(shape[1], torch.float32), ones(shape[1])
        expected = reference.pooled_residual(*double(product, bias, value, weight), expected_sums)
        found = bernoulli.pooled_residual(product, bias, value, weight, sums)
        assert ((found.double() - expected).abs() <= ROUNDING[dtype] * expected.abs() + REPEATS * TERM_ERROR).all()
        assert (sums - expected_sums).abs().max() < TERM_ERROR * len(weight)


def test_extreme_logits():
    logits = torch.tensor([[-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4]], device=DEVICE)
    for value in (0.0, 1.0):
        values, found, expected = torch.full_like(logits, value), ones(1), ones(1)
        bernoulli.score(logits, 0.0 * logits[0], values, found)
        reference.score(*double(logits, 0.0 * logits[0], values), expected)
        assert torch.allclose(found, expected, rtol=1e-7)


def test_nan_stays_visible():
    product, bias, value, weight = inputs(4, 40, torch.float32)
    product[5, 3] = torch.nan
    found, sums = ones(12), ones(40, torch.float32)
    bernoulli.score(product, bias, value, found)
    assert found.isnan().nonzero().flatten().tolist() == [5]
    missed = bernoulli.residual(product, bias, value, weight, sums)
    assert missed.isnan().nonzero().tolist() == [[5, 3]]
    assert sums.isnan().nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("n_products", [0, 3000])
def test_adam(n_products):
    draws, n, n_weights = generator(3), 5000, 3000
    values, gradients, first, second = (torch.randn(n, generator=draws, device=DEVICE) for _ in range(4))
    values[::7] = 0.0
    products = torch.randn(n_products, generator=draws, device=DEVICE).bfloat16()
    scalars = torch.tensor([0.01, 1.3, 0.05], device=DEVICE)
    v, g, m, s = double(values, gradients, first, second.abs_())
    g[:n_products] += products.double()
    g[:n_weights] += 0.05 * v[:n_weights].sign()
    m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
    v -= 0.01 * m / (s.sqrt() * 1.3 + 1e-8)
    adam.step(values, gradients, products, first, second, scalars, n_weights, 0.9, 0.999, 1e-8)
    for found, expected in ((values, v), (first, m), (second, s), (gradients, 0.0 * g)):
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="models take the kernels on a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["bihm", "rws", "wake_sleep", "nvil", "vae"])
def test_updates_are_those_of_tensor_operations(method, precision, monkeypatch):
    """To rounding, and but for the few units whose draws are decided by it: so few updates."""
    model = {"latent": 20, "hidden": [60]} if method == "vae" else {"layers": [60, 33, 20]}
    weights, losses = [], []
    for kernels in (True, False):
        if not kernels:
            monkeypatch.setattr("harness.gpu_kernels._kernels", lambda: None)
        torch.manual_seed(0)
        step = UpdateStep(build(method, 150, model).cuda(), precision)
        draws = generator(4)
        x = (torch.rand(100, 150, generator=draws, device=DEVICE) < 0.3).float()
        losses.append([step.run(Batch(x), 5, draws, 1e-3, 1e-5).item() for _ in range(6)])
        weights.append(step.parameters.values.clone())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    # Adam takes steps of the whole rate also along gradients that are nothing but rounding
    assert (weights[0] - weights[1]).abs().mean() < 2e-5
