"""Checks that draws are independent, as every error bar takes them to be: within a call, between rows, between calls.

A value may be right on average and its error bar wrong by any factor: when one draw is handed out several times, when
draws come in antithetic pairs, when rows share their noise. What is asked here many times under one generator is
ranked and turned into normal scores, ties broken at random, so that the test has its level whatever the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy import stats
from torch import Tensor

from harness.method import Method
from harness.verify.comparisons import LEVEL
from harness.verify.questions import draws_of, scores
from harness.verify.subject import NotApplicableError, Subject, generator, require

CALLS = 200
PER_ROW = (2, 8, 17, 256)  # samples per row
ROWS = (2, 17, 40)  # the same row so many times
SIZES = (2, 17, 120)  # draws of the model
MANY, MANY_CALLS = 513, 300  # the same, of what is cheap
N_TESTS = 200  # at most, of one check, to which its level is divided


@torch.no_grad()
def independence(subject: Subject) -> str:
    """Variances of means, correlations of calls and of rows, as independent draws have them."""
    found = {}
    for score in scores(subject.cls):
        if score.name in ("log_weights", "log_label_weights"):
            found[score.name] = _of_weights(subject, score.name, score.ask)
        elif score.name == "inpaint":
            x, ask = subject.batch().x[2:3].repeat(30, 1), score.ask
            values = _calls(lambda model, d, ask=ask, x=x: ask(model, x, 1, d), subject.model(), MANY_CALLS)
            found[score.name] = _test(values, "inpaint: the same row 30 times")
    for draw in draws_of(subject.cls):
        worst = 0.0
        for n in (*SIZES, MANY) if draw.cheap else SIZES:
            calls = MANY_CALLS if n == MANY else CALLS
            values = _calls(lambda model, d, draw=draw, n=n: draw.ask(model, n, d), subject.model(), calls)
            what = f"{draw.name}: {n} draws per call"
            if draw.name == "log_z2_weights":
                _exchangeable(values, what)
                values = torch.logsumexp(values, dim=2, keepdim=True)  # the mean over inner draws, whose error counts
            worst = max(worst, _test(values, what))
        found[draw.name] = worst
    if not found:
        raise NotApplicableError("draws nothing")
    return ", ".join(f"{name}: |z| = {worst:.2f} at most" for name, worst in found.items()) + f" (limit {_limit():.2f})"


def _limit() -> float:
    return float(stats.norm.isf(LEVEL / 2 / N_TESTS))


def _calls(ask: Callable[[Method, torch.Generator], Tensor], model: Method, n: int) -> Tensor:
    draws = generator(30)
    return torch.stack([ask(model, draws) for _ in range(n)]).double()


def _of_weights(subject: Subject, name: str, ask: Callable[[Method, Tensor, int, torch.Generator], Tensor]) -> float:
    """The K samples of a row, the rows of a call, and the same row several times."""
    model, watched, worst = subject.model(), subject.batch().x, 0.0
    for k in PER_ROW:
        x = watched[[0, 2]]
        values = _calls(lambda model, d, k=k, x=x: ask(model, x, k, d), model, CALLS)  # [R, 2, K, ...]
        for row in range(len(x)):
            worst = max(worst, _test(_columns(values[:, row]), f"{name}: {k} samples per row"))
    for n in ROWS:
        x = watched[2:3].repeat(n, 1)
        values = _columns(_calls(lambda model, d, x=x: ask(model, x, 3, d), model, CALLS)[:, :, 0])
        worst = max(worst, _test(values, f"{name}: the same row {n} times"))
    values = _calls(lambda model, d: ask(model, watched, 4, d), model, CALLS)  # [R, 4, 4, ...]
    return max(worst, _rows(values, f"{name}: {len(watched)} rows"))


def _columns(values: Tensor) -> Tensor:
    """[R, n, ...] with one last axis, of which a sum goes along: what matters of several classes at once."""
    return values[..., None] if values.dim() < 3 else values


def _test(values: Tensor, what: str) -> float:
    """The largest |z| that draws [R, n, F] of R calls have as independent ones; fails above the limit.

    For every column, and how far it is from its median: the variance of the calls' means against that within calls
    (F), and the correlation of each call's mean with that of the next.
    """
    values = values.reshape(*values.shape[:2], -1)
    functions = [values[:, :, f] for f in range(values.shape[2])]
    if values.shape[2] > 1:
        mix = torch.randn(values.shape[2], generator=generator(31), dtype=torch.float64)
        functions.append(values @ mix)
    worst = 0.0
    for function in functions:
        if bool((function == function.flatten()[0]).all()):
            continue  # nothing varies
        for each in (function, (function - function.median()).abs()):
            normal = normal_scores(each)
            ratio, z = _variance_ratio(normal)
            require(
                abs(z) < _limit(),
                f"{what}: the mean of a call has {ratio:.3g} times the variance of that of independent draws "
                f"(|z| = {abs(z):.1f}, limit {_limit():.1f}), so error bars are wrong: {_cause(ratio)}",
            )
            means = normal.mean(1)
            lag = float((means[1:] * means[:-1]).sum() / means.square().sum() * math.sqrt(len(means)))
            require(
                abs(lag) < _limit(),
                f"{what}: the means of a call and of the next are correlated by {lag / math.sqrt(len(means)):.2f}: "
                "is something kept from one call for the next?",
            )
            worst = max(worst, abs(z), abs(lag))
    return worst


def _cause(ratio: float) -> str:
    if ratio > 1:
        return "is a draw handed out more than once, or is something drawn once that all draws share?"
    return "are draws paired, or is the generator begun anew in each call?"


def normal_scores(values: Tensor) -> Tensor:
    """Normal quantiles of the ranks of all values, ties in random order."""
    flat = values.flatten()
    shuffled = torch.randperm(len(flat), generator=generator(32))
    order = shuffled[torch.argsort(flat[shuffled], stable=True)]
    ranks = torch.empty(len(flat), dtype=torch.float64)
    ranks[order] = torch.arange(1, len(flat) + 1, dtype=torch.float64)
    return (torch.special.ndtri((ranks - 0.5) / len(flat))).view_as(values)


def _variance_ratio(normal: Tensor) -> tuple[float, float]:
    """n times the variance of the calls' means over that within calls, for [R, n], and its normal score."""
    n_calls, n = normal.shape
    between = n * normal.mean(1).var().item()
    within = normal.var(1).mean().item()
    if within <= 0.0:
        return math.inf, math.inf
    ratio, degrees = between / within, (n_calls - 1, n_calls * (n - 1))
    upper, lower = stats.f.logsf(ratio, *degrees), stats.f.logcdf(ratio, *degrees)
    z = _normal_of_log(min(upper, lower))
    return ratio, z


def _normal_of_log(log_p: float) -> float:
    """z of which a log tail probability is that; beyond what double precision holds, its leading term."""
    return float(stats.norm.isf(math.exp(log_p))) if log_p > -700 else math.sqrt(-2 * max(log_p, -1e6))


def _rows(values: Tensor, what: str) -> float:
    """The largest |z| of the correlations between rows, for [R, B, K, F]: sample by sample, and of calls' means."""
    values = values.reshape(*values.shape[:3], -1)[..., 0]
    normal = torch.stack([normal_scores(values[:, row]) for row in range(values.shape[1])])  # [B, R, K]
    worst = 0.0
    for scores_of_rows, unit in ((normal.flatten(1), "samples"), (normal.mean(2), "calls")):
        centred = scores_of_rows - scores_of_rows.mean(1, keepdim=True)
        each = centred / centred.square().sum(1, keepdim=True).sqrt().clamp(min=1e-30)
        correlation = (each @ each.t()).fill_diagonal_(0.0)
        z = correlation.abs().max().item() * math.sqrt(each.shape[1])
        require(
            z < _limit(),
            f"{what}: {unit} of two rows are correlated by {correlation.abs().max().item():.2f} "
            f"(|z| = {z:.1f}, limit {_limit():.1f}): does one noise serve all rows?",
        )
        worst = max(worst, z)
    return worst


def _exchangeable(values: Tensor, what: str) -> None:
    """Inner draws [R, n, m] are no copies of each other where the outer ones do not leave them constant."""
    entries = values.flatten(0, 1)
    if entries.shape[1] < 2 or bool((entries == entries[0, 0]).all()):
        return
    copies = (entries[:, 0] == entries[:, 1]).double().mean().item()
    apart = (entries[:-1, 0] == entries[1:, 1]).double().mean().item()
    require(
        copies < 1.0 or apart == 1.0,
        f"{what}: both inner draws are always the same: is one h' handed out several times?",
    )
