"""Every estimator against brute-force sums on enumerable models, by z-scores over repeats."""

import math

import numpy as np
import pytest
import torch
from enumerable import N_VISIBLE, STACKS, small_model, small_stack, z_scores

from harness import estimators
from harness.blocks import exact
from harness.method import Batch

REPEATS = 400


@pytest.fixture(name="x")
def all_rows():
    return exact.all_binary(N_VISIBLE)


@pytest.mark.parametrize("name", STACKS)
def test_probabilities_of_all_rows_sum_to_one(name, x):
    assert exact.log_p(small_stack(name), x).exp().sum().item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("name", "hyperparameters"), [("nade", {"hidden": 6}), ("factorised", {})])
def test_exact_likelihoods_sum_to_one(name, hyperparameters):
    model = small_model(name, n_visible=8, **hyperparameters)
    log_p = estimators.exact_log_prob(model, exact.all_binary(8), chunk=100)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_nade_blocks_of_columns_do_not_matter(monkeypatch):
    import harness.blocks.nade

    model, rows = small_model("nade", n_visible=8, hidden=6), exact.all_binary(8)
    whole = model.log_prob(rows)
    monkeypatch.setattr(harness.blocks.nade, "COLUMNS_A_BLOCK", 3)
    assert torch.allclose(model.log_prob(rows), whole, atol=1e-12)


@pytest.mark.parametrize("name", STACKS)
def test_p_estimate_is_unbiased(name, x):
    model = small_stack(name)
    generator = torch.Generator().manual_seed(1)
    repeats = torch.stack(
        [estimators.importance_estimates(model, x, 4, generator, 1000).log_p.exp() for _ in range(REPEATS)]
    )
    assert z_scores(repeats, exact.log_p(model, x).exp()).abs().max() < 4


def test_square_root_form_of_p_star_estimate_is_unbiased(x):
    model = small_stack("bihm")
    generator = torch.Generator().manual_seed(2)
    repeats = torch.stack(
        [(0.5 * estimators.importance_estimates(model, x, 4, generator, 1000).log_p_star).exp() for _ in range(REPEATS)]
    )
    assert z_scores(repeats, (0.5 * exact.log_p_star_unnormalised(model, x)).exp()).abs().max() < 4


def test_bound_is_the_mean_log_weight(x):
    model = small_stack("bihm")
    log_p, log_q = exact.joint_tables(model, x)
    expected = (log_q.exp() * (log_p - log_q)).sum(1)
    generator = torch.Generator().manual_seed(3)
    repeats = torch.stack([estimators.importance_estimates(model, x, 5, generator, 1000).bound for _ in range(REPEATS)])
    assert z_scores(repeats, expected).abs().max() < 4


def test_exact_chain_of_bounds(x):
    """log p~* <= log p and Z <= 1 (thesis, section 3.2); the sum over x of p* is one."""
    model = small_stack("bihm")
    log_p_star = exact.log_p_star_unnormalised(model, x)
    assert (log_p_star <= exact.log_p(model, x) + 1e-12).all()
    assert exact.log_z2(model).item() < 0
    assert (log_p_star - exact.log_z2(model)).exp().sum().item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("n_inner", [1, 3])
def test_z2_estimate_is_unbiased(n_inner):
    model = small_stack("bihm")
    generator = torch.Generator().manual_seed(4)
    repeats = torch.stack(
        [
            torch.tensor(math.exp(estimators.log_z2(model, 50, n_inner, generator, 1000).value), dtype=torch.float64)
            for _ in range(REPEATS)
        ]
    )
    assert abs(z_scores(repeats, exact.log_z2(model).exp().detach()).item()) < 4


def test_z2_error_bar_covers():
    """The delta-method error of 2 log Z: standardised deviations over repeats have unit variance (chi-square)."""
    model = small_stack("bihm")
    generator = torch.Generator().manual_seed(5)
    truth = exact.log_z2(model).item()
    results = [estimators.log_z2(model, 2000, 1, generator, 1000) for _ in range(200)]
    deviations = np.array([(result.value - truth) / result.standard_error for result in results])
    # sum of squares of 200 unit normals: 200 +- sqrt(400); five of these either way
    assert 100 < (deviations**2).sum() < 300
    assert all(result.reliable for result in results)


def test_z2_of_few_samples_is_called_unreliable():
    model = small_stack("bihm")
    result = estimators.log_z2(model, 20, 1, torch.Generator().manual_seed(6), 1000)
    assert not result.reliable


@pytest.mark.parametrize("field", ["log_p", "log_p_star"])
def test_monte_carlo_variances_cover(field, x):
    model = small_stack("bihm")
    generator = torch.Generator().manual_seed(7)
    runs = [estimators.importance_estimates(model, x, 500, generator, 20000) for _ in range(200)]
    predicted = torch.stack([getattr(run, f"{field}_variance") for run in runs]).mean(0)
    seen = torch.stack([getattr(run, field) for run in runs]).var(0)
    # a variance over 200 repeats has relative error sqrt(2 / 199) = 0.1 (more with heavy tails); five of these
    assert ((seen / predicted - 1).abs() < 0.5).all()


def test_streaming_equals_the_formulas_on_all_weights_at_once():
    log_weights = torch.randn(7, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(8)) * 3 - 50
    sums = estimators.ImportanceSums()
    for chunk in log_weights.split([1, 99, 200], dim=1):
        sums.add(chunk)
    found = sums.estimates()
    w, root = log_weights.exp(), (0.5 * log_weights).exp()
    assert torch.allclose(found.log_p, w.mean(1).log())
    assert torch.allclose(found.log_p_star, 2 * root.mean(1).log())
    assert torch.allclose(found.bound, log_weights.mean(1))
    assert torch.allclose(found.ess_p, 100 * w.sum(1) ** 2 / (w**2).sum(1) / 300)
    assert torch.allclose(found.ess_p_star, 100 * root.sum(1) ** 2 / (root**2).sum(1) / 300)


def test_no_chunk_is_larger_than_asked_for():
    class Recorder:
        pairs = 0

        def log_weights(self, x, n_samples, generator):
            self.pairs = max(self.pairs, x.shape[0] * n_samples)
            return torch.zeros(x.shape[0], n_samples)

    for n_samples in (1, 30, 5000):
        recorder = Recorder()
        estimates = estimators.importance_estimates(
            recorder, torch.zeros(37, 3), n_samples, torch.Generator(), chunk=100
        )
        assert recorder.pairs <= 100
        assert estimates.n_samples == n_samples
        assert torch.allclose(estimates.ess_p, torch.tensor(100.0, dtype=torch.float64))


def gauss_hermite(n_latent, n_points=60):
    """Nodes [points^n, n] and weights of the standard normal in n dimensions."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_points)
    weights = weights / weights.sum()
    grids = np.meshgrid(*[nodes] * n_latent, indexing="ij")
    products = np.meshgrid(*[weights] * n_latent, indexing="ij")
    return (
        torch.tensor(np.stack([g.ravel() for g in grids], axis=1)),
        torch.tensor(np.prod([p.ravel() for p in products], axis=0)),
    )


def quadrature_p(model, x):
    """p(x) [N] of a Gaussian stack by quadrature over the noise of its ancestral sampler (reparametrised layers)."""
    sizes = [encoder[-1].out_features // 2 for encoder in model.encoders]
    nodes, weights = gauss_hermite(sum(sizes))
    noise = list(nodes.split(sizes, dim=1))
    h = noise.pop()
    for decoder in reversed(model.decoders[1:]):
        mean, log_std = decoder(h).chunk(2, dim=-1)
        h = mean + log_std.exp() * noise.pop()
    log_likelihood = model.log_likelihood(x, h.expand(x.shape[0], *h.shape))
    return (log_likelihood.exp() * weights).sum(1)


GAUSSIAN = {
    "vae": {"latent": 2, "hidden": [3]},
    "iwae": {"layers": [1, 1], "hidden": [[3], [2]]},
}


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_models_are_unbiased_for_the_quadrature_value(name):
    # q must not be much narrower than the posterior, or weights have no variance and z-scores no meaning: small weights
    model, x = small_model(name, seed=3, n_visible=4, scale=0.3, **GAUSSIAN[name]), exact.all_binary(4)
    with torch.no_grad():
        expected = quadrature_p(model, x)
        assert expected.sum().item() == pytest.approx(1.0, abs=1e-5)
        generator = torch.Generator().manual_seed(9)
        repeats = torch.stack(
            [estimators.importance_estimates(model, x, 50, generator, 10000).log_p.exp() for _ in range(REPEATS)]
        )
    assert z_scores(repeats, expected).abs().max() < 4


SAMPLERS = {
    **{name: (name, settings) for name, settings in STACKS.items()},
    "nade": ("nade", {"hidden": 4}),
    "factorised": ("factorised", {}),
    "ssl_bihm": ("ssl_bihm", {"layers": [3, 2], "gamma": 0.1, "n_classes": 3}),
    **{name: (name, settings) for name, settings in GAUSSIAN.items()},
}


@pytest.mark.parametrize("case", SAMPLERS)
def test_samples_have_the_exact_distribution(case):
    """Chi-square over all 2^4 rows of 20,000 draws: the statistic's z-score, 15 degrees of freedom."""
    name, hyperparameters = SAMPLERS[case]
    n_visible, n = 4, 20_000
    model, x = small_model(name, seed=3, n_visible=n_visible, **hyperparameters), exact.all_binary(n_visible)
    with torch.no_grad():
        if hasattr(model, "log_prob"):
            p = model.log_prob(x).exp()
        elif name in GAUSSIAN:
            p = quadrature_p(model, x)
        elif name == "ssl_bihm":
            p = exact_label_tables(model, x)[0].exp().sum((1, 2))
        else:
            p = exact.log_p(model, x).exp()
    draws = model.sample(n, torch.Generator().manual_seed(10))
    again = model.sample(n, torch.Generator().manual_seed(10))
    assert torch.equal(draws, again)
    codes = (draws.long() * 2 ** torch.arange(n_visible - 1, -1, -1)).sum(1)
    counts = torch.bincount(codes, minlength=2**n_visible)
    chi_square = ((counts - n * p) ** 2 / (n * p)).sum().item()
    degrees = 2**n_visible - 1
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)


SEMI_SUPERVISED = {
    "separate samples": ("ssl_bihm", {"estimator": "separate"}),
    "shared samples": ("ssl_bihm", {"estimator": "shared"}),
    "lowest layer": ("ssl_bihm_low", {}),
    "lowest layer, hidden units": ("ssl_bihm_low", {"hidden": 4}),
}


def semi_supervised_model(variant, gamma=0.3):
    name, settings = SEMI_SUPERVISED[variant]
    return small_model(name, layers=[3, 2], gamma=gamma, n_classes=3, **settings)


def exact_label_tables(model, x):
    """log p(x, h, y) and log q(h, y | x), each [N, H, n_classes], of a semi-supervised model."""
    h = exact.latent_states(model)
    n_rows, n_states = x.shape[0], h[0].shape[0]
    rows = x.repeat_interleave(n_states, dim=0)
    states = [layer.repeat(n_rows, 1) for layer in h]
    log_p, log_q = model.log_joint(rows, states), model.log_recognition(rows, states)
    if model.name == "ssl_bihm_low":
        p_labels = q_labels = model.head(states[0])
    else:
        log_p = log_p - model.log_prior(states[-1])  # which y replaces
        p_labels, q_labels = model._log_p_tops(states[-1]), model._log_q_labels(states[-1])
    shape = (n_rows, n_states, -1)
    return (log_p[:, None] + p_labels).view(shape), (log_q[:, None] + q_labels).view(shape)


@pytest.fixture(name="ssl", params=SEMI_SUPERVISED)
def semi_supervised(request):
    return semi_supervised_model(request.param)


def test_semi_supervised_p_sums_to_one(ssl, x):
    assert exact_label_tables(ssl, x)[0].exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_label_estimates_are_unbiased(ssl, x):
    log_p, log_q = exact_label_tables(ssl, x)
    b = (0.5 * (log_p + log_q)).exp().sum(1)  # B(x, y), [N, n_classes]
    generator = torch.Generator().manual_seed(11)
    roots, labels = [], []
    for _ in range(REPEATS):
        found = estimators.label_estimates(ssl, x, 4, generator, 1000)
        root = (0.5 * found.log_p_star).exp()
        roots.append(root)
        labels.append(root[:, None] * found.log_label.exp())
    assert z_scores(torch.stack(roots), b.sum(1).detach()).abs().max() < 4
    assert z_scores(torch.stack(labels), b.detach()).abs().max() < 4


@pytest.mark.parametrize("n_inner", [1, 3])
def test_semi_supervised_z2_estimate_is_unbiased(ssl, n_inner, x):
    """Z^2 = sum_x A(x)^2, where A sums over y as well (equation 4.1)."""
    log_p, log_q = exact_label_tables(ssl, x)
    a = (0.5 * (log_p + log_q)).exp().sum((1, 2))
    generator = torch.Generator().manual_seed(15)
    repeats = [ssl.log_z2_weights(50, n_inner, generator).exp().mean() for _ in range(REPEATS)]
    assert abs(z_scores(torch.stack(repeats), a.square().sum().detach()).item()) < 4


def test_label_probabilities_are_those_of_the_enumeration(ssl, x):
    """p*(y | x) = B(x, y) / A(x), equation 4.3. The ratio's bias of 1 / K is a sixth of the error of the mean."""
    log_p, log_q = exact_label_tables(ssl, x)
    log_b = torch.logsumexp(0.5 * (log_p + log_q), dim=1)
    expected = torch.softmax(log_b, dim=1).detach()
    generator = torch.Generator().manual_seed(12)
    repeats = [estimators.label_estimates(ssl, x, 2000, generator, 10**6).log_label.exp() for _ in range(50)]
    assert all(torch.allclose(found.sum(1), torch.ones(len(x), dtype=torch.float64)) for found in repeats)
    assert all((found <= 1.0).all() for found in repeats)
    assert z_scores(torch.stack(repeats), expected).abs().max() < 4


def test_early_stopping_of_joint_models_watches_rows_and_labels(ssl, x):
    """-log p~*(x) - log p~*(y | x) = -log A(x) - log B(x, y)."""
    log_p, log_q = exact_label_tables(ssl, x)
    log_b = torch.logsumexp(0.5 * (log_p + log_q), dim=1)
    y = torch.arange(len(x)) % 3
    expected = -torch.logsumexp(log_b, dim=1) - log_b.gather(1, y[:, None]).squeeze(1)
    generator = torch.Generator().manual_seed(13)
    repeats = [ssl.validation_loss(Batch(x, y), 2000, generator) for _ in range(50)]
    assert z_scores(torch.stack(repeats), expected.detach()).abs().max() < 4


def test_semi_supervised_weights_give_p(x):
    """With y drawn as well, the plain weights estimate p(x) = sum_{h, y} p(x, h, y).

    Their tail is long (ESS below 10 %), so that means over few samples are skewed: 100 samples a repeat.
    """
    ssl = semi_supervised_model("separate samples")
    log_p, _ = exact_label_tables(ssl, x)
    generator = torch.Generator().manual_seed(13)
    repeats = torch.stack(
        [estimators.importance_estimates(ssl, x, 100, generator, 4000).log_p.exp() for _ in range(REPEATS)]
    )
    assert z_scores(repeats, log_p.exp().sum((1, 2)).detach()).abs().max() < 4


@pytest.mark.parametrize("name", ["bihm", "bihm_nade"])
def test_features_are_the_mean_activations_of_every_layer(name, x):
    model = small_stack(name) if name in STACKS else small_model(name, layers=[3, 2], hidden=[3, 3, 3])
    _, log_q = exact.joint_tables(model, x)
    expected = torch.cat([torch.einsum("nh,hu->nu", log_q.exp(), h) for h in exact.latent_states(model)], dim=1)
    generator = torch.Generator().manual_seed(14)
    repeats = torch.stack([torch.cat(model.encode(x, 10, generator), dim=1) for _ in range(REPEATS)])
    assert z_scores(repeats, expected.detach()).abs().max() < 4


@pytest.mark.parametrize("name", STACKS)
def test_estimates_at_every_k_from_one_pass_have_the_right_mean(name, x):
    """Groups of the head against draws on their own, and a prefix beyond it against the exact p(x)."""
    model = small_stack(name)
    generator = torch.Generator().manual_seed(21)
    ks = [1, 3, 1000, 1500]
    repeats = [estimators.importance_curve(model, x, ks, generator, 4096) for _ in range(20)]
    for index, k in enumerate(ks):
        assert {curve[index].n_samples for curve in repeats} == {k}
    # E[log mean of k weights] of small k against independent estimates of it, drawn on their own
    for index, k in enumerate(ks[:2]):
        alone = torch.stack([estimators.importance_estimates(model, x, k, generator, 4096).log_p for _ in range(4000)])
        mean, error = alone.mean(0), alone.std(0) / 4000**0.5
        together = torch.stack([curve[index].log_p for curve in repeats])
        difference = together.mean(0) - mean
        assert (difference / (together.var(0) / 20 + error**2).sqrt()).abs().max() < 4.5
    far = torch.stack([curve[3].log_p.exp() for curve in repeats])
    assert z_scores(far, exact.log_p(model, x).exp()).abs().max() < 4.5


def test_the_longest_prefix_is_the_plain_estimate(x):
    """Same stream, same chunks: K = 1500 of the curve is the running sum over all samples."""
    log_weights = torch.randn(3, 1500, generator=torch.Generator().manual_seed(22), dtype=torch.float64)
    curve, sums = estimators.PrefixCurve([2, 1000, 1200, 1500]), estimators.ImportanceSums()
    counts = curve.counts(400 + 600)
    assert counts == [1000, 200, 300]
    for part in log_weights.split(counts, dim=1):
        curve.add(part)
        sums.add(part)
    two, thousand, _, longest = curve.estimates()
    assert torch.equal(longest.log_p, sums.estimates().log_p)
    assert torch.allclose(thousand.log_p, torch.logsumexp(log_weights[:, :1000], 1) - math.log(1000))
    pairs = log_weights[:, :1000].reshape(3, 500, 2)
    assert torch.allclose(two.log_p, (torch.logsumexp(pairs, 2) - math.log(2)).mean(1))


@pytest.mark.parametrize("ks", [[], [0, 1], [3, 2], [2, 2]], ids=str)
def test_numbers_of_samples_must_ascend(ks, x):
    with pytest.raises(ValueError, match=r"ks: expected ascending"):
        estimators.importance_curve(small_stack("rws"), x, ks, torch.Generator(), 4096)
