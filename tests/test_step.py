"""One update: the fused Adam against PyTorch's, the penalty, rounded products, and captured updates on a GPU."""

import copy

import pytest
import torch
from cells import cell
from enumerable import STACKS, small_stack

from harness.compute.precision import product_dtype
from harness.errors import ConfigError
from harness.method import Batch
from harness.plugins.registry import build, method_class
from harness.training.flat import FlatParameters
from harness.training.state import new_model
from harness.training.step import UpdateStep

N_VISIBLE = 5


def batch(n=20, n_visible=N_VISIBLE, dtype=torch.float32):
    return Batch((torch.rand(n, n_visible, generator=torch.Generator().manual_seed(0)) < 0.5).to(dtype))


def model_and_step(dtype=torch.float32, precision="float32"):
    model = small_stack("bihm").to(dtype)
    return model, UpdateStep(model, precision)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_updates_are_those_of_adam(dtype):
    """Twenty updates on the gradients that the step itself used, stepped by torch.optim.Adam."""
    _, step = model_and_step(dtype)
    reference = step.parameters.values.clone()
    optimizer = torch.optim.Adam([reference], lr=0.01, betas=(0.9, 0.999), eps=1e-8)
    recorded = []
    gradients = step._gradients

    def record(*arguments):
        loss = gradients(*arguments)
        recorded.append(step.parameters.gradients.clone())
        return loss

    step._gradients = record
    generator = torch.Generator().manual_seed(1)
    for update in range(20):
        weights = reference[: step.parameters.n_weights].sign()
        step.run(batch(dtype=dtype), 4, generator, 0.01, 1e-3)
        reference.grad = recorded[update]
        reference.grad[: len(weights)] += 1e-3 * weights
        optimizer.step()
        assert step.parameters.gradients.abs().sum() == 0
    # float32: every update rounds a few times, 20 updates of 0.01 beside values of order 1
    tolerance = 20 * 4 * 2.0**-24 if dtype == torch.float32 else 1e-14
    assert (step.parameters.values - reference).abs().max() < tolerance


def test_l1_has_the_strength_of_summed_gradients():
    """Twice the same update, with and without the penalty: the first moments differ by (1 - beta1) lambda sign(w)."""
    chosen = cell(batch_size=100, l1=1e-3)
    moments = []
    for l1 in (0.0, chosen.training.l1 / chosen.training.batch_size):
        model = new_model(chosen, 12)
        signs = FlatParameters(model).values.sign()
        step = UpdateStep(model, "float32")
        step.run(batch(100, 12), 3, torch.Generator().manual_seed(2), 1e-3, l1)
        moments.append(step.first)
    expected = 0.1 * 1e-5 * signs
    expected[step.parameters.n_weights :] = 0
    assert torch.allclose(moments[1] - moments[0], expected, atol=1e-9)


def test_state_continues_where_it_was():
    values = []
    for interrupted in (False, True):
        model, step = model_and_step()
        generator = torch.Generator().manual_seed(3)
        for update in range(6):
            if interrupted and update == 3:
                state = {name: tensor.clone() for name, tensor in step.state().items()}
                step = UpdateStep(model, "float32")
                step.load_state(state)
            step.run(batch(), 4, generator, 0.01, 0.0)
        values.append(step.parameters.values)
    assert torch.equal(*values)


@pytest.mark.parametrize("name", ["bihm", "rws"])
def test_rounded_products_give_the_gradient_of_the_rounded_weights(name):
    """bfloat16 training computes what float32 does at weights rounded to bfloat16, but for the rounding of products.

    Same draws are impossible (probabilities differ in the last bits), so mean gradients are compared, as z-scores.
    """
    gradients = {}
    for precision in ("float32", "bfloat16"):
        model = small_stack(name).float()
        step = UpdateStep(model, precision)
        assert (step.product_dtype is None) == (precision == "float32")
        step.parameters.values.copy_(step.parameters.values.bfloat16())
        generator = torch.Generator().manual_seed(4)
        repeats = []
        for _ in range(300):
            step._gradients(batch(8), 50, generator)
            total = step.parameters.gradients.double().clone()
            total[: len(step.parameters.products)] += step.parameters.products
            repeats.append(total)
            step.parameters.gradients.zero_()
            step.parameters.products.zero_()
        gradients[precision] = torch.stack(repeats)
    exact, rounded = gradients["float32"], gradients["bfloat16"]
    error = (exact.var(0) / len(exact) + rounded.var(0) / len(rounded)).sqrt()
    difference = (exact.mean(0) - rounded.mean(0)).abs()
    moved = error > 0
    assert moved.sum() > 20
    # a product's rounding moves a logit of size 4 by at most 4 * 2^-8, a probability by a quarter of that
    assert (difference[moved] < 4.5 * error[moved] + 2.0**-8 * exact.abs().mean(0)[moved]).all()


def test_rounding_follows_the_parameters():
    model, step = model_and_step(precision="bfloat16")
    with torch.no_grad():
        model.p_weight[0].fill_(1.0 + 2.0**-10)
    step.run(batch(), 2, torch.Generator().manual_seed(5), 0.0, 0.0)
    assert (step.parameters.rounded_weights[model.p_weight[0]].value == 1.0).all()
    assert (model.p_weight[0] != 1.0).all()


@pytest.mark.parametrize("name", ["bihm", "bihm_nade"])
def test_the_last_step_of_a_model_decides_how_it_multiplies(name):
    """Weights that nobody rounds any more are not used, neither after a second step nor in a copy of the model."""
    values = []
    for earlier in ((), ("bfloat16",)):
        model = build(name, N_VISIBLE, {"layers": [4, 2], **({"hidden": [3, 3, 3]} if name == "bihm_nade" else {})})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
        for precision in (*earlier, "float32"):
            step = UpdateStep(model, precision)
        assert step.parameters.rounded_weights == {}
        step.run(batch(), 4, torch.Generator().manual_seed(6), 0.1, 0.0)
        values.append(step.parameters.values)
    assert torch.equal(*values)
    step = UpdateStep(model, "bfloat16")
    weights = {id(weight) for weight in step.parameters.rounded_weights}
    assert weights == {id(parameter) for parameter in model.parameters() if parameter.dim() >= 2}
    with pytest.raises(AttributeError):
        copy.deepcopy(model).infer(batch().x, 2, torch.Generator(), dtype=torch.bfloat16)


def test_precision_is_a_choice_of_methods_that_offer_it():
    cpu = torch.device("cpu")
    stack = build("bihm", N_VISIBLE, STACKS["bihm"])
    assert product_dtype(stack, "float32", cpu) is None
    assert product_dtype(stack, "bfloat16", cpu) == torch.bfloat16
    assert product_dtype(stack.double(), "bfloat16", cpu) is None
    assert product_dtype(build("nade", N_VISIBLE, {"hidden": 3}), "bfloat16", cpu) is None
    assert product_dtype(build("vae_hmc", N_VISIBLE, {"latent": 2, "hidden": [3]}), "bfloat16", cpu) == torch.bfloat16
    with pytest.raises(ConfigError, match=r"training\.precision: expected one of auto, .*, found 'half'"):
        product_dtype(stack, "half", cpu)


def test_a_loss_of_a_derived_class_is_what_it_is_trained_on():
    """VAE computes its gradients itself; a class with another loss must not be trained on these."""

    class Weighted(method_class("vae")):
        def loss(self, batch, n_samples, generator):
            return 3.0 * super().loss(batch, n_samples, generator)

    class Both(Weighted):
        def accumulate_gradients(self, batch, n_samples, generator):
            return torch.tensor(0.25)

    def model(cls):
        torch.manual_seed(0)
        return cls(5, latent=2, hidden=[3])

    x = torch.randint(0, 2, (4, 5), generator=torch.Generator().manual_seed(0)).float()
    losses = {}
    for cls in (method_class("vae"), Weighted, Both):
        step = UpdateStep(model(cls))
        losses[cls] = float(step.loss(Batch(x, torch.full((4,), -1)), 1, torch.Generator().manual_seed(1)))
    plain, weighted, both = losses.values()
    assert weighted == pytest.approx(3.0 * plain, rel=0.01)  # products are in bfloat16 in one of them
    assert both == 0.25
