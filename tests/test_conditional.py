"""Conditionals of belief stacks: of whatever kind, their functions agree with each other and with autograd."""

import copy
import itertools

import pytest
import torch
from enumerable import flat_gradient, small_model, zero_gradients

N_VISIBLE, N_ROWS, REPEATS = 5, 7, 3
STACKS = {"bihm": {"layers": [4, 2]}, "bihm_nade": {"layers": [4, 2], "hidden": [3, 4, 2]}}
N_GIVEN = {"p": 4, "q": 5, "prior": 0}  # of the layers that are looked at


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def zeros(n):
    return torch.zeros(n, dtype=torch.float64)


@pytest.fixture(name="model", params=STACKS)
def small_stack(request):
    model = small_model(request.param, n_visible=N_VISIBLE, **STACKS[request.param])
    zero_gradients(model)
    return model


@pytest.fixture(name="which", params=N_GIVEN)
def one_of_the_layers(request):
    return request.param


@pytest.fixture(name="layer")
def layer_of_a_stack(model, which):
    return {"p": model.p_layers[0], "q": model.q_layers[0], "prior": model.prior}[which]


@pytest.fixture(name="u")
def conditions(which):
    return (torch.rand(N_ROWS, N_GIVEN[which], generator=generator(1)) < 0.5).double()


@pytest.fixture(name="drawn")
@torch.no_grad()
def draws_of_every_row(layer, u):
    return layer.draw(layer.product(u), REPEATS, generator(2))


def repeated(rows):
    return rows.repeat_interleave(REPEATS, dim=0)


def gradient(model, add, *arguments):
    zero_gradients(model)
    with torch.no_grad():
        add(*arguments)
    return flat_gradient(model)


def test_all_ways_to_score_agree(layer, u, drawn):
    product = layer.product(u)
    expected = layer.log_likelihood(repeated(product), drawn)
    with torch.no_grad():
        totals = zeros((4, N_ROWS * REPEATS))
        assert torch.equal(layer.draw(layer.multiply(u), REPEATS, generator(2), totals[0]), drawn)
        by_drawing = layer.draw_scored(layer.multiply_for_gradients(u), REPEATS, generator(2), totals[1])
        assert torch.equal(by_drawing.value, drawn)
        scored = layer.score(layer.multiply_for_gradients(repeated(u)), drawn, totals[2])
        totals[3] = layer.pairwise_log_likelihood(product, drawn)
    found = [*totals, layer.log_prob(by_drawing), layer.log_prob(scored)]
    assert all(torch.allclose(each, expected, atol=1e-12) for each in found)
    few = layer.pairwise_log_likelihood(repeated(product), drawn[::REPEATS])
    assert torch.allclose(few, layer.log_likelihood(repeated(product), repeated(drawn[::REPEATS])), atol=1e-12)


def test_all_ways_to_add_gradients_agree_with_autograd(model, layer, u, drawn):
    weights = torch.randn(N_ROWS * REPEATS, generator=generator(3), dtype=torch.float64)
    zero_gradients(model)
    (weights * layer.log_likelihood(layer.product(repeated(u)), drawn)).sum().backward()
    expected = flat_gradient(model)
    assert expected.norm() > 0
    with torch.no_grad():
        scored = layer.score(layer.multiply_for_gradients(repeated(u)), drawn, zeros(len(drawn)))
        found = [gradient(model, layer.add_gradients, scored, weights, repeated(u))]
        by_drawing = layer.draw_scored(layer.multiply_for_gradients(u), REPEATS, generator(2), zeros(len(drawn)))
        found.append(gradient(model, layer.add_pooled_gradients, by_drawing, weights, u))
    found.append(gradient(model, layer.add_gradients_of, drawn, repeated(u), weights))
    assert all(torch.allclose(each, expected, atol=1e-12) for each in found)


@torch.no_grad()
def test_gradients_may_come_after_other_layers_multiplied(model):
    """Where two layers are as wide, they could share the memory of their products."""
    equal = {"layers": [4, 4], "hidden": [4, 4, 4]}
    model = small_model(model.name, n_visible=4, **{name: equal[name] for name in STACKS[model.name]})
    x = (torch.rand(N_ROWS, 4, generator=generator(4)) < 0.5).double()
    weights = torch.ones(N_ROWS, dtype=torch.float64)
    layer, others = model.q_layers[0], [*model.q_layers[1:], *model.p_layers]
    found = []
    for disturbed, drawn in itertools.product((False, True), (False, True)):
        of_x, log_prob = layer.multiply_for_gradients(x), zeros(N_ROWS)
        scored = layer.draw_scored(of_x, 1, generator(5), log_prob) if drawn else layer.score(of_x, x, log_prob)
        for other in others if disturbed else ():
            other.score(other.multiply_for_gradients(1 - x), x, zeros(N_ROWS))
            layer.multiply(1 - x)
        found.append(gradient(model, layer.add_gradients, scored, weights, x))
    assert torch.equal(torch.stack(found[:2]), torch.stack(found[2:]))


@torch.no_grad()
def test_known_entries_stay_and_unknown_ones_are_weighed(layer, u):
    """Proposals are scored as any value is; where nothing is known, they are draws, whose density is p."""
    product, n = layer.product(u), len(layer.bias)
    value = (torch.rand(N_ROWS, n, generator=generator(6)) < 0.5).double()
    known = torch.rand(N_ROWS, n, generator=generator(7)) < 0.5
    proposals, log_p, _ = layer.draw_unknown(product, value, known, REPEATS, generator(8))
    assert torch.equal(proposals[repeated(known)], repeated(value)[repeated(known)])
    assert torch.allclose(log_p, layer.log_likelihood(repeated(product), proposals), atol=1e-12)
    _, log_p, log_density = layer.draw_unknown(product, value, torch.zeros_like(known), REPEATS, generator(8))
    assert torch.allclose(log_p, log_density, atol=1e-12)


@torch.no_grad()
def test_means_are_those_of_draws(layer, u):
    n = 20_000
    product = layer.product(u)
    drawn = layer.draw(product, n, generator(9)).view(N_ROWS, n, -1).mean(1)
    found = layer.mean(product, generator(10))
    scored = layer.draw_scored(product, n, generator(11), zeros(N_ROWS * n))
    of_scored = layer.mean_of(scored).view(N_ROWS, -1, len(layer.bias)).mean(1)
    # standard errors: at most 1/2 over the root of the draws, of which a mean without a closed form takes a hundred
    assert (drawn - found).abs().max() < 5 * 0.5 / 100**0.5
    assert (drawn - of_scored).abs().max() < 5 * 0.5 * (2 / n) ** 0.5


@pytest.mark.parametrize("replaced", [False, True], ids=["in place", "replaced"])
def test_layers_have_the_parameters_of_their_model(model, replaced):
    """After moving it, which may make new parameters, and in a copy."""
    torch.__future__.set_overwrite_module_params_on_conversion(replaced)
    try:
        model.float()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    for each in (model, copy.deepcopy(model)):
        layers = [*each.p_layers, *each.q_layers, each.prior]
        mine = {id(parameter) for layer in layers for parameter in layer.parameters()}
        assert mine == {id(parameter) for parameter in each.parameters()}
        assert all(layer.bias.dtype == torch.float32 for layer in layers)
