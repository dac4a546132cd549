"""Diagonal normal distributions whose means and log standard deviations are ``product + bias``: draws, gradients.

The product's first n columns are for the means, the others for the log standard deviations. Like
``harness.blocks.bernoulli``, the one place that decides how: float32 and bfloat16 products on the CPU go to the fused
kernels of ``harness.kernels.gaussian``, all others through tensor operations that say the same thing and serve as the
kernels' reference. Log-densities are nats in double, without the constant -log(2 pi) / 2 an entry, which cancels
between models and their posteriors. Rows: a product of R rows serves N / R draws, or values, per row, next to each
other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from harness.blocks.bernoulli import array
from harness.blocks.scratch import Scratch


def draw(
    product: Tensor,
    bias: Tensor,
    repeats: int,
    generator: torch.Generator,
    log_prob: Tensor,
    scratch: Scratch,
    key: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """``repeats`` draws per row, [R * repeats, n]: their noise, they themselves, and they in the product's data type.

    product [R, 2 n], bias [2 n]. Their log-densities are added to ``log_prob`` [R * repeats] double. All three are in
    the scratch under the key, and the last two may be the same.
    """
    n_draws, n, device = product.shape[0] * repeats, product.shape[1] // 2, product.device
    noise, value = (scratch.take(f"{key} {what}", n_draws, n, bias.dtype, device) for what in ("noise", "value"))
    noise.normal_(generator=generator)
    rounded = value
    if product.dtype != value.dtype:
        rounded = scratch.take(f"{key} rounded", n_draws, n, product.dtype, device)
    if _fused(product):
        _kernels().draw(*(array(t) for t in (product, bias, noise, value, rounded, log_prob)))
        return noise, value, rounded
    mean, log_std = _parameters(product, bias)
    repeated = value.view(-1, repeats, n)
    torch.addcmul(mean[:, None], torch.exp(log_std)[:, None], noise.view(repeated.shape), out=repeated)
    if rounded is not value:
        rounded.copy_(value)
    squares = noise.square().sum(1, dtype=torch.float64)
    log_prob -= 0.5 * squares + log_std.sum(1, dtype=torch.float64).repeat_interleave(repeats)
    return noise, value, rounded


def score(product: Tensor, bias: Tensor, value: Tensor, log_prob: Tensor) -> None:
    """Add the log-density of value [N, n], summed over columns, to ``log_prob`` [N] double; product [N, 2 n]."""
    if _fused(product):
        _kernels().score(*(array(t) for t in (product, bias, value, log_prob)))
        return
    mean, log_std = _parameters(product, bias)
    distance = (value - mean) * torch.exp(-log_std)
    log_prob -= (0.5 * distance.square() + log_std).sum(1, dtype=torch.float64)


def score_gradients(
    product: Tensor, bias: Tensor, value: Tensor, weight: Tensor, bias_gradient: Tensor, value_gradient: Tensor
) -> Tensor:
    """Gradient of sum_r weight[r] ``score``[r] by the product [N, 2 n], which it may overwrite; weight [N].

    That by the bias is added to bias_gradient [2 n], that by the values is written to value_gradient [N, n].
    """
    if _fused(product):
        tensors = product, bias, value, weight, bias_gradient, value_gradient
        _kernels().score_gradients(*(array(t) for t in tensors))
        return product
    mean, log_std = _parameters(product, bias)
    inverse = torch.exp(-log_std)
    distance = (value - mean) * inverse
    of_mean = weight[:, None] * distance * inverse
    value_gradient.copy_(-of_mean)
    return _written(product, of_mean, weight[:, None] * (distance.square() - 1.0), bias_gradient)


def draw_gradients(
    product: Tensor,
    bias: Tensor,
    noise: Tensor,
    gradient: Tensor,
    weight: Tensor,
    divergence: float,
    bias_gradient: Tensor,
) -> Tensor:
    """Gradient by the product [R, 2 n] that ``draw`` was given, which it may overwrite.

    gradient [N, n]: by the draws; weight [N]: by their log-densities; divergence: by ``add_divergence`` of every row.
    That by the bias is added to bias_gradient [2 n].
    """
    if _fused(product):
        gradient_array, sums = array(gradient), array(bias_gradient)
        arrays = (array(t) for t in (product, bias, noise))
        _kernels().draw_gradients(*arrays, gradient_array, array(weight), divergence, sums)
        return product
    mean, log_std = _parameters(product, bias)
    std, shape = torch.exp(log_std), (product.shape[0], -1, noise.shape[1])
    by_draw = gradient.to(bias.dtype).view(shape)
    of_mean = by_draw.sum(1) + divergence * mean
    of_scale = std * (by_draw * noise.view(shape)).sum(1) + divergence * (std.square() - 1.0)
    of_scale -= weight.view(product.shape[0], -1).sum(1, keepdim=True)
    return _written(product, of_mean, of_scale, bias_gradient)


def add_divergence(product: Tensor, bias: Tensor, total: Tensor) -> None:
    """Add the Kullback-Leibler divergence from the standard normal distribution, nats, to ``total`` [R] double."""
    if _fused(product):
        _kernels().add_divergence(array(product), array(bias), array(total))
        return
    mean, log_std = _parameters(product, bias)
    total += (0.5 * (mean.square() + torch.exp(2.0 * log_std) - 1.0) - log_std).sum(1, dtype=torch.float64)


def _parameters(product: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log standard deviations."""
    return (product + bias).chunk(2, dim=1)


def _written(product: Tensor, of_mean: Tensor, of_scale: Tensor, bias_gradient: Tensor) -> Tensor:
    both = torch.cat([of_mean, of_scale], dim=1)
    bias_gradient += both.sum(0)
    return both.to(product.dtype)


def _fused(product: Tensor) -> bool:
    return product.is_cpu and product.dtype in (torch.float32, torch.bfloat16)


@cache
def _kernels() -> Any:
    from harness.kernels import gaussian  # for the reason that ``harness.blocks.bernoulli`` gives

    return gaussian
