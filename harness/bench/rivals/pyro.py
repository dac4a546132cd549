"""The methods as programs in Pyro 1.9, on the networks of ``textbook``.

Particles are vectorised, validation is off, and Adam steps the networks' parameters directly rather than through
Pyro's optimisers, which step them one by one. What each objective does and does not share with ours:

- ``ReweightedWakeSleep`` sums log-weights over the mini-batch, so that one particle wins for all rows together. Its
  cost is that of reweighted wake-sleep, its result is not: it is compared by time alone. On BiHM's network, without a
  sleep phase, it makes the same network evaluations as an update of BiHM.
- ``TraceGraph_ELBO`` is a correct score-function gradient of the evidence lower bound, averaged over K particles: the
  same evaluations again, another objective.
- ``TraceMeanField_ELBO`` (analytic divergence) is our VAE's objective, ``RenyiELBO`` with alpha = 0 our IWAE's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import RenyiELBO, ReweightedWakeSleep, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from harness.bench.cases import Case
from harness.bench.rivals import textbook
from harness.bench.rivals.updates import adam_update

Program = Callable[..., None]


def _bernoulli(logits: Tensor) -> dist.Distribution:
    return dist.Bernoulli(logits=logits).to_event(1)


def _normal(parameters: Tensor) -> dist.Distribution:
    mean, log_std = parameters.chunk(2, dim=-1)
    return dist.Normal(mean, log_std.exp()).to_event(1)


def _belief_programs(net: textbook.BeliefNet) -> tuple[Program, Program]:
    """p and q of a sigmoid belief network; x is data in p and given to q, by name where it was drawn in sleep."""
    depth = len(net.p)

    def model(x: Tensor, observations: Mapping[str, Tensor] | None = None) -> None:
        with pyro.plate("rows", x.shape[0]):
            layer = pyro.sample(f"h{depth}", _bernoulli(net.prior))
            for level in range(depth - 1, 0, -1):
                layer = pyro.sample(f"h{level}", _bernoulli(net.p[level](layer)))
            pyro.sample("x", _bernoulli(net.p[0](layer)), obs=x)

    def guide(x: Tensor, observations: Mapping[str, Tensor] | None = None) -> None:
        layer = observations["x"] if observations else x
        with pyro.plate("rows", x.shape[0]):
            for level, linear in enumerate(net.q, start=1):
                layer = pyro.sample(f"h{level}", _bernoulli(linear(layer)))

    return model, guide


def _gaussian_programs(net: textbook.VAE | textbook.IWAE) -> tuple[Program, Program]:
    encoders = net.encoders if isinstance(net, textbook.IWAE) else [net.encoder]
    decoders = net.decoders if isinstance(net, textbook.IWAE) else [net.decoder]
    top = decoders[-1][0].in_features

    def model(x: Tensor) -> None:
        with pyro.plate("rows", x.shape[0]):
            layer = pyro.sample(f"h{len(decoders)}", dist.Normal(x.new_zeros(top), x.new_ones(top)).to_event(1))
            for level in range(len(decoders) - 1, 0, -1):
                layer = pyro.sample(f"h{level}", _normal(decoders[level](layer)))
            pyro.sample("x", _bernoulli(decoders[0](layer)), obs=x)

    def guide(x: Tensor) -> None:
        layer = x
        with pyro.plate("rows", x.shape[0]):
            for level, encoder in enumerate(encoders, start=1):
                layer = pyro.sample(f"h{level}", _normal(encoder(layer)))

    return model, guide


def objective(name: str, case: Case) -> Any:
    """Pyro's class of that name, with K particles."""
    particles = {"num_particles": case.n_samples, "vectorize_particles": True, "max_plate_nesting": 1}
    if name == "ReweightedWakeSleep":
        # half wake, half sleep with one draw per row for RWS; BiHM has no sleep phase
        return ReweightedWakeSleep(**particles, insomnia=0.5 if case.method == "rws" else 1.0, num_sleep_particles=1)
    if name == "RenyiELBO":
        return RenyiELBO(**particles, alpha=0.0)
    return {"TraceGraph_ELBO": TraceGraph_ELBO, "TraceMeanField_ELBO": TraceMeanField_ELBO}[name](**particles)


def programs(network: nn.Module) -> tuple[Program, Program]:
    """(model, guide) of a network of ``textbook``."""
    return _belief_programs(network) if isinstance(network, textbook.BeliefNet) else _gaussian_programs(network)


def _with_parameters(model: Program, network: nn.Module) -> Program:
    """The model, telling Pyro of its parameters: most objectives compute gradients only where a trace has some."""

    def registered(x: Tensor) -> None:
        pyro.module("network", network)
        model(x)

    return registered


def update(name: str, case: Case, device: torch.device) -> Callable[[Tensor], None]:
    """One update with the objective ``name`` on a batch x [B, D]."""
    pyro.enable_validation(False)
    pyro.clear_param_store()
    network = textbook.NETWORKS[case.method](case.n_visible, **case.model).to(device)
    loss = objective(name, case)
    model, guide = programs(network)
    if name != "ReweightedWakeSleep":
        model = _with_parameters(model, network)
    # Pyro's losses are sums over the batch, and the penalty goes with them
    return adam_update(network, lambda x: loss.loss_and_grads(model, guide, x), case.learning_rate, case.l1)
