"""The fused kernels against the tensor operations that say the same in double, and the distribution of their draws."""

import math

import pytest
import torch
from scipy import stats

from harness.blocks import bernoulli

DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [(8, 784), (16, 112), (12, 113), (6, 17), (4, 1)]  # whole vectors, whole logarithms, and neither
REPEATS = 2
# Logits below are standard normal times 4; sums of n float32 terms of size |a| are exact to about n |a| 2^-24 in the
# worst order, and exp_neg to 4e-7 a term. In double the kernels' inputs are exact, bfloat16 ones too.
TERM_ERROR = 1e-6


def inputs(n_rows, n, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    product = (4.0 * torch.randn(n_rows, n, generator=generator)).to(dtype)
    bias = torch.randn(n, generator=generator)
    value = (torch.rand(n_rows // REPEATS, n, generator=generator) < 0.5).to(dtype)
    weight = torch.rand(n_rows, generator=generator)
    return product, bias, value, weight


BFLOAT16_ROUNDING = 2.0**-8


def double(*tensors):
    return [tensor.double() for tensor in tensors]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestAgainstTensorOperations:
    def test_score(self, shape, dtype):
        product, bias, value, _ = inputs(*shape, dtype)
        found, expected = (torch.ones(shape[0], dtype=torch.float64) for _ in range(2))
        bernoulli.score(product, bias, value, found)
        bernoulli.score(*double(product, bias, value), expected)
        assert (found - expected).abs().max() < TERM_ERROR * 5 * shape[1]

    def test_residual(self, shape, dtype):
        product, bias, value, weight = inputs(*shape, dtype)
        reference_sums, sums = torch.ones(shape[1], dtype=torch.float64), torch.ones(shape[1])
        expected = bernoulli.residual(*double(product, bias, value, weight), reference_sums)
        found = bernoulli.residual(product, bias, value, weight, sums)
        rounding = BFLOAT16_ROUNDING if dtype == torch.bfloat16 else 0.0
        assert found.dtype == dtype
        assert ((found.double() - expected).abs() <= rounding * expected.abs() + TERM_ERROR).all()
        assert (sums - reference_sums).abs().max() < TERM_ERROR * shape[0]

    def test_pooled_residual(self, shape, dtype):
        _, bias, _, weight = inputs(*shape, dtype)
        value, _, product, _ = inputs(*shape, dtype, seed=1)
        value = (value > 0).to(dtype)
        reference_sums, sums = torch.ones(shape[1], dtype=torch.float64), torch.ones(shape[1])
        expected = bernoulli.pooled_residual(*double(product, bias, value, weight), reference_sums)
        found = bernoulli.pooled_residual(product, bias, value, weight, sums)
        rounding = BFLOAT16_ROUNDING if dtype == torch.bfloat16 else 0.0
        assert ((found.double() - expected).abs() <= rounding * expected.abs() + REPEATS * TERM_ERROR).all()
        assert (sums - reference_sums).abs().max() < TERM_ERROR * shape[0]

    def test_log_probability_of_draws(self, shape, dtype):
        product, bias, _, _ = inputs(*shape, dtype)
        n_rows, n = shape
        found, expected = (torch.zeros(n_rows * 3, dtype=torch.float64) for _ in range(2))
        sample = bernoulli.draw(product, bias, 3, torch.Generator().manual_seed(2), found)
        assert sample.dtype == dtype
        assert sample.shape == (n_rows * 3, n)
        assert ((sample == 0) | (sample == 1)).all()
        bernoulli.score(*double(product.repeat_interleave(3, dim=0), bias, sample), expected)
        assert (found - expected).abs().max() < TERM_ERROR * 5 * n


def test_draws_have_the_probabilities_of_their_logits():
    """Binomial tests over logits from -12 to 12, Holm-corrected, of the bits that 10^6 draws per column give."""
    n_rows, repeats = 1000, 1000
    logits = torch.linspace(-12, 12, 25)
    product = torch.zeros(n_rows, 25)
    sample = bernoulli.draw(product, logits, repeats, torch.Generator().manual_seed(3))
    counts = sample.sum(0, dtype=torch.float64)
    p_values = [
        stats.binomtest(int(count), n_rows * repeats, p).pvalue
        for count, p in zip(counts, torch.sigmoid(logits.double()).tolist(), strict=True)
    ]
    assert min(p_values) * len(p_values) > 1e-3


def test_draws_are_independent_of_each_other():
    """Correlations of neighbours along columns, rows and calls are within what 10^6 pairs allow."""
    generator = torch.Generator().manual_seed(4)
    first, second = (bernoulli.draw(torch.zeros(1000, 1001), torch.zeros(1001), 1, generator) for _ in range(2))
    columns, rows, fourth = (first[:, :-1], first[:, 1:]), (first[:-1], first[1:]), (first[:, :-4], first[:, 4:])
    for a, b in (columns, rows, fourth, (first, second)):
        centred = ((a - 0.5) * (b - 0.5)).double()
        assert abs(4 * centred.mean() * math.sqrt(centred.numel())) < 4


def test_ties_are_decided_by_further_bits():
    """A probability between two multiples of 2^-16, far too small for 16 bits to tell from zero."""
    probability = 0.25 / 65536
    product = torch.full((1, 1000), math.log(probability / (1 - probability)))
    repeats = 400_000
    found = bernoulli.draw(
        product.to(torch.float32), torch.zeros(1000), repeats, torch.Generator().manual_seed(5)
    ).sum()
    assert stats.binomtest(int(found), 1000 * repeats, probability).pvalue > 1e-3


def test_certain_outcomes():
    product = torch.tensor([[-math.inf, -200.0, 200.0, math.inf]])
    log_prob = torch.zeros(1000, dtype=torch.float64)
    sample = bernoulli.draw(product[:, 1:3], torch.zeros(2), 1000, torch.Generator().manual_seed(6), log_prob)
    assert (sample == torch.tensor([0.0, 1.0])).all()
    assert log_prob.abs().max() < 1e-6


def test_a_seed_decides_the_draws():
    product = torch.randn(50, 33, generator=torch.Generator().manual_seed(7))
    one, same, other = (
        bernoulli.draw(product, torch.zeros(33), 2, torch.Generator().manual_seed(seed)) for seed in (8, 8, 9)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("n", [4, 8, 15, 31, 126])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_do_not_depend_on_where_arrays_lie(n, dtype):
    """Small arrays at ever other places in memory, near to each other and far apart: the same bits."""
    n_rows = 12
    product, bias, value, weight = inputs(n_rows, n, dtype)
    places = torch.Generator().manual_seed(11)
    kept, found = [], set()
    for _ in range(300):
        kept.append(torch.empty(int(torch.randint(1, 200, (), generator=places))))
        if len(kept) > 30:
            kept.pop(int(torch.randint(30, (), generator=places)))
        total = torch.zeros(n_rows * REPEATS, dtype=torch.float64)
        sums = torch.zeros(n)
        moved = [tensor.clone() for tensor in (product, bias, value, weight)]
        drawn = bernoulli.draw(*moved[:2], REPEATS, torch.Generator().manual_seed(12), total)
        bernoulli.score(*moved[:3], total[:n_rows])
        pooled = bernoulli.pooled_residual(moved[0].clone(), moved[1], drawn, total.float(), sums)
        missed = bernoulli.residual(*moved, sums)
        found.add(tuple(bytes(t.view(torch.uint8).numpy()) for t in (total, drawn, pooled, missed, sums)))
    assert len(found) == 1


def test_nan_stays_visible():
    product = torch.zeros(2, 40)
    product[1, 7] = math.nan
    scored, drawn = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    bernoulli.score(product, torch.zeros(40), torch.zeros(2, 40), scored)
    bernoulli.draw(product, torch.zeros(40), 1, torch.Generator().manual_seed(10), drawn)
    assert torch.isfinite(scored).tolist() == torch.isfinite(drawn).tolist() == [True, False]


def test_log_likelihood_is_differentiable():
    product, bias, value, weight = inputs(12, 45, torch.float32)
    gradients = []
    for tensors in ((product, bias, value, weight), double(product, bias, value, weight)):
        p, b = (tensor.clone().requires_grad_() for tensor in tensors[:2])
        (bernoulli.log_likelihood(p, b, tensors[2]) * tensors[3]).sum().backward()
        gradients.append((p.grad, b.grad))
    for found, expected in zip(*gradients, strict=True):
        assert (found - expected).abs().max() < 12 * TERM_ERROR
