"""Hamiltonian transitions written out: kernels against tensor operations, these against automatic differentiation.

Whole gradients of VAE + HMC against those of its loss are in tests/test_gaussian.py.
"""

import copy
import math

import pytest
import torch
from enumerable import small_model, zero_gradients
from test_gaussian import DTYPES, N_VISIBLE, batch, close, generator

from harness.bench.floor import record_products
from harness.blocks import bernoulli, hamiltonian, perceptron
from harness.plugins.registry import build
from harness.training.step import UpdateStep

SIZES = [(6, 32), (4, 17), (8, 1)]  # whole vectors, and not
GROUPS = 3
TRANSITIONS = {"latent": 3, "hidden": [6, 5], "iterations": 3, "leapfrog_steps": 2, "reverse_hidden": 7}
FUNCTIONS = {  # arguments by kind: see ``arguments``
    "tanh": ("matrix", "bias"),
    "residual": ("matrix", "bias", "rows", "ones", "sums"),
    "pass_slope": ("matrix", "units"),
    "bend": ("matrix", "units", "other matrix", "state"),
    "pass_bent": ("matrix", "units", "state", "sums"),
    "pass_residual": ("matrix", "residuals", "rows", 0.3, "sums"),
    "drift": ("state", "state", "state", "step", "state", "state", "matrix"),
    "kick": ("matrix", "state", "state", "step", "state", "state"),
    "pass_kick": ("state", "state", "step", "state", "state", "matrix", "sums"),
    "pass_drift": ("matrix", "state", "state", "state", "state", "step", "state", "sums"),
    "join_tanh": ("groups", "of rows", "group bias", GROUPS),
    "score_momenta": ("outputs", "output bias", "group state", "weight", "log prob", "group state", "output sums"),
    "pass_join": ("groups", "group units", "of rows", "group sums", GROUPS),
}


def arguments(name, n_rows, n, dtype, seed=0):
    """Arguments for a function: matrices of products in ``dtype``, states, steps and sums in float32."""
    draws = generator(seed)

    def normal(*shape):
        return torch.randn(shape, generator=draws)

    half = n_rows // 2  # rows: each stands for two of a matrix
    value = (torch.rand(half, n, generator=draws) < 0.4).float()
    shapes = {
        "matrix": lambda: normal(n_rows, n).to(dtype),
        "other matrix": lambda: normal(n_rows, n).to(dtype),
        "units": lambda: torch.tanh(normal(n_rows, n)).to(dtype),
        "residuals": lambda: (value.repeat_interleave(2, 0) - torch.sigmoid(normal(n_rows, n))).to(dtype),
        "rows": lambda: value,
        "ones": lambda: torch.ones(n_rows),
        "state": lambda: normal(n_rows, n),
        "step": lambda: torch.rand(n, generator=draws),
        "bias": lambda: normal(n),
        "sums": lambda: torch.ones(n),
        "groups": lambda: normal(GROUPS * n_rows, n).to(dtype),
        "group units": lambda: torch.tanh(normal(GROUPS * n_rows, n)).to(dtype),
        "of rows": lambda: normal(half, GROUPS * n).to(dtype),
        "group bias": lambda: normal(GROUPS * n),
        "group state": lambda: normal(GROUPS * n_rows, n),
        "outputs": lambda: normal(GROUPS * n_rows, 2 * n).to(dtype),
        "output bias": lambda: normal(GROUPS, 2 * n),
        "output sums": lambda: torch.ones(GROUPS, 2 * n),
        "weight": lambda: torch.rand(n_rows, generator=draws),
        "log prob": lambda: torch.ones(n_rows, dtype=torch.float64),
        "group sums": lambda: torch.ones(GROUPS * n),
    }
    return [shapes[kind]() if isinstance(kind, str) else kind for kind in FUNCTIONS[name]]


def double(values):
    return [value.double() if isinstance(value, torch.Tensor) else value for value in values]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_kernels_say_what_tensor_operations_do(name, size, dtype):
    """Of every argument, whether it is written to or not; sums are over rows, or over columns of all groups."""
    found = arguments(name, *size, dtype)
    before = [value.clone() if isinstance(value, torch.Tensor) else value for value in found]
    expected = double(found)
    getattr(hamiltonian, name)(*found)
    getattr(hamiltonian, name)(*expected)
    terms, written = max(2 * size[0], GROUPS * size[1]), 0
    for one, other, start in zip(found, expected, before, strict=True):
        if isinstance(one, torch.Tensor):
            assert close(one, other, one.dtype, terms=terms)
            written += not torch.equal(one, start)
    assert written


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tensor_operations_round_what_kernels_round(name, monkeypatch):
    """On bfloat16 products, as other devices have them: results may lie on either side of a rounding."""
    found = arguments(name, 8, 32, torch.bfloat16)
    expected = [value.clone() if isinstance(value, torch.Tensor) else value for value in found]
    getattr(hamiltonian, name)(*expected)
    for module in (hamiltonian, perceptron, bernoulli):
        monkeypatch.setattr(module, "_fused", lambda product: False)
    getattr(hamiltonian, name)(*found)
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, torch.Tensor):
            assert close(one, other.double(), one.dtype, terms=GROUPS * 32)


@pytest.mark.parametrize("n", [4, 9, 31])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_do_not_depend_on_where_arrays_lie(name, n, dtype):
    """As tests/test_kernels_bernoulli.py has it: small arrays at ever other places in memory."""
    given = arguments(name, 6, n, dtype)
    places, kept, found = generator(11), [], set()
    for _ in range(100):
        kept.append(torch.empty(int(torch.randint(1, 200, (), generator=places))))
        if len(kept) > 30:
            kept.pop(int(torch.randint(30, (), generator=places)))
        moved = [value.clone() if isinstance(value, torch.Tensor) else value for value in given]
        getattr(hamiltonian, name)(*moved)
        found.add(tuple(bytes(each.view(torch.uint8).numpy()) for each in moved if isinstance(each, torch.Tensor)))
    assert len(found) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_visible(name, dtype):
    given = arguments(name, 6, 32, dtype)
    clean = [value.clone() if isinstance(value, torch.Tensor) else value for value in given]
    given[0][1] = torch.nan
    getattr(hamiltonian, name)(*given)
    getattr(hamiltonian, name)(*clean)
    changed = [
        each
        for each, other in zip(given, clean, strict=True)
        if isinstance(each, torch.Tensor) and not torch.equal(each, other)
    ]
    assert changed
    assert all(each.isnan().any() for each in changed)


class TestAgainstAutomaticDifferentiation:
    """In double precision; weights w of results make one number of them."""

    def leaves(self, *shapes):
        draws = generator(4)
        return [torch.randn(shape, generator=draws, dtype=torch.float64).requires_grad_() for shape in shapes]

    def test_a_leapfrog_step(self):
        size = 5, 3
        momentum, force, position, product, w_force, w_momentum, w_position = self.leaves(*[size] * 7)
        step = torch.rand(3, dtype=torch.float64, generator=generator(5)).requires_grad_()
        half = momentum + 0.5 * step * force
        moved = position + step * half
        ended = product - moved
        value = w_position * moved + w_force * ended + w_momentum * (half + 0.5 * step * ended)
        # the product depends on the position moved to: its gradient joins that by the latter
        leaves = momentum, force, position, product, step
        by_momentum, by_force, by_position, by_product, by_step = torch.autograd.grad(value.sum(), leaves)
        with torch.no_grad():
            found_step, rounded = torch.zeros(3).double(), torch.empty(size).double()
            of_force, of_position, of_momentum = w_force.clone(), w_position.clone(), w_momentum.clone()
            hamiltonian.pass_kick(of_momentum, ended, step, of_force, of_position, rounded, found_step)
            through = torch.zeros(size).double()
            hamiltonian.pass_drift(through, of_position, of_momentum, half, force, step, of_force, found_step)
        pairs = [(rounded, by_product), (of_force, by_force), (of_position, by_position)]
        for found, expected in [*pairs, (of_momentum, by_momentum), (found_step, by_step)]:
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)

    def test_a_slope_bends(self):
        activation, missed, weight = self.leaves(*[(5, 3)] * 3)
        passed = missed * (1.0 - torch.tanh(activation).square())
        by_missed, by_activation = torch.autograd.grad((weight * passed).sum(), (missed, activation))
        with torch.no_grad():
            adjoint, curvature = weight.clone(), torch.empty(5, 3).double()
            hamiltonian.bend(adjoint, torch.tanh(activation), passed, curvature)
        torch.testing.assert_close(adjoint, by_missed, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(curvature, by_activation, rtol=1e-12, atol=1e-14)

    def test_momenta_are_scored_by_the_outputs_of_their_group(self):
        output, bias, value = self.leaves((6, 4), (3, 4), (6, 2))
        weight = torch.rand(2, dtype=torch.float64, generator=generator(5))
        mean, log_std = (output.view(3, 2, 4) + bias[:, None]).chunk(2, dim=2)
        log_prob = torch.distributions.Normal(mean, log_std.exp()).log_prob(value.view(3, 2, 2)).sum((0, 2))
        expected = torch.autograd.grad((weight * log_prob).sum(), (output, value, bias))
        with torch.no_grad():
            total, by_value, by_bias = torch.zeros(2).double(), torch.empty(6, 2).double(), torch.zeros(3, 4).double()
            by_output = output.clone()
            hamiltonian.score_momenta(by_output, bias, value, weight, total, by_value, by_bias)
        constants = 3 * 2 * 0.5 * math.log(2.0 * math.pi)
        torch.testing.assert_close(total - constants, log_prob.detach(), rtol=1e-12, atol=1e-12)
        for found, other in zip((by_output, by_value, by_bias), expected, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-12, atol=1e-14)

    def test_residuals(self):
        logits, weight = self.leaves((6, 4), (6, 4))
        value = torch.rand(3, 4, generator=generator(6), dtype=torch.float64)  # probabilities are values as well
        rows = value.repeat_interleave(2, dim=0)
        missed = rows - torch.sigmoid(logits)
        log_p = rows * logits - torch.nn.functional.softplus(logits)
        (expected,) = torch.autograd.grad((weight * missed + 0.7 * log_p).sum(), logits)
        sums = torch.zeros(4).double()
        found = weight.detach().clone()
        hamiltonian.pass_residual(found, missed.detach(), value, 0.7, sums)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(sums, expected.sum(0), rtol=1e-12, atol=1e-14)


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("still", ["decoders", "encoders", "reverse", "log_step"])
def test_frozen_parameters_change_nothing_else(still, precision):
    """The gradients of all others are what they are where everything learns, to the bit; what is frozen stays."""
    found = []
    for freezes in (False, True):
        model = small_model("vae_hmc", n_visible=N_VISIBLE, scale=0.3, **TRANSITIONS).float()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not (freezes and name.startswith(still)))
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        step = UpdateStep(model, precision)
        step._gradients(batch(torch.float32), 2, generator(2))
        for parameter, rounded in step.parameters.rounded_weights.items():
            parameter.grad += rounded.gradient
        found.append(gradients(model))
        step.run(batch(torch.float32), 2, generator(2), 0.01, 0.0)
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name]) == (freezes and name.startswith(still))
    learning = [name for name in found[0] if not name.startswith(still)]
    assert learning
    assert all(torch.equal(found[0][name], found[1][name]) for name in learning)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_a_transition_costs_four_products_per_weight_of_the_decoder(n_samples):
    """Two for the force and two for the gradient through it; those by the weights are one each, for all of them."""
    counts = []
    for iterations in (2, 3):
        model = build("vae_hmc", N_VISIBLE, {**TRANSITIONS, "iterations": iterations, "leapfrog_steps": 1})
        zero_gradients(model)
        rows = batch(torch.float32)
        counts.append(len(record_products(lambda m=model, r=rows: m.accumulate_gradients(r, n_samples, generator()))))
    assert counts[1] - counts[0] == 4 * 3


def test_values_do_not_depend_on_what_was_in_memory():
    """More rows, then fewer, then other numbers of samples: as a copy that has seen nothing else."""
    used = small_model("vae_hmc", n_visible=N_VISIBLE, scale=0.4, **TRANSITIONS).float()
    rows = batch(torch.float32)
    for n_samples in (4, 1, 2):
        fresh = copy.deepcopy(used)
        losses = []
        for model in (used, fresh):
            zero_gradients(model)
            losses.append(model.accumulate_gradients(rows, n_samples, generator(3)).item())
        assert losses[0] == losses[1]
        pairs = zip(gradients(used).values(), gradients(fresh).values(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
