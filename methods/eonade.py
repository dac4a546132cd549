"""Order-agnostic NADE: one network for all orderings of the columns, and the ensemble of some of them.

The network sees the columns observed so far and which ones they are, and predicts all others. Training draws a number
of observed columns and an ordering for every row. The likelihood under one ordering needs the hidden layers before
every column. Float32 on the CPU goes to a kernel when there is one hidden layer (``harness.kernels.order_agnostic``);
else, columns are taken in blocks, within a block the first layer's sums are one product with a triangular mask.
"""

import math
from itertools import pairwise, permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.autoregressive import earlier_product, uniform_weight
from harness.blocks.bernoulli import sample_bernoulli, score
from harness.method import Batch, Method
from harness.ranges import Count, Size, Sizes

COLUMNS_A_BLOCK = 16


class EoNADE(Method):
    """Rectified hidden layers; p(x) is the mean over ``n_orders`` orderings, which ``order_seed`` draws.

    ``direct``: logits also depend linearly on the observed columns and on the mask. The paper has no such connections;
    columns that exclude each other, as those of a categorical variable do, are learned several times faster with them.
    """

    name = "eonade"
    title = "EoNADE"
    kind = "autoregressive"
    source = "Uria, Murray, Larochelle: A Deep and Tractable Density Estimator, ICML 2014"
    small = {"hidden": [3], "n_orders": 3}

    def __init__(self, n_visible: int, hidden: Sizes, n_orders: Size = 8, direct: bool = False, order_seed: Count = 0):
        super().__init__(n_visible)
        self.input_weight = uniform_weight(n_visible, hidden[0])  # of what was observed, [D, H_1]
        self.seen_weight = uniform_weight(n_visible, hidden[0])  # of the mask, which columns were observed, [D, H_1]
        self.hidden_weights = nn.ParameterList(uniform_weight(above, below) for below, above in pairwise(hidden))
        self.hidden_biases = nn.ParameterList(torch.zeros(n) for n in hidden)
        self.output_weight = uniform_weight(n_visible, hidden[-1])  # [D, H_L]
        self.visible_bias = nn.Parameter(torch.zeros(n_visible))  # [D]
        self.direct = direct
        if direct:
            self.direct_weight = nn.Parameter(torch.zeros(n_visible, n_visible))  # from observed columns, [D, D]
            self.direct_seen_weight = nn.Parameter(torch.zeros(n_visible, n_visible))  # from the mask, [D, D]
        generator = torch.Generator().manual_seed(order_seed)
        orders = torch.stack([torch.randperm(n_visible, generator=generator) for _ in range(n_orders)])
        self.register_buffer("orders", orders)  # column at every position, [M, D]

    def _upper(self, activation: Tensor) -> Tensor:
        """The last hidden layer [..., H_L] given the first one's activation [..., H_1]."""
        h = F.relu(activation)
        for weight, bias in zip(self.hidden_weights, self.hidden_biases[1:], strict=True):
            h = F.relu(F.linear(h, weight, bias))
        return h

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Unbiased for mean -log p(x) over all orderings (Uria et al., equations 6 and 7).

        Each row has s of D columns observed, s uniform, chosen at random; what the D - s others cost counts D / (D - s)
        times. The s of a batch are evenly spread with one random shift, which leaves each uniform.
        """
        x = batch.x
        n_rows, n_columns = x.shape
        shift = torch.rand(1, generator=generator, device=x.device, dtype=x.dtype)
        spread = (shift + torch.arange(n_rows, device=x.device, dtype=x.dtype) / n_rows) % 1.0
        n_seen = (spread * n_columns).floor().clamp_(max=n_columns - 1)[:, None]  # [B, 1]
        order = torch.rand(x.shape, generator=generator, device=x.device).argsort(dim=1)
        seen = torch.zeros_like(x).scatter_(
            1, order, (torch.arange(n_columns, device=x.device) < n_seen).to(x.dtype)
        )  # [B, D]
        observed = x * seen
        activation = observed @ self.input_weight + seen @ self.seen_weight + self.hidden_biases[0]
        logits = F.linear(self._upper(activation), self.output_weight, self.visible_bias)
        if self.direct:
            logits = logits + F.linear(observed, self.direct_weight) + F.linear(seen, self.direct_seen_weight)
        weight = (1.0 - seen) * (n_columns / (n_columns - n_seen))
        return F.binary_cross_entropy_with_logits(logits, x, weight, reduction="sum") / n_rows

    def exact_loss(self, x: Tensor) -> Tensor:
        """Mean -log p(x) over rows and all orderings of the columns, not only those of the ensemble."""
        orders = (torch.tensor(order, device=x.device) for order in permutations(range(self.n_visible)))
        return -torch.stack([self._log_prob(x, order) for order in orders]).mean()

    @torch.no_grad()
    def log_prob_orders(self, x: Tensor) -> Tensor:
        """Exact log p(x) under every ordering, [B, M] double, without a graph."""
        return torch.stack([self._log_prob(x, order) for order in self.orders], dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x) [B] double of the mean over orderings, without a graph."""
        return torch.logsumexp(self.log_prob_orders(x), dim=1) - math.log(len(self.orders))

    def _log_prob(self, x: Tensor, order: Tensor) -> Tensor:
        """log p(x) [B] double under an ordering [D]. Raises ValueError for another number of columns."""
        if x.shape[1] != self.n_visible:
            raise ValueError(f"x: expected {self.n_visible} columns, found {x.shape[1]}")
        rows = x[:, order]
        weights = tuple(weight[order] for weight in (self.input_weight, self.seen_weight, self.output_weight))
        if len(self.hidden_biases) == 1 and x.device.type == "cpu" and x.dtype == torch.float32:
            from harness.kernels import order_agnostic

            product = torch.empty_like(rows)
            arrays = (tensor.contiguous().numpy() for tensor in (rows, *weights, self.hidden_biases[0].detach()))
            order_agnostic.logits(*arrays, product.numpy())
        else:
            product = self._products(rows, *weights)
        if self.direct:
            product += earlier_product(rows, self.direct_weight[order][:, order])
            product += self.direct_seen_weight[order][:, order].tril(-1).sum(1)
        total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        score(product, self.visible_bias[order], rows, total)
        return total

    def _products(self, x: Tensor, inputs: Tensor, seen: Tensor, outputs: Tensor) -> Tensor:
        """Logits without the bias [B, D] of columns given those before; inputs, seen [D, H_1], outputs [D, H_L]."""
        carried, products = self.hidden_biases[0].expand(x.shape[0], -1), []
        for block in torch.arange(self.n_visible, device=x.device).split(COLUMNS_A_BLOCK):
            columns, size = x[:, block], len(block)
            earlier = torch.ones(size, size, dtype=x.dtype, device=x.device).tril_(-1)
            mask = columns[None, :, :] * earlier[:, None, :]  # [d, B, d']: x_d' where d' < d
            activation = torch.matmul(mask, inputs[block]) + (earlier @ seen[block])[:, None, :] + carried
            products.append((self._upper(activation) * outputs[block][:, None, :]).sum(-1))  # [d, B]
            carried = carried + columns @ inputs[block] + seen[block].sum(0)
        return torch.cat(products).t().contiguous()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows [n, D], each in an ordering of its own, the first layer's sums carried along."""
        chosen = torch.randint(len(self.orders), (n,), generator=generator, device=self.orders.device)
        activation = self.hidden_biases[0].repeat(n, 1)
        logits = self.visible_bias.repeat(n, 1)  # what does not pass through hidden layers
        x = activation.new_empty(n, self.n_visible)
        for columns in self.orders[chosen].t().unbind():  # [n], the next column of every row
            logit = (self._upper(activation) * self.output_weight[columns]).sum(1)
            logit += logits.gather(1, columns[:, None]).squeeze(1)
            value = sample_bernoulli(torch.sigmoid(logit), generator)[:, None]
            x.scatter_(1, columns[:, None], value)
            activation += value * self.input_weight[columns] + self.seen_weight[columns]
            if self.direct:
                logits += value * self.direct_weight.t()[columns] + self.direct_seen_weight.t()[columns]
        return x
