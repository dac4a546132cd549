"""Semi-supervised bidirectional Helmholtz machine, basic form: a class label y sits above the top latent layer.

p(x, h, y) = p(y) p(h_L | y) ... p(x | h_1) and q(h, y | x) = q(h_1 | x) ... q(y | h_L) (thesis, section 4.2), with
A(x) = sum_{h, y} sqrt(p q), B(x, y) = sum_h sqrt(p q). Training estimates both by samples, those of A with labels
drawn as well: either from samples of their own (section 4.2.1), or from the same h, with labels that are drawn from
q(y | h) half of the time and else are the known one (section 4.5, equation 4.11). Likelihoods always sum over y.

As long as layers wait (``harness.blocks.release``), the label is above a layer that is not in use: it is independent of
all others and every class equally likely, in p as in q, so that B(x, y) = A(x) / n_classes. It is learned from the last
release on.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks import exact
from harness.blocks.bernoulli import normalised_weights, sample_bernoulli
from harness.blocks.sigmoid_belief import BeliefStack, initial_weight
from harness.estimators import joint_label_loss
from harness.method import Batch
from harness.ranges import Share, Size, Sizes


class SemiSupervisedBiHM(BeliefStack):
    """Labelled rows cost -(log B(x, y) - gamma log A(x)), unlabelled rows -2 log A(x) (equations 4.7 and 4.8).

    estimator: ``separate`` or ``shared``, whether A and B have samples of their own.
    """

    name = "ssl_bihm"
    title = "semi-supervised BiHM"
    version = 2
    kind = "latent"
    capturable = False  # the number of labelled rows decides shapes
    source = "Shabanian, thesis, chapter 4: Semi-supervised Bidirectional Helmholtz Machines"
    small = {"layers": [3, 2], "gamma": 0.5, "n_classes": 3}

    def __init__(
        self,
        n_visible: int,
        layers: Sizes,
        gamma: float,
        n_classes: Size = 10,
        estimator: Literal["separate", "shared"] = "separate",
        release: Share | None = None,
        release_every: Size = 100,
    ):
        super().__init__(n_visible, layers, release, release_every)
        self.gamma, self.n_classes, self.estimator = gamma, n_classes, estimator
        self.label_p_weight = initial_weight(layers[-1], n_classes)  # logits of p(h_L | y): column y + prior_bias
        self.label_q_weight = initial_weight(n_classes, layers[-1])  # logits of q(y | h_L)
        self.label_q_bias = nn.Parameter(torch.zeros(n_classes))
        self.label_prior = nn.Parameter(torch.zeros(n_classes))  # logits of p(y)

    def parameters_above(self, n: int) -> tuple[nn.Parameter, ...]:
        """Those of the stack, and all of the label's."""
        labels = self.label_p_weight, self.label_q_weight, self.label_q_bias, self.label_prior
        return (*super().parameters_above(n), *labels)

    def _log_p_tops(self, top: Tensor) -> Tensor:
        """log p(y) + log p(h_L | y) for every y, [N, n_classes], for h_L [N, n_L]."""
        if self.waits:
            return (self.log_prior(top) - math.log(self.n_classes)).to(top.dtype)[:, None].expand(-1, self.n_classes)
        logits = self.label_p_weight + self.prior_bias[:, None]  # [n_L, n_classes]
        return top @ logits - F.softplus(logits).sum(0) + F.log_softmax(self.label_prior, dim=0)

    def _log_q_labels(self, top: Tensor) -> Tensor:
        """log q(y | h_L) for every y, [N, n_classes]."""
        if self.waits:
            return top.new_full((len(top), self.n_classes), -math.log(self.n_classes))
        return F.log_softmax(F.linear(top, self.label_q_weight, self.label_q_bias), dim=1)

    @torch.no_grad()
    def log_label_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log sqrt(p(x, h_k, y) q(y | h_k) / q(h_k | x)), h_k ~ q(h | x), every class y: [B, K, n_classes]."""
        inferred = self.infer(x, n_samples, generator, with_prior=False)
        top = inferred.h[-1]
        labels = (self._log_p_tops(top) + self._log_q_labels(top)).view(*inferred.log_p.shape, -1)
        return 0.5 * ((inferred.log_p - inferred.log_q)[:, :, None] + labels)

    @torch.no_grad()
    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k, y_k) - log q(h_k, y_k | x), (h_k, y_k) ~ q, [B, K]."""
        inferred = self.infer(x, n_samples, generator, with_prior=False)
        top = inferred.h[-1]
        log_q = self._log_q_labels(top)
        labels = torch.multinomial(log_q.exp(), 1, generator=generator)  # [B * K, 1]
        ratio = (self._log_p_tops(top) - log_q).gather(1, labels)
        return inferred.log_p - inferred.log_q + ratio.view_as(inferred.log_p)

    @torch.no_grad()
    def log_z2_weights(self, n_outer: int, n_inner: int, generator: torch.Generator) -> Tensor:
        """log s(x, h) s(x, h') / (p(x, h) q(h' | x)) for (x, h) ~ p, h' ~ q(h | x), [n_outer, n_inner] double.

        s(x, h) = sum_y sqrt(p(x, h, y) q(h, y | x)) has no label left to draw: the mean is Z^2 = sum_x A(x)^2 as in
        equation 3.11, with A of equation 4.1.
        """
        top = self.sample_prior(n_outer, generator)
        log_p = torch.zeros(n_outer, dtype=torch.float64, device=top.device)
        x, h = self.descend(top, generator, log_p)  # without log p(h_L)
        first_product = self.q_layers[0].product(x)  # serves the draw of h' and the value of log q(h | x)
        log_q = torch.zeros_like(log_p)
        self.add_log_recognition(x, h, first_product, log_q)
        outer = 0.5 * (log_q - log_p) + self._log_label_sum(top) - torch.logsumexp(self._log_p_tops(top), dim=1)
        inferred = self.infer(x, n_inner, generator, with_prior=False, first_product=first_product)
        inner = 0.5 * (inferred.log_p - inferred.log_q) + self._log_label_sum(inferred.h[-1]).view_as(inferred.log_p)
        return inner + outer[:, None]

    def _log_label_sum(self, top: Tensor) -> Tensor:
        """log sum_y sqrt(p(y) p(h_L | y) q(y | h_L)), [N], for h_L [N, n_L]."""
        return torch.logsumexp(0.5 * (self._log_p_tops(top) + self._log_q_labels(top)), dim=1)

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of the mean cost over labelled (y >= 0) and unlabelled (y = -1) rows, equations 4.9 to 4.11."""
        x, y, n_rows = batch.x, batch.y, batch.x.shape[0]
        labelled = y >= 0
        of_a = torch.where(labelled, self.gamma, -2.0).to(x.dtype) / n_rows  # factor of log A, [B]
        of_b = labelled.to(x.dtype) / -n_rows
        if self.estimator == "separate" and labelled.any():  # rows of their own for B: samples serve one of the two
            x, y, of_a, of_b = (torch.cat([every, every[labelled]]) for every in (x, y, of_a, of_b))
            y[:n_rows], of_a[n_rows:], of_b[:n_rows] = -1, 0.0, 0.0
        return self._add_gradients(x, y, of_a, of_b, n_samples, generator)

    def _add_gradients(
        self,
        x: Tensor,
        y: Tensor,
        of_a: Tensor,
        of_b: Tensor,
        n_samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Add the gradient of sum_b of_a[b] log A(x_b) + of_b[b] log B(x_b, y_b), from one set of h ~ q(h | x).

        The labels of A are drawn from q(y | h) where y = -1, else half of the time and are y at other times. Returns
        the estimate of that sum.
        """
        inferred = self.infer(x, n_samples, generator, with_prior=False, dtype=self.product_dtype)
        top = inferred.h[-1].to(x.dtype)
        log_q = self._log_q_labels(top)
        terms = 0.5 * ((inferred.log_p - inferred.log_q).flatten()[:, None] + self._log_p_tops(top) + log_q)
        known = y.repeat_interleave(n_samples)[:, None]  # [B * K, 1], as all labels below
        weights, centred, of_labels = (torch.zeros_like(log_q) for _ in range(3))  # of p, of q(h | x), of q(y | h)
        proposal = _half_known(log_q, known)
        drawn = torch.multinomial(proposal.exp(), 1, generator=generator)
        half = (terms - proposal).gather(1, drawn).view(inferred.log_p.shape)
        normalised, factors, log_a = _weighted(half, of_a)
        weights.scatter_add_(1, drawn, normalised)
        # E_q[d log q] = 0 takes 1 / K off, for q(y | h) where its labels were drawn from it
        of_labels.scatter_add_(1, drawn, normalised - factors * (known < 0))
        centred.scatter_add_(1, drawn, normalised - factors)
        label = known.clamp(min=0)  # of unlabelled rows any, at a weight of 0
        half = terms.gather(1, label).view(inferred.log_p.shape)
        normalised, factors, log_b = _weighted(half, of_b)
        weights.scatter_add_(1, label, normalised)
        of_labels.scatter_add_(1, label, normalised)
        centred.scatter_add_(1, label, normalised - factors)
        self.add_p_gradients(inferred, weights.sum(1))
        self.add_q_gradients(inferred, centred.sum(1))
        self._add_label_gradients(top, weights, of_labels, log_q)
        return log_a + log_b

    def _add_label_gradients(self, top: Tensor, weights: Tensor, of_labels: Tensor, log_q: Tensor) -> None:
        """Add sum weights d log p(h_L, y) + of_labels d log q(y | h_L), over h_L [N, n_L] and all y: [N, n_classes]."""
        if self.waits:
            self.prior.add_gradients_of(top, top[:, :0], weights.sum(1))
            return
        totals = weights.sum(0)
        logits = self.label_p_weight + self.prior_bias[:, None]  # [n_L, n_classes]
        missed = torch.addmm(-torch.sigmoid(logits) * totals, top.t(), weights)
        self.label_p_weight.grad.add_(missed)
        self.prior_bias.grad.add_(missed.sum(1))
        self.label_prior.grad.add_(totals - torch.softmax(self.label_prior, dim=0) * totals.sum())
        missed = of_labels - log_q.exp() * of_labels.sum(1, keepdim=True)
        self.label_q_weight.grad.addmm_(missed.t(), top)
        self.label_q_bias.grad.add_(missed.sum(0))

    def _joint_tables(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(x, h, y), log q(h, y | x), both [B, H, n_classes], and log q(h | x), [B, H], for all states h."""
        h = exact.latent_states(self)
        log_p, log_q = exact.joint_tables(self, x)
        log_p = (log_p - self.log_prior(h[-1]))[:, :, None] + self._log_p_tops(h[-1])  # y replaces the prior
        return log_p, log_q[:, :, None] + self._log_q_labels(h[-1]), log_q

    def exact_label_weights(self, x: Tensor) -> Tensor:
        """log B(x, y) of every class, [B, n_classes]."""
        log_p, log_q, _ = self._joint_tables(x)
        return torch.logsumexp(0.5 * (log_p + log_q), dim=1)

    def exact_loss(self, batch: Batch, n_samples: int | None = None) -> Tensor:
        """Mean cost of labelled and unlabelled rows, equations 4.7 and 4.8.

        With n_samples, its gradient is that of equations 4.9 to 4.11 on average over all ways to draw the samples.
        """
        log_p, log_q, log_q_states = self._joint_tables(batch.x)
        half, known = 0.5 * (log_p + log_q), batch.y >= 0
        label = F.one_hot(batch.y.clamp(min=0), self.n_classes)[:, None, :]  # [B, 1, n_classes]
        proposal = log_q.flatten(1)
        if self.estimator == "shared":
            shared = (0.5 * log_q.exp() + 0.5 * log_q_states.exp()[:, :, None] * label).log()
            proposal = torch.where(known[:, None], shared.flatten(1), proposal)
        of_a = exact.expected_weights(half.flatten(1) - proposal, proposal, n_samples)
        log_a = (of_a * half.flatten(1)).sum(1)  # has the gradient of log A
        half = (half * label).sum(2)  # [B, H]
        of_b = exact.expected_weights(half - log_q_states, log_q_states, n_samples)
        log_b = (of_b * half).sum(1)
        return torch.where(known, self.gamma * log_a - log_b, -2.0 * log_a).mean()

    def validation_loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """-log p~*(x) - log p~*(y | x) a row [B]: both things that the table reports, rows with labels."""
        return joint_label_loss(self, batch, n_samples, generator)

    @torch.no_grad()
    def sample_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of h_L ~ sum_y p(y) p(h_L | y), [n, n_L]."""
        if self.waits:
            return super().sample_prior(n, generator)
        labels = torch.multinomial(torch.softmax(self.label_prior, dim=0), n, replacement=True, generator=generator)
        logits = self.label_p_weight.t()[labels] + self.prior_bias
        return sample_bernoulli(torch.sigmoid(logits), generator)


def _half_known(log_q: Tensor, known: Tensor) -> Tensor:
    """log q'(y | h) [N, n_classes]: half q(y | h), half the known label [N, 1] (section 4.5); q where that is -1."""
    label = torch.zeros_like(log_q).scatter_(1, known.clamp(min=0), 1.0)
    return torch.where(known < 0, log_q, (0.5 * log_q.exp() + 0.5 * label).log())


def _weighted(half: Tensor, factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of d log p and d log q in sum_b factors[b] log mean_k exp(half[b, k]), and that sum.

    half [B, K]: logs of sqrt(p q) over the proposal. Weights and what their mean over a row's samples is: [B * K, 1].
    """
    normalised, log_means = normalised_weights(half.double(), factors.dtype)
    halves = (0.5 * factors).repeat_interleave(half.shape[1])[:, None]  # d log sqrt(p q)
    return halves * normalised[:, None], halves / half.shape[1], (factors * log_means).sum()
