"""Measuring a trained model on the test set: every metric that its capabilities allow, each with its errors.

A measurement is one row of the tidy metrics table; names are those of the thesis' reported numbers. ``sem`` is the
standard error over the test rows (which contains the Monte-Carlo noise of each row's estimate, and the error of 2 log
Z where that enters); ``mc_error`` is the part that more samples would remove. Exact likelihoods use every test row;
estimates may use a random part of them, drawn by a seed that depends on the data set alone, so that all methods meet
the same rows.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import runs
from harness.batches import Rows
from harness.config import Cell
from harness.data import Dataset
from harness.errors import HarnessError
from harness.estimators import (
    exact_log_prob,
    importance_estimates,
    label_estimates,
    log_prob_orders,
    log_z,
    log_z2,
)
from harness.listing import listed
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
from harness.provenance import describe_device, git_commit, versions
from harness.records import write_json
from harness.registry import build, method_class
from harness.seeds import generator_for, seed_for

CHUNK = 4096  # (row, sample) pairs evaluated at once: activations of a wide model then stay near the cache
EXACT_CHUNK = 256  # rows at once where likelihoods are exact
CHAINS_CHUNK = 100  # annealed chains at once
LABEL_ROUNDING = 1e-5  # nats that a sum over classes in single precision may be off


def _measured(metric: str, values: Tensor, **facts: Any) -> dict[str, Any]:
    """A row for the mean of per-row values [B]."""
    n = len(values)
    sem = (values.std() / math.sqrt(n)).item() if n > 1 else math.nan
    return {"metric": metric, "value": values.mean().item(), "sem": sem, "n_rows": n, **facts}


def _mean_error(variances: Tensor) -> float:
    """Standard error of a mean whose terms have these independent variances [B]."""
    return (variances.sum().sqrt() / len(variances)).item()


def measure_exact(model: Tractable, test: Rows) -> list[dict[str, Any]]:
    """-log p over all test rows."""
    started = time.perf_counter()
    log_p = exact_log_prob(model, test.batch(slice(None)).x, EXACT_CHUNK)
    seconds = time.perf_counter() - started
    return [_measured("-log p", -log_p, estimator="exact", k=0, mc_error=0.0, seconds=seconds)]


def measure_orderings(model: Orderings, test: Rows) -> list[dict[str, Any]]:
    """-log p over all test rows; where it is that of several orderings, also the mean -log p of one of them."""
    started = time.perf_counter()
    log_p = log_prob_orders(model, test.batch(slice(None)).x, EXACT_CHUNK)  # [B, M]
    n_orders = log_p.shape[1]
    facts = {"estimator": "exact", "k": 0, "mc_error": 0.0, "seconds": time.perf_counter() - started}
    rows = [_measured("-log p", math.log(n_orders) - torch.logsumexp(log_p, dim=1), **facts)]
    if n_orders > 1:
        rows.append(_measured("-log p (one ordering)", -log_p.mean(1), **facts))
    return rows


def measure_importance(
    model: ImportanceWeighted, part: Batch, cell: Cell, generator: torch.Generator
) -> list[dict[str, Any]]:
    """-log p and its K = 1 bound; ESS; for models with p* also -log p~*, and with 2 log Z, -log p*."""
    k = cell.evaluation.n_samples
    started = time.perf_counter()
    estimates = importance_estimates(model, part.x, k, generator, CHUNK)
    seconds = time.perf_counter() - started
    facts = {"estimator": "importance sampling", "k": k, "seconds": seconds}
    error, star_error = _mean_error(estimates.log_p_variance), _mean_error(estimates.log_p_star_variance)
    rows = [
        _measured("-log p", -estimates.log_p, mc_error=error, **facts),
        _measured("bound -log p", -estimates.bound, mc_error=math.nan, **facts),
        _measured("ess p", estimates.ess_p, mc_error=math.nan, **facts),
    ]
    if not isinstance(model, Partitioned):
        return rows
    started = time.perf_counter()
    z2 = log_z2(model, cell.evaluation.z_outer, cell.evaluation.z_inner, generator, CHUNK)
    z_facts = {"estimator": "importance sampling", "k": z2.n_outer * z2.n_inner, "mc_error": z2.standard_error}
    star = _measured("-log p~*", -estimates.log_p_star, mc_error=star_error, **facts)
    return [
        *rows,
        _measured("-log p~", -estimates.log_p, mc_error=error, **facts),
        star,
        _measured("ess p*", estimates.ess_p_star, mc_error=math.nan, **facts),
        {
            **star,
            "metric": "-log p*",
            "value": star["value"] + z2.value,
            "sem": math.hypot(star["sem"], z2.standard_error),
            "mc_error": math.hypot(star["mc_error"], z2.standard_error),
            "message": f"2 log Z not reliable: {z2.doubt}" if z2.doubt else "",
        },
        {
            "metric": "-2 log Z",
            "value": -z2.value,
            "sem": z2.standard_error,
            "n_rows": 0,
            "seconds": time.perf_counter() - started,
            "message": f"not reliable: {z2.doubt}" if z2.doubt else "",
            **z_facts,
        },
    ]


def measure_unnormalised(
    model: Unnormalised, test: Rows, cell: Cell, generator: torch.Generator
) -> list[dict[str, Any]]:
    """-log p over all test rows, and log Z, whose error all rows share: it does not shrink with their number."""
    started = time.perf_counter()
    z = log_z(model, cell.evaluation.z_outer, cell.evaluation.z_inner, generator, CHAINS_CHUNK)
    rows = test.batch(slice(None)).x.split(EXACT_CHUNK)
    minus_log_p = z.value - torch.cat([model.log_unnormalised(part.clone()).double() for part in rows])
    facts = {
        "estimator": "annealed importance sampling",
        "k": z.n_chains,
        "mc_error": z.standard_error,
        "seconds": time.perf_counter() - started,
    }
    remark = f"log Z not reliable: {z.ess * z.n_chains / 100:.2g} effective chains of {z.n_chains}"
    message = {} if z.reliable else {"message": remark}
    row = _measured("-log p", minus_log_p, **facts, **message)
    row["sem"] = math.hypot(row["sem"], z.standard_error)
    return [row, {"metric": "log Z", "value": z.value, "sem": z.standard_error, "n_rows": 0, **facts, **message}]


def measure_labels(model: Classifier, part: Batch, cell: Cell, generator: torch.Generator) -> list[dict[str, Any]]:
    """Bound on -log p*, -log p~*(y|x) and the error rate (binomial standard error)."""
    k = cell.evaluation.n_samples
    started = time.perf_counter()
    estimates = label_estimates(model, part.x, k, generator, CHUNK)
    seconds = time.perf_counter() - started
    facts = {"estimator": "importance sampling", "k": k, "seconds": seconds, "mc_error": math.nan}
    return [
        _measured("bound -log p*", -estimates.log_p_star, **facts),
        *_label_rows(estimates.log_label, part.y, facts),
    ]


def measure_label_probabilities(model: Discriminative, test: Rows) -> list[dict[str, Any]]:
    """-log p(y|x), under the name that it has where it is estimated, and the error rate, over all test rows."""
    started = time.perf_counter()
    batch = test.batch(slice(None))
    log_label = torch.cat([model.log_label_prob(rows).double() for rows in batch.x.split(EXACT_CHUNK)])
    seconds = time.perf_counter() - started
    return _label_rows(log_label, batch.y, {"estimator": "exact", "k": 0, "seconds": seconds, "mc_error": 0.0})


def _label_rows(log_label: Tensor, y: Tensor, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Both numbers on labels from log p(y | x) of every class [B, n_classes]; a probability above 1 is told."""
    largest = log_label.max().item()
    message = {} if largest < LABEL_ROUNDING else {"message": f"log p(y|x) of a label up to {largest:.2g}, above 0"}
    wrong = (log_label.argmax(1) != y).double()
    error = wrong.mean().item()
    return [
        {**_measured("-log p~*(y|x)", -log_label.gather(1, y[:, None]).squeeze(1), **facts), **message},
        {**_measured("error", wrong, **facts), "sem": math.sqrt(error * (1 - error) / len(wrong))},
    ]


def measure(model: Method, cell: Cell, data: Dataset, device: torch.device) -> list[dict[str, Any]]:
    """All measurements of a trained model on the test set; one without a value for a model that allows none."""
    test = Rows.of_split(data, "test", device)
    if isinstance(model, Orderings | Tractable):
        return measure_orderings(model, test) if isinstance(model, Orderings) else measure_exact(model, test)
    generator = generator_for(device, cell.dataset, cell.method, cell.variant, cell.seed, "evaluation")
    if isinstance(model, Discriminative):
        return measure_label_probabilities(model, test)
    if isinstance(model, Unnormalised):
        return measure_unnormalised(model, test, cell, generator)
    part = test.random_part(cell.evaluation.rows, seed_for(cell.dataset, "test rows"))
    if isinstance(model, Classifier):
        return measure_labels(model, part, cell, generator)
    if isinstance(model, ImportanceWeighted):
        return measure_importance(model, part, cell, generator)
    why = f"{cell.method} has none of log_prob, log_weights, log_unnormalised and log_label_prob"
    return [{**_NOTHING_MEASURED, "status": runs.NO_LIKELIHOOD, "message": why}]


def evaluate(run: Path, cell: Cell, data: Dataset | None, device: torch.device, preset: str) -> list[dict[str, Any]]:
    """Measure the model in the folder ``run``; write and return the rows of ``metrics.json``.

    A run without a model gives one row that carries its status. Raises DataError when files of the run are missing
    or not those that training wrote.
    """
    status = runs.read_status(run)
    if status["status"] in runs.HAVE_MODEL and data is not None:
        model = build(cell.method, data.n_features, dict(cell.model)).to(device)
        runs.load_model(run / "model.safetensors", model, status["model_sha256"])
        with torch.inference_mode():
            measured = measure(model.eval(), cell, data, device)
    else:
        measured = [_NOTHING_MEASURED]
    facts = {
        "status": status["status"],
        "message": status["message"],
        "n_updates": status.get("n_updates"),
        "best_update": status.get("best_update"),
        "train_seconds": status.get("train_seconds"),
        "data_digest": data.digest if data else "",
        "n_test": len(data.test) if data else None,
        "data_official": data.status.official if data else None,
        "data_note": data.status.note if data else "",
        "device": describe_device(device),
    }
    cls = method_class(cell.method)
    return _write_rows(run, cell, preset, {"title": cls.title, "kind": cls.kind, **facts}, measured)


def record_failure(run: Path, cell: Cell, preset: str, message: str) -> None:
    """``metrics.json`` of a run that crashed: one row with the status ``failed``."""
    facts = {**_words_in_source(cell.method), "status": runs.FAILED, "message": message}
    _write_rows(run, cell, preset, facts, [_NOTHING_MEASURED])


def _words_in_source(method: str) -> dict[str, str]:
    """Title and kind of a method that perhaps cannot be imported; its name where its text cannot be read either."""
    try:
        found = listed(method)
    except HarnessError:
        return {"title": method, "kind": ""}
    return {"title": found.title, "kind": found.kind}


_NOTHING_MEASURED: dict[str, Any] = {"metric": "", "value": None}


def _write_rows(
    run: Path, cell: Cell, preset: str, facts: dict[str, Any], measured: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Complete every measurement with where it came from; write and return them."""
    common = {
        "preset": preset,
        "dataset": cell.dataset,
        "method": cell.method,
        "variant": cell.variant,
        "seed": cell.seed,
        "split": "test",
        "layers": "-".join(str(n) for n in cell.model.get("layers", [])),
        "config_digest": cell.training_digest,
        "git_commit": git_commit(),
        **versions(),
        **facts,
    }
    rows = [{**common, **{key: _finite(value) for key, value in row.items()}} for row in measured]
    write_json(run / "metrics.json", {"rows": rows})
    return rows


def _finite(value: Any) -> Any:
    """JSON has no NaN: None stands for a number that does not exist."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
