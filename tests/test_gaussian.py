"""Gradients of Gaussian stacks and label heads: against automatic differentiation of ``loss`` on the same noise.

In double the tensor operations, which serve as the reference of the kernels; kernels against them, pass by pass; whole
updates in single precision and with bfloat16 products against the double ones.
"""

import copy
import itertools
import math

import pytest
import torch
from enumerable import flat_gradient, small_model, zero_gradients
from scipy import stats

from harness.blocks import label_head, normal, perceptron
from harness.blocks.scratch import Scratch
from harness.compute.precision import product_dtype
from harness.kernels import gaussian
from harness.method import Batch
from harness.plugins.registry import build
from harness.training.step import UpdateStep

CPU, META = torch.device("cpu"), torch.device("meta")
N_VISIBLE, N_ROWS = 24, 9
MODELS = {
    "vae": ("vae", {"latent": 3, "hidden": [6, 5]}),
    "iwae": ("iwae", {"layers": [4], "hidden": [[6, 5]]}),
    "iwae of three layers": ("iwae", {"layers": [5, 3, 2], "hidden": [[6], [4, 3], [3]]}),
    "vae_hmc while warming up": ("vae_hmc", {"latent": 3, "hidden": [6], "iterations": 2, "warm_up": 100}),
    "vae_hmc": ("vae_hmc", {"latent": 3, "hidden": [6], "iterations": 2}),
    "vae_hmc of several steps": (
        "vae_hmc",
        {"latent": 3, "hidden": [6, 5], "iterations": 3, "leapfrog_steps": 2, "reverse_hidden": 7},
    ),
}
HEADS = {
    "rectified units": ("label_mlp", {"hidden": 7, "n_classes": 3, "weight_decay": 0.1}),
    "logistic": ("label_logistic", {"n_classes": 3, "weight_decay": 0.1}),
}
NOISY = {"hidden": 7, "n_classes": 3, "dropout": 0.5, "input_dropout": 0.3, "weight_decay": 0.1}
LABELS = torch.tensor([0, 2, -1, 1, -1, 0, 2, 1, 1])
DTYPES = [torch.float32, torch.bfloat16]
# Of kernels: functions of fastmath err by less than 1e-6 relatively, 1e-6 absolutely where that is more, and a handful
# of roundings to float32 come on top. Sums of n terms have n times that. In double, what kernels are given is exact.
TERM = 2e-6
BFLOAT16 = 2.0**-8  # the step between two bfloat16 numbers, relatively: twice the largest error of rounding


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(dtype=torch.float64, n_visible=N_VISIBLE):
    x = (torch.rand(N_ROWS, n_visible, generator=generator(1)) < 0.4).to(dtype)
    return Batch(x, LABELS)


def by_autograd(model, rows, n_samples):
    zero_gradients(model)
    loss = model.loss(rows, n_samples, generator(2))
    loss.backward()
    return loss.item(), flat_gradient(model).double()


def written_out(model, rows, n_samples):
    zero_gradients(model)
    loss = model.accumulate_gradients(rows, n_samples, generator(2))
    assert not loss.requires_grad
    return loss.item(), flat_gradient(model).double()


@pytest.mark.parametrize("n_samples", [1, 4])
@pytest.mark.parametrize("case", MODELS)
def test_gradients_are_those_of_the_loss(case, n_samples):
    name, hyperparameters = MODELS[case]
    model = small_model(name, n_visible=N_VISIBLE, scale=0.4, **hyperparameters)
    expected_loss, expected = by_autograd(model, batch(), n_samples)
    loss, found = written_out(model, batch(), n_samples)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("case", [*HEADS, "noisy"])
def test_gradients_of_labels_are_those_of_the_loss(case):
    name, hyperparameters = HEADS.get(case, ("label_mlp", NOISY))
    model = small_model(name, n_visible=N_VISIBLE, **hyperparameters)
    expected_loss, expected = by_autograd(model, batch(), 1)
    loss, found = written_out(model, batch(), 1)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


def test_gradients_are_added_to_those_that_are_there():
    for name, hyperparameters in (*MODELS.values(), *HEADS.values()):
        model = small_model(name, n_visible=N_VISIBLE, scale=0.4, **hyperparameters)
        _, once = written_out(model, batch(), 2)
        model.accumulate_gradients(batch(), 2, generator(2))
        assert torch.allclose(flat_gradient(model), 2.0 * once, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", [*MODELS, *HEADS])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_updates_have_the_gradient_of_double_precision(case, precision, monkeypatch):
    """On the very same noise.

    Every product rounds two factors and its result, and lies on a path of as many products as there are layers, forward
    and back; to first order the gradient errs by no more than the sum of these roundings.
    """
    name, hyperparameters = {**MODELS, **HEADS}[case]
    model = small_model(name, n_visible=N_VISIBLE, scale=0.3, **hyperparameters).float()
    exact = copy.deepcopy(model).double()
    draws = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, dtype, **k: draws(*a, dtype=torch.float32, **k).to(dtype))
    expected_loss, expected = by_autograd(exact, batch(), 4)
    step = UpdateStep(model, precision)
    loss = step._gradients(batch(torch.float32), 4, generator(2)).item()
    step.parameters.gradients[: len(step.parameters.products)] += step.parameters.products
    found = flat_gradient(model).double()
    products = 2 * sum(parameter.dim() > 1 for parameter in model.parameters())
    rounding = 2.0**-9 if precision == "bfloat16" else TERM
    error = ((found - expected).norm() / expected.norm()).item()
    assert error < 3 * products * rounding
    assert loss == pytest.approx(expected_loss, rel=products * rounding)
    if precision == "bfloat16":  # else nothing was rounded
        assert error > 1e-5


@pytest.mark.parametrize("name", ["vae", "iwae", "vae_hmc", "label_mlp", "label_logistic"])
def test_precision_is_left_open(name):
    model = build(name, N_VISIBLE, dict({**MODELS, "label_mlp": (0, NOISY)}.get(name, (0, {}))[1]))
    assert product_dtype(model, "bfloat16", CPU) == torch.bfloat16
    assert product_dtype(model, "float32", CPU) is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", [*MODELS, *HEADS])
def test_the_same_updates_give_the_same_bits(case, precision):
    """Also for a copy of the model, and where memory was used for other rows in between."""
    name, hyperparameters = {**MODELS, **HEADS}[case]
    found = []
    for variant in ("once", "a copy", "other rows in between"):
        torch.manual_seed(0)
        model = build(name, N_VISIBLE, dict(hyperparameters))
        if variant == "a copy":
            zero_gradients(model)
            model.accumulate_gradients(batch(torch.float32), 2, generator(4))
            before = {key: value.clone() for key, value in model.state_dict().items()}
            model.load_state_dict({**before, "n_updates": torch.tensor(0)} if "n_updates" in before else before)
            model = copy.deepcopy(model)
        step, draws, losses = UpdateStep(model, precision), generator(3), []
        step.parameters.gradients.zero_()
        for update in range(6):
            rows, n = batch(torch.float32), 5 if update % 2 else N_ROWS
            losses.append(step.run(Batch(rows.x[:n], rows.y[:n]), 3, draws, 0.01, 1e-3).item())
            if variant == "other rows in between":
                buffers = [buffer.clone() for buffer in model.buffers()]
                step.loss(Batch(1.0 - rows.x, rows.y), 2, generator(4))
                for buffer, value in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(value)
        found.append((losses, step.parameters.values.clone()))
    assert found[0][0] == found[1][0] == found[2][0]
    assert all(torch.equal(found[0][1], values) for _, values in found[1:])


def test_a_warm_up_goes_over_to_transitions():
    hyperparameters = {"latent": 3, "hidden": [6], "iterations": 2, "warm_up": 3}
    model = build("vae_hmc", N_VISIBLE, hyperparameters)
    step, draws = UpdateStep(model, "float32"), generator(5)
    steps = [model.log_step.detach().clone()]
    for _ in range(5):
        step.run(batch(torch.float32), 2, draws, 0.01, 0.0)
        steps.append(model.log_step.detach().clone())
    moved = [not torch.equal(one, other) for one, other in itertools.pairwise(steps)]
    assert moved == [False, False, False, True, True]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_labels_need_no_number_on_the_host(precision):
    """As tests/test_gpu_path.py has it for methods without labels."""
    step = UpdateStep(build("label_mlp", N_VISIBLE, dict(NOISY)).to(META), precision)
    rows = Batch(torch.empty(N_ROWS, N_VISIBLE, device=META), torch.zeros(N_ROWS, dtype=torch.int64, device=META))
    loss = step._whole(rows, 1, generator())
    assert (loss.device, loss.shape) == (META, ())


# -- kernels against tensor operations --------------------------------------------------------------------------------


SIZES = [(6, 32), (4, 17), (8, 1)]  # whole vectors, and not


def inputs(n_rows, n, dtype, seed=0):
    """product, bias, and what is as large as the values, of which there are two per row of the product."""
    draws = generator(seed)
    product = torch.randn(n_rows, 2 * n, generator=draws).to(dtype)
    return product, torch.randn(2 * n, generator=draws), torch.randn(2 * n_rows, n, generator=draws)


def double(*tensors):
    return [tensor.double() for tensor in tensors]


def close(found, expected, dtype, terms=1):
    """Within the rounding of results, and of ``terms`` terms of a sum that are as large as the largest result."""
    rounding = BFLOAT16 if dtype == torch.bfloat16 else 0.0
    scale = expected.abs().max().clamp(min=1.0)
    return bool(((found.double() - expected).abs() <= rounding * expected.abs() + terms * TERM * scale).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
class TestKernels:
    def test_draw(self, size, dtype):
        product, bias, _ = inputs(*size, dtype)
        n_draws = 2 * len(product)
        total, expected_total = (torch.ones(n_draws, dtype=torch.float64) for _ in range(2))
        noise, value, rounded = normal.draw(product, bias, 2, generator(1), total, Scratch(), "h")
        mean, log_std = (product.double() + bias).repeat_interleave(2, 0).chunk(2, 1)
        expected = mean + log_std.exp() * noise.double()
        assert close(value, expected, torch.float32)
        assert rounded.dtype == dtype
        assert torch.equal(rounded, value.to(dtype))
        expected_total -= (0.5 * noise.double().square() + log_std).sum(1)
        assert close(total, expected_total, torch.float32, terms=size[1])
        reference = torch.ones(n_draws, dtype=torch.float64)
        drawn = normal.draw(*double(product, bias), 2, generator(1), reference, Scratch(), "h")
        again = -0.5 * drawn[0].square().sum(1) - log_std.sum(1) + 1.0
        assert torch.allclose(reference, again, rtol=1e-12)

    def test_score_and_its_gradients(self, size, dtype):
        product, bias, values = inputs(*size, dtype)
        value, weight = values[: len(product)], torch.rand(len(product), generator=generator(2))
        found, expected = (torch.ones(len(product), dtype=torch.float64) for _ in range(2))
        normal.score(product, bias, value, found)
        normal.score(*double(product, bias, value), expected)
        assert close(found, expected, torch.float32, terms=size[1])
        sums, by_value = torch.ones(2 * size[1]), torch.empty_like(value)
        expected_sums, expected_by_value = double(sums, by_value)
        reference = normal.score_gradients(*double(product, bias, value, weight), expected_sums, expected_by_value)
        gradient = normal.score_gradients(product.clone(), bias, value, weight, sums, by_value)
        assert gradient.dtype == dtype
        assert close(gradient, reference, dtype)
        assert close(by_value, expected_by_value, torch.float32)
        assert close(sums, expected_sums, torch.float32, terms=size[0])

    @pytest.mark.parametrize("divergence", [0.0, 0.5])
    def test_gradients_through_draws(self, size, dtype, divergence):
        product, bias, noise = inputs(*size, dtype)
        gradient, weight = noise.flip(0).to(dtype), torch.rand(len(noise), generator=generator(2))
        sums = torch.ones(2 * size[1])
        expected_sums = sums.double()
        arguments = product, bias, noise, gradient, weight
        reference = normal.draw_gradients(*double(*arguments), divergence, expected_sums)
        found = normal.draw_gradients(product.clone(), *arguments[1:], divergence, sums)
        assert found.dtype == dtype
        assert close(found, reference, dtype, terms=2)
        assert close(sums, expected_sums, torch.float32, terms=2 * size[0])

    def test_divergence(self, size, dtype):
        product, bias, _ = inputs(*size, dtype)
        found, expected = (torch.ones(len(product), dtype=torch.float64) for _ in range(2))
        normal.add_divergence(product, bias, found)
        normal.add_divergence(*double(product, bias), expected)
        assert close(found, expected, torch.float32, terms=size[1])

    @pytest.mark.parametrize("activation", perceptron.ACTIVATIONS.values())
    def test_activations(self, size, dtype, activation):
        product, bias, _ = inputs(*size, dtype)
        reference = perceptron.activate(*double(product, bias), activation)
        units = perceptron.activate(product.clone(), bias, activation)
        assert units.dtype == dtype
        assert close(units, reference, dtype)
        missed, sums = product.flip(1).contiguous(), torch.ones(2 * size[1])
        expected_sums = sums.double()
        expected = perceptron.pass_activation(*double(missed, units), expected_sums, activation)
        found = perceptron.pass_activation(missed.clone(), units, sums, activation)
        assert close(found, expected, dtype)
        assert close(sums, expected_sums, torch.float32, terms=size[0])

    def test_labels(self, size, dtype):
        product, bias, _ = inputs(*size, dtype)
        labels = torch.arange(size[0]) % (2 * size[1] + 1) - 1
        parameters = [torch.nn.Parameter(each) for each in (bias, bias.double())]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        found, log_prob = label_head._softmax_gradients(product.clone(), parameters[0], labels, 0.1)
        expected, exact = label_head._softmax_gradients(product.double(), parameters[1], labels, 0.1)
        assert close(found, expected, dtype)
        assert close(log_prob, exact, torch.float32, terms=2 * size[1])
        assert close(parameters[0].grad, parameters[1].grad, torch.float32, terms=size[0])
        assert (log_prob[labels < 0] == 0).all()

    def test_nan_stays_visible(self, size, dtype):
        product, bias, values = inputs(*size, dtype)
        product[1] = math.nan
        total = torch.zeros(len(values), dtype=torch.float64)
        normal.draw(product, bias, 2, generator(1), total, Scratch(), "h")
        assert torch.isnan(total.view(-1, 2).sum(1)).tolist() == [row == 1 for row in range(size[0])]
        for activation in perceptron.ACTIVATIONS.values():
            units = perceptron.activate(product.clone(), bias, activation)
            assert torch.isnan(units).all(1).tolist() == [row == 1 for row in range(size[0])]


@pytest.mark.parametrize("n", [4, 9, 31])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_do_not_depend_on_where_arrays_lie(n, dtype):
    """As tests/test_kernels_bernoulli.py has it: small arrays at ever other places in memory."""
    product, bias, values = inputs(6, n, dtype)
    weight = torch.rand(len(values), generator=generator(2))
    places, kept, found = generator(11), [], set()
    for _ in range(200):
        kept.append(torch.empty(int(torch.randint(1, 200, (), generator=places))))
        if len(kept) > 30:
            kept.pop(int(torch.randint(30, (), generator=places)))
        total, sums = torch.zeros(len(values), dtype=torch.float64), torch.zeros(2 * n)
        moved = [tensor.clone() for tensor in (product, bias, values, weight)]
        _, value, _ = normal.draw(*moved[:2], 2, generator(12), total, Scratch(), "h")
        normal.score(*moved[:2], value[:6].clone(), total[:6])
        through = normal.draw_gradients(moved[0].clone(), moved[1], moved[2], value, moved[3], 0.5, sums)
        by_value = torch.empty(6, n)
        scored = normal.score_gradients(moved[0].clone(), moved[1], value[:6].clone(), moved[3][:6], sums, by_value)
        units = perceptron.activate(moved[0], moved[1], torch.nn.Tanh)
        passed = perceptron.pass_activation(scored.clone(), units, sums, torch.nn.Tanh)
        results = total, value, through, scored, by_value, units, passed, sums
        found.add(tuple(bytes(tensor.view(torch.uint8).numpy()) for tensor in results))
    assert len(found) == 1


# -- leaving units out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.6])
def test_the_share_of_units_is_left_out_and_the_mean_kept(share, dtype):
    n_dropped, scale = label_head._of_bits(share)
    out = torch.empty(1000, 501, dtype=dtype)
    array = out.view(torch.uint16).numpy() if dtype == torch.bfloat16 else out.numpy()
    gaussian.drop(torch.ones(1000, 501).numpy(), n_dropped, scale, 17, array)
    kept = out != 0
    assert set(out[kept].tolist()) == {torch.tensor(scale).to(dtype).item()}
    assert stats.binomtest(int((~kept).sum()), out.numel(), share).pvalue > 1e-3
    columns = stats.chisquare(kept.sum(0).numpy(), ddof=0).pvalue
    assert columns > 1e-3
    for one, other in ((kept[:, :-1], kept[:, 1:]), (kept[:-1], kept[1:]), (kept[:, :-4], kept[:, 4:])):
        centred = (one.double() - 1 + share) * (other.double() - 1 + share) / (share * (1 - share))
        assert abs(centred.mean() * math.sqrt(centred.numel())) < 4


def test_noisy_gradients_in_single_precision_have_the_mean_of_double_ones():
    """The kernels draw other numbers: z-scores of the mean gradients, and of the mean losses, over seeds."""
    model = small_model("label_mlp", n_visible=N_VISIBLE, scale=0.4, **NOISY)
    single = copy.deepcopy(model).float()
    found = []
    for each, dtype in ((model, torch.float64), (single, torch.float32)):
        draws, rows, repeats = generator(6), batch(dtype), []
        for _ in range(3000):
            zero_gradients(each)
            loss = each.accumulate_gradients(rows, 1, draws)
            repeats.append(torch.cat([loss.double().view(1), flat_gradient(each).double()]))
        found.append(torch.stack(repeats))
    difference = found[0].mean(0) - found[1].mean(0)
    error = ((found[0].var(0) + found[1].var(0)) / 3000).sqrt()
    z = (difference / error)[error > 1e-12]
    assert z.abs().max() < stats.norm.isf(0.5e-3 / len(z))


def test_weight_decay_of_kernels():
    model = small_model("label_mlp", n_visible=N_VISIBLE, hidden=7, n_classes=3).float()
    zero_gradients(model)
    total = model.head.add_decay_gradients(0.3)
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    assert total == pytest.approx(sum(weight.double().square().sum().item() for weight in weights), rel=1e-6)
    for parameter in model.parameters():
        expected = 0.3 * parameter if parameter.dim() > 1 else torch.zeros_like(parameter)
        assert torch.allclose(parameter.grad, expected, rtol=1e-6)
