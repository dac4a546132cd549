"""Right methods of an unusual make: the conformance suite passes them."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

import harness
from harness.blocks.bernoulli import log_bernoulli, sample_bernoulli
from harness.method import Method


class Unusual(Method):
    """A variational autoencoder with batch normalisation, dropout, a frozen matrix and a layer that p and q share."""

    name = "unusual"
    title = "Unusual"
    kind = "latent"
    source = "nowhere"
    small = {"latent": 2, "hidden": 4}

    def __init__(self, n_visible: int, latent: int, hidden: int):
        super().__init__(n_visible)
        self.project = nn.Parameter(torch.randn(n_visible, hidden), requires_grad=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout(0.2)
        self.between = nn.Linear(hidden, hidden)
        self.encoder = nn.Linear(hidden, 2 * latent)
        self.decoder = nn.Linear(latent, hidden)
        self.again = nn.Linear(hidden, hidden)
        self.again.weight = self.between.weight
        self.output = nn.Linear(hidden, n_visible)

    def _decode(self, h):
        return self.output(torch.tanh(self.again(torch.tanh(self.decoder(h)))))

    def log_weights(self, x, n_samples, generator):
        features = self.dropout(torch.tanh(self.norm(x @ self.project)))
        mean, log_std = self.encoder(torch.tanh(self.between(features)))[:, None].chunk(2, dim=-1)
        shape = (len(x), n_samples, mean.shape[-1])
        noise = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
        h = mean + torch.exp(log_std) * noise
        log_q = (-0.5 * noise.square() - log_std).sum(-1)
        return log_bernoulli(x[:, None], self._decode(h)) - 0.5 * h.square().sum(-1) - log_q

    def loss(self, batch, n_samples, generator):
        return math.log(n_samples) - torch.logsumexp(self.log_weights(batch.x, n_samples, generator), dim=1).mean()

    @torch.no_grad()
    def sample(self, n, generator):
        weight = self.decoder.weight
        h = torch.randn(n, weight.shape[1], generator=generator, device=weight.device, dtype=weight.dtype)
        return sample_bernoulli(torch.sigmoid(self._decode(h)), generator)


class FunctionalDropout(Unusual):
    """The same with functions in place of modules."""

    def log_weights(self, x, n_samples, generator):
        kept = F.dropout(x, 0.1, self.training)
        return super().log_weights(x, n_samples, generator) + 0.0 * kept.sum()


class FrozenMask(Method):
    """Fully visible and exact, its mask a frozen matrix; noise on that would let columns see themselves."""

    name = "frozen_mask"
    title = "Frozen mask"
    kind = "autoregressive"
    source = "nowhere"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.mask = nn.Parameter(torch.ones(n_visible, n_visible).tril(-1), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(n_visible, n_visible))
        self.bias = nn.Parameter(torch.zeros(n_visible))

    def log_prob(self, x):
        return log_bernoulli(x, F.linear(x, self.weight * self.mask, self.bias))

    def loss(self, batch, n_samples, generator):
        return -self.log_prob(batch.x).mean()


class Uniform(Method):
    """Fitted in closed form to nothing: no parameter, no buffer."""

    name = "uniform"
    title = "uniform"
    kind = "control"
    source = "nowhere"

    def fit(self, train):
        pass

    def log_prob(self, x):
        if x.shape[1] != self.n_visible:
            raise ValueError(f"x: expected {self.n_visible} columns, found {x.shape[1]}")
        return torch.full((len(x),), -self.n_visible * math.log(2.0), dtype=x.dtype, device=x.device)

    def sample(self, n, generator):
        return torch.randint(2, (n, self.n_visible), generator=generator).double()


class CountsInABuffer(Uniform):
    """Fitted in closed form; all that it has learned is a buffer."""

    name = "counts"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.register_buffer("means", torch.full((n_visible,), 0.5))

    def fit(self, train):
        self.means = (train.x.double().sum(0) + 1.0).div(len(train.x) + 2.0).to(self.means.dtype)

    def log_prob(self, x):
        return log_bernoulli(x, torch.logit(self.means))

    def sample(self, n, generator):
        return sample_bernoulli(self.means.expand(n, -1), generator)


class SamplesAlone(Method):
    """Draws rows, and has no likelihood that they could be compared with."""

    name = "samples_alone"
    title = "samples alone"
    kind = "control"
    source = "nowhere"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.bias = nn.Parameter(torch.zeros(n_visible))

    def loss(self, batch, n_samples, generator):
        return F.binary_cross_entropy_with_logits(self.bias.expand_as(batch.x), batch.x)

    def sample(self, n, generator):
        return sample_bernoulli(torch.sigmoid(self.bias).expand(n, -1), generator)


class OwnTraining(Method):
    """A variational autoencoder with all that training leaves to a method: its optimiser, annealing, a hook, layers
    with two modes, and draws of ``torch.distributions``, which know no generator."""

    name = "own_training"
    title = "Own training"
    kind = "latent"
    source = "nowhere"
    small = {"latent": 2, "hidden": 4}

    def __init__(self, n_visible: int, latent: int = 3, hidden: int = 8):
        super().__init__(n_visible)
        self.encoder = nn.Sequential(nn.Linear(n_visible, hidden), nn.BatchNorm1d(hidden), nn.Tanh())
        self.moments = nn.Linear(hidden, 2 * latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.Tanh(), nn.Dropout(0.1), nn.Linear(hidden, n_visible)
        )

    def configure_optimizer(self, learning_rate):
        decays = [parameter for parameter in self.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in self.parameters() if parameter.dim() <= 1]
        groups = [{"params": decays, "weight_decay": 0.01}, {"params": others, "lr": 2 * learning_rate}]
        return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0)

    def after_update(self, update):
        for parameter in self.parameters():
            parameter.clamp_(-3.0, 3.0)

    def _terms(self, x, n_samples, generator):
        """log p(x | h) and log q(h | x) - log p(h), [B, K] each."""
        mean, log_std = self.moments(self.encoder(x))[:, None].chunk(2, dim=-1)
        q = Normal(mean, 0.5 + 0.5 * torch.sigmoid(log_std), validate_args=False)
        with harness.seeds(generator):
            h = q.rsample((n_samples,))[:, :, 0].transpose(0, 1)  # [B, K, latent]
        prior = Normal(torch.zeros_like(mean), torch.ones_like(mean), validate_args=False)
        return log_bernoulli(x[:, None], self.decoder(h)), (q.log_prob(h) - prior.log_prob(h)).sum(-1)

    def log_weights(self, x, n_samples, generator):
        log_p, kl = self._terms(x, n_samples, generator)
        return log_p - kl

    def loss(self, batch, n_samples, generator, update=None):
        log_p, kl = self._terms(batch.x, n_samples, generator)
        share = 1.0 if update is None else min(1.0, (update + 1) / 40)
        return (share * kl - log_p).mean()

    @torch.no_grad()
    def sample(self, n, generator):
        weight = self.decoder[0].weight
        with harness.seeds(generator):
            h = Normal(0.0, 1.0).sample((n, weight.shape[1])).to(weight)
        return sample_bernoulli(torch.sigmoid(self.decoder(h)), generator)


class OwnLoop(Method):
    """Independent columns, fitted by a loop of its own that stops when validation rows say so."""

    name = "own_loop"
    title = "Own loop"
    kind = "control"
    source = "nowhere"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.logits = nn.Parameter(torch.zeros(n_visible))

    def fit(self, train, valid, generator):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        best, misses = math.inf, 0
        while misses < 3:
            for rows in torch.randperm(len(train.x), generator=generator).split(64):
                optimizer.zero_grad()
                (-self.log_prob(train.x[rows]).mean()).backward()
                optimizer.step()
            now = -self.log_prob(valid.x).mean().item()
            best, misses = (now, 0) if now < best - 1e-3 else (best, misses + 1)

    def log_prob(self, x):
        return log_bernoulli(x, self.logits)

    def sample(self, n, generator):
        return sample_bernoulli(torch.sigmoid(self.logits).expand(n, -1), generator)
