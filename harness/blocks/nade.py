"""NADE's sums over columns: log p(v) = sum_d log p(v_d | v_<d), one hidden layer shared by all columns.

The hidden activation before column d is c + sum_{j<d} v_j W_j, the logit of column d is b_d + V_d h. Float32 on the CPU
goes to a kernel that follows each row's own changes of the hidden layer (``harness.kernels.nade``). What stands here is
for the GPU, and in double precision the kernel's reference: columns are taken in blocks, within a block the running
sums are one product with a triangular mask of v, between blocks one carried [N, H] sum.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

COLUMNS_A_BLOCK = 16


def column_blocks(n_columns: int) -> list[slice]:
    """Slices of at most ``COLUMNS_A_BLOCK`` columns, in order."""
    return [slice(d, min(d + COLUMNS_A_BLOCK, n_columns)) for d in range(0, n_columns, COLUMNS_A_BLOCK)]


def hidden_units(x_block: Tensor, carried: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden units [d, N, H] before each column of a block, and the mask [d, N, d'] of x that they see.

    x_block [N, d], carried [N, H], the activation before the block; inputs [d, H], the block's rows of W.
    """
    mask = x_block * _earlier(x_block.shape[1], x_block.dtype, x_block.device)  # x_d' where d' < d
    return torch.matmul(mask, inputs).add_(carried).sigmoid_(), mask


@lru_cache(maxsize=64)
def _earlier(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[d, 1, d'] of ones where d' < d, zeros elsewhere."""
    return torch.ones(size, size, dtype=dtype, device=device).tril_(-1)[:, None, :]


def output_products(x: Tensor, inputs: Tensor, outputs: Tensor, hidden_bias: Tensor) -> tuple[Tensor, list[Tensor]]:
    """V_d h_d before every column, [D, N], and the activations [N, H] before every block; differentiable.

    x [N, D]; inputs, outputs [D, H]; hidden_bias [N, H]. With the visible bias they are the logits of p(x_d | x_<d).
    """
    starts, products, before = [hidden_bias], [], slice(0)
    for columns in column_blocks(x.shape[1]):
        if products:
            starts.append(torch.addmm(starts[-1], x[:, before], inputs[before]))
        hidden, _ = hidden_units(x[:, columns], starts[-1], inputs[columns])
        products.append(torch.matmul(hidden, outputs[columns][:, :, None]).squeeze(-1))
        before = columns
    return torch.cat(products), starts


def has_kernel(x: Tensor) -> bool:
    """Whether tensors like this one go to ``harness.kernels.nade``."""
    return x.device.type == "cpu" and x.dtype == torch.float32
