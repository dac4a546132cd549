"""Products of Bernoullis: drawing, scoring and gradients in one launch each, as ``harness.blocks.bernoulli`` says.

A program takes some rows in blocks of columns. Logits, in float32, stay in registers; sums over a row are in double.
Column sums are those of each program's rows first, added up by PyTorch: no atomics, so results are the same every time.
Random numbers are PyTorch's, uniform in [0, 1): draws are those that tensor operations would make of them, but for
logits whose probability is a rounding error away. Softplus is max(a, 0) + log1p(exp(-|a|)), with log1p(e) = 2 atanh(e /
(2 + e)) by its series, relative error below 1e-7, since Triton has no log1p of its own.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

NARROW, WIDE = (32, 32), (8, 128)  # rows and columns of a block, for layers of up to 32 units and for wider ones
RESIDUAL_ROWS = 32  # of a program whose column sums are added to those of others


@triton.jit
def _sigmoid_and_softplus(a):
    e = tl.exp(-tl.abs(a))
    s = e / (2.0 + e)
    q = s * s
    series = 1.0 + q * (
        0.33333334 + q * (0.2 + q * (0.14285715 + q * (0.11111111 + q * (0.09090909 + q * 0.07692308))))
    )
    return tl.where(a >= 0.0, 1.0, e) / (1.0 + e), tl.maximum(a, 0.0) + 2.0 * s * series


@triton.jit(do_not_specialize=["n_rows", "n", "repeats"])
def _draw(
    product,
    bias,
    uniform,
    sample,
    log_prob,
    n_rows,
    n,
    repeats,
    SCORES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros([ROWS], tl.float64)
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = (rows < n_rows)[:, None] & (columns < n)[None, :]
        a = tl.load(product + (rows // repeats)[:, None] * n + columns[None, :], mask=inside, other=0.0).to(tl.float32)
        a += tl.load(bias + columns, mask=columns < n, other=0.0)[None, :]
        probability, softplus = _sigmoid_and_softplus(a)
        places = rows[:, None] * n + columns[None, :]
        one = tl.load(uniform + places, mask=inside, other=1.0) < probability
        tl.store(sample + places, tl.where(one, 1.0, 0.0).to(sample.dtype.element_ty), mask=inside)
        if SCORES:
            total += tl.sum(tl.where(inside, tl.where(one, a, 0.0) - softplus, 0.0).to(tl.float64), axis=1)
    if SCORES:
        before = tl.load(log_prob + rows, mask=rows < n_rows, other=0.0)
        tl.store(log_prob + rows, before + total, mask=rows < n_rows)


@triton.jit(do_not_specialize=["n_rows", "n", "repeats"])
def _score(product, bias, value, log_prob, n_rows, n, repeats, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros([ROWS], tl.float64)
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = (rows < n_rows)[:, None] & (columns < n)[None, :]
        a = tl.load(product + rows[:, None] * n + columns[None, :], mask=inside, other=0.0).to(tl.float32)
        a += tl.load(bias + columns, mask=columns < n, other=0.0)[None, :]
        v = tl.load(value + (rows // repeats)[:, None] * n + columns[None, :], mask=inside, other=0.0).to(tl.float32)
        _, softplus = _sigmoid_and_softplus(a)
        total += tl.sum(tl.where(inside, v * a - softplus, 0.0).to(tl.float64), axis=1)
    before = tl.load(log_prob + rows, mask=rows < n_rows, other=0.0)
    tl.store(log_prob + rows, before + total, mask=rows < n_rows)


@triton.jit(do_not_specialize=["n_rows", "n", "repeats"])
def _residual(product, bias, value, weight, partial, n_rows, n, repeats, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (rows < n_rows)[:, None] & (columns < n)[None, :]
    places = rows[:, None] * n + columns[None, :]
    a = tl.load(product + places, mask=inside, other=0.0).to(tl.float32)
    a += tl.load(bias + columns, mask=columns < n, other=0.0)[None, :]
    v = tl.load(value + (rows // repeats)[:, None] * n + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    probability, _ = _sigmoid_and_softplus(a)
    missed = (v - probability) * tl.load(weight + rows, mask=rows < n_rows, other=0.0)[:, None]
    tl.store(product + places, missed.to(product.dtype.element_ty), mask=inside)
    sums = tl.sum(tl.where(inside, missed, 0.0), axis=0)
    tl.store(partial + tl.program_id(0).to(tl.int64) * n + columns, sums, mask=columns < n)


@triton.jit(do_not_specialize=["n", "repeats"])
def _pooled_residual(product, bias, value, weight, partial, n, repeats, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < n
    seen = tl.zeros([COLUMNS], tl.float32)
    weights = 0.0
    for k in range(0, repeats):
        w = tl.load(weight + row * repeats + k)
        seen += w * tl.load(value + (row * repeats + k) * n + columns, mask=inside, other=0.0).to(tl.float32)
        weights += w
    a = tl.load(product + row * n + columns, mask=inside, other=0.0).to(tl.float32)
    a += tl.load(bias + columns, mask=inside, other=0.0)
    probability, _ = _sigmoid_and_softplus(a)
    missed = seen - weights * probability
    tl.store(product + row * n + columns, missed.to(product.dtype.element_ty), mask=inside)
    tl.store(partial + row * n + columns, missed, mask=inside)


def draw(
    product: Tensor, bias: Tensor, repeats: int, generator: torch.Generator, sample: Tensor, log_prob: Tensor | None
) -> None:
    """Write ``repeats`` draws per row of product [R, n] to ``sample`` [N, n], and add their log-probability [N]."""
    uniform = torch.rand(sample.shape, generator=generator, device=sample.device)
    rows, columns = _block(sample)
    _draw[(triton.cdiv(len(sample), rows),)](
        product.contiguous(),
        bias,
        uniform,
        sample,
        uniform if log_prob is None else log_prob,
        *sample.shape,
        repeats,
        SCORES=log_prob is not None,
        ROWS=rows,
        COLUMNS=columns,
    )


def score(product: Tensor, bias: Tensor, value: Tensor, log_prob: Tensor) -> None:
    """Add log Bernoulli(value [V, n] | product [N, n] + bias) to ``log_prob`` [N] double."""
    rows, columns = _block(product)
    shapes = *product.shape, len(product) // max(1, len(value))
    arguments = product.contiguous(), bias, value.contiguous(), log_prob, *shapes
    _score[(triton.cdiv(len(product), rows),)](*arguments, ROWS=rows, COLUMNS=columns)


def residual(product: Tensor, bias: Tensor, value: Tensor, weight: Tensor, bias_gradient: Tensor) -> Tensor:
    """weight (value - sigmoid(product + bias)) in the place of ``product``; column sums go to ``bias_gradient``."""
    product = product.contiguous()
    n_rows, n = product.shape
    columns = _block(product)[1]
    grid = triton.cdiv(n_rows, RESIDUAL_ROWS), triton.cdiv(n, columns)
    partial = torch.empty(grid[0], n, device=product.device)
    shapes = n_rows, n, n_rows // max(1, len(value))
    arguments = product, bias, value.contiguous(), weight.contiguous(), partial, *shapes
    _residual[grid](*arguments, ROWS=RESIDUAL_ROWS, COLUMNS=columns)
    bias_gradient += partial.sum(0)
    return product


def pooled_residual(product: Tensor, bias: Tensor, value: Tensor, weight: Tensor, bias_gradient: Tensor) -> Tensor:
    """``residual`` summed over the values [N, n] that share a row of product [R, n]."""
    product = product.contiguous()
    n_rows, n = product.shape
    columns = _block(product)[1]
    partial = torch.empty(n_rows, n, device=product.device)
    arguments = product, bias, value.contiguous(), weight.contiguous(), partial, n, len(value) // max(1, n_rows)
    _pooled_residual[(n_rows, triton.cdiv(n, columns))](*arguments, COLUMNS=columns)
    bias_gradient += partial.sum(0)
    return product


def _block(rows: Tensor) -> tuple[int, int]:
    return NARROW if rows.shape[1] <= NARROW[1] else WIDE
