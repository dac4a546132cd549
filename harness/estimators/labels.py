"""Estimates of the label probabilities of a semi-supervised model, and the loss of labelled rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.estimators import bias
from harness.estimators.bias import Bias
from harness.estimators.importance import by_blocks
from harness.estimators.log_sums import GROUPS, GroupedPowerSums, RunningLogSumExp
from harness.method import Batch, Classifier


@dataclass(frozen=True)
class LabelEstimates:
    """Per-row estimates of a joint model of rows and labels, from K samples that all classes share."""

    n_samples: int
    log_p_star: Tensor  # 2 log A(x) [B], a lower bound of log p*(x) (thesis, equation 4.8)
    log_label: Tensor  # log p~*(y | x) = log B(x, y) - log A(x) [B, n_classes]; never above 0 as A = sum_y B
    log_means: Tensor | None = None  # log B(x, y) from groups of samples [B, n_classes, groups]; tell biases

    @property
    def log_p_star_bias(self) -> Bias:
        """The bias of the mean of log_p_star over the rows."""
        if self.log_means is None:
            return bias.UNKNOWN
        return 2.0 * bias.of_log_means(torch.logsumexp(self.log_means, dim=1), self.n_samples)

    def log_label_bias(self, y: Tensor) -> Bias:
        """The bias of the mean of log p~*(y | x) over the rows, for their classes y [B]."""
        if self.log_means is None:
            return bias.UNKNOWN
        log_b = self.log_means[torch.arange(len(y), device=y.device), y]
        return bias.of_log_ratios(log_b, torch.logsumexp(self.log_means, dim=1), self.n_samples)


@torch.no_grad()
def label_estimates(
    method: Classifier, x: Tensor, n_samples: int, generator: torch.Generator, chunk: int
) -> LabelEstimates:
    """A(x) and B(x, y) of every class from the same draws h ~ q(h | x) (equations 4.3 to 4.5, y summed exactly)."""

    def estimate(rows: Tensor, counts: list[int], own: torch.Generator) -> tuple[Tensor, ...]:
        running, groups = RunningLogSumExp(), GroupedPowerSums(n_samples)
        for k in counts:
            log_weights = method.log_label_weights(rows.clone(), k, own).double().transpose(1, 2)  # [B, n_classes, k]
            running.add(log_weights)
            groups.add(log_weights)
        log_a = torch.logsumexp(running.total, dim=1)
        found = 2.0 * (log_a - math.log(n_samples)), running.total - log_a[:, None]
        return (*found, groups.log_means()[0]) if n_samples >= GROUPS else found

    blocks = by_blocks(x, n_samples, generator, chunk, estimate)
    return LabelEstimates(n_samples, *(torch.cat(parts) for parts in zip(*blocks, strict=True)))


@torch.no_grad()
def joint_label_loss(method: Classifier, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
    """-log p~*(x) - log p~*(y | x) [B] for rows with labels, what early stopping of joint models watches."""
    log_b = torch.logsumexp(method.log_label_weights(batch.x, n_samples, generator), dim=1)  # [B, n_classes]
    log_a = torch.logsumexp(log_b, dim=1)
    return 2.0 * math.log(n_samples) - log_a - log_b.gather(1, batch.y[:, None]).squeeze(1)
