"""Kernels whose rows are shared among threads: the same results as on one thread."""

import re

import numba
import numpy as np
import pytest
import torch

from harness.blocks import bernoulli
from harness.kernels import adam, threads

N_ROWS, REPEATS = 103, 5  # neither divides by two or three
pytestmark = pytest.mark.skipif(
    len(threads.entry_points()) == 0, reason="this PyTorch brings no OpenMP library with GNU's entry points"
)


@pytest.fixture(name="with_threads", params=[2, 3])
def _with_threads(request):
    """Call a function on one thread and on several: both results."""

    def both(function):
        results = []
        for n in (1, request.param):
            torch.set_num_threads(n)
            assert threads.n_threads(threads.ENOUGH) == n
            results.append(function())
        return results

    yield both
    torch.set_num_threads(1)


def inputs(n, dtype):
    generator = torch.Generator().manual_seed(0)
    product = (3.0 * torch.randn(N_ROWS * REPEATS, n, generator=generator)).to(dtype)
    bias = torch.randn(n, generator=generator)
    value = (torch.rand(N_ROWS, n, generator=generator) < 0.5).float()
    weight = torch.randn(N_ROWS * REPEATS, generator=generator)
    return product, bias, value, weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n", [100, 7], ids=lambda n: f"{n} columns")
class TestSameResults:
    def test_draw(self, n, dtype, with_threads):
        product, bias, _, _ = inputs(n, dtype)

        def draw():
            total = torch.zeros(len(product) * REPEATS, dtype=torch.float64)
            sample = bernoulli.draw(product, bias, REPEATS, torch.Generator().manual_seed(1), total)
            return sample, total

        one, several = with_threads(draw)
        assert all(torch.equal(a, b) for a, b in zip(one, several, strict=True))

    def test_score(self, n, dtype, with_threads):
        product, bias, value, _ = inputs(n, dtype)

        def score():
            total = torch.ones(len(product), dtype=torch.float64)
            bernoulli.score(product, bias, value, total)
            return total

        assert torch.equal(*with_threads(score))

    def test_residual(self, n, dtype, with_threads):
        product, bias, value, weight = inputs(n, dtype)

        def residual():
            sums = torch.ones(n)
            return bernoulli.residual(product.clone(), bias, value, weight, sums), sums

        (one, one_sums), (several, sums) = with_threads(residual)
        assert torch.equal(one, several)
        # N_ROWS * REPEATS terms of order 1 in another order of addition
        assert (sums - one_sums).abs().max() < len(product) * 2.0**-22

    def test_pooled_residual(self, n, dtype, with_threads):
        product, bias, _, weight = inputs(n, dtype)
        value = (product > 0).to(dtype)

        def pooled():
            sums = torch.ones(n)
            return bernoulli.pooled_residual(product[:N_ROWS].clone(), bias, value, weight, sums), sums

        (one, one_sums), (several, sums) = with_threads(pooled)
        assert torch.equal(one, several)
        assert (sums - one_sums).abs().max() < len(product) * 2.0**-22


@pytest.mark.parametrize("with_products", [True, False], ids=["products", "no products"])
def test_adam(with_products, with_threads):
    n, n_weights = 30_011, 20_000
    rng = np.random.default_rng(2)
    start = [rng.normal(size=n).astype(np.float32) for _ in range(4)]
    start[3] = np.abs(start[3])
    products = rng.integers(0, 2**14, size=n_weights if with_products else 0).astype(np.uint16)
    start[1][: 3 * adam.BLOCK] = 0.0  # whole blocks of weights without a gradient of their own
    start[1][adam.BLOCK + 7] = 0.5

    def step():
        values, gradients, first, second = (array.copy() for array in start)
        rounded = np.zeros_like(products)
        arrays = values, gradients, products, first, second, rounded
        adam.step(*arrays, n_weights, 1e-3, 0.01, 0.9, 0.999, 1.5, 1e-8)
        assert not gradients.any()
        weights = torch.from_numpy(values[: len(rounded)]).bfloat16()
        assert torch.equal(torch.from_numpy(rounded).view(torch.bfloat16), weights)
        return values, first, second

    one, several = with_threads(step)
    for a, b in zip(one, several, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, start[0])
    gradient = start[1].copy()
    gradient[: len(products)] += torch.from_numpy(products).view(torch.bfloat16).float().numpy()
    gradient[:n_weights] += np.float32(1e-3) * np.sign(start[0][:n_weights])
    beta = np.float64(np.float32(0.9))
    terms = beta * start[2], (1 - beta) * gradient
    # each is rounded once, or twice with the product and the penalty that went into the gradient, and so is the sum
    size = np.abs(start[2]) + np.abs(start[1]) + np.abs(gradient) + 1e-3
    assert (np.abs(one[1] - sum(terms)) <= 4 * 2.0**-24 * size).all()


def test_what_is_not_a_number_is_rounded_to_no_number():
    values = np.array([1.0, np.nan, np.inf, -np.inf], np.float32)
    values.view(np.uint32)[1] = 0x7FFFFFFF  # to the nearest, its bits would be those of -0
    zeros = [np.zeros(4, np.float32) for _ in range(3)]
    products, rounded = np.zeros(4, np.uint16), np.zeros(4, np.uint16)
    adam.step(values, zeros[0], products, *zeros[1:], rounded, 4, 0.0, 0.0, 0.9, 0.999, 1.0, 1e-8)
    found = torch.from_numpy(rounded).view(torch.bfloat16).tolist()
    assert found[0] == 1.0
    assert np.isnan(found[1])
    assert found[2:] == [np.inf, -np.inf]


def test_threads_run_the_machine_code_that_one_thread_runs():
    """No arithmetic is left in a task: a copy of the kernel in it was seen to add in another order."""
    code = numba.cfunc(threads.TASK)(adam._task._pyfunc).inspect_llvm()  # of what comes from the cache there is none
    assert re.search(r"\bcall\b", code)
    assert not re.search(r"\bf(add|mul|sub|div)\b", code)
