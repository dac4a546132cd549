"""Autoregressive methods: exact likelihoods, masks, gradients and samples on models small enough to enumerate."""

import copy
import itertools
import math

import pytest
import torch
from enumerable import flat_gradient, small_model, z_scores, zero_gradients

from harness.blocks import exact
from harness.blocks.bernoulli import log_bernoulli
from harness.evaluation import measure as evaluation
from harness.method import Batch
from harness.training.batches import Rows
from harness.training.step import UpdateStep

REPEATS = 300
EXACT = {
    "fvsbn": ("fvsbn", {}),
    "made": ("made", {"hidden": [6]}),
    "made without direct connections": ("made", {"hidden": [40], "direct": False}),
    "made, two layers, three orderings": ("made", {"hidden": [7, 6], "n_orders": 3}),
    "eonade, one ordering": ("eonade", {"hidden": [4], "n_orders": 1}),
    "eonade, three orderings": ("eonade", {"hidden": [4], "n_orders": 3}),
    "eonade, two layers": ("eonade", {"hidden": [4, 3], "n_orders": 3}),
    "eonade, direct connections": ("eonade", {"hidden": [4], "n_orders": 3, "direct": True}),
}
ENSEMBLES = [case for case, (_, settings) in EXACT.items() if settings.get("n_orders", 1) > 1]
CASES = {**EXACT, "darn": ("darn", {"hidden": 3})}


def case_model(case, n_visible, seed=0):
    name, hyperparameters = CASES[case]
    return small_model(name, seed, n_visible, **hyperparameters)


def joint_tables(model, x):
    """log p(x, h) and log q(h | x) of a DARN, each [N, 2^H]."""
    h = exact.all_binary(len(model.q_bias))
    rows, states = x.repeat_interleave(len(h), dim=0), h.repeat(len(x), 1)
    return (table(rows, states).view(len(x), -1) for table in (model.log_joint, model.log_recognition))


def log_p(model, x):
    return model.log_prob(x) if hasattr(model, "log_prob") else torch.logsumexp(next(joint_tables(model, x)), dim=1)


def random_rows(n, n_visible, seed=1):
    return (torch.rand(n, n_visible, generator=torch.Generator().manual_seed(seed)) < 0.4).double()


@pytest.mark.parametrize("case", CASES)
def test_probabilities_of_all_rows_sum_to_one(case):
    """Off-by-one masks, a column that sees itself, and a missing log M are all caught here."""
    model = case_model(case, 7)
    assert log_p(model, exact.all_binary(7)).exp().sum().item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("case", EXACT)
def test_every_ordering_sums_to_one(case):
    model = case_model(case, 7)
    if hasattr(model, "log_prob_orders"):
        total = model.log_prob_orders(exact.all_binary(7)).exp().sum(0)
        assert torch.allclose(total, torch.ones_like(total), atol=1e-9)


@pytest.mark.parametrize("case", ENSEMBLES)
def test_an_ensemble_is_the_mean_probability_over_different_orderings(case):
    model, x = case_model(case, 5), exact.all_binary(5)
    members = model.log_prob_orders(x)
    assert members.shape == (32, 3)
    assert torch.allclose(model.log_prob(x).exp(), members.exp().mean(1), atol=1e-12)
    assert not any(torch.allclose(members[:, i], members[:, j]) for i, j in itertools.combinations(range(3), 2))


@pytest.mark.parametrize(("n_orders", "metrics"), [(1, {"-log p"}), (3, {"-log p", "-log p (one ordering)"})])
def test_evaluation_reports_one_ordering_and_the_ensemble(n_orders, metrics):
    model, x = small_model("eonade", n_visible=5, hidden=[4], n_orders=n_orders).float(), random_rows(50, 5).float()
    rows = Rows(x.byte().numpy(), None, grey=False, device=x.device)
    measured = {row.facts["metric"]: row.facts["value"] for row in evaluation.measure_orderings(model, rows)}
    assert set(measured) == metrics
    assert measured["-log p"] == pytest.approx(-model.log_prob(x).mean().item(), rel=1e-12)
    if n_orders > 1:  # by Jensen's inequality
        assert measured["-log p"] < measured["-log p (one ordering)"]


def column_order(model):
    """The column at every position, of the first ordering."""
    if hasattr(model, "orders"):
        return model.orders[0]
    return model.degrees_0[0].argsort() if hasattr(model, "degrees_0") else torch.arange(model.n_visible)


@pytest.mark.parametrize("case", EXACT)
def test_columns_depend_on_all_earlier_ones_and_no_later_one(case):
    """p(x_<=i) summed over all later columns does not change when a conditional sees a later column.

    The conditionals follow from the joint table of one ordering, and their logits are compared with a change of each
    column: position j must matter for positions after it and for no other.
    """
    n = 6
    model, x = case_model(case, n), exact.all_binary(n)
    members = model.log_prob_orders(x)[:, 0] if hasattr(model, "log_prob_orders") else model.log_prob(x)
    order = column_order(model)
    # conditionals by their definition, p(x_<=i) / p(x_<i), from marginals of the table
    table = members.exp().view([2] * n).permute(*order.tolist())
    total = torch.zeros_like(table)
    for i in range(n):
        marginal = table.sum(tuple(range(i + 1, n)), keepdim=True) if i + 1 < n else table
        conditional = marginal / marginal.sum(i, keepdim=True)
        total = total + conditional.log()
        logit = conditional.select(i, 1).logit()  # over the i columns before
        for j in range(i):
            assert not torch.allclose(logit.select(j, 0), logit.select(j, 1))
    assert torch.allclose(total, table.log(), atol=1e-9)


@pytest.mark.parametrize("case", ["fvsbn", "made", "made, two layers, three orderings"])
def test_log_prob_has_no_gradient_by_masked_weights(case):
    """The conditional of a column, differentiated by x, vanishes at that column and all later ones."""
    n = 6
    model = case_model(case, n)
    position = column_order(model).argsort()

    def logits(x):
        if case == "fvsbn":
            return torch.nn.functional.linear(x, model.weight.tril(-1), model.bias)
        weights, direct = model._masked_weights(torch.zeros(1, dtype=torch.int64))
        h = x
        for weight, bias in zip(weights[:-1], model.biases, strict=False):
            h = torch.relu(torch.nn.functional.linear(h, weight, bias))
        return torch.nn.functional.linear(h, weights[-1], model.biases[-1]) + x @ direct.t()

    x = random_rows(1, n)[0]
    jacobian = torch.autograd.functional.jacobian(logits, x)  # [logit d, column j]
    allowed = position[:, None] > position[None, :]
    assert (jacobian[~allowed] == 0).all()
    assert (jacobian[allowed] != 0).all()
    one = model.log_prob_orders(x[None])[:, 0] if case != "fvsbn" else model.log_prob(x[None])
    assert log_bernoulli(x, logits(x)).item() == pytest.approx(one.item(), rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_samples_have_the_exact_distribution(case):
    """Chi-square over all 2^4 rows of 20,000 draws: the statistic's z-score, 15 degrees of freedom."""
    model, x, n = case_model(case, 4, seed=3), exact.all_binary(4), 20_000
    with torch.no_grad():
        p = log_p(model, x).exp()
    draws = model.sample(n, torch.Generator().manual_seed(10))
    assert torch.equal(draws, model.sample(n, torch.Generator().manual_seed(10)))
    counts = torch.bincount((draws.long() * 2 ** torch.arange(3, -1, -1)).sum(1), minlength=16)
    chi_square = ((counts - n * p) ** 2 / (n * p)).sum().item()
    assert chi_square < 15 + 4 * math.sqrt(2 * 15)


def autograd(model, loss):
    zero_gradients(model)
    loss.backward()
    return flat_gradient(model)


def test_fvsbn_gradient_equals_autograd():
    model, x = case_model("fvsbn", 7), random_rows(9, 7)
    loss = -model.log_prob(x).mean()
    expected = autograd(model, loss)
    zero_gradients(model)
    found = model.accumulate_gradients(Batch(x), 1, torch.Generator())
    assert found.item() == pytest.approx(loss.item(), rel=1e-12)
    assert torch.allclose(flat_gradient(model), expected, atol=1e-12)
    assert (model.weight.grad.triu() == 0).all()


def test_made_loss_is_the_likelihood_of_one_ordering():
    model, x = case_model("made", 7), random_rows(9, 7)
    loss = model.loss(Batch(x), 1, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(-model.log_prob(x).mean().item(), rel=1e-12)


def test_made_gradient_is_that_of_the_mean_over_orderings():
    model, x = case_model("made, two layers, three orderings", 5), random_rows(4, 5)
    expected = autograd(model, -model.log_prob_orders(x).mean())
    generator = torch.Generator().manual_seed(1)
    repeats = torch.stack([autograd(model, model.loss(Batch(x), 1, generator)) for _ in range(REPEATS)])
    assert z_scores(repeats, expected).abs().max() < 4.5  # of 125 parameters


@pytest.mark.parametrize(
    "settings", [{"hidden": [3], "direct": True}, {"hidden": [3, 2]}], ids=["direct", "two layers"]
)
def test_eonade_gradient_is_that_of_the_mean_over_all_orderings(settings):
    """The mean over all 4! orderings of -log p, by a textbook loop, against the loss's mean gradient."""
    n = 4
    model, x = small_model("eonade", n_visible=n, **settings), random_rows(3, n)
    expected = autograd(model, -torch.stack([textbook(model, x, o) for o in itertools.permutations(range(n))]).mean())
    generator = torch.Generator().manual_seed(2)
    repeats = torch.stack([autograd(model, model.loss(Batch(x), 1, generator)) for _ in range(3000)])
    assert z_scores(repeats, expected).abs().max() < 4


def textbook(model, x, order):
    """log p(x) [B] of an EoNADE under an ordering, column by column."""
    seen, total = torch.zeros_like(x), 0.0
    for column in order:
        h = torch.relu((x * seen) @ model.input_weight + seen @ model.seen_weight + model.hidden_biases[0])
        for weight, bias in zip(model.hidden_weights, model.hidden_biases[1:], strict=True):
            h = torch.relu(h @ weight.t() + bias)
        logit = h @ model.output_weight[[column]].t() + model.visible_bias[column]
        if model.direct:
            weights = torch.cat([model.direct_weight[[column]], model.direct_seen_weight[[column]]], dim=1)
            logit = logit + torch.cat([x * seen, seen], dim=1) @ weights.t()
        total = total + log_bernoulli(x[:, [column]], logit)
        seen = seen.clone()
        seen[:, column] = 1.0
    return total


@pytest.mark.parametrize(
    "settings", [{"hidden": [5], "direct": True}, {"hidden": [5, 4]}], ids=["direct", "two layers"]
)
def test_eonade_equals_the_textbook_loop(settings):
    n = 37  # two whole blocks of columns and a part
    model, x = small_model("eonade", n_visible=n, n_orders=2, **settings), random_rows(9, n)
    expected = torch.stack([textbook(model, x, order) for order in model.orders.tolist()], dim=1)
    assert torch.allclose(model.log_prob_orders(x), expected, atol=1e-10)


def test_eonade_kernel_rounds_like_float32():
    """Against double precision with the same weights.

    An activation sums up to 2n terms: its rounding errors, 2^-24 of partial sums no larger than the sum of all
    magnitudes, are propagated to the logits and, |d log p / d logit| <= 1, summed over columns.
    """
    n, n_hidden = 37, 21
    single = small_model("eonade", n_visible=n, hidden=[n_hidden], n_orders=3).float()
    double = copy.deepcopy(single).double()
    x = random_rows(19, n)  # whole groups of rows and a part
    with torch.no_grad():
        inputs, seen, outputs = (w.abs() for w in (double.input_weight, double.seen_weight, double.output_weight))
        activation = double.hidden_biases[0].abs() + (x @ inputs + seen.sum(0))  # [B, H]
        logit = (2 * n + n_hidden + 1) * (activation @ outputs.t()) + double.visible_bias.abs()  # [B, D]
    bound = 2.0**-24 * logit.sum(1, keepdim=True) + 4e-7 * n
    difference = (single.log_prob_orders(x.float()) - double.log_prob_orders(x)).abs()
    assert (difference < bound).all()
    assert (difference > 0).any()


@pytest.fixture(name="darn")
def small_darn():
    return case_model("darn", 5)


def test_darn_estimate_is_unbiased(darn):
    x = exact.all_binary(5)
    generator = torch.Generator().manual_seed(4)
    repeats = torch.stack([darn.log_weights(x, 5, generator).exp().mean(1) for _ in range(REPEATS)])
    assert z_scores(repeats, log_p(darn, x).exp().detach()).abs().max() < 4


def test_darn_mean_gradient_is_exact(darn):
    """p: of -log p(x); q: of -sum_h p(h | x) log q(h | x).

    Self-normalised: at K = 5000 and 200 repeats the bias is a few percent of the standard error.
    """
    x = random_rows(4, 5)
    log_joint, log_q = joint_tables(darn, x)
    posterior = torch.softmax(log_joint, dim=1).detach()
    loss = -torch.logsumexp(log_joint, dim=1).mean() - (posterior * log_q).sum(1).mean()
    expected = autograd(darn, loss)
    generator = torch.Generator().manual_seed(5)
    repeats = []
    for _ in range(200):
        zero_gradients(darn)
        darn.accumulate_gradients(Batch(x), 5000, generator)
        repeats.append(flat_gradient(darn))
    assert z_scores(torch.stack(repeats), expected).abs().max() < 4


def test_darn_log_weights_are_of_the_samples_drawn(darn):
    x = random_rows(6, 5)
    inferred = darn._infer(x, 4, torch.Generator().manual_seed(6))
    rows = x.repeat_interleave(4, dim=0)
    assert torch.allclose(inferred.log_p.flatten(), darn.log_joint(rows, inferred.h))
    assert torch.allclose(inferred.log_q.flatten(), darn.log_recognition(rows, inferred.h))


@pytest.mark.parametrize("case", CASES)
def test_updates_lower_the_loss_and_leave_masked_weights_alone(case):
    name, hyperparameters = CASES[case]
    model = small_model(name, n_visible=6, scale=0.1, **hyperparameters).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2 and parameter.shape[0] == parameter.shape[1] and name in ("fvsbn", "darn"):
                parameter.tril_(-1)
    x = random_rows(50, 6).float()
    x[:, 1] = x[:, 0]
    step, generator = UpdateStep(model), torch.Generator().manual_seed(7)
    losses = [step.run(Batch(x), 5, generator, 0.03, 0.0).item() for _ in range(200)]
    assert sum(losses[-20:]) < sum(losses[:20])
    if name in ("fvsbn", "darn"):
        square = model.weight if name == "fvsbn" else model.x_weight
        assert (square.triu() == 0).all()


@pytest.mark.parametrize("case", CASES)
def test_updates_need_no_number_on_the_host(case):
    """On the meta device no number exists, so an update that asks for one could not be captured, and fails."""
    name, hyperparameters = CASES[case]
    step = UpdateStep(small_model(name, n_visible=6, **hyperparameters).float().to("meta"))
    loss = step._whole(Batch(torch.empty(8, 6, device="meta")), 3, torch.Generator())
    assert (loss.device.type, loss.shape) == ("meta", ())


@pytest.mark.parametrize("case", [case for case in EXACT if case != "fvsbn"])
def test_orderings_follow_from_the_seed_and_are_saved(case):
    name, hyperparameters = CASES[case]
    one, same, other = (small_model(name, n_visible=9, **hyperparameters, order_seed=seed) for seed in (1, 1, 2))
    x = random_rows(5, 9)
    assert torch.equal(one.log_prob(x), same.log_prob(x))
    assert not torch.allclose(one.log_prob(x), other.log_prob(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.log_prob(x), other.log_prob(x))
