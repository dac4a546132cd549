"""Stacks of NADE layers: against enumeration, against the exact gradient, and the float32 kernels against double."""

import copy
import math

import numpy as np
import pytest
import torch
from enumerable import N_VISIBLE, flat_gradient, small_model, z_scores, zero_gradients

from harness import estimators
from harness.blocks import exact
from harness.blocks.nade_layer import NadeLayer
from harness.errors import ConfigError
from harness.kernels import nade as kernel
from harness.method import Batch
from harness.plugins.registry import build
from harness.training.step import UpdateStep

STACKS = {
    "rws_nade": {"layers": [3, 2], "hidden": [4, 3, 2]},
    "bihm_nade": {"layers": [3, 2], "hidden": [3, 2, 3]},
}
REPEATS = 200
# Weights p(x, h) / q(h | x) must have a variance that so many repeats can see: parameters are less far from zero here
SCALE = 0.4
ROUNDING = 2.0**-24
FUNCTION = 4e-7  # error of the kernels' sigmoid, see harness.kernels.fastmath


def small_stack(name):
    return small_model(name, scale=SCALE, **STACKS[name])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def layer_and_values(n_units, hidden, n_given, n_rows, repeats=1):
    """A double-precision layer that is exact in float32, its condition u [R, n_given] and values [R * repeats, n]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = NadeLayer(n_units, hidden, n_given)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(std=0.5)
        u = (torch.rand(n_rows, n_given) < 0.5).double()
        value = (torch.rand(n_rows * repeats, n_units) < 0.4).double()
    return layer.double(), u, value


@pytest.mark.parametrize("name", STACKS)
class TestStack:
    def test_probabilities_of_all_rows_sum_to_one(self, name):
        model, x = small_stack(name), exact.all_binary(N_VISIBLE)
        assert exact.log_p(model, x).exp().sum().item() == pytest.approx(1.0, abs=1e-9)

    def test_recognition_of_every_row_sums_to_one(self, name):
        log_q = exact.joint_tables(small_stack(name), exact.all_binary(N_VISIBLE))[1]
        assert log_q.exp().sum(1).tolist() == pytest.approx([1.0] * 2**N_VISIBLE, abs=1e-9)

    def test_p_estimate_is_unbiased(self, name):
        model, x, random = small_stack(name), exact.all_binary(N_VISIBLE), generator(1)
        repeats = [estimators.importance_estimates(model, x, 4, random, 1000).log_p.exp() for _ in range(REPEATS)]
        assert z_scores(torch.stack(repeats), exact.log_p(model, x).exp()).abs().max() < 4

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
    def test_samples_have_exact_marginals(self, name, dtype):
        """Counts of all 32 rows among 50,000: Pearson's statistic is chi-square with 31 degrees of freedom."""
        model, n = small_stack(name), 50_000
        expected = n * exact.log_p(model, exact.all_binary(N_VISIBLE)).exp().detach()
        x = model.to(dtype).sample(n, generator(2))
        code = (x.long() * 2 ** torch.arange(N_VISIBLE - 1, -1, -1)).sum(1)
        counts = torch.bincount(code, minlength=2**N_VISIBLE)
        assert ((counts - expected) ** 2 / expected).sum() < 70  # once in 10,000

    def test_inference_scores_what_it_draws(self, name):
        model, x = small_stack(name), exact.all_binary(N_VISIBLE)
        inferred = model.infer(x, 3, generator(3))
        rows = x.repeat_interleave(3, dim=0)
        assert torch.allclose(inferred.log_p.flatten(), model.log_joint(rows, inferred.h), atol=1e-12)
        assert torch.allclose(inferred.log_q.flatten(), model.log_recognition(rows, inferred.h), atol=1e-12)

    def test_layer_gradients_equal_autograd_on_the_same_samples(self, name):
        model, x = small_stack(name), exact.all_binary(N_VISIBLE)[[3, 10, 12, 29]]
        inferred = model.infer(x, 6, generator(4))
        p_weights, q_weights = torch.randn(2, 24, generator=generator(5), dtype=torch.float64)
        rows = x.repeat_interleave(6, dim=0)
        log_p, log_q = model.log_joint(rows, inferred.h), model.log_recognition(rows, inferred.h)
        zero_gradients(model)
        (p_weights * log_p + q_weights * log_q).sum().backward()
        expected = flat_gradient(model)
        zero_gradients(model)
        model.add_p_gradients(inferred, p_weights)
        model.add_prior_gradients(inferred, p_weights)
        model.add_q_gradients(inferred, q_weights)
        assert torch.allclose(flat_gradient(model), expected, atol=1e-12)

    def test_a_seed_decides_an_update(self, name):
        """Bit for bit, wherever arrays lie, in both precisions; another seed gives another."""
        x = exact.all_binary(N_VISIBLE)
        for dtype in (torch.float64, torch.float32):
            found = []
            for seed in (6, 6, 7):
                model = small_stack(name).to(dtype)
                zero_gradients(model)
                loss = model.accumulate_gradients(Batch(x.to(dtype)), 5, generator(seed))
                found.append(torch.cat([flat_gradient(model), loss.to(dtype)[None]]))
            assert torch.equal(found[0], found[1])
            assert not torch.equal(found[0], found[2])

    def test_products_may_be_bfloat16(self, name):
        """Conditions multiply in bfloat16 where training wants that; weights that bfloat16 holds lose nothing."""
        x, losses = exact.all_binary(N_VISIBLE, torch.float32), []
        for precision in ("float32", "bfloat16"):
            model = build(name, N_VISIBLE, STACKS[name])
            with torch.no_grad():
                for index, parameter in enumerate(model.parameters()):
                    parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator(index)) / 2)
            step = UpdateStep(model, precision)
            losses.append(step.run(Batch(x), 5, generator(8), 0.0, 0.0).item())
        assert losses[0] == losses[1]


def exact_loss_of_bihm(model, x):
    return -exact.log_p_star_unnormalised(model, x).mean()


def exact_loss_of_rws(model, x):
    """Its gradient is that of the wake phase for p and of half wake, half sleep for q."""
    log_p, log_q = exact.joint_tables(model, x)
    posterior = torch.softmax(log_p, dim=1).detach()
    all_log_p, all_log_q = exact.joint_tables(model, exact.all_binary(N_VISIBLE))
    wake_q, sleep_q = -(posterior * log_q).sum(1).mean(), -(all_log_p.exp().detach() * all_log_q).sum()
    return -torch.logsumexp(log_p, dim=1).mean() + 0.5 * wake_q + 0.5 * sleep_q


@pytest.mark.parametrize(("name", "loss"), [("bihm_nade", exact_loss_of_bihm), ("rws_nade", exact_loss_of_rws)])
def test_mean_gradient_is_exact(name, loss):
    model, x = small_stack(name), exact.all_binary(N_VISIBLE)[[3, 10, 12, 29]]
    zero_gradients(model)
    loss(model, x).backward()
    expected, random, gradients = flat_gradient(model), generator(9), []
    # self-normalised: the bias falls as 1/K, the standard error over R repeats as 1/sqrt(K R), so K must be far above R
    for _ in range(60):
        zero_gradients(model)
        model.accumulate_gradients(Batch(x), 2000, random)
        gradients.append(flat_gradient(model))
    assert z_scores(torch.stack(gradients), expected).abs().max() < 4.5


@pytest.mark.parametrize("n_inner", [1, 3])
def test_z2_estimate_is_unbiased(n_inner):
    model = small_stack("bihm_nade")
    weights = model.log_z2_weights(20_000, n_inner, generator(10)).exp().mean(1)
    error = weights.std() / math.sqrt(len(weights))
    assert abs(weights.mean() - exact.log_z2(model).exp()) < 4 * error


def test_hidden_sizes_must_fit_the_layers():
    with pytest.raises(ConfigError, match="hidden: expected 3 sizes"):
        build("rws_nade", N_VISIBLE, {"layers": [3, 2], "hidden": [4]})


SIZES = [(1, 1, 1, 1), (5, 3, 2, 3), (33, 17, 4, 5), (70, 37, 3, 8)]  # around the kernel's 32, 16 and 4


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize(("n_units", "hidden", "n_given", "n_rows"), SIZES)
class TestLayerKernel:
    """Float32 on the CPU against the same numbers in double.

    The bound on a logit's error: a function's error or rounding for each hidden unit, of at most the sum of |V|.
    """

    @staticmethod
    def logit_error(layer, given):
        largest = given.abs().max() + sum(parameter.abs().sum(0).max() for parameter in (layer.input_weight,)) + 3
        n = layer.input_weight.shape[0] + layer.input_weight.shape[1]
        return (FUNCTION + 2 * n * ROUNDING * largest / 4) * layer.output_weight.abs().sum(1) + 4 * ROUNDING * largest

    def test_likelihood_and_gradients(self, n_units, hidden, n_given, n_rows, repeats):
        layer, u, value = layer_and_values(n_units, hidden, n_given, n_rows, repeats)
        single, rows = copy.deepcopy(layer).float(), u.repeat_interleave(repeats, dim=0)
        weights = torch.randn(len(value), generator=generator(1)).double()
        found = []
        for model, cast in ((layer, torch.float64), (single, torch.float32)):
            zero_gradients(model)
            condition = rows.to(cast)
            log_prob = torch.zeros(len(value), dtype=torch.float64)
            scored = model.score(model.product(condition).detach(), value.to(cast), log_prob)
            model.add_gradients(scored, weights.to(cast), condition)
            assert torch.equal(log_prob, scored.log_prob)
            found.append((log_prob, flat_gradient(model).double()))
        error = self.logit_error(layer, rows @ layer.condition.detach().t()).detach()
        assert ((found[1][0] - found[0][0]).abs() <= error.sum() + n_units * FUNCTION).all()
        # by a logit: a quarter of its error; by an activation: summed over columns and their weights |V| as well
        slope = (error / 4 + FUNCTION) @ (1 + layer.output_weight.detach().abs().sum(1)) + 1e-6
        assert ((found[1][1] - found[0][1]).abs() <= weights.abs().sum() * slope).all()
        assert found[0][1].norm() > 0

    def test_draws_are_scored_and_have_the_gradient_of_their_values(self, n_units, hidden, n_given, n_rows, repeats):
        layer, u, _ = layer_and_values(n_units, hidden, n_given, n_rows)
        layer, u = layer.float(), u.float()
        product = layer.product(u).detach()
        drawn_log_prob, log_prob = torch.zeros(2, n_rows * repeats, dtype=torch.float64)
        drawn = layer.draw_scored(product, repeats, generator(2), drawn_log_prob)
        scored = layer.score(product.repeat_interleave(repeats, dim=0), drawn.value, log_prob)
        assert torch.equal(log_prob, drawn_log_prob)
        gradients = []
        for rows in (drawn, scored):
            zero_gradients(layer)
            layer.add_pooled_gradients(rows, torch.ones(n_rows * repeats), u)
            gradients.append(flat_gradient(layer))
        assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_draws_of_a_layer_have_exact_marginals(dtype):
    """All 2^4 values of each of two conditions, 30,000 draws each: chi-square with 15 degrees of freedom."""
    layer, _, _ = layer_and_values(4, 3, 2, 1)
    n, u = 30_000, torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    values = exact.all_binary(4)
    product = layer.product(u).detach()
    rows = layer.log_likelihood(product.repeat_interleave(16, dim=0), values.repeat(2, 1)).view(2, 16).detach()
    layer = layer.to(dtype)
    drawn = layer.draw(product.to(dtype), n, generator(3)).view(2, n, 4)
    code = (drawn.long() * torch.tensor([8, 4, 2, 1])).sum(2)
    for condition in range(2):
        counts, expected = torch.bincount(code[condition], minlength=16), n * rows[condition].exp()
        assert ((counts - expected) ** 2 / expected).sum() < 45  # once in 10,000


def test_draws_are_a_function_of_the_seed_alone():
    """Wherever the arrays lie, and whatever rows stand behind."""
    layer, _, _ = layer_and_values(40, 20, 2, 1)
    weights = layer.float()._weights(torch.randn(9, 60, generator=generator(4)), 9)
    first = kernel.draw(5, weights)
    others = [np.zeros(n, np.float32) for n in range(1, 200, 7)]  # move what is allocated next
    fewer = weights._replace(hidden_bias=weights.hidden_bias[:6], visible_bias=weights.visible_bias[:6])
    for again in (kernel.draw(5, weights), kernel.draw(5, fewer)):
        n = len(again.log_prob)
        assert np.array_equal(again.x[:n], first.x[:n])
        assert np.array_equal(again.log_prob, first.log_prob[:n])
    assert len(others) == 29
    assert not np.array_equal(kernel.draw(6, weights).x[:9], first.x[:9])


def test_a_diverged_layer_is_seen():
    layer, u, value = layer_and_values(10, 5, 0, 3)
    layer = layer.float()
    with torch.no_grad():
        layer.output_weight[3, 2] = float("nan")
    product, log_prob = layer.product(u.float()), torch.zeros(2, 3, dtype=torch.float64)
    layer.score(product, value.float(), log_prob[0])
    layer.draw(product, 1, generator(), log_prob[1])
    assert log_prob.isnan().all()
