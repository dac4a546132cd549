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

    def step():
        values, gradients, first, second = (array.copy() for array in start)
        given = products.copy()
        adam.step(values, gradients, given, first, second, n_weights, 1e-3, 0.01, 0.9, 0.999, 1.5, 1e-8)
        assert not gradients.any()
        assert not given.any()
        return values, first, second

    one, several = with_threads(step)
    for a, b in zip(one, several, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, start[0])


def test_threads_run_the_machine_code_that_one_thread_runs():
    """No arithmetic is left in a task: a copy of the kernel in it was seen to add in another order."""
    code = numba.cfunc(threads.TASK)(adam._task._pyfunc).inspect_llvm()  # of what comes from the cache there is none
    assert re.search(r"\bcall\b", code)
    assert not re.search(r"\bf(add|mul|sub|div)\b", code)
