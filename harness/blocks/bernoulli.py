"""Products of Bernoullis with logits ``product + bias``: drawing, scoring and gradients, on whatever device.

The one place that decides how: float32 and bfloat16 tensors on the CPU go to the fused kernels of
``harness.kernels.bernoulli``, those on a CUDA device to ``harness.gpu_kernels.bernoulli``, all others (double) through
tensor operations that say the same thing and serve as the kernels' reference. Log-probabilities are nats in double: a
sum of a thousand terms then keeps what float32 terms can give. Rows: a tensor with N / R as many rows as another
repeats, each row standing for its R neighbours.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import gpu_kernels


def log_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """Sum over the last axis of log Bernoulli(value | sigmoid(logits)), nats; value may be a probability."""
    return (value * logits - F.softplus(logits)).sum(-1)


def sample_bernoulli(probability: Tensor, generator: torch.Generator) -> Tensor:
    """0/1 floats, one independent draw an entry."""
    uniform = torch.rand(probability.shape, generator=generator, device=probability.device, dtype=probability.dtype)
    return (uniform < probability).to(probability.dtype)


def draw(
    product: Tensor,
    bias: Tensor,
    repeats: int,
    generator: torch.Generator,
    log_prob: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """``repeats`` samples per row, 0/1 in the dtype of ``product``: [R * repeats, n] for product [R, n] and bias [n].

    Their log-probability is added to ``log_prob`` [R * repeats], double, where that is given. out: memory for them.
    """
    sample = product.new_empty(product.shape[0] * repeats, product.shape[1]) if out is None else out
    if _fused(product):
        total = torch.zeros(sample.shape[0], dtype=torch.float64) if log_prob is None else log_prob
        _kernels().draw(array(product), array(bias), repeats, draw_seed(generator), array(sample), array(total))
        return sample
    if gpu := gpu_kernels.for_tensor(product):
        gpu.bernoulli.draw(product, bias, repeats, generator, sample, log_prob)
        return sample
    logits = (product + bias).repeat_interleave(repeats, dim=0)
    sample.copy_(sample_bernoulli(torch.sigmoid(logits), generator))
    if log_prob is not None:
        log_prob += _log_bernoulli(sample, logits)
    return sample


def draw_seed(generator: torch.Generator) -> int:
    """What a kernel's draws of one layer are a function of, 64 bits."""
    return torch.empty((), dtype=torch.int64).random_(generator=generator).item()


def score(product: Tensor, bias: Tensor, value: Tensor, log_prob: Tensor) -> None:
    """Add log Bernoulli(value | product + bias), summed over columns, to ``log_prob`` [N] double.

    product [N, n], bias [n], value [V, n] with N a multiple of V.
    """
    if _fused(product):
        _kernels().score(array(product), array(bias), array(value), array(log_prob))
        return
    if gpu := gpu_kernels.for_tensor(product):
        gpu.bernoulli.score(product, bias, value, log_prob)
        return
    log_prob += _log_bernoulli(_rows_like(value, product), product + bias)


def residual(product: Tensor, bias: Tensor, value: Tensor, weight: Tensor, bias_gradient: Tensor) -> Tensor:
    """weight (value - sigmoid(product + bias)), [N, n]: the gradient of weight * ``score`` by the logits.

    It overwrites ``product`` where that saves memory, and its column sums are added to ``bias_gradient`` [n].
    weight [N]; shapes else as for ``score``.
    """
    if _fused(product):
        _kernels().residual(*(array(t) for t in (product, bias, value, weight, product, bias_gradient)))
        return product
    if gpu := gpu_kernels.for_tensor(product):
        return gpu.bernoulli.residual(product, bias, value, weight, bias_gradient)
    missed = (_rows_like(value, product) - torch.sigmoid(product + bias)).mul_(weight[:, None])
    bias_gradient += missed.sum(0)
    return missed.to(product.dtype)


def pooled_residual(product: Tensor, bias: Tensor, value: Tensor, weight: Tensor, bias_gradient: Tensor) -> Tensor:
    """``residual`` summed over the values that share a row of logits: [R, n] for value [N, n] and weight [N].

    product [R, n], N a multiple of R. It overwrites ``product`` as ``residual`` does.
    """
    if _fused(product):
        _kernels().pooled_residual(*(array(t) for t in (product, bias, value, weight, product, bias_gradient)))
        return product
    if gpu := gpu_kernels.for_tensor(product):
        return gpu.bernoulli.pooled_residual(product, bias, value, weight, bias_gradient)
    n_rows, n = product.shape
    weight = weight.view(n_rows, -1)
    seen = torch.matmul(weight[:, None, :], value.to(weight.dtype).view(n_rows, -1, n)).squeeze(1)
    missed = seen - weight.sum(1, keepdim=True) * torch.sigmoid(product + bias)
    bias_gradient += missed.sum(0)
    return missed.to(product.dtype)


def normalised_weights(log_weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """softmax over the samples of a row, [B * K] in ``dtype``, and log mean_k exp(log_weights), [B] double.

    log_weights: [B, K] double.
    """
    if log_weights.device.type == "cpu" and dtype == torch.float32:
        weights = torch.empty(log_weights.numel(), dtype=dtype)
        log_means = torch.empty(log_weights.shape[0], dtype=torch.float64)
        _kernels().normalise(log_weights.numpy(), weights.numpy(), log_means.numpy())
        return weights, log_means
    log_means = torch.logsumexp(log_weights, dim=1) - math.log(log_weights.shape[1])
    return torch.softmax(log_weights, dim=1).flatten().to(dtype), log_means


class _LogLikelihood(torch.autograd.Function):
    """The fused ``score`` with its gradient by product and bias."""

    @staticmethod
    def forward(ctx: Any, product: Tensor, bias: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(product, bias, value)
        total = torch.zeros(product.shape[0], dtype=torch.float64, device=product.device)
        score(product, bias, value, total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        product, bias, value = ctx.saved_tensors
        bias_gradient = torch.zeros_like(bias)
        # saved tensors must survive a second backward pass, so the residual gets memory of its own
        missed = residual(product.clone(), bias, value, gradient.to(bias.dtype), bias_gradient)
        return missed, bias_gradient, None


def log_likelihood(product: Tensor, bias: Tensor, value: Tensor) -> Tensor:
    """log Bernoulli(value | product + bias) [N] double, nats, differentiable by product [N, n] and bias [n].

    value [V, n] with N a multiple of V.
    """
    if _fused(product) or gpu_kernels.for_tensor(product):
        return _LogLikelihood.apply(product, bias, value)
    return _log_bernoulli(_rows_like(value, product), product + bias)


def pairwise_log_likelihood(product: Tensor, bias: Tensor, value: Tensor) -> Tensor:
    """log Bernoulli(value | product + bias) [max(A, V)] double, nats, for product [A, n], bias [n] and value [V, n].

    Either may have several rows, next to each other, for each row of the other.
    """
    if value.shape[0] <= product.shape[0]:
        return log_likelihood(product, bias, value)
    logits = product + bias
    several = value.view(logits.shape[0], -1, logits.shape[1])  # [A, V / A, n]
    linear = torch.matmul(several, logits[:, :, None]).squeeze(-1).double()
    return (linear - F.softplus(logits).sum(1, keepdim=True, dtype=torch.float64)).flatten()


def _fused(product: Tensor) -> bool:
    return product.is_cpu and product.dtype in (torch.float32, torch.bfloat16)


@cache
def _kernels() -> Any:
    # numba takes half a second to import, and not every process multiplies Bernoullis
    from harness.kernels import bernoulli

    return bernoulli


def array(tensor: Tensor) -> Any:
    """The tensor's memory as an array; bfloat16 as its bits.

    Remembered on the tensor, which is often the same from update to update, since making it takes microseconds.
    """
    pointer, array = getattr(tensor, "_array", (None, None))
    if pointer != tensor.data_ptr():
        plain = tensor.detach()
        array = (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()
        tensor._array = tensor.data_ptr(), array
    return array


def _log_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    return (value * logits - F.softplus(logits)).sum(-1, dtype=torch.float64)


def _rows_like(value: Tensor, product: Tensor) -> Tensor:
    repeats = product.shape[0] // max(1, value.shape[0])
    return value if repeats == 1 else value.repeat_interleave(repeats, dim=0)
