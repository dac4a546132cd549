"""Quality of q as a proposal for p*(h | x), and of p for p*(x, h): histograms of importance weights (Figure 3.11).

Left, inference: for a given x, h_k ~ q(h | x) and

    p*(h | x) / q(h | x)  ∝  sqrt(p(x, h) q(h | x)) / q(h | x)  =  sqrt(p(x, h) / q(h | x)),

so a log-weight is lw / 2 and its constant differs from x to x: weights are divided by their mean over the K samples of
the same x.

Right, sampling: the joint is p*(x, h) = sqrt(p(x, h) q(h | x) q(x)) / Z with q(x) = p*(x) (section 3.1). Summed over h
that says sqrt(p*(x)) = S(x) / Z with S(x) = sum_h sqrt(p(x, h) q(h | x)), hence

    p*(x, h) / p(x, h)  =  sqrt(q(h | x) / p(x, h)) S(x) / Z^2,      (x, h) ~ p.

S(x) = E_{h' ~ q(h | x)} sqrt(p(x, h') / q(h' | x)) is estimated by inner samples, which makes the weight the inner
mean of the samples of Z^2 in equation 3.11: ``log_z2_weights``. Weights are divided by their mean over all draws, an
estimate of Z^2. Too few inner samples would widen this histogram by their own noise.

Either way a weight is the ratio of target and proposal, 1 for a perfect proposal. Counted with equal votes, draws show
the proposal; counted with their weights, the target: the better these agree, the better is the proposal.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.compute import parallel
from harness.estimators.chunks import pairs_at_once
from harness.estimators.importance import parts_of
from harness.evaluation.subject import Subject
from harness.ranges import Size

NEEDS = ("importance weights", "partition function")
LOWEST = 0.005  # share of draws with weights so small that the bins leave them out
POSTERIOR, JOINT = "q(h|x) for p*(h|x)", "p(x,h) for p*(x,h)"


def analyse(
    subject: Subject, rows: Size | None, n_samples: Size, n_draws: Size, n_inner: Size, n_bins: Size
) -> pd.DataFrame:
    """Columns proposal, low, high, share, weight, ess, n; one row per bin of log w, nats.

    rows: of the test set, drawn at random. n_samples: K for each. n_draws: of (x, h) ~ p. n_inner: samples that
    estimate S(x). share: of the draws in the bin from low to high; weight: their share of the total weight. The bins
    leave out the lowest ``LOWEST`` of the draws of the proposal that reaches lower. ess: effective sample size in
    percent, of K and averaged over the rows, or of all n_draws. n: draws in all.
    """
    found = {POSTERIOR: _posterior(subject, rows, n_samples), JOINT: _joint(subject, n_draws, n_inner)}
    low = min(np.quantile(log_w, LOWEST) for log_w in found.values())
    high = max(log_w.max() for log_w in found.values())
    edges = np.linspace(low, high, n_bins + 1)
    return pd.concat([_counted(proposal, log_w, edges) for proposal, log_w in found.items()], ignore_index=True)


def _posterior(subject: Subject, rows: int | None, n_samples: int) -> np.ndarray:
    """log w of inference, [rows, K], of mean 1 for every x."""
    x = subject.rows("test", rows).x
    generator = subject.generator("weight histogram")

    def row(one: Tensor, own: torch.Generator) -> Tensor:
        sizes = parts_of(n_samples, pairs_at_once(x.device))
        return torch.cat([0.5 * subject.model.log_weights(one, k, own).double() for k in sizes], dim=1)

    generators = parallel.spawn(generator, len(x))
    pieces = [partial(row, one, own) for one, own in zip(x.split(1), generators, strict=True)]
    return _relative(torch.cat(parallel.run_all(pieces)))


def _joint(subject: Subject, n_draws: int, n_inner: int) -> np.ndarray:
    """log w of sampling, [1, n_draws], of mean 1."""
    generator = subject.generator("weight histogram joint")
    sizes = parts_of(n_draws, max(1, pairs_at_once(generator.device) // n_inner))

    def part(n: int, own: torch.Generator) -> Tensor:
        log_samples = subject.model.log_z2_weights(n, n_inner, own).double()
        return torch.logsumexp(log_samples, dim=1)

    generators = parallel.spawn(generator, len(sizes))
    pieces = [partial(part, n, own) for n, own in zip(sizes, generators, strict=True)]
    return _relative(torch.cat(parallel.run_all(pieces))[None])


def _relative(log_weights: Tensor) -> np.ndarray:
    """Divided by the mean along the last axis."""
    log_mean = torch.logsumexp(log_weights, dim=-1, keepdim=True) - math.log(log_weights.shape[-1])
    return (log_weights - log_mean).cpu().numpy()


def _counted(proposal: str, log_w: np.ndarray, edges: np.ndarray) -> pd.DataFrame:
    counts, _ = np.histogram(log_w, edges)
    weights, _ = np.histogram(log_w, edges, weights=np.exp(log_w))
    ess = 100.0 / np.exp(2.0 * log_w).mean(axis=1)  # weights of mean 1: (sum w)^2 / (n sum w^2) = 1 / mean(w^2)
    columns = {"low": edges[:-1], "high": edges[1:], "share": counts / log_w.size, "weight": weights / log_w.size}
    return pd.DataFrame({"proposal": proposal, **columns, "ess": ess.mean(), "n": log_w.size})
