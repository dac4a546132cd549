"""A linear classifier of rows, to tell what class a sample looks like: multinomial logistic regression."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

ITERATIONS = 100


class LinearClassifier:
    """softmax(W x + c), fitted by L-BFGS to labelled rows x [N, D], y [N] with an L2 penalty on W.

    l2: factor of |W|^2 / 2 beside the mean negative log-likelihood.
    """

    def __init__(self, x: Tensor, y: Tensor, l2: float = 1e-3):
        rows, labels = x.double().cpu().numpy(), y.cpu().numpy()
        n_classes, n_columns = int(labels.max()) + 1, rows.shape[1]
        one_hot = np.eye(n_classes)[labels]

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(n_classes, n_columns + 1)
            logits = rows @ weights[:, :-1].T + weights[:, -1]
            logits -= logits.max(1, keepdims=True)
            log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            missed = (np.exp(log_p) - one_hot) / len(rows)
            gradient = np.column_stack([missed.T @ rows + l2 * weights[:, :-1], missed.sum(0)])
            loss = -(one_hot * log_p).sum() / len(rows) + l2 / 2 * np.square(weights[:, :-1]).sum()
            return loss, gradient.ravel()

        start = np.zeros(n_classes * (n_columns + 1))
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
        self.weights = torch.from_numpy(found.x.reshape(n_classes, n_columns + 1))

    def probabilities(self, x: Tensor) -> Tensor:
        """p(class | x) [N, n_classes] double, for rows x [N, D]."""
        weights = self.weights.to(x.device)
        return torch.softmax(x.double() @ weights[:, :-1].t() + weights[:, -1], dim=1)


def entropy(probabilities: Tensor) -> Tensor:
    """-sum p log p over the last axis, nats."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)
