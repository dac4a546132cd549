"""NADE's float32 kernel against its double-precision reference, within what rounding errors can explain.

Every rounding is propagated to first order. They are taken as independent, so that variances add, and each as large as
it can be, which is nearly twice its standard deviation; no error may then exceed three of the resulting deviations.
"""

import copy

import numpy as np
import pytest
import torch
from enumerable import flat_gradient, small_model, zero_gradients
from scipy.ndimage import gaussian_filter

from harness.method import Batch

ROUNDING = 2.0**-24  # relative error of a float32 operation
FUNCTION = 4e-7  # error of the kernels' sigmoid and exponential, see harness.kernels.fastmath


def as_float32(model):
    """A float32 copy of a double-precision model, whose parameters are rounded in both."""
    rounded = copy.deepcopy(model).float()
    with torch.no_grad():
        for parameter, exact in zip(rounded.parameters(), model.parameters(), strict=True):
            exact.copy_(parameter)
    return rounded


def results(model, x):
    """log p(x), the returned loss and the gradients, in double precision."""
    zero_gradients(model)
    loss = model.accumulate_gradients(Batch(x), 1, torch.Generator())
    gradients = {name: parameter.grad.double() for name, parameter in model.named_parameters()}
    return {"log_p": model.log_prob(x).double(), "loss": loss.double(), **gradients}


@torch.no_grad()
def error_bounds(model, x):
    """Bounds on the errors of everything in ``results``, given a double-precision model.

    Derivatives used: |sigmoid'| <= 1/4, |(h (1 - h))'| <= 1, |d log p / d logit| <= 1. A sum of n terms has n roundings
    of partial sums, which are taken to be as large as the root of the sum of squares, or as the sum for equal signs.
    """
    n_rows, n_columns = x.shape
    n_hidden = model.hidden_bias.shape[0]
    share = 1 / n_rows
    copies = torch.unique(x, dim=0, return_counts=True)[1].max()  # equal rows have equal errors
    squares = model.output_weight**2  # [D, H]
    rounding, function = ROUNDING**2, FUNCTION**2  # variances, like all below
    activations = model.hidden_bias + torch.cumsum(x[:, :, None] * model.input_weight, dim=1)  # [B, D, H]
    largest = torch.maximum(activations.abs().amax(1), model.hidden_bias.abs())  # [B, H]
    # one rounding for every input that is not zero, and another when the gradient takes it back
    activation = 2 * (x != 0).sum(1)[:, None] * rounding * largest**2  # [B, H]
    hidden = activation / 16 + function
    logits = model._logits(x)[0].t()  # [B, D]
    logit = (hidden + n_hidden * rounding) @ squares.t() + rounding * (model.visible_bias**2 + logits**2)
    # x a - max(a, 0) is summed in float32; then the exponential, its product with others, its logarithm
    log_p = (logit + rounding * logits.abs().sum(1, keepdim=True) ** 2 + function + 3 * rounding).sum(1)
    log_p = log_p + rounding * model.log_prob(x) ** 2  # the result is rounded to float32
    missed = (logit / 16 + function + 3 * rounding) * share**2  # (sigmoid(logit) - x) / B, at most 1 / B
    # missed V h (1 - h), summed over columns
    term = (share / 4) ** 2 * rounding
    slope = (missed / 16 + (n_columns + 5) * term) @ squares + hidden * share**2 * squares.sum(0)  # [B, H]
    slope = slope + n_rows * term * squares.sum(0)
    variances = {
        "log_p": log_p,
        "loss": log_p.mean() * share + rounding * model.log_prob(x).mean() ** 2,
        "input_weight": (x**2).t() @ slope,
        "output_weight": missed.sum(0)[:, None] + (hidden * share**2).sum(0) + n_rows * rounding,
        "hidden_bias": slope.sum(0),
        "visible_bias": missed.sum(0) + n_rows * rounding,
    }
    return {
        name: 1.5 * (variance if name == "log_p" else copies * variance).sqrt() for name, variance in variances.items()
    }


def rows(kind, n_rows, n_columns):
    """Rows [n_rows, n_columns] in double precision, exact in float32."""
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(n_rows, n_columns, generator=generator, dtype=torch.float32).double()
    sparse = torch.rand(n_rows, n_columns, generator=generator) < 0.3
    return {
        "binary": (uniform < 0.4).double(),
        "zeros": torch.zeros_like(uniform),
        "ones": torch.ones_like(uniform),
        "grey": torch.where(sparse, uniform, 0.0),
        "last column": torch.nn.functional.one_hot(torch.full((n_rows,), n_columns - 1), n_columns).double(),
    }[kind]


# The kernel's units are 32 columns, 16 hidden units and 4 rows: below, at, just above and between multiples of each
SIZES = [(1, 1, 1), (5, 3, 3), (32, 16, 4), (33, 17, 5), (70, 37, 1), (64, 32, 8), (113, 100, 9)]


@pytest.mark.parametrize("kind", ["binary", "grey", "zeros", "ones", "last column"])
@pytest.mark.parametrize(("n_visible", "hidden", "n_rows"), SIZES)
def test_kernel_equals_the_reference(kind, n_visible, hidden, n_rows):
    reference = small_model("nade", n_visible=n_visible, hidden=hidden)
    model, x = as_float32(reference), rows(kind, n_rows, n_visible)
    expected, bounds, found = results(reference, x), error_bounds(reference, x), results(model, x.float())
    for name, bound in bounds.items():
        error = (found[name] - expected[name]).abs()
        assert (error <= bound).all(), (name, (error / bound).max())


def test_bounds_are_far_below_what_they_bound():
    """So that the test above means something: a missing row or column is a hundredth of a result or more."""
    model = small_model("nade", n_visible=113, hidden=100)
    x = rows("binary", 9, 113)
    expected = results(model, x)
    for name, bound in error_bounds(model, x).items():
        assert bound.norm() < 1e-3 * expected[name].norm(), name


def test_gradients_are_added():
    model = as_float32(small_model("nade", n_visible=40, hidden=20))
    x = rows("binary", 6, 40).float()
    zero_gradients(model)
    model.accumulate_gradients(Batch(x), 1, torch.Generator())
    alone = flat_gradient(model)
    for parameter in model.parameters():
        parameter.grad.fill_(1.0)
    model.accumulate_gradients(Batch(x), 1, torch.Generator())
    # a rounding for each row that is added to a bias, of numbers below 2 in magnitude
    assert alone.abs().max() < 1
    assert (flat_gradient(model) - 1 - alone).abs().max() < (len(x) + 1) * 2 * ROUNDING


def test_rows_do_not_depend_on_their_batch():
    """Whatever the group of rows that they share loads with."""
    model = as_float32(small_model("nade", n_visible=50, hidden=30))
    x = rows("grey", 7, 50).float()
    together = model.log_prob(x)
    assert torch.equal(torch.cat([model.log_prob(row) for row in x.split(1)]), together)
    assert torch.equal(model.log_prob(x.t().contiguous().t()), together)  # not contiguous


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_model_is_seen(bad):
    model = as_float32(small_model("nade", n_visible=40, hidden=20))
    x = rows("ones", 2, 40).float()
    with torch.no_grad():
        model.output_weight[3, 5] = bad
    found = results(model, x)
    assert not found["log_p"].isfinite().any()
    assert not found["loss"].isfinite()


def blobs(n_rows, side=28):
    """Binary pictures [n_rows, side^2] of smooth blobs in the middle, an eighth of the pixels on, as in MNIST."""
    noise = np.random.default_rng(0).normal(size=(n_rows, side, side))
    smooth = gaussian_filter(noise, sigma=(0, 2, 2), mode="constant")
    distance = np.hypot(*np.meshgrid(*[np.linspace(-1.5, 1.5, side)] * 2))
    field = smooth / smooth.std() - distance**2
    return torch.from_numpy((field > np.quantile(field, 7 / 8)).reshape(n_rows, -1)).float()


def test_float32_is_good_enough_for_likelihoods():
    """On a model of the thesis' size after some training: within 1e-4 nats, a hundredth of the tables' last digit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_model("nade", n_visible=784, scale=0.05, hidden=500).float()
    zero_gradients(model)
    x = blobs(400)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for update in range(150):
        batch = x[torch.arange(100 * update, 100 * (update + 1)) % 350]
        optimizer.zero_grad(set_to_none=False)
        loss = model.accumulate_gradients(Batch(batch), 1, torch.Generator())
        optimizer.step()
    assert loss < 150  # of 784 pixels; independent pixels come to 225
    unseen = x[350:]
    exact = copy.deepcopy(model).double().log_prob(unseen.double())
    assert (model.log_prob(unseen).double() - exact).abs().max() < 1e-4
