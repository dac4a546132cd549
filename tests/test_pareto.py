"""Pareto-k against distributions whose tails are known, by z-scores over repeats, and its use on estimates of Z."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from harness import estimators
from harness.estimators.pareto import Tail, generalised_pareto_shape, tail_size, threshold


@pytest.mark.parametrize("shape", [-0.3, 0.1, 0.5, 0.7, 1.2])
def test_shapes_of_generalised_pareto_samples(shape):
    """The estimator is consistent, with a bias of the order 1 / n, far below its standard error over 40 repeats."""
    rng = np.random.default_rng(1)
    samples = stats.genpareto.rvs(shape, scale=3.0, size=(40, 2000), random_state=rng)
    found = np.array([generalised_pareto_shape(np.sort(sample)) for sample in samples])
    assert abs(found.mean() - shape) < 4 * found.std(ddof=1) / math.sqrt(len(found))
    likeliest = stats.genpareto.fit(samples[0], floc=0)[0]
    # two estimators of one sample differ by far less than either errs
    assert abs(found[0] - likeliest) < 0.5 * found.std(ddof=1)


@pytest.mark.parametrize("index", [1.25, 2.0, 4.0])
def test_tails_of_pareto_weights(index):
    """Weights with P(w > t) = t^-index: their tail above any threshold has the shape 1 / index exactly."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(40):
        tail = Tail(20_000)
        tail.add(torch.from_numpy(np.log1p(rng.pareto(index, 20_000))))
        n = tail_size(20_000)
        found.append((tail.pareto_k() * (n + 10) - 5) / n)  # without the pull towards 0.5
    found = np.array(found)
    assert abs(found.mean() - 1 / index) < 4 * found.std(ddof=1) / math.sqrt(len(found))


def test_a_stream_in_any_order_has_the_tail_of_the_whole():
    log_weights = torch.randn(5000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    whole, pieces, kept = Tail(5000), Tail(5000), tail_size(5000) + 1
    whole.add(log_weights)
    for piece in reversed(log_weights.split(7)):
        pieces.add(piece)
        assert len(pieces._kept) <= kept
    assert torch.equal(whole._kept, pieces._kept)
    assert torch.equal(whole._kept, log_weights.sort(descending=True).values[:kept])
    assert whole.pareto_k() == pieces.pareto_k()


def test_scale_does_not_matter_however_small_weights_are():
    log_weights = torch.randn(5000, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    found = []
    for shift in (0.0, -2000.0):
        tail = Tail(5000)
        tail.add(log_weights + shift)
        found.append(tail.pareto_k())
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_no_tail_and_too_few_weights():
    equal, few = Tail(1000), Tail(20)
    equal.add(torch.zeros(1000, dtype=torch.float64))
    few.add(torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    assert equal.pareto_k() == -math.inf
    assert math.isnan(few.pareto_k())


def test_thresholds_of_the_source():
    """1 - 1 / log10(S) below S = 2200, 0.7 from there on."""
    assert threshold(100) == pytest.approx(0.5)
    assert threshold(2000) < 0.7
    assert threshold(2200) == 0.7
    assert tail_size(100) == 20
    assert tail_size(10_000) == 300


class HeavyTailed:
    """Samples of "Z^2" whose logarithms are exponential: a Pareto distribution of a given index."""

    def __init__(self, index):
        self.index = index

    def log_z2_weights(self, n_outer, n_inner, generator):
        uniform = torch.rand(n_outer, n_inner, generator=generator, dtype=torch.float64)
        return -torch.log1p(-uniform) / self.index


@pytest.mark.parametrize(("index", "doubted"), [(1.1, True), (8.0, False)])
def test_an_estimate_of_z_with_a_heavy_tail_is_doubted(index, doubted):
    """At an index of 1.1 there is a mean and no variance, which error bar and effective samples hardly show."""
    z2 = estimators.log_z2(HeavyTailed(index), 200_000, 1, torch.Generator().manual_seed(6), 4096)
    assert z2.standard_error < 0.3
    assert bool(z2.doubt) == doubted
    assert z2.reliable != doubted
    assert ("Pareto k" in z2.doubt) == doubted
