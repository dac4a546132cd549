"""Semi-supervised bidirectional Helmholtz machine whose labels are attached to the lowest latent layer.

p(y | x, h_1) = q(y | x, h_1), here without a direct path from x, which overfits a thousand labels (by the validation
set). The label factor is in p and in q alike, so it drops out of p*(x), which stays that of the BiHM, and of A(x)
(thesis, section 4.6); it is learned from labelled rows alone.
"""

import torch
from harness.methods.bihm import BiHM
from torch import Tensor

from harness.blocks import exact
from harness.blocks.bernoulli import normalised_weights
from harness.blocks.label_head import LabelHead
from harness.estimators import joint_label_loss
from harness.method import Batch
from harness.ranges import Count, Share, Size, Sizes


class LowLabelBiHM(BiHM):
    """Labelled rows cost -(log B(x, y) - gamma log A(x)), unlabelled rows -2 log A(x) (equations 4.7 and 4.8).

    A(x) = sum_h sqrt(p(x, h) q(h | x)) and B(x, y) = sum_h q(y | h_1) sqrt(p(x, h) q(h | x)), from the same samples.
    hidden: rectified units between h_1 and y, 0 for none; see ``LabelHead`` for dropout.
    """

    name = "ssl_bihm_low"
    title = "semi-supervised BiHM, labels on the lowest layer"
    kind = "latent"
    capturable = False  # the number of labelled rows decides shapes
    source = "Shabanian, thesis, section 4.6: A new direction"
    small = {"layers": [3, 2], "gamma": 0.5, "n_classes": 3}

    def __init__(
        self,
        n_visible: int,
        layers: Sizes,
        gamma: float,
        n_classes: Size = 10,
        hidden: Count = 0,
        dropout: Share = 0.0,
        input_dropout: Share = 0.0,
        release: Share | None = None,
        release_every: Size = 100,
    ):
        super().__init__(n_visible, layers, release, release_every)
        self.gamma = gamma
        self.head = LabelHead(layers[0], n_classes, hidden, dropout, input_dropout)

    @torch.no_grad()
    def log_label_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log of q(y | h_1k) sqrt(p(x, h_k) / q(h_k | x)), h_k ~ q(h | x), every class y: [B, K, n_classes]."""
        inferred = self.infer(x, n_samples, generator)
        log_labels = self.head(inferred.h[0]).view(*inferred.log_p.shape, -1)
        return 0.5 * (inferred.log_p - inferred.log_q)[:, :, None] + log_labels

    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of the mean cost over labelled (y >= 0) and unlabelled (y = -1) rows."""
        n_rows = batch.x.shape[0]
        inferred = self.infer(batch.x, n_samples, generator, dtype=self.product_dtype)
        half = 0.5 * (inferred.log_p - inferred.log_q)  # [B, K]
        labelled = batch.y >= 0
        # coefficients of log A, then also of log B: a weight's sum over the samples of its row
        factors = torch.where(labelled, self.gamma, -2.0).to(batch.x.dtype) / n_rows  # [B]
        normalised, log_a = normalised_weights(half, batch.x.dtype)
        weights = factors[:, None] * normalised.view(half.shape)
        loss = (factors * log_a).sum()
        if labelled.any():
            log_labels = self._log_label(inferred.h[0].view(*half.shape, -1)[labelled], batch.y[labelled], generator)
            known, log_b = normalised_weights(half[labelled] + log_labels.detach(), batch.x.dtype)
            known = known.view(log_labels.shape) / n_rows
            (-known * log_labels).sum().backward()
            weights[labelled] -= known
            factors[labelled] -= 1.0 / n_rows
            loss -= log_b.sum() / n_rows
        weights *= 0.5  # d log sqrt(p q)
        self.add_p_gradients(inferred, weights.flatten())
        self.add_prior_gradients(inferred, weights.flatten())
        self.add_q_gradients(inferred, (weights - 0.5 * factors[:, None] / n_samples).flatten())  # E_q[d log q] = 0
        return loss

    @torch.enable_grad()
    def _log_label(self, h: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """log q(y | h_1) with its graph, [n, K], for h_1 [n, K, n_1] and labels y [n]."""
        log_labels = self.head(h.flatten(0, 1).to(self.prior_bias.dtype), generator)
        return log_labels.gather(1, y.repeat_interleave(h.shape[1])[:, None]).view(h.shape[:2])

    def exact_label_weights(self, x: Tensor) -> Tensor:
        """log B(x, y) of every class, [B, n_classes]."""
        log_p, log_q = exact.joint_tables(self, x)
        return torch.logsumexp(0.5 * (log_p + log_q)[:, :, None] + self.head(exact.latent_states(self)[0]), dim=1)

    def exact_loss(self, batch: Batch, n_samples: int | None = None) -> Tensor:
        """Mean cost of labelled and unlabelled rows; with n_samples, on average over all ways to draw the samples."""
        log_p, log_q = exact.joint_tables(self, batch.x)
        half, known = 0.5 * (log_p + log_q), batch.y >= 0
        log_labels = self.head(exact.latent_states(self)[0]).t()[batch.y.clamp(min=0)]  # [B, H]
        of_a = exact.expected_weights(half - log_q, log_q, n_samples)
        of_b = exact.expected_weights(half - log_q + log_labels, log_q, n_samples)
        log_a, log_b = (of_a * half).sum(1), (of_b * (half + log_labels)).sum(1)
        return torch.where(known, self.gamma * log_a - log_b, -2.0 * log_a).mean()

    def validation_loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """-log p~*(x) - log p~*(y | x) a row [B], rows with labels."""
        return joint_label_loss(self, batch, n_samples, generator)
