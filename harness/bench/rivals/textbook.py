"""The methods written with ``torch.nn``, ``torch.distributions`` and automatic differentiation.

Estimators are those of the harness, so that results can be compared number by number. Samples are drawn without
gradient, hence automatic differentiation finds no path through them and makes no input-gradient products in sigmoid
belief networks. ``validate_args=False`` everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from harness.bench import cases
from harness.bench.cases import Case
from harness.bench.labels import N_CLASSES, labels_of
from harness.bench.rivals.updates import adam_update, by_backward

EVALUATION_CHUNK = 1000  # draws scored at once, which is the fastest here


def _bernoulli(logits: Tensor) -> Bernoulli:
    return Bernoulli(logits=logits, validate_args=False)


def _normal(parameters: Tensor) -> Normal:
    mean, log_std = parameters.chunk(2, dim=-1)
    return Normal(mean, log_std.exp(), validate_args=False)


class BeliefNet(nn.Module):
    """p(h_L) prod p(h_{l-1} | h_l) and q(h | x) of sigmoid belief layers."""

    def __init__(self, n_visible: int, layers: Sequence[int]):
        super().__init__()
        pairs = list(pairwise([n_visible, *layers]))
        self.p = nn.ModuleList(nn.Linear(above, below) for below, above in pairs)
        self.q = nn.ModuleList(nn.Linear(below, above) for below, above in pairs)
        self.prior = nn.Parameter(torch.full((layers[-1],), -1.0))

    def infer(self, x: Tensor, n_samples: int) -> tuple[list[Tensor], Tensor]:
        """([x, h_1 .. h_L], log q(h | x) [B, K]) for h ~ q(h | x); every layer [B, K, n_l]."""
        layers = [x[:, None].expand(-1, n_samples, -1)]
        log_q = x.new_zeros(x.shape[0], n_samples)
        for linear in self.q:
            conditional = _bernoulli(linear(layers[-1]))
            layers.append(conditional.sample())
            log_q = log_q + conditional.log_prob(layers[-1]).sum(-1)
        return layers, log_q

    def log_joint(self, layers: Sequence[Tensor]) -> Tensor:
        """log p(x, h) [...] of x and h_1 .. h_L, each [..., n_l]."""
        total = _bernoulli(self.prior).log_prob(layers[-1]).sum(-1)
        for linear, (below, above) in zip(self.p, pairwise(layers), strict=True):
            total = total + _bernoulli(linear(above)).log_prob(below).sum(-1)
        return total

    def log_recognition(self, layers: Sequence[Tensor]) -> Tensor:
        """log q(h | x) [...] of x and h_1 .. h_L, each [..., n_l]."""
        terms = zip(self.q, pairwise(layers), strict=True)
        return sum(_bernoulli(linear(below)).log_prob(above).sum(-1) for linear, (below, above) in terms)

    @torch.no_grad()
    def sample(self, n: int) -> list[Tensor]:
        """n draws of [x, h_1 .. h_L] from p."""
        layers = [_bernoulli(self.prior).sample((n,))]
        for linear in reversed(self.p):
            layers.append(_bernoulli(linear(layers[-1])).sample())
        return layers[::-1]

    @torch.no_grad()
    def log_weights(self, x: Tensor, n_samples: int) -> Tensor:
        """log p(x, h_k) - log q(h_k | x), [B, K]."""
        layers, log_q = self.infer(x, n_samples)
        return self.log_joint(layers) - log_q


def bihm_loss(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Its gradient is equation 3.7 of the thesis, q's weights centred; log p and log q [B, K] of the same samples."""
    weights = torch.softmax(0.5 * (log_p - log_q).detach(), dim=1)
    return -(weights * log_p + (weights - 1.0 / log_p.shape[1]) * log_q).sum(1).mean()


def rws_loss(log_p: Tensor, log_q: Tensor, sleep_log_q: Tensor) -> Tensor:
    """Its gradient is that of reweighted wake-sleep, q's half wake, centred, and half sleep [n]."""
    weights = torch.softmax((log_p - log_q).detach(), dim=1)
    wake = weights * log_p + 0.5 * (weights - 1.0 / log_p.shape[1]) * log_q
    return -wake.sum(1).mean() - 0.5 * sleep_log_q.mean()


class NADE(nn.Module):
    """log p(x) = sum_d log p(x_d | x_<d), a loop over columns.

    Of the forms without a loop the best, a cumulative sum of [D, B, H], takes three to six times as long and gigabytes
    of memory on 784 columns and 500 hidden units; products with a triangular mask take five times as long.
    """

    def __init__(self, n_visible: int, hidden: int):
        super().__init__()
        bound = math.sqrt(6.0 / (n_visible + hidden))
        self.input_weight = nn.Parameter(torch.empty(n_visible, hidden).uniform_(-bound, bound))
        self.output_weight = nn.Parameter(torch.empty(n_visible, hidden).uniform_(-bound, bound))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.visible_bias = nn.Parameter(torch.zeros(n_visible))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) [B]."""
        activation = self.hidden_bias.expand(x.shape[0], -1)
        logits = []
        columns = zip(x.unbind(1), self.input_weight.unbind(0), self.output_weight.unbind(0), strict=True)
        for column, input_weight, output_weight in columns:
            logits.append(torch.sigmoid(activation) @ output_weight)
            activation = torch.addr(activation, column, input_weight)
        return _bernoulli(torch.stack(logits, dim=1) + self.visible_bias).log_prob(x).sum(-1)


def perceptron(sizes: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of the given sizes with the activation between them."""
    modules = [module for pair in pairwise(sizes) for module in (nn.Linear(*pair), activation())]
    return nn.Sequential(*modules[:-1])


class VAE(nn.Module):
    """One layer of Gaussian latent variables, ReLU units."""

    def __init__(self, n_visible: int, latent: int, hidden: Sequence[int]):
        super().__init__()
        self.encoder = perceptron([n_visible, *hidden, 2 * latent], nn.ReLU)
        self.decoder = perceptron([latent, *reversed(hidden), n_visible], nn.ReLU)

    def loss(self, x: Tensor, n_samples: int) -> Tensor:
        """Mean of -E_q[log p(x | h)] + KL(q(h | x) || p(h))."""
        q = _normal(self.encoder(x))
        log_likelihood = _bernoulli(self.decoder(q.rsample((n_samples,)))).log_prob(x).sum(-1)  # [K, B]
        prior = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean), validate_args=False)
        return (kl_divergence(q, prior).sum(-1) - log_likelihood.mean(0)).mean()


class IWAE(nn.Module):
    """Any number of layers of Gaussian latent variables, tanh units."""

    def __init__(self, n_visible: int, layers: Sequence[int], hidden: Sequence[Sequence[int]]):
        super().__init__()
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level, ((below, above), between) in enumerate(zip(pairwise([n_visible, *layers]), hidden, strict=True)):
            n_outputs = below if level == 0 else 2 * below
            self.encoders.append(perceptron([below, *between, 2 * above], nn.Tanh))
            self.decoders.append(perceptron([above, *reversed(between), n_outputs], nn.Tanh))

    def log_weights(self, x: Tensor, n_samples: int) -> Tensor:
        """log p(x, h_k) - log q(h_k | x), [K, B]."""
        q = _normal(self.encoders[0](x))
        h = q.rsample((n_samples,))
        total = _bernoulli(self.decoders[0](h)).log_prob(x).sum(-1) - q.log_prob(h).sum(-1)
        for encoder, decoder in zip(self.encoders[1:], self.decoders[1:], strict=True):
            q = _normal(encoder(h))
            above = q.rsample()
            total = total + _normal(decoder(above)).log_prob(h).sum(-1) - q.log_prob(above).sum(-1)
            h = above
        prior = Normal(torch.zeros_like(h), torch.ones_like(h), validate_args=False)
        return total + prior.log_prob(h).sum(-1)

    def loss(self, x: Tensor, n_samples: int) -> Tensor:
        """Mean of -log (1/K) sum_k p(x, h_k) / q(h_k | x)."""
        return math.log(n_samples) - torch.logsumexp(self.log_weights(x, n_samples), dim=0).mean()


class VAEHMC(nn.Module):
    """One layer of Gaussian latent variables moved by leapfrog steps, forces by automatic differentiation; tanh units.

    r_t has inputs of its own for every transition: the encoder's last hidden layer and the position.
    """

    def __init__(
        self,
        n_visible: int,
        latent: int,
        hidden: Sequence[int],
        iterations: int = 8,
        leapfrog_steps: int = 1,
        reverse_hidden: int = 100,
        initial_step: float = 0.05,
    ):
        super().__init__()
        self.leapfrog_steps = leapfrog_steps
        self.features = nn.Sequential(*perceptron([n_visible, *hidden], nn.Tanh), nn.Tanh())
        self.posterior = nn.Linear(hidden[-1], 2 * latent)
        self.decoder = perceptron([latent, *reversed(hidden), n_visible], nn.Tanh)
        self.log_step = nn.ParameterList(torch.full((latent,), math.log(initial_step)) for _ in range(iterations))
        sizes = [hidden[-1] + latent, reverse_hidden, 2 * latent]
        self.reverse = nn.ModuleList(perceptron(sizes, nn.Tanh) for _ in range(iterations))

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) [K, B] for z [K, B, n]."""
        return _bernoulli(self.decoder(z)).log_prob(x).sum(-1) + _log_standard_normal(z)

    def force(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x, z) [K, B] and its gradient by z."""
        log_joint = self.log_joint(x, z)
        return log_joint, torch.autograd.grad(log_joint.sum(), z, create_graph=True)[0]

    def loss(self, x: Tensor, n_samples: int) -> Tensor:
        """Mean of -log p(x, z_T) prod_t r_t(v_t | x, z_t) / (q(z_0 | x) prod_t N(v'_t))."""
        features = self.features(x)
        q = _normal(self.posterior(features))
        z = q.rsample((n_samples,))
        total = -q.log_prob(z).sum(-1)
        log_joint, slope = self.force(x, z)
        for log_step, reverse in zip(self.log_step, self.reverse, strict=True):
            step, v = log_step.exp(), torch.randn_like(z)
            total = total - _log_standard_normal(v)
            for _ in range(self.leapfrog_steps):
                v = v + 0.5 * step * slope
                z = z + step * v
                log_joint, slope = self.force(x, z)
                v = v + 0.5 * step * slope
            seen = torch.cat([features.expand(*z.shape[:2], -1), z], dim=-1)
            total = total + _normal(reverse(seen)).log_prob(v).sum(-1)
        return -(total + log_joint).mean()


def _log_standard_normal(value: Tensor) -> Tensor:
    normal = Normal(torch.zeros_like(value), torch.ones_like(value), validate_args=False)
    return normal.log_prob(value).sum(-1)


class LabelMLP(nn.Module):
    """Labels from pixels: one layer of rectified units, dropout before and after it."""

    def __init__(
        self,
        n_visible: int,
        hidden: int,
        n_classes: int = N_CLASSES,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        weight_decay: float = 0.0,
    ):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(input_dropout),
            nn.Linear(n_visible, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_classes),
        )

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean of -log p(y | x), without the weight decay, which is the optimiser's."""
        return nn.functional.cross_entropy(self.layers(x), y)


def _bihm(net: BeliefNet, x: Tensor, n_samples: int) -> Tensor:
    layers, log_q = net.infer(x, n_samples)
    return bihm_loss(net.log_joint(layers), log_q)


def _rws(net: BeliefNet, x: Tensor, n_samples: int) -> Tensor:
    layers, log_q = net.infer(x, n_samples)
    return rws_loss(net.log_joint(layers), log_q, net.log_recognition(net.sample(x.shape[0])))


def _nade(net: NADE, x: Tensor, n_samples: int) -> Tensor:
    return -net.log_prob(x).mean()


def _bound(net: VAE | IWAE | VAEHMC, x: Tensor, n_samples: int) -> Tensor:
    return net.loss(x, n_samples)


NETWORKS: dict[str, type[nn.Module]] = {
    "bihm": BeliefNet,
    "rws": BeliefNet,
    "nade": NADE,
    "vae": VAE,
    "iwae": IWAE,
    "vae_hmc": VAEHMC,
    "label_mlp": LabelMLP,
}
LOSSES: dict[str, Callable[[Any, Tensor, int], Tensor]] = {
    "bihm": _bihm,
    "rws": _rws,
    "nade": _nade,
    "vae": _bound,
    "iwae": _bound,
    "vae_hmc": _bound,
}


def update(case: Case, device: torch.device, bfloat16: bool = False) -> Callable[[Tensor], None]:
    """One update of the case's method on a batch x [B, D]; with ``bfloat16``, products under ``torch.autocast``."""
    network = NETWORKS[case.method](case.n_visible, **case.model).to(device)

    def loss(x: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            labels = labels_of(x, case)
            return LOSSES[case.method](network, x, case.n_samples) if labels is None else network.loss(x, labels)

    decay = case.model.get("weight_decay", 0.0)
    return adam_update(network, by_backward(loss), case.learning_rate, case.mean_l1, decay)


@torch.no_grad()
def log_p(net: BeliefNet, x: Tensor, n_samples: int) -> Tensor:
    """log p~(x) [B] from K samples per row."""
    rows = x.split(max(1, EVALUATION_CHUNK // n_samples))
    return torch.cat([torch.logsumexp(net.log_weights(part, n_samples), dim=1) for part in rows]) - math.log(n_samples)


@torch.no_grad()
def log_z2_weights(net: BeliefNet, n: int) -> Tensor:
    """Logarithms [n] of unbiased samples of Z^2 (thesis, equation 3.11)."""
    parts = []
    for start in range(0, n, EVALUATION_CHUNK):
        layers = net.sample(min(EVALUATION_CHUNK, n - start))
        log_ratio = net.log_recognition(layers) - net.log_joint(layers)
        parts.append(0.5 * (net.log_weights(layers[0], 1)[:, 0] + log_ratio))
    return torch.cat(parts)


def evaluation(case: Case, net: BeliefNet, x: Tensor) -> Callable[[], Tensor]:
    """log p~ of all rows x, or logarithms of samples of Z^2."""
    if case.job == cases.LOG_Z2:
        return lambda: log_z2_weights(net, case.n_samples)
    return lambda: log_p(net, x, case.n_samples)


def belief_net_like(model: Any) -> BeliefNet:
    """The network with the parameters of a ``harness.blocks.sigmoid_belief.BeliefStack``, on its device."""
    net = BeliefNet(model.n_visible, [weight.shape[0] for weight in model.q_weight]).to(model.prior_bias)
    with torch.no_grad():
        for ours, linears in (((model.p_weight, model.p_bias), net.p), ((model.q_weight, model.q_bias), net.q)):
            for weight, bias, linear in zip(*ours, linears, strict=True):
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
        net.prior.copy_(model.prior_bias)
    return net
