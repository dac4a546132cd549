"""Right methods of an unusual make: the conformance suite passes them."""

import math

import torch
import torch.nn.functional as F
from torch import nn

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
