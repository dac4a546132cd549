"""Semi-supervised bidirectional Helmholtz machine, basic form: a class label y sits above the top latent layer.

p(x, h, y) = p(y) p(h_L | y) ... p(x | h_1) and q(h, y | x) = q(h_1 | x) ... q(y | h_L) (thesis, section 4.2), with
A(x) = sum_{h, y} sqrt(p q), B(x, y) = sum_h sqrt(p q), both estimated with separate samples when training.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.bernoulli import normalised_weights, sample_bernoulli
from harness.blocks.sigmoid_belief import BeliefStack, Inferred, initial_weight
from harness.method import Batch


class SemiSupervisedBiHM(BeliefStack):
    """Labelled rows cost -(log B(x, y) - gamma log A(x)), unlabelled rows -2 log A(x) (equations 4.7 and 4.8)."""

    name = "ssl_bihm"
    title = "semi-supervised BiHM"
    kind = "latent"
    capturable = False  # the number of labelled rows decides shapes
    source = "Shabanian, thesis, chapter 4: Semi-supervised Bidirectional Helmholtz Machines"
    small = {"layers": [3, 2], "gamma": 0.5, "n_classes": 3}

    def __init__(self, n_visible: int, layers: list[int], gamma: float, n_classes: int = 10):
        super().__init__(n_visible, layers)
        self.gamma, self.n_classes = gamma, n_classes
        self.label_p_weight = initial_weight(layers[-1], n_classes)  # logits of p(h_L | y): column y + prior_bias
        self.label_q_weight = initial_weight(n_classes, layers[-1])  # logits of q(y | h_L)
        self.label_q_bias = nn.Parameter(torch.zeros(n_classes))
        self.label_prior = nn.Parameter(torch.zeros(n_classes))  # logits of p(y)

    def _log_p_tops(self, top: Tensor) -> Tensor:
        """log p(y) + log p(h_L | y) for every y, [N, n_classes], for h_L [N, n_L]."""
        logits = self.label_p_weight + self.prior_bias[:, None]  # [n_L, n_classes]
        return top @ logits - F.softplus(logits).sum(0) + F.log_softmax(self.label_prior, dim=0)

    def _log_q_labels(self, top: Tensor) -> Tensor:
        """log q(y | h_L) for every y, [N, n_classes]."""
        return F.log_softmax(F.linear(top, self.label_q_weight, self.label_q_bias), dim=1)

    @torch.no_grad()
    def log_label_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log sqrt(p(x, h_k, y) q(y | h_k) / q(h_k | x)), h_k ~ q(h | x), every class y: [B, K, n_classes]."""
        inferred = self.infer(x, n_samples, generator, with_prior=False)
        top = inferred.h[-1]
        labels = (self._log_p_tops(top) + self._log_q_labels(top)).view(*inferred.log_p.shape, -1)
        return 0.5 * ((inferred.log_p - inferred.log_q)[:, :, None] + labels)

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k, y_k) - log q(h_k, y_k | x), (h_k, y_k) ~ q, [B, K]."""
        return self._infer_with_labels(x, n_samples, generator)[1]

    @torch.no_grad()
    def _infer_with_labels(
        self, x: Tensor, n_samples: int, generator: torch.Generator
    ) -> tuple[Inferred, Tensor, Tensor]:
        """(h, y) ~ q(h, y | x): the samples of h, log p - log q [B, K], and y one-hot [B * K, n_classes]."""
        inferred = self.infer(x, n_samples, generator, with_prior=False)
        top = inferred.h[-1]
        log_q = self._log_q_labels(top)
        labels = torch.multinomial(log_q.exp(), 1, generator=generator)  # [B * K, 1]
        ratio = (self._log_p_tops(top) - log_q).gather(1, labels).view_as(inferred.log_p)
        one_hot = torch.zeros_like(log_q).scatter_(1, labels, 1.0)
        return inferred, inferred.log_p - inferred.log_q + ratio, one_hot

    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of the mean cost over labelled (y >= 0) and unlabelled (y = -1) rows, equations 4.9 and 4.10."""
        n_rows = batch.x.shape[0]
        labelled = batch.y >= 0
        # log A of every row: coefficient -2 without a label, +gamma with one
        inferred, log_weights, one_hot = self._infer_with_labels(batch.x, n_samples, generator)
        factor = torch.where(labelled, self.gamma, -2.0).to(batch.x.dtype) / n_rows  # [B]
        loss = (factor * self._add_log_mean_gradients(inferred, 0.5 * log_weights, one_hot, factor, True)).sum()
        if labelled.any():
            x, y = batch.x[labelled], batch.y[labelled]
            inferred = self.infer(x, n_samples, generator, with_prior=False)
            one_hot = F.one_hot(y, self.n_classes).to(x.dtype).repeat_interleave(n_samples, dim=0)
            top = inferred.h[-1]
            label_terms = ((self._log_p_tops(top) + self._log_q_labels(top)) * one_hot).sum(1).view_as(inferred.log_p)
            half = 0.5 * (inferred.log_p - inferred.log_q + label_terms)
            factor = x.new_full((x.shape[0],), -1.0 / n_rows)
            loss += (factor * self._add_log_mean_gradients(inferred, half, one_hot, factor, False)).sum()
        return loss

    @torch.no_grad()
    def _add_log_mean_gradients(
        self, inferred: Inferred, half: Tensor, one_hot: Tensor, factor: Tensor, label_sampled: bool
    ) -> Tensor:
        """Add sum_b factor[b] d log mean_k exp(half[b, k]); half [B, K] are logs of square-root weights.

        Each weight is sqrt(p(x, h, y) q(h | x) q(y | h)) over its proposal. The q factors whose values were drawn
        from q carry centred weights (E_q[d log q] = 0). Returns log mean_k exp(half), [B].
        """
        normalised, log_means = normalised_weights(half, factor.dtype)
        factors = (0.5 * factor).repeat_interleave(half.shape[1])  # [B * K]
        weights = factors * normalised
        centred = weights - factors / half.shape[1]
        self.add_p_gradients(inferred, weights)
        self.add_q_gradients(inferred, centred)
        top = inferred.h[-1]
        # p(h_L | y): logits label_p_weight y + prior_bias
        column = weights[:, None]
        logits = F.linear(one_hot, self.label_p_weight, self.prior_bias)
        missed = (top - torch.sigmoid(logits)).mul_(column)
        self.label_p_weight.grad.addmm_(missed.t(), one_hot)
        self.prior_bias.grad.add_(missed.sum(0))
        self.label_prior.grad.add_(((one_hot - torch.softmax(self.label_prior, dim=0)) * column).sum(0))
        column = (centred if label_sampled else weights)[:, None]
        missed = (one_hot - self._log_q_labels(top).exp()).mul_(column)
        self.label_q_weight.grad.addmm_(missed.t(), top)
        self.label_q_bias.grad.add_(missed.sum(0))
        return log_means

    def validation_loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """-log p~*(x) - log p~*(y | x) a row [B]: both things that the table reports, rows with labels."""
        log_b = torch.logsumexp(self.log_label_weights(batch.x, n_samples, generator), dim=1)  # [B, n_classes]
        log_a = torch.logsumexp(log_b, dim=1) - math.log(n_samples)
        log_b_label = log_b.gather(1, batch.y[:, None]).squeeze(1) - math.log(n_samples)
        return -log_a - log_b_label

    @torch.no_grad()
    def sample_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of h_L ~ sum_y p(y) p(h_L | y), [n, n_L]."""
        labels = torch.multinomial(torch.softmax(self.label_prior, dim=0), n, replacement=True, generator=generator)
        logits = self.label_p_weight.t()[labels] + self.prior_bias
        return sample_bernoulli(torch.sigmoid(logits), generator)
