"""The restricted Boltzmann machine against exact sums over all rows and hidden states, and its chains as state."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import cell, patterns, train_until
from enumerable import N_VISIBLE, flat_gradient, small_model, z_scores, zero_gradients
from test_gpu_path import RecordedOperations

from harness import estimators
from harness.blocks import exact
from harness.evaluation.evaluate import evaluate
from harness.method import Batch, capabilities
from harness.plugins.registry import build
from harness.settings.parts import Phase
from harness.storage import weights
from harness.storage.records import file_digest
from harness.storage.runs import OK
from harness.training.step import UpdateStep
from harness.training.train import train

CPU = torch.device("cpu")
HIDDEN = 4
KINDS = {"pcd": 7, "cd": 0}  # number of persistent chains


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch):
    monkeypatch.setattr("harness.training.validation.TEMPERATURES", 30)


def rbm(chains=7, seed=0, n_visible=N_VISIBLE, **hyperparameters):
    """Double precision; has seen some rows, so that the annealing path does not start from one half."""
    model = small_model("rbm", seed, n_visible, hidden=HIDDEN, chains=chains, **hyperparameters)
    model.column_sums.copy_(torch.arange(n_visible))
    model.n_rows.fill_(n_visible + 3)
    return model


def log_joint(model, x, h):
    """h.W x + b.x + c.h, [N, H], for rows x [N, D] and states h [H, n]."""
    return x @ model.weight.t() @ h.t() + (x @ model.visible_bias)[:, None] + (h @ model.hidden_bias)[None]


def exact_log_z(model):
    states = exact.all_binary(len(model.hidden_bias))
    return torch.logsumexp(log_joint(model, exact.all_binary(model.n_visible), states).flatten(), dim=0)


def exact_log_p(model, x):
    states = exact.all_binary(len(model.hidden_bias))
    return torch.logsumexp(log_joint(model, x, states), dim=1) - exact_log_z(model)


@pytest.fixture(name="x")
def all_rows():
    return exact.all_binary(N_VISIBLE)


def test_free_energy_is_the_sum_over_hidden_states(x):
    model = rbm()
    expected = torch.logsumexp(log_joint(model, x, exact.all_binary(HIDDEN)), dim=1)
    assert torch.allclose(model.log_unnormalised(x), expected, atol=1e-12)


def test_capabilities_are_those_of_an_unnormalised_model():
    assert capabilities(rbm()) == ("gradients", "unnormalised log p", "sampling")


@pytest.mark.parametrize("n_temperatures", [1, 3, 30])
def test_annealed_weights_are_unbiased_for_z(n_temperatures):
    """Whatever the number of temperatures: at 1, plain importance sampling from the base-rate model."""
    model = rbm()
    weights = model.log_partition_samples(40_000, n_temperatures, torch.Generator().manual_seed(1)).exp()
    assert abs(z_scores(weights, exact_log_z(model).exp()).item()) < 4


def test_more_temperatures_make_weights_more_equal():
    model = rbm()
    generator = torch.Generator().manual_seed(2)
    ess = [estimators.log_z(model, 2000, n, generator, 1000).ess for n in (1, 10, 100)]
    assert ess == sorted(ess)
    assert ess[-1] > 95


def test_log_z_error_bar_covers():
    model = rbm()
    truth, generator = exact_log_z(model).item(), torch.Generator().manual_seed(3)
    results = [estimators.log_z(model, 500, 5, generator, 200) for _ in range(200)]
    deviations = np.array([(result.value - truth) / result.standard_error for result in results])
    # sum of squares of 200 unit normals: 200 +- sqrt(400); five of these either way
    assert 100 < (deviations**2).sum() < 300
    assert all(result.reliable for result in results)


def test_log_z_of_too_few_effective_chains_is_called_unreliable():
    model = rbm()
    with torch.no_grad():
        model.weight.mul_(6.0)
    assert not estimators.log_z(model, 100, 1, torch.Generator().manual_seed(4), 100).reliable
    assert not estimators.log_z(model, 10, 500, torch.Generator().manual_seed(4), 100).reliable
    with pytest.raises(ValueError, match="at least 2"):
        estimators.log_z(model, 1, 500, torch.Generator(), 100)


def test_fused_and_tensor_operations_estimate_the_same_z():
    model = rbm()
    truth = exact_log_z(model).item()
    result = estimators.log_z(model.float(), 20_000, 10, torch.Generator().manual_seed(5), 20_000)
    assert abs(result.value - truth) < 4 * result.standard_error


@pytest.mark.parametrize("kind", KINDS)
def test_mean_gradient_is_the_exact_one_where_chains_have_converged(kind, x):
    """d mean -log p: with the k-step chain's bias far below the error of the mean at k = 100."""
    model, rows = rbm(KINDS[kind]), x[[3, 10, 12, 29]]
    loss = -exact_log_p(model, rows).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    generator, gradients = torch.Generator().manual_seed(6), []
    for _ in range(300):
        zero_gradients(model)
        model.accumulate_gradients(Batch(rows), 100, generator)
        gradients.append(flat_gradient(model))
    assert z_scores(torch.stack(gradients), expected).abs().max() < 4


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_returned_difference_of_free_energies(kind, x):
    """To rounding, for the chains that the update ended with."""
    model, rows = rbm(KINDS[kind]), x[[3, 10, 12]]
    before = model.chains.clone()
    zero_gradients(model)
    loss = model.accumulate_gradients(Batch(rows), 3, torch.Generator().manual_seed(7))
    chains, generator = (before if kind == "pcd" else rows), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _ in range(3):
            h = (
                torch.rand(len(chains), HIDDEN, generator=generator, dtype=torch.float64)
                < torch.sigmoid(chains @ model.weight.t() + model.hidden_bias)
            ).double()
            chains = (
                torch.rand(chains.shape, generator=generator, dtype=torch.float64)
                < torch.sigmoid(h @ model.weight + model.visible_bias)
            ).double()
    if kind == "pcd":
        assert torch.equal(model.chains, chains)
    states = exact.all_binary(HIDDEN)
    expected = torch.logsumexp(log_joint(model, chains, states), 1).mean()
    expected = expected - torch.logsumexp(log_joint(model, rows, states), 1).mean()
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(expected, list(model.parameters()))])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert torch.allclose(flat_gradient(model), gradient, atol=1e-12)


def test_float32_gradient_equals_the_double_one(x):
    """At k = 0, where nothing is drawn: chains that start equal stay equal."""
    gradients = []
    for dtype in (torch.float64, torch.float32):
        model = rbm().to(dtype)
        model.chains.copy_(x[:7].to(dtype))
        zero_gradients(model)
        model.accumulate_gradients(Batch(x[9:20].to(dtype)), 0, torch.Generator())
        gradients.append(flat_gradient(model).double())
    # a sum of about twenty terms of order one tenth, each rounded to 2^-24 and off by the fused sigmoid's 4e-7
    assert torch.allclose(*gradients, atol=20 * 0.1 * 5e-7)


@pytest.mark.parametrize("chains", [0, 50])
def test_samples_have_the_exact_distribution(chains):
    """Chi-square over all 2^4 rows of 20,000 chains, which start from the columns' means or from persistent chains."""
    n_visible, n = 4, 20_000
    model, rows = rbm(seed=3, n_visible=n_visible, chains=chains, gibbs_steps=60), exact.all_binary(n_visible)
    p = exact_log_p(model, rows).exp().detach()
    draws = model.sample(n, torch.Generator().manual_seed(10))
    assert torch.equal(draws, model.sample(n, torch.Generator().manual_seed(10)))
    codes = (draws.long() * 2 ** torch.arange(n_visible - 1, -1, -1)).sum(1)
    chi_square = ((torch.bincount(codes, minlength=2**n_visible) - n * p) ** 2 / (n * p)).sum().item()
    degrees = 2**n_visible - 1
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)


def test_base_rates_are_those_of_the_rows_trained_on(x):
    model = build("rbm", N_VISIBLE, {"hidden": 3})
    assert (model._base_logits() == 0).all()
    step, generator = UpdateStep(model), torch.Generator().manual_seed(11)
    for rows in (x[20:30], x[25:32]):
        step.run(Batch(rows.float()), 1, generator, 0.01, 0.0)
    means = (x[20:30].sum(0) + x[25:32].sum(0) + 1) / (17 + 2)
    assert torch.allclose(model._base_logits(), torch.logit(means).float())


def rbm_cell(kind, **training):
    training = {"phases": (Phase(60, 1e-2, 2), Phase(30, 1e-3, 1)), **training}
    return cell("rbm", {"hidden": 8, "chains": 20 if kind == "pcd" else 0}, **training)


def measured(run, chosen):
    return {row["metric"]: row for row in evaluate(run, chosen, patterns(), CPU, "smoke")}


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_measured_with_the_error_of_log_z(kind, tmp_path):
    chosen = rbm_cell(kind)
    chosen = replace(chosen, evaluation=replace(chosen.evaluation, z_outer=100, z_inner=100))
    assert train(chosen, patterns(), tmp_path, CPU) == OK
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve.valid_loss.min() < curve.valid_loss.iloc[0]
    rows = measured(tmp_path, chosen)
    assert set(rows) == {"-log p", "log Z"}
    nll, log_z = rows["-log p"], rows["log Z"]
    model = build("rbm", 12, dict(chosen.model))
    weights.load(tmp_path / "model.safetensors", model, file_digest(tmp_path / "model.safetensors"))
    model.double()
    x = torch.from_numpy(patterns().test).double()
    assert abs(log_z["value"] - exact_log_z(model).item()) < 4 * log_z["sem"]
    per_row = exact_log_p(model, x).detach()
    error_of_z = nll["value"] + per_row.mean().item() - log_z["value"] + exact_log_z(model).item()
    assert error_of_z == pytest.approx(0.0, abs=1e-4)  # float32 activations of order ten, twelve columns
    assert nll["mc_error"] == log_z["sem"]
    assert nll["sem"] == pytest.approx(math.hypot(per_row.std().item() / math.sqrt(len(x)), log_z["sem"]), rel=1e-3)
    assert {row["estimator"] for row in rows.values()} == {"annealed importance sampling"}
    assert not nll["message"]


def test_an_unreliable_log_z_is_remarked(tmp_path):
    chosen = rbm_cell("pcd")
    chosen = replace(chosen, evaluation=replace(chosen.evaluation, z_outer=4, z_inner=1))
    train(chosen, patterns(), tmp_path, CPU)
    for row in measured(tmp_path, chosen).values():
        assert row["status"] == OK
        assert "effective chains of 4" in row["message"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop_after", [1, 33, 60, 75])
def test_stopping_and_going_on_changes_no_bit(kind, stop_after, tmp_path):
    """Persistent chains and counted rows are in the checkpoint."""
    chosen = rbm_cell(kind, checkpoint_every_s=1e9)
    for name in ("first", "second"):
        assert train(chosen, patterns(), tmp_path / name, CPU) == OK
    train_until(chosen, tmp_path / "stopped", stop_after)
    assert train(chosen, patterns(), tmp_path / "stopped", CPU) == OK
    models = {(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second", "stopped")}
    assert len(models) == 1
    curves = [pd.read_csv(tmp_path / name / "curve.csv").drop(columns="seconds") for name in ("first", "stopped")]
    pd.testing.assert_frame_equal(*curves)


@pytest.mark.parametrize("kind", KINDS)
def test_no_number_is_needed_on_the_host(kind):
    """On the meta device every operation is dispatched but no number exists."""
    meta = torch.device("meta")
    step = UpdateStep(build("rbm", N_VISIBLE, {"hidden": 3, "chains": KINDS[kind], "gibbs_steps": 2}).to(meta))
    x = torch.empty(6, N_VISIBLE, device=meta)
    assert step._whole(Batch(x), 2, torch.Generator()).shape == ()
    assert step.model.log_unnormalised(x).shape == (6,)
    assert step.model.log_partition_samples(6, 3, torch.Generator()).shape == (6,)
    assert step.model.sample(6, torch.Generator()).shape == (6, N_VISIBLE)


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_updates_equal_eager_ones(kind, x):
    """Chains and counts are memory that a captured update reads and writes."""
    states, losses = [], []
    for captured in (True, False):
        step = UpdateStep(rbm(KINDS[kind]), "float32")
        if captured:
            optimiser = (step.parameters.values, step.parameters.gradients, step.first, step.second)
            persistent = (*optimiser, *step.model.buffers())
            step._graphs = type("Recorded", (RecordedOperations,), {"persistent": persistent})
        draws = torch.Generator().manual_seed(12)
        found = [step.run(Batch(x[i : i + 6]), 2, draws, 0.01, 1e-3).item() for i in range(12)]
        states.append([tensor.detach().clone() for tensor in step.model.state_dict().values()])
        losses.append(found)
    assert losses[0] == losses[1]
    assert all(torch.equal(*pair) for pair in zip(*states, strict=True))
