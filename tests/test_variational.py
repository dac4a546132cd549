"""Wake-sleep, NVIL, VIMCO and VAE + HMC: mean gradients and weights against exact sums, derivatives and quadrature."""

import csv
import importlib.resources
import itertools
import math

import pytest
import torch
from enumerable import N_VISIBLE, flat_gradient, small_model, z_scores, zero_gradients
from harness.methods.vae_hmc import force
from harness.methods.vimco import leave_one_out_log_means
from test_estimators import quadrature_p
from test_gradients import autograd, mean_gradients

from harness import estimators
from harness.blocks import exact
from harness.blocks.bernoulli import log_bernoulli
from harness.errors import ConfigError
from harness.method import Batch
from harness.settings import config

HMC = {"latent": 2, "hidden": [4, 3], "iterations": 2, "leapfrog_steps": 2, "reverse_hidden": 5}


@pytest.fixture(name="x")
def some_rows():
    return exact.all_binary(N_VISIBLE)[[3, 10, 12, 29]]


def test_wake_sleep_mean_gradient_is_exact(x):
    """p: that of E_q[log p(x, h)], q held; q: that of E_p[log q(h | x)], p held."""
    model = small_model("wake_sleep", layers=[3, 2])
    log_p, log_q = exact.joint_tables(model, x)
    wake = -(log_q.exp().detach() * log_p).sum(1).mean()
    all_log_p, all_log_q = exact.joint_tables(model, exact.all_binary(N_VISIBLE))
    sleep = -(all_log_p.exp().detach() * all_log_q).sum()
    expected = autograd(model, wake + sleep)
    repeats = mean_gradients(model, Batch(x.repeat(200, 1)), n_samples=2)
    assert z_scores(repeats, expected).abs().max() < 4


MEANS, VARIANCES = (-2.0, -1.0, 0.5), (4.0, 0.5, 2.25)  # moments of the learning signals, as if of earlier batches


class TestNVIL:
    LAYERS = (3, 2, 2)

    @pytest.fixture(name="model")
    def small_nvil(self):
        return small_model("nvil", layers=list(self.LAYERS), baseline_hidden=4)

    def tables(self, model, x):
        """Rows, states, and log q(h_l | h_{l-1}) and log p(h_{l-1} | h_l) of every layer, log p(h_L) last."""
        h = exact.latent_states(model)
        rows, states = x.repeat_interleave(len(h[0]), dim=0), [layer.repeat(len(x), 1) for layer in h]
        chain = [rows, *states]
        log_q = [
            log_bernoulli(above, layer.product(below) + layer.bias)
            for below, above, layer in zip(chain, states, model.q_layers, strict=False)
        ]
        log_p = [
            log_bernoulli(below, layer.product(above) + layer.bias)
            for below, above, layer in zip(chain, states, model.p_layers, strict=False)
        ]
        return chain, log_q, [*log_p, log_bernoulli(states[-1], model.prior_bias)]

    def signals(self, log_q, log_p):
        return [sum(log_p[level:]) - sum(log_q[level:]) for level in range(len(log_q))]

    def set_moments(self, model):
        model.signal_mean.copy_(torch.tensor(MEANS))
        model.signal_variance.copy_(torch.tensor(VARIANCES))

    def test_mean_gradient_is_that_of_the_exact_bound(self, model, x):
        """A layer of q over max(1, standard deviation); baselines: that of the mean square of what they leave."""
        chain, log_q, log_p = self.tables(model, x)
        posterior = sum(log_q).exp()
        bound = (posterior * (sum(log_p) - sum(log_q))).sum() / len(x)
        errors = [
            (posterior.detach() * (signal.detach() - mean - baseline(seen)[0]).square()).sum() / len(x)
            for signal, mean, baseline, seen in zip(
                self.signals(log_q, log_p), MEANS, model.baselines, chain, strict=False
            )
        ]
        autograd(model, sum(errors) - bound)
        for variance, layer in zip(VARIANCES, model.q_layers, strict=True):
            for parameter in layer.parameters():
                parameter.grad /= max(1.0, math.sqrt(variance))
        expected = flat_gradient(model)
        batch, generator, gradients = Batch(x.repeat(300, 1)), torch.Generator().manual_seed(1), []
        for _ in range(200):
            self.set_moments(model)
            zero_gradients(model)
            model.accumulate_gradients(batch, 2, generator)
            gradients.append(flat_gradient(model))
        assert z_scores(torch.stack(gradients), expected).abs().max() < 4

    @pytest.mark.parametrize("n_samples", [1, 3])
    def test_signals_leave_out_what_a_layer_cannot_influence(self, model, x, n_samples):
        inferred = model.infer(x, n_samples, torch.Generator().manual_seed(2))
        found = model.signals(inferred)
        chain = [x.repeat_interleave(n_samples, dim=0), *inferred.h]
        log_prior = log_bernoulli(inferred.h[-1], model.prior_bias)
        for level, signal in enumerate(found):
            log_p, log_q = log_prior, 0.0
            for above in range(level, len(self.LAYERS)):
                p, q = model.p_layers[above], model.q_layers[above]
                log_p = log_p + log_bernoulli(chain[above], p.product(chain[above + 1]) + p.bias)
                log_q = log_q + log_bernoulli(chain[above + 1], q.product(chain[above]) + q.bias)
            assert torch.allclose(signal, log_p - log_q)

    def test_moments_run_over_batches_and_are_in_the_checkpoint(self, model, x):
        self.set_moments(model)
        zero_gradients(model)
        inferred = model.infer(x, 2, torch.Generator().manual_seed(3))
        signals = [signal.view(len(x), -1) for signal in model.signals(inferred)]
        seen = [x, *inferred.h[:-1]]
        left = [s - b(i)[0].view(len(x), -1) for s, b, i in zip(signals, model.baselines, seen, strict=True)]
        model.accumulate_gradients(Batch(x), 2, torch.Generator().manual_seed(3))
        state = model.state_dict()
        for level, (mean, variance) in enumerate(zip(MEANS, VARIANCES, strict=True)):
            expected = 0.8 * mean + 0.2 * left[level].mean().item()
            assert state["signal_mean"][level].item() == pytest.approx(expected, rel=1e-12)
            expected = 0.8 * variance + 0.2 * left[level].var(correction=0).item()
            assert state["signal_variance"][level].item() == pytest.approx(expected, rel=1e-12)

    def test_baseline_reduces_the_variance_of_the_gradient(self, model, x):
        """Its training is worth its cost: the trained baseline against one that stays zero, q's gradients."""
        spread = {}
        for trained in (False, True):
            for baseline in model.baselines:
                baseline.output_weight.data.zero_()
                baseline.output_bias.data.zero_()
            generator = torch.Generator().manual_seed(4)
            for _ in range(600 if trained else 0):
                zero_gradients(model)
                model.accumulate_gradients(Batch(x), 5, generator)
                for parameter in model.baselines.parameters():
                    parameter.data -= 0.02 * parameter.grad
            gradients = []
            for _ in range(1000):
                model.signal_mean.zero_()
                model.signal_variance.zero_()
                zero_gradients(model)
                model.accumulate_gradients(Batch(x), 5, generator)
                gradients.append(torch.cat([p.grad.flatten() for layer in model.q_layers for p in layer.parameters()]))
            spread[trained] = torch.stack(gradients).var(0).sum().item()
        # a variance over 1000 repeats has a relative error of about 0.05
        assert spread[True] < 0.85 * spread[False]


@pytest.mark.parametrize("n_samples", [2, 3])
def test_vimco_mean_gradient_is_that_of_the_exact_k_sample_bound(n_samples, x):
    """All tuples of K latent states, each with the product of their probabilities under q."""
    model = small_model("vimco", layers=[2, 1])
    log_p, log_q = exact.joint_tables(model, x)
    log_weights = log_p - log_q
    n_states = log_q.shape[1]
    tuples = torch.tensor(list(itertools.product(range(n_states), repeat=n_samples)))  # [S^K, K]
    values = torch.logsumexp(log_weights[:, tuples], dim=2) - math.log(n_samples)
    bound = (log_q[:, tuples].sum(2).exp() * values).sum(1).mean()
    expected = autograd(model, -bound)
    repeats = mean_gradients(model, Batch(x.repeat(500, 1)), n_samples)
    assert z_scores(repeats, expected).abs().max() < 4


def test_vimco_leaves_each_sample_out():
    log_weights = 5 * torch.randn(6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    log_weights[0, 3] = 200.0  # the others are lost in the sum of all weights, but not where it is left out
    found = leave_one_out_log_means(log_weights)
    for k in range(7):
        others = log_weights[:, [i for i in range(7) if i != k]]
        replaced = torch.cat([others, others.mean(1, keepdim=True)], dim=1)
        assert torch.allclose(found[:, k], torch.logsumexp(replaced, dim=1) - math.log(7), rtol=1e-12)


def test_vimco_needs_two_samples(x):
    model = small_model("vimco", layers=[2])
    with pytest.raises(ConfigError, match="expected at least 2, found 1"):
        model.accumulate_gradients(Batch(x), 1, torch.Generator())


class TestHamiltonianVAE:
    @pytest.fixture(name="model")
    def small_hmc(self):
        model = small_model("vae_hmc", seed=3, n_visible=4, scale=0.4, **HMC)
        with torch.no_grad():
            model.log_step -= 1.0  # steps around 0.37 in units of the prior
            for name, parameter in model.named_parameters():
                if name.startswith(("reverse", "encoders.0.4")):
                    parameter.mul_(0.3)
            # a q wider and reverse models narrower than their targets: no heavy tails, so means of weights are normal
            model.encoders[0][-1].bias[2:] += 0.2
            model.reverse_output_bias.view(HMC["iterations"], 2, 2)[:, 1] -= 0.3
        return model

    @pytest.fixture(name="state")
    def start(self, model):
        """x, z and v, and the force at z."""
        generator = torch.Generator().manual_seed(6)
        x = exact.all_binary(4)[[2, 7, 13]]
        z, v = (torch.randn(3, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
        return x, z, v, force(x, z, model.decoder_layers())[0].detach()

    def test_weights_are_unbiased_for_the_quadrature_value(self, model):
        x = exact.all_binary(4)
        with torch.inference_mode():
            expected = quadrature_p(model, x)
            assert expected.sum().item() == pytest.approx(1.0, abs=1e-5)
            generator = torch.Generator().manual_seed(7)
            repeats = torch.stack(
                [estimators.importance_estimates(model, x, 50, generator, 10_000).log_p.exp() for _ in range(400)]
            )
        assert z_scores(repeats, expected).abs().max() < 4
        assert (repeats.std(0) > 0.01 * expected).all()  # so that z-scores mean something

    def test_force_is_the_derivative_of_the_log_joint(self, model, state):
        x, z, _, slope = state
        z = z.requires_grad_()
        log_joint = model.log_likelihood(x, z) - 0.5 * z.square().sum(-1)
        (expected,) = torch.autograd.grad(log_joint.sum(), z)
        assert torch.allclose(slope, expected, atol=1e-12)

    def test_leapfrog_is_reversible(self, model, state):
        x, z, v, slope = state
        step = torch.tensor([0.3, 0.7], dtype=torch.float64)
        new_z, new_v, new_slope, _ = model.leapfrog(x, z, v, slope, step, model.decoder_layers())
        assert not torch.allclose(new_z, z, atol=0.1)
        back_z, back_v, back_slope, _ = model.leapfrog(x, new_z, -new_v, new_slope, step, model.decoder_layers())
        assert torch.allclose(back_z, z, atol=1e-12)
        assert torch.allclose(back_v, -v, atol=1e-12)
        assert torch.allclose(back_slope, slope, atol=1e-12)

    def test_leapfrog_keeps_volumes(self, model, state):
        x, z, v, _ = state
        step, decoder = torch.tensor([0.3, 0.7], dtype=torch.float64), model.decoder_layers()

        def moved(point):
            start, momentum = point[:2].view(1, 1, 2), point[2:].view(1, 1, 2)
            ended = model.leapfrog(x[:1], start, momentum, force(x[:1], start, decoder)[0], step, decoder)
            return torch.cat([ended[0].flatten(), ended[1].flatten()])

        jacobian = torch.autograd.functional.jacobian(moved, torch.cat([z[0, 0], v[0, 0]]))
        assert torch.linalg.det(jacobian).item() == pytest.approx(1.0, abs=1e-12)

    def test_small_steps_keep_the_energy(self, model, state):
        """The error of the Hamiltonian along a path of fixed length falls with the square of the step."""
        x, z, v, slope = state

        def energy(z, v):
            return -model.log_likelihood(x, z) + 0.5 * (z.square() + v.square()).sum(-1)

        errors = []
        for n_steps in (32, 64):
            model.leapfrog_steps = n_steps
            step = torch.full((2,), 1.0 / n_steps, dtype=torch.float64)
            ended = model.leapfrog(x, z, v, slope, step, model.decoder_layers())
            errors.append((energy(ended[0], ended[1]) - energy(z, v)).abs().max().item())
        assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)

    def test_loss_gradient_is_its_finite_difference(self, model):
        """Through the leapfrog and the force in it, along random directions, in double precision."""
        x = exact.all_binary(4)

        def loss():
            return model.loss(Batch(x), 2, torch.Generator().manual_seed(8))

        gradient = autograd(model, loss())
        directions = torch.Generator().manual_seed(9)
        start, size = torch.nn.utils.parameters_to_vector(model.parameters()).detach(), 1e-5
        for _ in range(5):
            direction = torch.randn(start.shape, generator=directions, dtype=torch.float64)
            values = []
            for change in (size * direction, -size * direction):
                torch.nn.utils.vector_to_parameters(start + change, model.parameters())
                values.append(loss().item())
            found = (values[0] - values[1]) / (2 * size)
            # central differences: relative error of order size^2 + rounding / size, both around 1e-10
            assert found == pytest.approx((gradient * direction).sum().item(), rel=1e-6)

    def test_transitions_tighten_the_bound(self):
        """From a poor q, transitions that the prior's own scale suggests: the bound with them beats that without."""
        x = exact.all_binary(4)
        bounds = {}
        for initial_step in (1e-6, 0.3):
            model = small_model("vae_hmc", seed=3, n_visible=4, scale=0.4, **HMC)
            with torch.no_grad():
                model.encoders[0][-1].bias.copy_(torch.tensor([2.0, -2.0, 0.0, 0.0]))  # means far off
                for parameter in (model.reverse_output, model.reverse_output_bias):
                    parameter.zero_()
                model.log_step.fill_(math.log(initial_step))
                weights = model.log_weights(x, 500, torch.Generator().manual_seed(10))
            bounds[initial_step] = weights.mean().item()
        assert bounds[0.3] > bounds[1e-6]

    def test_warm_up_climbs_the_bound_of_the_plain_vae(self, model):
        """As many updates as asked for; the count is in the checkpoint."""
        x = exact.all_binary(4)
        warm = small_model("vae_hmc", n_visible=4, **HMC, warm_up=2)
        warm.load_state_dict(model.state_dict())
        plain = super(type(model), model).log_weights(x, 3, torch.Generator().manual_seed(11))
        moved = model.log_weights(x, 3, torch.Generator().manual_seed(11))
        losses = [warm.loss(Batch(x), 3, torch.Generator().manual_seed(11)).item() for _ in range(3)]
        assert losses == [-plain.mean().item(), -plain.mean().item(), -moved.mean().item()]
        assert warm.state_dict()["n_updates"].item() == 3
        assert model.capturable
        assert not warm.capturable

    def test_wrong_sizes_are_refused(self):
        with pytest.raises(ConfigError, match="iterations: expected at least 1, found 0"):
            small_model("vae_hmc", **{**HMC, "iterations": 0})


def test_rws_has_the_depths_of_the_tables():
    """Table 3.2 as printed; Table 3.3 prints a number of layers."""
    path = importlib.resources.files("harness.reporting").joinpath("reference/thesis_reported.csv")
    with path.open(encoding="utf-8") as file:
        printed = {row["dataset"]: row["value"] for row in csv.DictReader(file) if is_rws_architecture(row)}
    cells = [cell for cell in config.cells(config.load_settings({"preset": "full"})) if cell.method == "rws"]
    layers = {cell.dataset: cell.model["layers"] for cell in cells if cell.seed == 0}
    assert len(layers.pop("binarized_mnist")) == 5
    assert {dataset: "-".join(map(str, sizes)) for dataset, sizes in layers.items()} == printed


def is_rws_architecture(row):
    return (row["table"], row["method"], row["metric"]) == ("3.2", "rws", "layers")
