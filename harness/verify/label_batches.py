"""Labelled rows for checks: which methods learn from labels, and batches where all, some or none are known."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from harness.method import Batch, Classifier, Discriminative, Enumerable, Method, has
from harness.verify.subject import FailedCheckError, NotApplicableError, Subject, generator

MANY_SAMPLES = 2000  # behind an estimated probability of a label
# of four rows; the last one in each is a class that comes first again, and -1 stands for a label that nobody gave
KINDS = {"known": (0, 1, 2, 0), "partly known": (2, -1, 0, -1), "hidden": (-1, -1, -1, -1)}


def takes_labels(cls: type[Method]) -> bool:
    """Whether a method learns from labels: it predicts them, or its ``exact_loss`` takes a batch."""
    if has(cls, Classifier) or has(cls, Discriminative):
        return True
    return has(cls, Enumerable) and "batch" in inspect.signature(cls.exact_loss).parameters


def n_classes(subject: Subject, model: Method | None = None) -> int:
    """Number of classes that a method tells apart. Raises NotApplicableError where it predicts no labels."""
    model = subject.model() if model is None else model
    x = subject.rows[:2].to(next(iter(model.state_dict().values())).dtype)
    with torch.no_grad():
        if isinstance(model, Discriminative):
            shape = model.log_label_prob(x).shape
        elif isinstance(model, Classifier):
            shape = model.log_label_weights(x, 2, generator(0)).shape
        elif "n_classes" in subject.hyperparameters:
            return subject.hyperparameters["n_classes"]
        else:
            raise NotApplicableError("predicts no labels")
    if shape[-1] < 2:
        raise FailedCheckError(f"label probabilities: expected at least 2 classes, found shape {tuple(shape)}")
    return shape[-1]


def labelled(subject: Subject, kind: str, dtype: torch.dtype = torch.float64) -> Batch:
    """Four rows with labels of a kind of KINDS."""
    y = torch.tensor(KINDS[kind])
    return Batch(subject.batch(dtype).x, torch.where(y < 0, y, y % n_classes(subject)))


@torch.no_grad()
def log_label_prob(model: Method, x: Tensor) -> Tensor:
    """log p(y | x), or for joint models an estimate of log p*(y | x) = log B(x, y) - log A(x), [B, n_classes]."""
    if isinstance(model, Discriminative):
        return model.log_label_prob(x)
    of_labels = torch.logsumexp(model.log_label_weights(x, MANY_SAMPLES, generator(16)), dim=1)
    return torch.log_softmax(of_labels, dim=1)
