"""Small models with parameters far from zero, and the z-scores that compare repeats with an exact value."""

import torch

from harness.blocks.sigmoid_belief import BeliefStack
from harness.plugins.registry import build

N_VISIBLE = 5
STACKS = {
    "bihm": {"layers": [4, 2]},
    "rws": {"layers": [3, 3]},
}


def small_model(name, seed=0, n_visible=N_VISIBLE, scale=0.8, **hyperparameters):
    """A double-precision model whose parameters are normal draws, so that nothing is symmetric or nearly uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(name, n_visible, hyperparameters).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=scale)
    return model


def small_stack(name, seed=0) -> BeliefStack:
    return small_model(name, seed, **STACKS[name])


def zero_gradients(model):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


def flat_gradient(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def z_scores(repeats, exact):
    """(mean - exact) / standard error, entry by entry, for repeats [R, ...]; entries that never vary must be exact."""
    mean, error = repeats.mean(0), repeats.std(0) / repeats.shape[0] ** 0.5
    constant = error < 1e-12
    assert torch.allclose(mean[constant], exact[constant], atol=1e-9)
    return ((mean - exact) / error)[~constant]
