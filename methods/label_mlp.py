"""Control for semi-supervised models: a small network on the pixels of the labelled rows alone."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.label_head import LabelHead
from harness.method import Batch, Method, RoundedWeight
from harness.ranges import Count, NonNegative, Share, Size


class LabelMLP(Method):
    """One layer of rectified units and a softmax; rows without a label teach it nothing.

    weight_decay: factor of half the squared weights, beside the mean loss. See ``LabelHead`` for the others.
    """

    name = "label_mlp"
    title = "one hidden layer on the labelled pixels"
    kind = "control"
    source = "Control: what the labels alone can teach"
    version = 2
    small = {"hidden": 4, "n_classes": 3}
    product_dtype: torch.dtype | None = None  # of the products of training, where not that of the parameters

    def __init__(
        self,
        n_visible: int,
        hidden: Count,
        n_classes: Size = 10,
        dropout: Share = 0.0,
        input_dropout: Share = 0.0,
        weight_decay: NonNegative = 0.0,
    ):
        super().__init__(n_visible)
        self.weight_decay = weight_decay
        self.head = LabelHead(n_visible, n_classes, hidden, dropout, input_dropout)

    def multiply_in(self, dtype: torch.dtype | None, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """See ``harness.method.MixedPrecision``."""
        self.product_dtype = dtype
        self.head.use_rounded(weights)

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """-log p(y | x) summed over labelled rows (y >= 0), by the number of all rows, and the weight decay."""
        log_labels = self.head(batch.x, generator)
        loss = F.nll_loss(log_labels, batch.y, ignore_index=-1, reduction="sum") / len(batch.x)
        squares = sum(weight.square().sum() for weight in self.parameters() if weight.dim() > 1)
        return loss + 0.5 * self.weight_decay * squares

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """The gradient of ``loss``; what it leaves out may be drawn by other numbers (see ``LabelHead``)."""
        weight = 1.0 / len(batch.x)
        loss = -weight * self.head.add_gradients(batch.x, batch.y, weight, generator, self.product_dtype).sum()
        if self.weight_decay:
            loss += 0.5 * self.weight_decay * self.head.add_decay_gradients(self.weight_decay)
        return loss

    def log_label_prob(self, x: Tensor) -> Tensor:
        """log p(y | x) of every class, [B, n_classes]."""
        return self.head(x)

    @torch.no_grad()
    def validation_loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """-log p(y | x) of labelled rows, [B]."""
        return F.nll_loss(self.log_label_prob(batch.x), batch.y, reduction="none")
