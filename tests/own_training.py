"""Right methods with a training of their own, and a cell that asks for all that settings can add to one."""

import math
from dataclasses import replace

import torch
from cells import cell
from torch import nn
from torch.distributions import Normal

import harness
from harness.blocks.bernoulli import log_bernoulli, sample_bernoulli
from harness.method import Method
from harness.plugins.registry import use_object
from harness.settings.config import Cell
from harness.settings.parts import Phase

ALL = {
    "phases": (Phase(60, 1e-2, 4, "cosine", 10), Phase(30, 1e-3, 4, "linear")),
    "clip_norm": 1.0,
    "average": 0.9,
    "snapshots": 6,
}


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


def own(**training) -> Cell:
    """A cell of ``OwnTraining`` with everything that settings can add."""
    use_object(OwnTraining)
    return replace(cell("factorised", **{**ALL, **training}), method="own_training")
