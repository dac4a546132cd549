"""Distance of samples from the data: of p, and of p* after sweeps of Algorithm 2 where a model has it.

Two numbers beside the figures of samples, which the thesis does not have: a kernel two-sample statistic against test
rows, and, where rows have labels, what a classifier of the training rows makes of the samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from harness.estimators.linear_classifier import LinearClassifier, entropy
from harness.estimators.two_sample import FEWEST, mean_of_pairs, median_distance, mmd_terms
from harness.evaluation.subject import LeftOutError, Subject
from harness.method import Batch, JointSampler
from harness.ranges import AscendingCounts, Draws, Size
from harness.settings.seeds import seed_for

NEEDS = ("sampling",)
BANDWIDTH_ROWS = 1000  # of the training set


def analyse(
    subject: Subject, rows: Draws, sweeps: AscendingCounts, proposals: Size, classifier_rows: Size
) -> pd.DataFrame:
    """Columns distribution, sweeps, metric, value, sem, change, change_sem, n_rows.

    rows: samples, and test rows that they are compared with. sweeps: after how many to look, ascending; 0 is p, which
    all models have. proposals: of every resampling. classifier_rows: training rows of the classifier. Distributions:
    ``p``, ``p*``, and beside them ``training rows`` and ``test rows``. Metrics: ``mmd2`` (squared maximum mean
    discrepancy, unbiased, 0 on average for perfect samples); ``label entropy``, how unsure the classifier is of a
    sample, and ``entropy of labels``, how evenly its classes are spread, both in nats. change: value less that of p;
    its error is that of the difference, as test rows are the same and chains start from the samples of p.
    """
    judge = _Judge(subject, rows, classifier_rows)
    found = [
        *_records("training rows", 0, judge.of(judge.train.x[: judge.n])),
        *_records("test rows", 0, judge.of_test()),
    ]
    first: Mapping[str, _Mean] | None = None
    for sweep, x in _samples(subject, judge.n, sweeps, proposals):
        measured = judge.of(x)
        first = measured if first is None else first
        found += _records("p" if sweep == 0 else "p*", sweep, measured, first)
    columns = ["distribution", "sweeps", "metric", "value", "sem", "change", "change_sem"]
    return pd.DataFrame(found, columns=columns).assign(n_rows=judge.n)


def _samples(subject: Subject, n: int, sweeps: list[int], proposals: int) -> Iterator[tuple[int, Tensor]]:
    """Numbers of sweeps and samples x [n, D]."""
    model, generator = subject.model, subject.generator("sample_quality")
    if not isinstance(model, JointSampler):
        yield 0, model.sample(n, generator)
        return
    state = model.sample_layers(n, generator)
    yield 0, state[0]
    for sweep in range(1, sweeps[-1] + 1):
        state = model.sweep(state, proposals, generator)
        if sweep in sweeps:
            yield sweep, state[0]


@dataclass(frozen=True)
class _Mean:
    """A number and the parts that tell its error: one for each sample [n], or for each pair of them [n, n]."""

    value: float
    parts: Tensor


def _error(parts: Tensor) -> float:
    return mean_of_pairs(parts)[1] if parts.ndim == 2 else (parts.std() / math.sqrt(len(parts))).item()


def _records(
    distribution: str, sweep: int, measured: Mapping[str, _Mean], first: Mapping[str, _Mean] | None = None
) -> Iterator[tuple[object, ...]]:
    for metric, mean in measured.items():
        change = change_error = math.nan
        if first is not None:
            change, change_error = mean.value - first[metric].value, _error(mean.parts - first[metric].parts)
        yield distribution, sweep, metric, mean.value, _error(mean.parts), change, change_error


class _Judge:
    """Compares rows with test rows, n of both."""

    def __init__(self, subject: Subject, rows: int, classifier_rows: int):
        self.test = subject.rows("test", rows)
        self.n = len(self.test.x)
        self.train = _shuffled(subject, max(self.n, BANDWIDTH_ROWS, classifier_rows))
        looked_at = self.train.x[:BANDWIDTH_ROWS]
        self.distance = median_distance(looked_at)
        if self.n < FEWEST:
            raise LeftOutError(f"{self.n} test rows, where samples are compared with at least {FEWEST}")
        if self.distance == 0.0:
            raise LeftOutError(f"all of {len(looked_at)} training rows are alike: there is no scale to compare on")
        self.classifier = None
        if self.train.y is not None:
            self.classifier = LinearClassifier(self.train.x[:classifier_rows], self.train.y[:classifier_rows])

    def of(self, x: Tensor) -> dict[str, _Mean]:
        """What there is to say of rows x [n, D]; LeftOutError where they are no numbers."""
        if not torch.isfinite(x).all():
            raise LeftOutError("samples of the model are not finite")
        terms = mmd_terms(x, self.test.x, self.distance)
        return {"mmd2": _Mean(mean_of_pairs(terms)[0], terms), **self._labels(x)}

    def of_test(self) -> dict[str, _Mean]:
        """The same of the test rows, without their distance from themselves."""
        return self._labels(self.test.x)

    def _labels(self, x: Tensor) -> dict[str, _Mean]:
        if self.classifier is None:
            return {}
        probabilities = self.classifier.probabilities(x)
        each, mean = entropy(probabilities), probabilities.mean(0)
        influence = -torch.special.xlogy(probabilities, mean).sum(1)  # of a sample on the entropy of the mean
        return {
            "label entropy": _Mean(each.mean().item(), each),
            "entropy of labels": _Mean(entropy(mean).item(), influence),
        }


def _shuffled(subject: Subject, n: int) -> Batch:
    """n training rows in an order of chance, the same for every method."""
    chosen = subject.rows("train", n)
    order = torch.randperm(
        len(chosen.x), generator=torch.Generator().manual_seed(seed_for(subject.cell.dataset, "order"))
    )
    order = order.to(chosen.x.device)
    return Batch(chosen.x[order], None if chosen.y is None else chosen.y[order])
