"""A linear classifier of rows, to say which class a sample looks like: multinomial logistic regression."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import nll_loss

ITERATIONS = 100
TOLERANCE = 1e-6  # relative, of the loss: what single-precision products can tell


class LinearClassifier:
    """softmax(W x + c), fitted by L-BFGS to labelled rows x [N, D], y [N] with an L2 penalty on W.

    l2: factor of |W|^2 / 2 beside the mean negative log-likelihood. start: a classifier of the same columns and classes
    to begin from, as one with a larger penalty; the minimum does not depend on it.
    """

    def __init__(self, x: Tensor, y: Tensor, l2: float = 1e-3, start: LinearClassifier | None = None):
        rows, labels = x.float(), y.long()
        n_classes, n_columns = int(labels.max()) + 1, rows.shape[1]

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = torch.from_numpy(flat).view(n_classes, n_columns + 1).to(rows.device)
            log_p = torch.log_softmax((rows @ weights[:, :-1].t().float() + weights[:, -1].float()).double(), dim=1)
            missed = log_p.exp()
            missed[torch.arange(len(labels), device=rows.device), labels] -= 1.0
            missed /= len(labels)
            products = (missed.t().float() @ rows).double()
            gradient = torch.cat([products + l2 * weights[:, :-1], missed.sum(0).unsqueeze(1)], dim=1)
            loss = nll_loss(log_p, labels) + l2 / 2 * weights[:, :-1].square().sum()
            return loss.item(), gradient.cpu().numpy().ravel()

        first = np.zeros(n_classes * (n_columns + 1)) if start is None else start.weights.numpy().ravel()
        found = minimize(
            objective, first, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "ftol": TOLERANCE}
        )
        self.weights = torch.from_numpy(found.x.reshape(n_classes, n_columns + 1))

    def probabilities(self, x: Tensor) -> Tensor:
        """p(class | x) [N, n_classes] double, for rows x [N, D]."""
        weights = self.weights.to(x.device)
        return torch.softmax(x.double() @ weights[:, :-1].t() + weights[:, -1], dim=1)


def entropy(probabilities: Tensor) -> Tensor:
    """-sum p log p over the last axis, nats."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)
