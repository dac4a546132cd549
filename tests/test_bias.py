"""Biases of log-mean estimates against the truth, which is known for weights of known distribution and small models."""

import math

import pytest
import torch
from enumerable import N_VISIBLE, small_model, small_stack

from harness import estimators
from harness.blocks import exact
from harness.estimators import bias
from harness.estimators.bias import Bias
from harness.estimators.log_sums import GROUPS, GroupedPowerSums

ROWS, K = 400, 512


def log_normal_runs(spread, repeats, seed):
    """Log-weights [repeats, rows, K], and the exact log of their means [rows, 1]; spreads differ between rows."""
    generator = torch.Generator().manual_seed(seed)
    sd = spread * torch.exp(0.3 * torch.randn(ROWS, 1, dtype=torch.float64, generator=generator))
    return sd * torch.randn(repeats, ROWS, K, dtype=torch.float64, generator=generator), sd**2 / 2


def found_of(log_weights):
    sums = estimators.ImportanceSums(log_weights.shape[-1])
    sums.add(log_weights)
    return sums.estimates()


@pytest.mark.parametrize(
    ("spread", "low", "high"),
    # mean estimate of the bias over the true one; the delta term's is 0.9, 0.4, 0.15, 0.08
    [(0.7, 0.8, 1.3), (1.5, 0.7, 1.4), (3.0, 0.7, 1.3), (4.0, 0.6, 1.2)],
)
def test_bias_of_log_normal_weights(spread, low, high):
    repeats = 12
    log_weights, truth = log_normal_runs(spread, repeats, 1)
    runs = [found_of(each) for each in log_weights]
    means = torch.stack([run.log_p.mean() for run in runs])
    true = (means - truth.mean()).mean().item()
    noise = (means.std() / repeats**0.5).item()
    estimated = sum(run.log_p_bias.value for run in runs) / repeats
    assert estimated < 0
    assert low * (abs(true) - 3 * noise) < abs(estimated) < high * (abs(true) + 3 * noise)


def test_light_tails_have_the_bias_of_the_delta_method():
    log_weights, _ = log_normal_runs(0.3, 1, 2)
    run = found_of(log_weights[0])
    for found, variance in ((run.log_p_bias, run.log_p_variance), (run.log_p_star_bias, run.log_p_star_variance / 2)):
        delta = -0.5 * variance.mean().item()
        assert abs(found.value - delta) < 4 * found.error
        assert found.error < 0.2 * abs(delta)


def test_the_bias_is_found_on_a_model_that_can_be_enumerated():
    """Means over repeats against exact log p and log p~*: tails end there, so that a power law says too much."""
    model, x = small_model("bihm", layers=[4, 2], n_visible=8), exact.all_binary(8)
    generator = torch.Generator().manual_seed(3)
    runs = [estimators.importance_estimates(model, x, 128, generator, 4096) for _ in range(40)]
    with torch.no_grad():
        truths = exact.log_p(model, x).mean(), exact.log_p_star_unnormalised(model, x).mean()
    for name, truth in zip(("log_p", "log_p_star"), truths, strict=True):
        raw = torch.stack([getattr(run, name).mean() - truth for run in runs])
        found = torch.tensor([getattr(run, f"{name}_bias").value for run in runs])
        error = raw.std() / len(runs) ** 0.5
        assert raw.mean() < -5 * error  # there is a bias to be seen
        assert 0.8 * (raw.mean().abs() - 3 * error) < found.mean().abs() < 1.7 * (raw.mean().abs() + 3 * error)
        assert (raw - found).mean().abs() < raw.mean().abs()  # the corrected value is nearer


def test_the_error_is_what_estimates_of_the_bias_vary_by():
    log_weights, _ = log_normal_runs(1.0, 60, 4)
    found = [found_of(each).log_p_bias for each in log_weights]
    spread = torch.tensor([each.value for each in found]).std().item()
    stated = sum(each.error for each in found) / len(found)
    # a standard deviation of 60 is known to a tenth; rare heavy weights make the stated error of most runs too small
    assert 0.6 < stated / spread < 1.4


@pytest.mark.parametrize("sizes", [[512], [100, 100, 7, 1, 304], [31, 33, 448], [4] * 128])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_groups_do_not_depend_on_how_samples_come(sizes, dtype):
    log_weights = (3 * torch.randn(5, 512, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).to(dtype)
    groups = GroupedPowerSums(512)
    for part in log_weights.split(sizes, dim=1):
        groups.add(part)
    cut = log_weights.double().unflatten(1, (GROUPS, 32))
    expected = torch.stack([torch.logsumexp(power * cut, dim=2) - math.log(32) for power in (1, 2)])
    assert torch.allclose(groups.log_means(), expected, atol=1e-12 if dtype == torch.float64 else 1e-5)


def test_samples_that_fill_no_group_are_left_out_and_allowed_for():
    """K = 500 are 16 groups of 31; the bias is that at 500, not at 496."""
    weights = torch.arange(1.0, 501.0, dtype=torch.float64).log()[None].expand(3, -1)
    groups = GroupedPowerSums(500)
    groups.add(weights)
    assert torch.equal(groups.log_means()[0, 0, -1], torch.arange(466.0, 497.0, dtype=torch.float64).mean().log())
    averages = torch.tensor([[-16.0, -8.0, -4.0, -2.0, -1.0]] * 3, dtype=torch.float64)
    assert bias._extrapolated(averages, 496).value == pytest.approx(-1.0)  # log mean = -496 / K
    assert bias._extrapolated(averages, 500).value == pytest.approx(-496 / 500)


def test_a_power_law_is_extrapolated_exactly():
    k = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64)
    averages = -(torch.tensor([[1.0], [3.0]], dtype=torch.float64) * k**-0.4)
    found = bias._extrapolated(averages, 16)
    assert found.value == pytest.approx(-2.0 * 16**-0.4)
    assert found.error == pytest.approx(16**-0.4)  # of the mean of 1 and 3


def test_without_enough_samples_or_rows_it_is_not_known():
    few = found_of(torch.zeros(3, GROUPS - 1))
    assert math.isnan(few.log_p_bias.value)
    one = found_of(torch.randn(1, 100, generator=torch.Generator().manual_seed(6)))
    assert math.isfinite(one.log_p_bias.value)
    assert math.isnan(one.log_p_bias.error)
    assert found_of(torch.zeros(3, 40)).log_p_bias == Bias(0.0, 0.0)  # weights that are all alike


def test_weights_that_vanish_are_not_a_number_lost():
    log_weights = torch.zeros(2, 32)
    log_weights[0, :16] = -math.inf
    groups = GroupedPowerSums(32)
    groups.add(log_weights)
    assert groups.log_means()[0, 0].tolist() == [-math.inf] * 8 + [0.0] * 8


def test_bias_of_the_log_of_one_mean_and_its_error():
    """log mean of n gamma weights: minus half the squared relative error, over repeats of the whole."""
    n, repeats = 2000, 400
    generator = torch.Generator().manual_seed(7)
    weights = -torch.rand(repeats, n, dtype=torch.float64, generator=generator).log()  # exponential, mean 1, variance 1
    found = [bias.of_log_mean(tuple((row**m).mean().log().item() for m in (1, 2, 3, 4)), n) for row in weights]
    assert sum(each.value for each in found) / repeats == pytest.approx(-0.5 / n, rel=0.02)
    spread = torch.tensor([each.value for each in found]).std().item()
    # v = var / mean^2 of n exponential draws: delta method, variance of v 4 / n; its own error over 400 repeats is 4 %
    assert spread == pytest.approx(2.0 / math.sqrt(n) / (2 * n), rel=0.2)
    assert sum(each.error for each in found) / repeats == pytest.approx(spread, rel=0.2)


def test_partition_functions_tell_their_bias_or_that_it_is_not_known():
    model = small_stack("bihm")
    found = estimators.log_z2(model, 4000, 1, torch.Generator().manual_seed(8), 1000)
    assert found.bias.value == pytest.approx(-(found.standard_error**2) / 2)
    assert 0 < found.bias.error < abs(found.bias.value)
    doubtful = estimators.log_z2(model, 20, 1, torch.Generator().manual_seed(8), 1000)
    assert math.isnan(doubtful.bias.value)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_mean_that_is_not_finite_has_no_error(weight):
    class Broken:
        def log_z2_weights(self, n_outer, n_inner, generator):
            return torch.full((n_outer, n_inner), weight)

        def log_partition_samples(self, n, n_temperatures, generator):
            return torch.full((n,), weight)

    generator = torch.Generator().manual_seed(9)
    for found in (
        estimators.log_z2(Broken(), 50, 1, generator, 20),
        estimators.log_z(Broken(), 50, 1, generator, 20),
    ):
        assert not math.isfinite(found.value)
        assert math.isnan(found.standard_error)
        assert math.isnan(found.bias.value)
        assert not found.reliable


@pytest.mark.parametrize(("side", "k", "repeats", "most"), [("bound", 64, 100, 1.7), ("label", 16, 1500, 1.3)])
def test_label_estimates_tell_their_biases(side, k, repeats, most):
    """Means over repeats against very many samples: -log A by a power law, log(B / A) by the last doubling."""
    model, x = small_model("ssl_bihm", layers=[3, 2], gamma=0.3, n_classes=3), exact.all_binary(N_VISIBLE)
    y = torch.arange(len(x)) % 3
    generator = torch.Generator().manual_seed(10)
    limit = estimators.label_estimates(model, x, 50_000, generator, 10**6)
    runs = [estimators.label_estimates(model, x, k, generator, 4096) for _ in range(repeats)]

    def value(run):
        return (run.log_p_star if side == "bound" else run.log_label.gather(1, y[:, None])).mean()

    raw = torch.stack([value(run) for run in runs]) - value(limit)
    found = torch.tensor([(run.log_p_star_bias if side == "bound" else run.log_label_bias(y)).value for run in runs])
    error = math.hypot(raw.std(), found.std()) / len(runs) ** 0.5
    low, high = sorted((0.6 * raw.mean().item(), most * raw.mean().item()))
    assert low - 3.5 * error < found.mean().item() < high + 3.5 * error
    assert abs(found.mean().item()) > 3 * error


def test_the_curve_over_k_ends_with_the_bias_of_its_last_estimate():
    model, x = small_stack("bihm"), exact.all_binary(N_VISIBLE)
    curve = estimators.importance_curve(model, x, [1, 10, 64], torch.Generator().manual_seed(11), 4096)
    alone = estimators.importance_estimates(model, x, 64, torch.Generator().manual_seed(11), 64 * 64)
    assert curve[-1].log_p_bias == alone.log_p_bias
    assert math.isnan(curve[0].log_p_bias.value)
