"""The control: independent Bernoullis, which every other method must beat."""

import torch
from torch import Tensor

from harness.blocks.bernoulli import log_bernoulli, sample_bernoulli
from harness.method import Batch, Method
from harness.ranges import NonNegative


class Factorised(Method):
    """p(x) = prod_i Bernoulli(x_i | (ones_i + s) / (rows + 2 s)): column means with add-s smoothing."""

    name = "factorised"
    title = "independent Bernoullis"
    kind = "control"
    source = "the maximum-likelihood product of Bernoullis, with Laplace's rule of succession at s = 1"

    def __init__(self, n_visible: int, smoothing: NonNegative = 1.0):
        super().__init__(n_visible)
        self.smoothing = smoothing
        self.bias = torch.nn.Parameter(torch.zeros(n_visible))  # [D] logits

    @torch.no_grad()
    def fit(self, train: Batch) -> None:
        """Count the ones of every column."""
        ones = train.x.double().sum(0) + self.smoothing
        self.bias.copy_(torch.logit(ones / (train.x.shape[0] + 2 * self.smoothing)))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) [B]."""
        return log_bernoulli(x, self.bias)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows [n, D]."""
        return sample_bernoulli(torch.sigmoid(self.bias).expand(n, -1), generator)
