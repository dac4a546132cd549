"""Measuring a trained model on the test set: every metric that its capabilities allow, each with its errors.

A measurement is one row of the tidy metrics table; names are those of the thesis' reported numbers. A metric that a
model allows in several ways is there once, exact rather than estimated. ``sem`` is the standard error over the test
rows (which contains the Monte-Carlo noise of each row's estimate, and the error of 2 log Z where that enters).
``mc_error`` is the part of it that stems from the estimator's random numbers: what the value would vary by if the same
rows were measured again. It is not what separates the value from that of infinitely many samples: the log of a mean is
also biased, always to the same side, and often by far more. ``bias`` is the estimate of that (see
``harness.estimators.bias``), so that value - bias is the corrected value, and ``bias_error`` its standard error; both
are 0 for exact numbers and NaN where they are not known.

Exact likelihoods use every test row; estimates may use a random part of them, drawn by a seed that depends on the data
set alone, so that all methods meet the same rows. The value of each row is kept as well (see
``harness.evaluation.per_row``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.data import Dataset
from harness.estimators import (
    LogZ2,
    exact_log_prob,
    importance_estimates,
    label_estimates,
    log_prob_orders,
    log_z,
    log_z2,
)
from harness.estimators.bias import NO_BIAS, UNKNOWN, Bias
from harness.estimators.chunks import pairs_at_once
from harness.evaluation.per_row import TEST_ROWS
from harness.method import (
    Batch,
    Classifier,
    Discriminative,
    ImportanceWeighted,
    Method,
    Orderings,
    Partitioned,
    Tractable,
    Unnormalised,
)
from harness.settings.config import Cell
from harness.settings.seeds import generator_for, seed_for
from harness.storage import pieces
from harness.storage.runs import DIVERGED, NO_LIKELIHOOD
from harness.training.batches import Rows

EXACT_CHUNK = 256  # rows at once where likelihoods are exact
CHAINS_CHUNK = 100  # annealed chains at once
ERRORS = ("sem", "mc_error", "bias", "bias_error")  # that a measurement carries
LABEL_ROUNDING = 1e-5  # nats that a sum over classes in single precision may be off


@dataclass(frozen=True)
class Measurement:
    """One measured number.

    facts: its row of ``metrics.json``. values: those of the test rows [B], where it has any. mc_errors: the Monte-Carlo
    standard error of each, or one for all; NaN where it is not known.
    """

    facts: dict[str, Any]
    values: Tensor | None = None
    mc_errors: Tensor | float = math.nan

    def checked(self) -> dict[str, Any]:
        """The facts; of a value that is not finite, it is the status that says so, and there is no error."""
        value = self.facts["value"]
        if value is None or math.isfinite(value):
            return self.facts
        message = f"{self.facts['metric']} came out as {value}"
        if self.values is not None:
            n_bad = (~torch.isfinite(self.values)).sum().item()
            message += f", not finite on {n_bad} of {len(self.values)} test rows"
        return {**self.facts, **dict.fromkeys(ERRORS, math.nan), "status": DIVERGED, "message": message}


def _measured(
    metric: str, values: Tensor, bias: Bias = UNKNOWN, mc_errors: Tensor | float = math.nan, **facts: Any
) -> Measurement:
    """The mean of per-row values [B]."""
    n = len(values)
    sem = (values.std() / math.sqrt(n)).item() if n > 1 else math.nan
    of_mean = {"metric": metric, "value": values.mean().item(), "sem": sem, "n_rows": n, **_bias(bias)}
    return Measurement({**of_mean, **facts}, values, mc_errors)


def _bias(bias: Bias) -> dict[str, float]:
    return {"bias": bias.value, "bias_error": bias.error}


def _mean_error(variances: Tensor) -> float:
    """Standard error of a mean whose terms have these independent variances [B]."""
    return (variances.sum().sqrt() / len(variances)).item()


EXACT: dict[str, Any] = {"estimator": "exact", "k": 0, "mc_error": 0.0, "mc_errors": 0.0, "bias": NO_BIAS}


def measure_exact(model: Tractable, test: Rows) -> list[Measurement]:
    """-log p over all test rows."""
    started = pieces.clock()
    log_p = exact_log_prob(model, test.batch(slice(None)).x, EXACT_CHUNK)
    return [_measured("-log p", -log_p, **EXACT, seconds=pieces.clock() - started)]


def measure_orderings(model: Orderings, test: Rows) -> list[Measurement]:
    """-log p over all test rows; where it is that of several orderings, also the mean -log p of one of them."""
    started = pieces.clock()
    log_p = log_prob_orders(model, test.batch(slice(None)).x, EXACT_CHUNK)  # [B, M]
    n_orders = log_p.shape[1]
    facts = {**EXACT, "seconds": pieces.clock() - started}
    rows = [_measured("-log p", math.log(n_orders) - torch.logsumexp(log_p, dim=1), **facts)]
    if n_orders > 1:
        rows.append(_measured("-log p (one ordering)", -log_p.mean(1), **facts))
    return rows


def measure_importance(
    model: ImportanceWeighted, part: Batch, cell: Cell, generator: torch.Generator
) -> list[Measurement]:
    """-log p and its K = 1 bound; ESS; for models with p* also -log p~*, and with 2 log Z, -log p*."""
    k = cell.evaluation.n_samples
    started = pieces.clock()
    estimates = importance_estimates(model, part.x, k, generator, pairs_at_once(generator.device))
    seconds = pieces.clock() - started
    facts = {"estimator": "importance sampling", "k": k, "seconds": seconds}

    def of_log_mean(metric: str, log_means: Tensor, variances: Tensor, bias: Bias) -> Measurement:
        error = _mean_error(variances)
        return _measured(metric, -log_means, -bias, variances.sqrt(), mc_error=error, **facts)

    of_p = of_log_mean("-log p", estimates.log_p, estimates.log_p_variance, estimates.log_p_bias)
    measured = [
        of_p,
        _measured("bound -log p", -estimates.bound, NO_BIAS, mc_error=math.nan, **facts),
        _measured("ess p", estimates.ess_p, mc_error=math.nan, **facts),
    ]
    if not isinstance(model, Partitioned):
        return measured
    of_p_star = of_log_mean("-log p~*", estimates.log_p_star, estimates.log_p_star_variance, estimates.log_p_star_bias)
    z2, of_z2 = _partition_function(model, cell, generator)
    return [
        *measured,
        Measurement({**of_p.facts, "metric": "-log p~"}),
        of_p_star,
        _measured("ess p*", estimates.ess_p_star, mc_error=math.nan, **facts),
        _normalised(of_p_star, -estimates.log_p_star_bias, z2),
        of_z2,
    ]


def measure_partition_function(model: Partitioned, cell: Cell, generator: torch.Generator) -> list[Measurement]:
    """-2 log Z, of models without importance weights."""
    return [_partition_function(model, cell, generator)[1]]


def _partition_function(model: Partitioned, cell: Cell, generator: torch.Generator) -> tuple[LogZ2, Measurement]:
    """2 log Z, and -2 log Z as a measurement."""
    started = pieces.clock()
    z2 = log_z2(model, cell.evaluation.z_outer, cell.evaluation.z_inner, generator, pairs_at_once(generator.device))
    facts = {
        "metric": "-2 log Z",
        "value": -z2.value,
        "sem": z2.standard_error,
        "n_rows": 0,
        "estimator": "importance sampling",
        "k": z2.n_outer * z2.n_inner,
        "mc_error": z2.standard_error,
        **_bias(-z2.bias),
        "seconds": pieces.clock() - started,
        "message": f"not reliable: {z2.doubt}" if z2.doubt else "",
    }
    return z2, Measurement(facts)


def _normalised(of_p_star: Measurement, star_bias: Bias, z2: LogZ2) -> Measurement:
    """-log p*, from -log p~* and its bias, and 2 log Z."""
    star = of_p_star.facts
    facts = {
        **star,
        "metric": "-log p*",
        "value": star["value"] + z2.value,
        "sem": math.hypot(star["sem"], z2.standard_error),
        "mc_error": math.hypot(star["mc_error"], z2.standard_error),
        **_bias(star_bias + z2.bias),
        "message": f"2 log Z not reliable: {z2.doubt}" if z2.doubt else "",
    }
    return Measurement(facts)


def measure_unnormalised(model: Unnormalised, test: Rows, cell: Cell, generator: torch.Generator) -> list[Measurement]:
    """-log p over all test rows, and log Z, whose error all rows share: it does not shrink with their number."""
    started = pieces.clock()
    z = log_z(model, cell.evaluation.z_outer, cell.evaluation.z_inner, generator, CHAINS_CHUNK)
    rows = test.batch(slice(None)).x.split(EXACT_CHUNK)
    minus_log_p = z.value - torch.cat([model.log_unnormalised(part.clone()).double() for part in rows])
    facts = {
        "estimator": "annealed importance sampling",
        "k": z.n_chains,
        "mc_error": z.standard_error,
        "seconds": pieces.clock() - started,
    }
    if not z.reliable:
        facts["message"] = f"log Z not reliable: {z.ess * z.n_chains / 100:.2g} effective chains of {z.n_chains}"
    of_p = _measured("-log p", minus_log_p, z.bias, z.standard_error, **facts)
    of_p.facts["sem"] = math.hypot(of_p.facts["sem"], z.standard_error)
    of_z = {"metric": "log Z", "value": z.value, "sem": z.standard_error, "n_rows": 0, **_bias(z.bias), **facts}
    return [of_p, Measurement(of_z)]


def measure_labels(model: Classifier, part: Batch, cell: Cell, generator: torch.Generator) -> list[Measurement]:
    """Bound on -log p*; of rows with labels also -log p~*(y|x) and the error rate (binomial standard error)."""
    k = cell.evaluation.n_samples
    started = pieces.clock()
    estimates = label_estimates(model, part.x, k, generator, pairs_at_once(generator.device))
    seconds = pieces.clock() - started
    facts = {"estimator": "importance sampling", "k": k, "seconds": seconds, "mc_error": math.nan}
    bound = _measured("bound -log p*", -estimates.log_p_star, -estimates.log_p_star_bias, **facts)
    if part.y is None:
        return [bound]
    facts |= {"bias": -estimates.log_label_bias(part.y)}
    return [bound, *_label_rows("-log p~*(y|x)", estimates.log_label, part.y, facts, UNKNOWN)]


def measure_label_probabilities(model: Discriminative, test: Rows) -> list[Measurement]:
    """-log p(y|x) and the error rate over all test rows; nothing of rows without labels."""
    started = pieces.clock()
    batch = test.batch(slice(None))
    if batch.y is None:
        return []
    log_label = torch.cat([model.log_label_prob(rows).double() for rows in batch.x.split(EXACT_CHUNK)])
    facts = {**EXACT, "seconds": pieces.clock() - started}
    return _label_rows("-log p(y|x)", log_label, batch.y, facts, NO_BIAS)


def _label_rows(
    metric: str, log_label: Tensor, y: Tensor, facts: dict[str, Any], error_bias: Bias
) -> list[Measurement]:
    """The metric and the error rate from log p(y | x) of every class [B, n_classes]; reports a probability above 1."""
    largest = log_label.max().item()
    message = {} if largest < LABEL_ROUNDING else {"message": f"log p(y|x) of a label up to {largest:.2g}, above 0"}
    # where a probability is NaN there is no largest one
    wrong = torch.where(log_label.isnan().any(1), math.nan, (log_label.argmax(1) != y).double())
    rate = _measured("error", wrong, **{**facts, "bias": error_bias})
    error = rate.facts["value"]
    rate.facts["sem"] = math.sqrt(error * (1 - error) / len(wrong))
    of_labels = _measured(metric, -log_label.gather(1, y[:, None]).squeeze(1), **facts, **message)
    entropy, rate.facts["chance"] = chance_levels(y)
    of_labels.facts["chance"] = entropy
    return [of_labels, rate]


def chance_levels(y: Tensor) -> tuple[float, float]:
    """The lowest -log p(y), nats, and error rate on labels y [B] of a guess that is the same for all rows."""
    shares = y.unique(return_counts=True)[1].double() / len(y)
    return -(shares * shares.log()).sum().item(), 1.0 - shares.max().item()


def measure(model: Method, cell: Cell, data: Dataset, device: torch.device) -> list[Measurement]:
    """All measurements of a trained model on the test set; one without a value for a model that allows none.

    What has values per row has them for all rows, or for those of ``random_rows`` with the seed of ``TEST_ROWS``. Each
    way of measuring goes on in the random stream where the one before it ended: their order is part of every number.
    """
    test = Rows.of_split(data, "test", device)
    part = test.random_part(cell.evaluation.rows, seed_for(cell.dataset, TEST_ROWS))
    generator = generator_for(device, cell.dataset, cell.method, cell.variant, cell.seed, "evaluation")
    measured: dict[str, Measurement] = {}
    for each in _in_order(model, test, part, cell, generator):
        measured.setdefault(each.facts["metric"], each)
    if measured:
        return list(measured.values())
    why = f"{cell.method} has none of log_prob, log_weights, log_unnormalised and log_label_prob"
    if isinstance(model, Discriminative):
        why = f"{cell.method} predicts labels, and {cell.dataset} has none"
    return [Measurement({"metric": "", "value": None, "status": NO_LIKELIHOOD, "message": why})]


def _in_order(model: Method, test: Rows, part: Batch, cell: Cell, generator: torch.Generator) -> Iterator[Measurement]:
    """What every capability of the model allows, metrics that several of them allow more than once.

    part: the rows of ``test`` that estimates are made on.
    """
    if isinstance(model, Orderings):
        yield from measure_orderings(model, test)
    elif isinstance(model, Tractable):
        yield from measure_exact(model, test)
    if isinstance(model, Discriminative):
        yield from measure_label_probabilities(model, test)
    if isinstance(model, Unnormalised):
        yield from measure_unnormalised(model, test, cell, generator)
    if isinstance(model, Classifier):
        yield from measure_labels(model, part, cell, generator)
    if isinstance(model, ImportanceWeighted):
        yield from measure_importance(model, part, cell, generator)
    elif isinstance(model, Partitioned):
        yield from measure_partition_function(model, cell, generator)
