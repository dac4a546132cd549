"""The mixture of Bernoullis: normalised, EM climbs and ends at a fixed point, and finds components that are there."""

import math

import numpy as np
import pytest
import torch
from cells import cell, patterns
from enumerable import small_model

from harness import estimators
from harness.blocks import exact
from harness.errors import ConfigError
from harness.evaluation.evaluate import evaluate
from harness.method import Batch, capabilities
from harness.plugins.registry import build
from harness.storage.records import read_json
from harness.storage.runs import OK
from harness.training.train import train

CPU = torch.device("cpu")


def made(seed=0, n_visible=12, **hyperparameters):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build("mixture", n_visible, {"components": 4, **hyperparameters}).double()


def rows():
    return Batch(torch.from_numpy(patterns().train).double())


def normalised(seed=3, n_visible=4):
    """Parameters far from zero; shares that sum to one."""
    model = small_model("mixture", seed, n_visible, components=3)
    with torch.no_grad():
        model.log_share.copy_(torch.log_softmax(model.log_share, dim=0))
    return model


def test_probabilities_of_all_rows_sum_to_one():
    model = normalised(n_visible=8)
    log_p = estimators.exact_log_prob(model, exact.all_binary(8), chunk=100)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_likelihood_is_the_sum_over_components():
    model, x = normalised(), exact.all_binary(4)
    p = torch.sigmoid(model.logits)
    per_component = (x[:, None] * p + (1 - x[:, None]) * (1 - p)).prod(2)  # [N, K]
    assert torch.allclose(model.log_prob(x).exp(), per_component @ model.log_share.exp(), atol=1e-12)


def test_samples_have_the_exact_distribution():
    """Chi-square over all 2^4 rows of 20,000 draws."""
    model, x, n = normalised(), exact.all_binary(4), 20_000
    p = model.log_prob(x).exp().detach()
    draws = model.sample(n, torch.Generator().manual_seed(10))
    assert torch.equal(draws, model.sample(n, torch.Generator().manual_seed(10)))
    codes = (draws.long() * torch.tensor([8, 4, 2, 1])).sum(1)
    chi_square = ((torch.bincount(codes, minlength=16) - n * p) ** 2 / (n * p)).sum().item()
    assert chi_square < 15 + 4 * math.sqrt(2 * 15)


def log_posterior(model, x, means):
    """Log-likelihood plus the log-density of the priors, up to a constant: what EM climbs."""
    prior = model.log_share.sum()
    prior = prior + model.smoothing * (means * model.logits - torch.nn.functional.softplus(model.logits)).sum()
    return model.log_prob(x).sum() + prior


def test_every_iteration_climbs(monkeypatch):
    monkeypatch.setattr("harness.methods.mixture.ROWS_AT_ONCE", 64)  # 200 rows: three whole parts and a rest
    x = rows().x
    means = (x.sum(0) + 1) / (len(x) + 2)
    values = []
    for iterations in range(1, 30):
        model = made(iterations=iterations, tolerance=0.0)
        model.fit(rows())
        values.append(log_posterior(model, x, means).item())
    gains = np.diff(values)
    assert (gains > -1e-8).all()
    assert gains[0] > 1


def test_the_end_is_a_stationary_point_of_the_posterior():
    """The exact gradient there is zero along the logits; along the shares, as they sum to one, it is uniform."""
    x = rows().x
    means = (x.sum(0) + 1) / (len(x) + 2)
    model = made(iterations=5000, tolerance=1e-14)
    model.fit(rows())
    total = log_posterior(model, x, means)
    by_logits, by_share = torch.autograd.grad(total, [model.logits, model.log_share])
    assert by_logits.abs().max() < 1e-3
    assert torch.allclose(by_share, model.log_share.exp() * by_share.sum(), atol=1e-3)
    assert model.log_share.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


def test_it_finds_the_prototypes():
    """Three prototypes, a tenth of the bits flipped: near the entropy of that mixture, far from factorised."""
    model, control = made(components=3), build("factorised", 12, {}).double()
    for method in (model, control):
        method.fit(rows())
    test = torch.from_numpy(patterns().test).double()
    flips = 12 * -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    upper = flips + math.log(3)  # entropy of the generating mixture is at most this
    values = [-method.log_prob(test) for method in (model, control)]
    assert values[0].mean() < upper + 4 * values[0].std() / math.sqrt(len(test))
    assert values[0].mean() < values[1].mean() - 1
    assert torch.allclose(model.log_share.exp().sort().values, torch.full((3,), 1 / 3).double(), atol=0.1)


def test_the_start_decides_and_nothing_else():
    models = [made(seed) for seed in (1, 1, 2)]
    for model in models:
        model.fit(rows())
    assert torch.equal(models[0].logits, models[1].logits)
    assert not torch.equal(models[0].logits, models[2].logits)


def test_float32_fit_equals_the_double_one():
    values = []
    for dtype in (torch.float64, torch.float32):
        model = made(iterations=3, tolerance=0.0).to(dtype)
        model.fit(Batch(rows().x.to(dtype)))
        values.append(model.log_prob(rows().x.to(dtype)).double())
    # three iterations of float32 responsibilities, on sums over twelve columns
    assert torch.allclose(*values, atol=3 * 12 * 2.0**-20)


def test_one_component_is_the_factorised_control():
    """Without a prior to speak of, both are the columns' means, the control's with Laplace's rule."""
    model, control = made(components=1, smoothing=2.0), build("factorised", 12, {}).double()
    x = rows()
    model.fit(x)
    control.fit(x)
    means = torch.sigmoid(control.bias)
    expected = (x.x.sum(0) + 2.0 * means) / (len(x.x) + 2.0)
    assert torch.allclose(torch.sigmoid(model.logits[0]), expected, atol=1e-12)


def test_columns_that_are_constant_stay_finite():
    x = rows().x
    x[:, 0], x[:, 1] = 0.0, 1.0
    model = made()
    model.fit(Batch(x))
    assert torch.isfinite(model.logits).all()
    assert torch.isfinite(model.log_prob(1 - x)).all()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"components": 0}, "components: expected at least 1"),
        ({"smoothing": 0.0}, "smoothing: expected a number above 0"),
    ],
    ids=str,
)
def test_bad_hyperparameters_are_named(wrong, expected):
    with pytest.raises(ConfigError, match=expected):
        made(**wrong)


def test_capabilities_are_those_of_a_closed_form():
    assert capabilities(made()) == ("closed form", "exact log p", "sampling")


def test_it_is_trained_stored_and_measured(tmp_path):
    chosen = cell("mixture", {"components": 3})
    assert train(chosen, patterns(), tmp_path, CPU) == OK
    (row,) = evaluate(tmp_path, chosen, patterns(), CPU, "smoke")
    assert (row["metric"], row["estimator"], row["n_rows"]) == ("-log p", "exact", 60)
    assert read_json(tmp_path / "status.json")["train_seconds"] > 0
