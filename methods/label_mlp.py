"""Control for semi-supervised models: a small network on the pixels of the labelled rows alone."""

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.blocks.label_head import LabelHead
from harness.method import Batch, Method
from harness.ranges import Count, NonNegative, Share, Size


class LabelMLP(Method):
    """One layer of rectified units and a softmax; rows without a label teach it nothing.

    weight_decay: factor of half the squared weights, beside the mean loss. See ``LabelHead`` for the others.
    """

    name = "label_mlp"
    title = "one hidden layer on the labelled pixels"
    kind = "control"
    source = "Control: what the labels alone can teach"
    small = {"hidden": 4, "n_classes": 3}

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

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """-log p(y | x) summed over labelled rows (y >= 0), by the number of all rows, and the weight decay."""
        log_labels = self.head(batch.x, generator)
        loss = F.nll_loss(log_labels, batch.y, ignore_index=-1, reduction="sum") / len(batch.x)
        squares = sum(weight.square().sum() for weight in self.parameters() if weight.dim() > 1)
        return loss + 0.5 * self.weight_decay * squares

    def log_label_prob(self, x: Tensor) -> Tensor:
        """log p(y | x) of every class, [B, n_classes]."""
        return self.head(x)

    @torch.no_grad()
    def validation_loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """-log p(y | x) of labelled rows, [B]."""
        return F.nll_loss(self.log_label_prob(batch.x), batch.y, reduction="none")
