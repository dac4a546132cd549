"""Variational autoencoders of pythae 0.1, with encoders and decoders of our sizes.

pythae's IWAE has one stochastic layer. Its loss is the sum of self-normalised weights times log-weights, which is not
the importance-weighted bound, and its decoders return probabilities, whose cross-entropy loses precision where they
are close to 0 or 1: it is compared by time alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor, nn

from harness.bench.cases import Case
from harness.bench.rivals.textbook import perceptron
from harness.bench.rivals.updates import adam_update, by_backward


class _Encoder(BaseEncoder):
    def __init__(self, sizes: list[int], activation: type[nn.Module]):
        super().__init__()
        self.layers = perceptron(sizes, activation)

    def forward(self, x: Tensor) -> ModelOutput:
        mean, log_variance = self.layers(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class _Decoder(BaseDecoder):
    def __init__(self, sizes: list[int], activation: type[nn.Module]):
        super().__init__()
        self.layers = perceptron(sizes, activation)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)))


def network(case: Case) -> nn.Module:
    """pythae's model of the case's method and sizes."""
    if case.method == "vae":
        latent, hidden, activation = case.model["latent"], case.model["hidden"], nn.ReLU
    else:
        latent, hidden, activation = case.model["layers"][0], case.model["hidden"][0], nn.Tanh
    encoder = _Encoder([case.n_visible, *hidden, 2 * latent], activation)
    decoder = _Decoder([latent, *reversed(hidden), case.n_visible], activation)
    sizes = {"input_dim": (case.n_visible,), "latent_dim": latent, "reconstruction_loss": "bce"}
    if case.method == "vae":
        return VAE(VAEConfig(**sizes), encoder, decoder)
    return IWAE(IWAEConfig(**sizes, number_samples=case.n_samples), encoder, decoder)


def update(case: Case, device: torch.device) -> Callable[[Tensor], None]:
    """One update on a batch x [B, D]."""
    model = network(case).to(device)
    return adam_update(model, by_backward(lambda x: model({"data": x})["loss"]), case.learning_rate, case.mean_l1)
