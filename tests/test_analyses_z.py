"""2 log Z against the number of samples, and histograms of importance weights: both against exact sums."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from enumerable import small_model, small_stack, z_scores

from harness import estimators
from harness.blocks import exact
from harness.estimators.pareto import Tail
from harness.estimators.z_prefixes import z2_log_sums
from harness.evaluation.analyses import weight_histogram, z_convergence
from harness.method import Batch

CHUNK = 64


def generator(seed):
    return torch.Generator().manual_seed(seed)


class SmallSubject:
    """A model that can be enumerated with rows x, in place of a trained one."""

    def __init__(self, model, x):
        self.model, self.x = model, x

    def generator(self, purpose):
        return generator(sum(purpose.encode()))

    def rows(self, split, n):
        return Batch(self.x[:n])


@pytest.mark.parametrize("k_inner", [1, 7])
@pytest.mark.parametrize("k_outers", [[2, 500], [10, 64, 65, 100, 300], [777]], ids=str)
def test_the_last_prefix_is_the_estimate_of_the_whole_stream(k_outers, k_inner):
    model = small_stack("bihm")
    sums = z2_log_sums(model, k_outers, k_inner, generator(1), CHUNK, Tail(k_outers[-1]))
    z2 = estimators.log_z2(model, k_outers[-1], k_inner, generator(1), CHUNK)
    assert sums.shape == (2, len(k_outers))
    assert sums[0, -1].item() - math.log(k_outers[-1]) == pytest.approx(z2.value, abs=1e-12)
    ess = 100 * torch.exp(2 * sums[0, -1] - sums[1, -1]).item() / k_outers[-1]
    assert ess == pytest.approx(z2.ess, rel=1e-12)


class Counting:
    """log w of the n-th outer draw is log n, whatever the block."""

    def __init__(self):
        self.n = 0

    def log_z2_weights(self, n_outer, n_inner, generator):
        first, self.n = self.n, self.n + n_outer
        return torch.arange(first + 1, self.n + 1, dtype=torch.float64).log()[:, None].expand(-1, n_inner)


@pytest.fixture(name="one_thread")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")  # draws are counted in their order
def test_every_prefix_is_the_sum_of_its_draws():
    k_outers = [1, 2, 63, 64, 65, 200, 333]
    sums = z2_log_sums(Counting(), k_outers, 3, generator(0), CHUNK, Tail(333)).exp()
    k = torch.tensor(k_outers, dtype=torch.float64)
    assert torch.allclose(sums[0], k * (k + 1) / 2)
    assert torch.allclose(sums[1], k * (k + 1) * (2 * k + 1) / 6)


def test_prefixes_must_ascend():
    with pytest.raises(ValueError, match="ascending"):
        z2_log_sums(small_stack("bihm"), [10, 5], 1, generator(0), CHUNK, Tail(10))


@pytest.mark.parametrize("k_inner", [1, 5])
def test_every_prefix_is_unbiased_for_z2(k_inner):
    model = small_stack("bihm")
    k = torch.tensor([3, 20, 50], dtype=torch.float64)
    repeats = torch.stack(
        [
            (z2_log_sums(model, [3, 20, 50], k_inner, generator(i), CHUNK, Tail(50))[0] - k.log()).exp()
            for i in range(1000)
        ]
    )
    truth = exact.log_z2(model).exp().detach().expand(3)
    assert z_scores(repeats, truth).abs().max() < 4


def test_z_convergence_of_an_enumerable_model():
    model = small_stack("bihm")
    table = z_convergence.analyse(SmallSubject(model, None), n_samples=4000, k_inners=[1, 10], repeats=8)
    assert (table["k_total"] == table["k_inner"] * table["k_outer"]).all()
    assert table.groupby("k_inner")["k_outer"].apply(list).to_dict() == {
        1: [100, 200, 500, 1000, 2000, 4000],
        10: [100, 200, 400],
    }
    truth = exact.log_z2(model).item()
    assert (abs(table["pooled"] - truth) < 4 * table["error"] / math.sqrt(8)).all()
    # over 8 repeats a standard deviation is known to a quarter, at four of which chance would hardly be blamed
    assert (abs(np.log(table["sd"] / table["error"])) < 4 / math.sqrt(2 * 7)).all()
    last = table.groupby("k_inner").last()
    assert last["error"][1] < last["error"][10]  # of as many samples in all
    assert (table["pareto_k"] < table["k_limit"]).all()
    again = z_convergence.analyse(SmallSubject(model, None), n_samples=4000, k_inners=[1, 10], repeats=8)
    pd.testing.assert_frame_equal(table, again)


def rows_and_model():
    model = small_model("bihm", layers=[4, 2], scale=0.5)
    x = exact.all_binary(model.n_visible)[[3, 12, 21]]
    return x, model


def test_weights_of_inference_against_exact_sums():
    """E_q log(p*(h | x) / q(h | x)) by enumeration; the sample's own normalisation biases it by var(w) / 2 K."""
    x, model = rows_and_model()
    k, subject = 4000, SmallSubject(model, x)
    log_w = torch.from_numpy(weight_histogram._posterior(subject, 3, k))
    log_p, log_q = exact.joint_tables(model, x)
    log_ratio = 0.5 * (log_p - log_q) - torch.logsumexp(0.5 * (log_p + log_q), dim=1, keepdim=True)
    expected = (log_q.exp() * log_ratio).sum(1).detach()
    bias = (log_q.exp() * (2 * log_ratio).exp()).sum(1).detach() / (2 * k)
    error = log_w.std(1) / math.sqrt(k)
    assert (abs(log_w.mean(1) - expected) < 4 * error + 4 * bias).all()
    assert torch.allclose(log_w.exp().mean(1), torch.ones(3, dtype=torch.float64))


def test_weights_of_sampling_against_exact_sums():
    """E_p log(p*(x, h) / p(x, h)) with p*(x, h) = sqrt(p(x, h) q(h | x)) S(x) / Z^2, all enumerated."""
    _, model = rows_and_model()
    n, n_inner = 4000, 500
    log_v = torch.from_numpy(weight_histogram._joint(SmallSubject(model, None), n, n_inner))[0]
    log_p, log_q = exact.joint_tables(model, exact.all_binary(model.n_visible))
    log_s = torch.logsumexp(0.5 * (log_p + log_q), dim=1, keepdim=True)
    log_star = 0.5 * (log_p + log_q) + log_s - exact.log_z2(model)
    assert torch.logsumexp(log_star.flatten(), 0).item() == pytest.approx(
        0.0, abs=1e-9
    )  # p* of the docstring sums to 1
    log_ratio = log_star - log_p
    expected = (log_p.exp() * log_ratio).sum().item()
    # normalising by the mean, and the log of an inner mean, are biased by half a relative variance each
    variance = (log_p.exp() * (2 * log_ratio).exp()).sum().item()
    inner = (torch.exp(log_p - 2 * log_s).sum(1) - 1.0).max().item()
    bias = variance / (2 * n) + inner / (2 * n_inner)
    assert abs(log_v.mean().item() - expected) < 4 * log_v.std().item() / math.sqrt(n) + 2 * bias


def test_the_histogram_holds_all_draws_but_the_lowest():
    x, model = rows_and_model()
    table = weight_histogram.analyse(SmallSubject(model, x), 2, n_samples=500, n_draws=700, n_inner=20, n_bins=40)
    sums = table.groupby("proposal", sort=False)[["share", "weight"]].sum()
    assert list(sums.index) == [weight_histogram.POSTERIOR, weight_histogram.JOINT]
    assert ((sums["share"] >= 1 - weight_histogram.LOWEST - 1 / 700) & (sums["share"] <= 1 + 1e-9)).all()
    assert ((sums["weight"] > 0.99) & (sums["weight"] <= 1 + 1e-9)).all()
    assert ((table["ess"] > 0) & (table["ess"] <= 100)).all()
    assert table.groupby("proposal")["n"].first().to_dict() == {
        weight_histogram.POSTERIOR: 1000,
        weight_histogram.JOINT: 700,
    }
