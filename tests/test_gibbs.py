"""Algorithm 2, inpainting and draws from a layer downward, against exact sums over every state of small models.

A finite number K of proposals biases a resampling by (E[w^2] - w) / K to first order, w being its normalised weights.
``Enumerated.bias`` carries that through the exact kernels of a sweep to the distribution at which chains arrive, so
that each test chooses K for a bias that a chi-square of its draws cannot see, and says so.
"""

import pytest
import torch
from enumerable import small_model, z_scores
from harness.methods.bihm import BiHM
from scipy import stats

from harness.blocks import exact, gibbs
from harness.blocks.exact import all_binary, joint_tables, log_p_star_unnormalised
from harness.method import Inpainter, JointSampler, LayerSampler

INVISIBLE = 0.5  # noncentrality of a chi-square with tens of degrees of freedom
BURN_IN = (10, 10, 10, 50)  # proposals of the sweeps before the last: a sweep forgets all but a hundredth of a bias


def draws(seed):
    return torch.Generator().manual_seed(seed)


def code(states):
    """Position of rows of 0/1 [N, n] in counting order, [N]."""
    return (states.long() * 2 ** torch.arange(states.shape[1] - 1, -1, -1)).sum(1)


def p_value(states, probability):
    """Of the chi-square that the rows, 0/1 [N, n], are draws from ``probability`` [2^n]."""
    counts = torch.bincount(code(states), minlength=len(probability))
    return stats.chisquare(counts.numpy(), (probability / probability.sum() * len(states)).numpy()).pvalue


class Enumerated:
    """p*(x, h) over all S joint states of a stack, and the exact kernels of Algorithm 2."""

    @torch.no_grad()
    def __init__(self, model):
        rows = all_binary(model.n_visible)
        self.model = model
        self.log_p, self.log_q = joint_tables(model, rows)  # [X, H]
        self.log_root = 0.5 * log_p_star_unnormalised(model, rows)  # of p~*(x)
        square = self.log_p + self.log_q + 2 * self.log_root[:, None]
        self.joint = torch.softmax(0.5 * square.flatten(), dim=0)  # [S]
        self.p_star = self.joint.view(len(rows), -1).sum(1)
        self.sizes = [model.n_visible, *(len(bias) for bias in model.q_bias)]
        self.states = all_binary(sum(self.sizes))
        self.layers = list(self.states.split(self.sizes, dim=1))

    def kernel(self, level):
        """Drawing one layer anew given the others, [S, S]."""
        others = torch.cat([layer for i, layer in enumerate(self.layers) if i != level], dim=1)
        kernel = (code(others)[:, None] == code(others)[None]) * self.joint
        return kernel / kernel.sum(1, keepdim=True)

    @torch.no_grad()
    def bias_of_one(self, level):
        """K times the first-order bias of one resampling, [S, S]."""
        kernel, model, here = self.kernel(level), self.model, self.layers[level]
        spread = torch.ones(len(here), dtype=torch.float64)  # E[w^2 | x] / E[w | x]^2, as sqrt(p~*(x)) is estimated
        if level == 0:
            density = model.log_p_layer(0, here, self.layers[1]).exp()
            second = torch.logsumexp(self.log_p, dim=1)  # of the weights sqrt(p / q): E_q[p / q]
            spread += (torch.expm1(second - 2 * self.log_root) / gibbs.INNER)[code(here)]
        else:
            top = level + 1 == len(self.layers)
            above = here.new_empty(len(here), 0) if top else self.layers[level + 1]
            from_q = model.log_q_layer(level, here, self.layers[level - 1])
            density = (model.log_p_layer(level, here, above).exp() + from_q.exp()) / 2
        weight = kernel / density
        mean_square = (kernel * weight * spread).sum(1, keepdim=True)
        return kernel * (mean_square - weight * spread)

    def bias(self):
        """K times the first-order bias [S] of the distribution at which chains arrive."""
        levels = range(1, len(self.layers))
        order = [*levels[::2], *levels[1::2], 0]
        kernels = [self.kernel(level) for level in order]
        total = torch.zeros_like(self.joint)
        for level, kernel in zip(order, kernels, strict=True):
            total = total @ kernel + self.joint @ self.bias_of_one(level)
        found, left = total, total
        for _ in range(50):
            for kernel in kernels:
                left = left @ kernel
            found = found + left
        return found

    def noncentrality(self, n_draws, n_proposals):
        """Of the chi-square over all joint states."""
        return n_draws * (self.bias().square() / self.joint).sum().item() / n_proposals**2


def burnt_in(model, n_chains, n_proposals, seed):
    """States of independent chains after a few sweeps from p."""
    generator = draws(seed)
    state = model.sample_layers(n_chains, generator)
    for k in (*BURN_IN, n_proposals):
        state = model.sweep(state, k, generator)
    return state


@pytest.fixture(scope="module", name="two_layers")
def model_of_two_layers():
    return small_model("bihm", seed=0, n_visible=3, layers=[2, 2])


@pytest.mark.parametrize(
    ("layers", "n_chains", "n_proposals"), [([2, 2], 100_000, 180), ([2, 1, 2], 10_000, 150)], ids=["2", "3"]
)
def test_chains_arrive_at_p_star(layers, n_chains, n_proposals):
    model = small_model("bihm", seed=0, n_visible=3, layers=layers)
    table = Enumerated(model)
    assert table.noncentrality(n_chains, n_proposals) < INVISIBLE
    start = model.sample_layers(n_chains, draws(1))
    assert p_value(start[0], table.p_star) < 1e-6  # p, where chains start, is something else
    state = burnt_in(model, n_chains, n_proposals, seed=2)
    assert p_value(state[0], table.p_star) > 0.001
    assert p_value(torch.cat(state, dim=1), table.joint) > 0.001


def without_root():
    original = gibbs._resample

    def resample(proposals, log_square, log_density, generator):
        return original(proposals, 2.0 * log_square, log_density, generator)

    return "harness.blocks.gibbs._resample", resample


def without_density():
    original = gibbs._resample

    def resample(proposals, log_square, log_density, generator):
        return original(proposals, log_square, torch.zeros_like(log_density), generator)

    return "harness.blocks.gibbs._resample", resample


def without_neighbour_above():
    original = BiHM.log_q_layer

    def log_q_layer(self, level, value, below, product=None):
        found = original(self, level, value, below, product)
        return torch.zeros_like(found) if level == 2 and len(below) > len(value) else found

    return "harness.methods.bihm.BiHM.log_q_layer", log_q_layer


def without_marginal():
    original = BiHM.infer

    def infer(self, *arguments, **more):
        inferred = original(self, *arguments, **more)
        inferred.log_p.copy_(inferred.log_q)
        return inferred

    return "harness.methods.bihm.BiHM.infer", infer


@pytest.mark.parametrize(
    "mistake", [without_root, without_density, without_neighbour_above, without_marginal], ids=lambda m: m.__name__
)
def test_wrong_weights_are_seen(mistake, two_layers, monkeypatch):
    n_chains, n_proposals = 20_000, 90
    table = Enumerated(two_layers)
    assert table.noncentrality(n_chains, n_proposals) < INVISIBLE
    monkeypatch.setattr(*mistake())
    assert p_value(torch.cat(burnt_in(two_layers, n_chains, n_proposals, seed=3), dim=1), table.joint) < 1e-6


@pytest.mark.parametrize("known", [[True, False, False], [False, True, True]], ids=["one known", "two known"])
def test_inpainting_draws_from_the_conditional(two_layers, known):
    n_chains, n_proposals = 10_000, 100  # a tenth of the draws need a third of the proposals
    table, known = Enumerated(two_layers), torch.tensor(known)
    rows = all_binary(3)
    for value in (0.0, 1.0):
        given = torch.full((3,), value, dtype=torch.float64)
        x = torch.where(known, given, 0.5).repeat(n_chains, 1)  # nobody knows where to start
        found, expected = two_layers.inpaint(x, known.expand_as(x), 3, n_proposals, draws(4))
        assert (found[:, known] == value).all()
        assert (expected[:, known] == value).all()
        conditional = table.p_star * (rows[:, known] == value).all(1)
        assert p_value(found[:, ~known], conditional[(rows[:, known] == value).all(1)]) > 0.001


@pytest.mark.parametrize("level", [1, 2, 3])
def test_draws_from_a_layer_downward(level):
    """Against p(x | h_l) = sum over the layers below of the exact joint, and its expectation of x."""
    model = small_model("bihm", seed=2, n_visible=3, layers=[2, 2, 2])
    table = Enumerated(model)
    p = table.log_p.flatten().exp()
    h = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    matches = (table.layers[level] == h).all(1)
    conditional = (p * matches).view(8, -1).sum(1)
    layers = model.sample_below(level, h.expand(50_000, -1), draws(5))
    assert [layer.shape[1] for layer in layers] == [3, 2, 2, 2][:level]
    assert p_value(layers[0], conditional) > 0.001
    below = layers[1] if level > 1 else h.expand(50_000, -1)
    expected = (conditional[:, None] * all_binary(3)).sum(0) / conditional.sum()
    z = z_scores(model.expected_visible(below, draws(6)), expected)
    assert (z.abs() < 4.5).all()


def test_joint_draws_are_those_of_p(two_layers):
    state = two_layers.sample_layers(50_000, draws(7))
    assert p_value(torch.cat(state, dim=1), Enumerated(two_layers).log_p.flatten().exp()) > 0.001


@pytest.mark.parametrize(("name", "more"), [("bihm", {}), ("bihm_nade", {"hidden": [3, 2, 2]})])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_add_up_to_the_joint(name, more, dtype):
    """log p(x, h) and log q(h | x) are sums over layers, whichever side has several rows for one of the other's."""
    model = small_model(name, layers=[4, 3], **more).to(dtype)
    with torch.no_grad():
        x, *h = model.sample_layers(6, draws(8))
        layers, top = [x, *h], x.new_empty(6, 0)
        p = [model.log_p_layer(level, layers[level], above) for level, above in enumerate([*h, top])]
        q = [model.log_q_layer(level, layers[level], layers[level - 1]) for level in (1, 2)]
        assert torch.allclose(sum(p), model.log_joint(x, h), atol=1e-5)
        assert torch.allclose(sum(q), model.log_recognition(x, h), atol=1e-5)
        several = torch.cat([h[0], h[0].flip(0)], dim=1).view(12, -1)  # two rows of h_1 for one of x and of h_2
        for level, neighbour in ((0, x), (1, h[1])):
            repeated = neighbour.repeat_interleave(2, dim=0)
            pair = (neighbour, several) if level == 0 else (several, neighbour)
            single = (repeated, several) if level == 0 else (several, repeated)
            assert torch.allclose(model.log_p_layer(level, *pair), model.log_p_layer(level, *single), atol=1e-5)
            assert torch.allclose(
                model.log_q_layer(level + 1, *pair[::-1]), model.log_q_layer(level + 1, *single[::-1]), atol=1e-5
            )


def test_nade_layers_arrive_at_p_star():
    model = small_model("bihm_nade", seed=1, n_visible=3, scale=0.5, layers=[2], hidden=[2, 2])
    n_chains = 5000
    with torch.no_grad():
        h = all_binary(2)
        log_root = torch.stack(
            [
                torch.logsumexp(0.5 * (model.log_joint(x, [h]) + model.log_recognition(x, [h])), dim=0)
                for x in all_binary(3)[:, None].expand(-1, 4, -1)
            ]
        )
    state = burnt_in(model, n_chains, 100, seed=9)
    assert p_value(state[0], torch.softmax(2 * log_root, dim=0)) > 0.001
    mean = model.expected_visible(state[1], draws(10))
    assert (
        z_scores(mean - model.draw_p(0, state[1], 1, draws(11)), torch.zeros(3, dtype=torch.float64)).abs().max() < 4.5
    )


def test_single_precision_and_blocks_of_chains(two_layers, monkeypatch):
    """As models are used: float32, and more chains than are taken at once."""
    model = small_model("bihm", seed=0, n_visible=3, layers=[2, 2]).float()
    monkeypatch.setitem(gibbs.ENTRIES, "cpu", 3 * 60 * 3000)
    state = burnt_in(model, 10_000, 60, seed=12)
    assert state[0].dtype == torch.float32
    assert p_value(torch.cat(state, dim=1), Enumerated(two_layers).joint) > 0.001


def test_a_seed_decides_and_one_proposal_is_refused(two_layers):
    one, other = (burnt_in(two_layers, 50, 10, seed) for seed in (13, 13))
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    assert not torch.equal(one[0], burnt_in(two_layers, 50, 10, 14)[0])
    with pytest.raises(ValueError, match="expected at least 2"):
        two_layers.sweep(one, 1, draws(1))


def test_capabilities():
    assert all(isinstance(small_model("bihm", layers=[2]), each) for each in (LayerSampler, JointSampler, Inpainter))
    rws = small_model("rws", layers=[2])
    assert isinstance(rws, LayerSampler)
    assert not isinstance(rws, JointSampler)
    assert exact.log_p(rws, all_binary(5)).exp().sum().item() == pytest.approx(1.0)
