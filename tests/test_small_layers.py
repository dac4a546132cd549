"""Small upper layers in one kernel, against the same layers one by one, in double precision, and on several threads."""

import copy
import math

import pytest
import torch
from enumerable import small_model, zero_gradients
from scipy import stats

from harness.blocks import small_layers
from harness.blocks.sigmoid_layer import SigmoidLayer
from harness.blocks.small_layers import one_by_one
from harness.kernels import threads
from harness.plugins.registry import build

N_VISIBLE, N_ROWS, N_SAMPLES = 30, 37, 7  # 259 pairs: no whole number of vectors
# one unit; whole vectors of columns and neither; more factors than one product takes; more than one logarithm takes
STACKS = [[20, 1], [40, 16, 17, 15, 3], [25, 130, 60, 33], [70] + [80] * 13]
# of a unit's term, as in test_kernels_bernoulli: exponential, quotient, and a sum of some ten float32 terms of order 1
TERM_ERROR = 1e-6


def model_of(layers, seed=0, scale=0.5, name="bihm", **more):
    return small_model(name, seed=seed, n_visible=N_VISIBLE, scale=scale, layers=layers, **more).float()


def rows(n=N_ROWS):
    return (torch.rand(n, N_VISIBLE, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def infer(model, seed=2, n_samples=N_SAMPLES, **more):
    return model.infer(rows(), n_samples, torch.Generator().manual_seed(seed), **more)


def weights(seed):
    return torch.randn(N_ROWS * N_SAMPLES, generator=torch.Generator().manual_seed(seed))


def gradients(model, inferred):
    zero_gradients(model)
    model.add_p_gradients(inferred, weights(3))
    model.add_prior_gradients(inferred, weights(3))
    model.add_q_gradients(inferred, weights(4))
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("layers", STACKS, ids=lambda layers: f"{len(layers)} layers")
class TestAgainstLayersByThemselves:
    def test_draws_are_the_same(self, layers):
        model = model_of(layers)
        together = infer(model)
        assert (together.n_single, together.upper.first) == (1, 1)
        with one_by_one():
            apart = infer(model)
        assert apart.upper is None
        assert len(together.h) == len(apart.h) == len(layers)
        # a probability that is rounded otherwise, by 1e-6, moves one draw in a million, and then what is above it
        differ = torch.stack([(a != b).any(1) for a, b in zip(together.h, apart.h, strict=True)]).any(0)
        assert differ.sum() <= 2
        for found, expected in ((together.log_p, apart.log_p), (together.log_q, apart.log_q)):
            difference = (found - expected).flatten()[~differ]
            assert difference.abs().max() < 2 * TERM_ERROR * 5 * (N_VISIBLE + sum(layers))

    @pytest.mark.parametrize("with_prior", [True, False], ids=["prior", "no prior"])
    def test_log_probabilities_are_those_of_the_draws(self, layers, with_prior):
        model = model_of(layers)
        inferred = infer(model, with_prior=with_prior)
        model.double()
        h = [layer.double() for layer in inferred.h]
        x = rows().double().repeat_interleave(N_SAMPLES, dim=0)
        log_p = model.log_joint(x, h) - (0.0 if with_prior else model.log_prior(h[-1]))
        tolerance = TERM_ERROR * 5 * (N_VISIBLE + sum(layers))
        assert (inferred.log_p.flatten() - log_p).abs().max() < tolerance
        assert (inferred.log_q.flatten() - model.log_recognition(x, h)).abs().max() < tolerance

    def test_gradients_are_those_of_autograd(self, layers):
        model = model_of(layers)
        inferred = infer(model)
        found = gradients(model, inferred)
        h = [layer.double() for layer in inferred.h]
        model.double()
        zero_gradients(model)
        x = rows().double().repeat_interleave(N_SAMPLES, dim=0)
        of_p, of_q = weights(3).double(), weights(4).double()
        (of_p * model.log_joint(x, h) + of_q * model.log_recognition(x, h)).sum().backward()
        # every term is off by its own error and by the rounding of sums: N terms in some order, sqrt(N) on average
        size = max(of_p.abs().sum().item(), of_q.abs().sum().item())
        for gradient, parameter in zip(found, model.parameters(), strict=True):
            assert (gradient - parameter.grad).abs().max() < 2 * TERM_ERROR * size

    def test_layers_can_be_asked_for(self, layers):
        """What methods read of single layers is what these would have scored, and gradients can be theirs alone."""
        model = model_of(layers)
        inferred = infer(model)
        double = copy.deepcopy(model).double()
        chain = [rows().repeat_interleave(N_SAMPLES, dim=0), *inferred.h]
        for level in range(len(layers)):
            below, above = chain[level], chain[level + 1]
            for layers_of, scored, value, seen in (
                ("p_layers", inferred.p[level], below, above),
                ("q_layers", inferred.q[level], above, below),
            ):
                log_prob = getattr(model, layers_of)[level].log_prob(scored)
                reference = getattr(double, layers_of)[level]
                expected = reference.log_likelihood(reference.product(seen.double()), value.double())
                assert (log_prob - expected).abs().max() < TERM_ERROR * 5 * value.shape[1]
        whole = gradients(model, infer(model))
        zero_gradients(model)
        again = infer(model)
        model.add_p_gradients(again, weights(3))
        model.add_prior_gradients(again, weights(3))
        for level in range(len(layers)):
            model.add_q_layer_gradients(again, level, weights(4))
        assert all(torch.equal(a, b.grad) for a, b in zip(whole, model.parameters(), strict=True))


@pytest.mark.skipif(
    len(threads.entry_points()) == 0, reason="this PyTorch brings no OpenMP library with GNU's entry points"
)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_results_do_not_depend_on_the_number_of_threads(n, dtype):
    """Draws, log-probabilities and gradients of the small layers, to the last bit."""
    model = model_of([40, 60, 33, 10])
    below = (torch.rand(999, 40, generator=torch.Generator().manual_seed(5)) < 0.5).to(dtype)
    factors = torch.randn(999, generator=torch.Generator().manual_seed(6))
    found = []
    for threads_used in (1, n):
        torch.set_num_threads(threads_used)
        log_p, log_q = (torch.zeros(999, dtype=torch.float64) for _ in range(2))
        zero_gradients(model)
        passed = model._small_layers.infer(below, 1, torch.Generator().manual_seed(7), log_p, log_q, True)
        assert threads.n_threads(passed.work.numel()) == threads_used
        units = [passed.units(row) for row in range(4)]
        passed.add_gradients(factors, 1, 5, of_p=True)
        passed.add_gradients(factors, 1, 4, of_p=False)
        found.append([log_p, log_q, *units, *(parameter.grad.clone() for parameter in model.parameters())])
        assert torch.equal(units[0], below)
        assert units[1].dtype == dtype
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert sum(bool(gradient.any()) for gradient in found[0][6:]) == 4 * 3 + 1


def test_ties_are_decided_by_further_bits():
    """A probability that 16 random bits cannot tell from zero; see the test of the kernel for single layers."""
    probability = 0.25 / 65536
    model = build("bihm", 5, {"layers": [4, 1000]})
    with torch.no_grad():
        model.q_weight[1].zero_()
        model.q_bias[1].fill_(math.log(probability / (1 - probability)))
    generator, count, n = torch.Generator().manual_seed(8), 0.0, 20
    for _ in range(n):
        count += model.infer(torch.zeros(1600, 5), 1, generator).h[1].sum().item()
    assert stats.binomtest(int(count), n * 1600 * 1000, probability).pvalue > 1e-3


def test_gradients_go_where_they_are_now():
    """Gradients that were put in the place of others after the draws, and not in one piece."""
    model = model_of([20, 10, 5])
    expected = gradients(model, infer(model))
    inferred = infer(model)
    zero_gradients(model)
    weight, bias = model.q_weight[1], model.p_bias[1]
    weight.grad = torch.zeros(weight.shape[::-1]).t()
    zeros = bias.grad = torch.zeros(2 * len(bias))[::2]
    model.add_p_gradients(inferred, weights(3))
    model.add_prior_gradients(inferred, weights(3))
    model.add_q_gradients(inferred, weights(4))
    assert bias.grad is zeros
    assert all(torch.equal(a, b.grad) for a, b in zip(expected, model.parameters(), strict=True))


def test_nan_stays_visible():
    model = model_of([20, 10, 5])
    with torch.no_grad():
        model.p_bias[1][3] = math.nan
    inferred = infer(model)
    assert torch.isnan(inferred.log_p).all()
    assert torch.isfinite(inferred.log_q).all()
    with torch.no_grad():
        model.q_bias[2][1] = math.nan
    assert torch.isnan(infer(model).log_q).all()


class OtherLayer(SigmoidLayer):
    """One whose draws a plugin may have changed."""


def _widen(model):
    model.q_weight[1].data = torch.zeros(9, 20)[:, ::2]


def _replace(model):
    model.q_layers[1].__class__ = OtherLayer


@pytest.mark.parametrize(
    ("change", "n_single"),
    [
        (lambda _: None, 1),
        (_replace, 2),
        (_widen, 2),
        (lambda model: model.double(), 3),
        (lambda model: model.to("meta"), 3),
    ],
    ids=["small", "another kind of layer", "not in one piece", "double", "another device"],
)
def test_only_what_the_kernel_can_do_goes_together(change, n_single):
    model = build("bihm", N_VISIBLE, {"layers": [10, 9, 8]})
    change(model)
    assert model._small_layers.first() == n_single


def test_large_layers_go_by_themselves(monkeypatch):
    model = build("bihm", N_VISIBLE, {"layers": [10, 9, 8]})
    monkeypatch.setattr(small_layers, "SMALL", 80)
    assert model._small_layers.first() == 2
    assert build("bihm", N_VISIBLE, {"layers": [10]})._small_layers.first() == 1
    assert model_of([4, 3], name="rws_nade", hidden=[3, 3, 3])._small_layers is None
