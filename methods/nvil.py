"""Neural variational inference and learning (NVIL): sigmoid belief layers trained on the bound by score functions.

The score function's variance is fought as in the paper: every layer of q has a learning signal of its own, without the
terms that the layer cannot influence; a baseline network predicts the signal from the layer's input; and the signal is
centred and scaled by running moments, which are buffers, so that a checkpoint holds them.
"""

import math

import torch
from torch import Tensor, nn

from harness.blocks import exact
from harness.blocks.sigmoid_belief import BeliefStack, Inferred
from harness.method import Batch
from harness.ranges import Share, Size, Sizes


class Baseline(nn.Module):
    """C(input) = v . tanh(W input + b) + c, with gradients written out."""

    def __init__(self, n_inputs: int, n_hidden: int):
        super().__init__()
        bound = math.sqrt(6.0 / (n_inputs + n_hidden))
        self.weight = nn.Parameter(torch.empty(n_hidden, n_inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.output_weight = nn.Parameter(torch.zeros(n_hidden))
        self.output_bias = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """C [N] and the hidden activations [N, n_hidden], for inputs [N, n_inputs]."""
        hidden = torch.tanh(nn.functional.linear(inputs, self.weight, self.bias))
        return hidden @ self.output_weight + self.output_bias, hidden

    def add_gradients(self, inputs: Tensor, hidden: Tensor, by_output: Tensor) -> None:
        """Add the gradients of what has the derivative ``by_output`` [N] by C."""
        self.output_weight.grad.addmv_(hidden.t(), by_output)
        self.output_bias.grad.add_(by_output.sum())
        by_activation = (1.0 - hidden.square()).mul_(self.output_weight).mul_(by_output[:, None])
        self.weight.grad.addmm_(by_activation.t(), inputs)
        self.bias.grad.add_(by_activation.sum(0))


class NVIL(BeliefStack):
    """p and q climb the bound E_q[log p(x, h) - log q(h | x)]."""

    name = "nvil"
    title = "NVIL"
    kind = "latent"
    source = "Mnih, Gregor: Neural Variational Inference and Learning in Belief Networks, ICML 2014"
    small = {"layers": [3, 2], "baseline_hidden": 3}

    def __init__(self, n_visible: int, layers: Sizes, baseline_hidden: Size = 100, decay: Share = 0.8):
        super().__init__(n_visible, layers)
        self.decay = decay  # of the running moments, an update
        self.baselines = nn.ModuleList(Baseline(n, baseline_hidden) for n in [n_visible, *layers[:-1]])
        self.register_buffer("signal_mean", torch.zeros(len(layers)))  # of signal - baseline, nats
        self.register_buffer("signal_variance", torch.zeros(len(layers)))

    @torch.no_grad()
    def signals(self, inferred: Inferred) -> list[Tensor]:
        """The learning signal of every layer l of q, [B * K] double, nats.

        log p(h_{l-1}, ..., h_L) - log q(h_l, ..., h_L | h_{l-1}): the log-weight without the layers below (section 2.3
        of the paper). Call it before the gradients, which overwrite what it reads.
        """
        found = [(inferred.log_p - inferred.log_q).flatten()]
        for level in range(len(self.q_layers) - 1):
            log_p = self.p_layers[level].log_prob(inferred.p[level])
            log_q = self.q_layers[level].log_prob(inferred.q[level])
            found.append(found[-1] - log_p + log_q)
        return found

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of the negative bound for p; for a layer of q, that over max(1, the signal's standard deviation).

        Baselines descend the mean square of the centred signal. The moments are those of earlier batches, so they do
        not depend on the samples that they weight: every layer's gradient points, on average, where the exact one does.
        """
        inferred = self.infer(batch.x, n_samples, generator, dtype=self.product_dtype)
        dtype = self.prior_bias.dtype
        signals = self.signals(inferred)
        n_pairs = len(signals[0])
        inputs = [batch.x, *(layer.to(dtype) for layer in inferred.h[:-1])]
        scale = torch.rsqrt(self.signal_variance.clamp(min=1.0))
        means, variances = [], []
        for level, (baseline, signal, seen) in enumerate(zip(self.baselines, signals, inputs, strict=True)):
            predicted, hidden = baseline(seen)  # [B] for the first layer, [B * K] for the others
            difference = signal.to(dtype).view(len(seen), -1) - predicted[:, None]
            centred = difference - self.signal_mean[level]
            self.add_q_layer_gradients(inferred, level, (centred * (-scale[level] / n_pairs)).flatten())
            baseline.add_gradients(seen, hidden, centred.sum(1) * (-2.0 / n_pairs))
            means.append(difference.mean())
            variances.append(difference.var(correction=0))
        self.signal_mean.lerp_(torch.stack(means), 1.0 - self.decay)
        self.signal_variance.lerp_(torch.stack(variances), 1.0 - self.decay)
        weights = torch.full((n_pairs,), -1.0 / n_pairs, dtype=dtype, device=batch.x.device)
        self.add_p_gradients(inferred, weights)
        self.add_prior_gradients(inferred, weights)
        return -signals[0].mean()

    def exact_loss(self, x: Tensor, n_samples: int | None = None) -> Tensor:
        """Mean negative bound, whatever the number of samples; baselines, no part of it, have losses of their own.

        The gradient of each layer of q is that of the bound over max(1, the signal's running standard deviation).
        """
        loss = -exact.bound(self, x).mean()
        if not loss.requires_grad:
            return loss
        scales = torch.rsqrt(self.signal_variance.clamp(min=1.0))
        for scale, layer in zip(scales, self.q_layers, strict=True):
            parameters = list(layer.parameters())
            for parameter, slope in zip(
                parameters, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True
            ):
                loss = loss - (1.0 - scale) * (slope * (parameter - parameter.detach())).sum()  # 0, but for its slope
        return loss
