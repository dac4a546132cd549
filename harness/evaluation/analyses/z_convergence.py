"""The number of samples that 2 log Z takes, and their split between outer and inner ones (thesis, section 3.7.1).

Z^2 is the mean over (x, h) ~ p of its K_inner-sample average over h' ~ q(h | x) (equation 3.11). For every K_inner
there are several independent streams of outer draws, each of which gives the estimate at all K_outer. Beside them stand
two diagnostics of the weights that are averaged: their effective number, and the Pareto k of their upper tail, which
shows whether a spread over repeats can be believed at all (see ``harness.estimators.pareto``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import pandas as pd
import torch

from harness.estimators.chunks import pairs_at_once
from harness.estimators.pareto import Tail, threshold
from harness.estimators.z_prefixes import z2_log_sums
from harness.evaluation.subject import Subject
from harness.ranges import Draws, Size, Sizes
from harness.storage import pieces

NEEDS = ("partition function",)
FIRST = 100  # the smallest K_outer


def analyse(subject: Subject, n_samples: Size, k_inners: Sizes, repeats: Draws) -> pd.DataFrame:
    """One row for each K_inner and K_outer; nats, effective sample sizes in percent of K_outer.

    n_samples: K_inner K_outer in the end, the same for every K_inner. repeats: independent streams. Columns: k_inner,
    k_outer, k_total; value, sd, sem: mean of 2 log Z over the repeats, standard deviation of one and standard error of
    the mean; error: standard error of one by the delta method, from all repeats' weights; pooled: 2 log Z from all
    repeats' samples together; ess; pareto_k: of all samples that this K_inner had; k_limit: the largest one that can be
    trusted with as many samples.
    """
    frames = [_curve(subject, k_inner, n_samples // k_inner, repeats) for k_inner in k_inners]
    return pd.concat(frames, ignore_index=True)


def prefixes(n: int) -> list[int]:
    """1, 2, 5, 10 ... times ``FIRST`` below n, and n."""
    return [*_below(n), n]


def _below(n: int) -> Iterator[int]:
    power = FIRST
    while power < n:
        yield from (factor * power for factor in (1, 2, 5) if factor * power < n)
        power *= 10


def _stream(
    subject: Subject, k_outers: list[int], k_inner: int, repeat: int, n_total: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of one stream [2, prefixes], and its log-weights that may belong to the tail of all n_total."""
    tail = Tail(n_total)
    generator = subject.generator(f"z {k_inner} {repeat}")
    return z2_log_sums(subject.model, k_outers, k_inner, generator, pairs_at_once(generator.device), tail), tail.kept


def _curve(subject: Subject, k_inner: int, n_outer: int, repeats: int) -> pd.DataFrame:
    k_outers, tail = prefixes(n_outer), Tail(n_outer * repeats)
    streams = []
    for repeat in range(repeats):
        sums, largest = pieces.run_one(partial(_stream, subject, k_outers, k_inner, repeat, n_outer * repeats))
        streams.append(sums)
        tail.add(largest)
    sums = torch.stack(streams).cpu()  # [repeats, 2, prefixes]
    k = torch.tensor(k_outers, dtype=torch.float64)
    single = sums[:, 0] - k.log()  # [repeats, prefixes]
    log_sum, log_squares = torch.logsumexp(sums, dim=0)  # [prefixes]
    ess = torch.exp(2.0 * log_sum - log_squares) / (k * repeats)
    sd = single.std(0)
    return pd.DataFrame(
        {
            "k_inner": k_inner,
            "k_outer": k_outers,
            "k_total": [k_inner * n for n in k_outers],
            "value": single.mean(0),
            "sd": sd,
            "sem": sd / math.sqrt(repeats),
            "error": torch.sqrt((1.0 / ess - 1.0).clamp(min=0.0) / k),
            "pooled": log_sum - torch.log(k * repeats),
            "ess": 100.0 * ess,
            "pareto_k": tail.pareto_k(),
            "k_limit": threshold(n_outer * repeats),
            "n_repeats": repeats,
        }
    )
