"""Hand-written gradients: against autograd on the same samples, and on average against exact gradients."""

import math

import pytest
import torch
from enumerable import N_VISIBLE, flat_gradient, small_model, small_stack, z_scores, zero_gradients
from test_estimators import SEMI_SUPERVISED, exact_label_tables, semi_supervised_model

from harness.blocks import exact
from harness.method import Batch

REPEATS = 200
# The estimators are self-normalised: their bias falls as 1/K, their standard error over R repeats as 1/sqrt(K R). At
# K = 5000 and R = 200 the bias is a few percent of the standard error.
K = 5000


@pytest.fixture(name="x")
def some_rows():
    return exact.all_binary(N_VISIBLE)[[3, 10, 12, 29]]


def mean_gradients(model, batch, n_samples=K, repeats=REPEATS, seed=1):
    """Gradients of repeated calls, [R, n_parameters]."""
    generator = torch.Generator().manual_seed(seed)
    gradients = []
    for _ in range(repeats):
        zero_gradients(model)
        model.accumulate_gradients(batch, n_samples, generator)
        gradients.append(flat_gradient(model))
    return torch.stack(gradients)


def autograd(model, loss):
    zero_gradients(model)
    loss.backward()
    return flat_gradient(model)


def test_bihm_mean_gradient_is_that_of_the_exact_objective(x):
    model = small_stack("bihm")
    expected = autograd(model, -exact.log_p_star_unnormalised(model, x).mean())
    assert z_scores(mean_gradients(model, Batch(x)), expected).abs().max() < 4


def test_rws_mean_gradient_is_the_exact_wake_and_sleep_gradient(x):
    model = small_stack("rws")
    log_p, log_q = exact.joint_tables(model, x)
    posterior = torch.softmax(log_p, dim=1).detach()  # p(h | x)
    wake_p = -torch.logsumexp(log_p, dim=1).mean()
    wake_q = -(posterior * log_q).sum(1).mean()
    all_log_p, all_log_q = exact.joint_tables(model, exact.all_binary(N_VISIBLE))
    sleep_q = -(all_log_p.exp().detach() * all_log_q).sum()
    expected = autograd(model, wake_p + 0.5 * wake_q + 0.5 * sleep_q)
    assert z_scores(mean_gradients(model, Batch(x)), expected).abs().max() < 4


@pytest.mark.parametrize("variant", SEMI_SUPERVISED)
@pytest.mark.parametrize("gamma", [-0.5, 0.0, 0.7])
def test_semi_supervised_mean_gradient_is_exact(variant, gamma, x):
    model = semi_supervised_model(variant, gamma)
    y = torch.tensor([2, -1, 0, -1])
    log_p, log_q = exact_label_tables(model, x)
    half = 0.5 * (log_p + log_q)
    log_a, log_b = torch.logsumexp(half, dim=(1, 2)), torch.logsumexp(half, dim=1)
    known = y >= 0
    loss = -2 * log_a[~known].sum() - (log_b[known, y[known]] - gamma * log_a[known]).sum()
    expected = autograd(model, loss / len(x))
    # A bias is there whatever the draws; chance, which takes one of 450 scores beyond 4 in 3 % of tries, is not.
    scores = torch.stack([z_scores(mean_gradients(model, Batch(x, y), seed=seed), expected) for seed in (1, 2)])
    assert scores.abs().amin(0).max() < 3


@pytest.mark.parametrize("name", ["bihm", "rws"])
def test_layer_gradients_equal_autograd_on_the_same_samples(name, x):
    """Every local rule, to rounding: the graph through log p and log q with samples held fixed is the reference."""
    model = small_stack(name)
    inferred = model.infer(x, 6, torch.Generator().manual_seed(2))
    p_weights = torch.rand(4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    q_weights = torch.randn(4, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    rows = x.repeat_interleave(6, dim=0)
    log_p, log_q = model.log_joint(rows, inferred.h), model.log_recognition(rows, inferred.h)
    assert torch.allclose(inferred.log_p.flatten(), log_p)
    assert torch.allclose(inferred.log_q.flatten(), log_q)
    expected = autograd(model, (p_weights.flatten() * log_p + q_weights.flatten() * log_q).sum())
    zero_gradients(model)
    model.add_p_gradients(inferred, p_weights.flatten())
    model.add_prior_gradients(inferred, p_weights.flatten())
    model.add_q_gradients(inferred, q_weights.flatten())
    assert torch.allclose(flat_gradient(model), expected, atol=1e-12)


def test_one_sample_moves_p_only(x):
    """At K = 1 the centred weights of BiHM's q vanish."""
    model = small_stack("bihm")
    zero_gradients(model)
    model.accumulate_gradients(Batch(x), 1, torch.Generator().manual_seed(5))
    assert all((parameter.grad == 0).all() for parameter in [*model.q_weight, *model.q_bias])
    assert all((parameter.grad != 0).any() for parameter in [*model.p_weight, *model.p_bias])


def test_returned_losses_are_the_objectives(x):
    for name in ("bihm", "rws"):
        model = small_stack(name)
        zero_gradients(model)
        loss = model.accumulate_gradients(Batch(x), 7, torch.Generator().manual_seed(6))
        inferred = model.infer(x, 7, torch.Generator().manual_seed(6))
        lw = inferred.log_p - inferred.log_q
        expected = {
            "bihm": -2 * ((0.5 * lw).exp().mean(1)).log().mean(),
            "rws": -(lw.exp().mean(1)).log().mean(),
        }
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-12)


def textbook_nade(model, x):
    """log p(x) [B] column by column, as in the paper: the reference for the blocked computation."""
    total = x.new_zeros(x.shape[0])
    activation = model.hidden_bias.expand(x.shape[0], -1)
    for d in range(x.shape[1]):
        logit = torch.sigmoid(activation) @ model.output_weight[d] + model.visible_bias[d]
        total = total + x[:, d] * logit - torch.nn.functional.softplus(logit)
        activation = activation + x[:, d : d + 1] * model.input_weight[d]
    return total


def test_nade_equals_the_textbook_loop():
    n_visible = 37  # two whole blocks and a part
    model = small_model("nade", n_visible=n_visible, hidden=5)
    x = (torch.rand(9, n_visible, generator=torch.Generator().manual_seed(7)) < 0.5).double()
    reference = textbook_nade(model, x)
    assert torch.allclose(model.log_prob(x), reference, atol=1e-11)
    expected = autograd(model, -reference.mean())
    zero_gradients(model)
    loss = model.accumulate_gradients(Batch(x), 1, torch.Generator())
    assert loss.item() == pytest.approx(-reference.mean().item(), rel=1e-12)
    assert torch.allclose(flat_gradient(model), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [("vae", {"latent": 2, "hidden": [3]}), ("iwae", {"layers": [2], "hidden": [[3]]})],
)
def test_losses_bound_the_likelihood_with_the_right_sample_count(name, hyperparameters):
    """E[VAE loss] = -E[lw] whatever K, E[IWAE loss] is the K-sample bound: both compared with their log-weights."""
    model = small_model(name, scale=0.3, n_visible=4, **hyperparameters)
    x = exact.all_binary(4)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(8)
        losses = torch.stack([model.loss(Batch(x), 4, generator) for _ in range(REPEATS)])
        weights = torch.stack([model.log_weights(x, 4, generator) for _ in range(REPEATS)])  # [R, B, K]
        values = -weights.mean(2) if name == "vae" else math.log(4) - torch.logsumexp(weights, dim=2)
        values = values.mean(1)
    difference = losses.mean() - values.mean()
    assert abs(difference / math.sqrt(losses.var() / REPEATS + values.var() / REPEATS)) < 4
