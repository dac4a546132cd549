"""A trained model and what was measured of it; ``run`` trains and measures one, unless that was done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from harness.api import experiment
from harness.compute.computing import on_device
from harness.compute.places import ROOT
from harness.data import Dataset, fetch
from harness.errors import ConfigError, DataError, HarnessError
from harness.estimators import exact_log_prob, importance_estimates, log_prob_orders
from harness.estimators.chunks import pairs_at_once
from harness.evaluation import per_row
from harness.evaluation.measure import EXACT_CHUNK
from harness.method import ImportanceWeighted, Method, Orderings, Tractable, Unnormalised
from harness.plugins.metrics import codes
from harness.plugins.registry import (
    INSTANCE,
    build,
    digest_of_object,
    hyperparameter_schema,
    method_names,
    use_object,
)
from harness.schema import check
from harness.settings.check import merged as merged_settings
from harness.settings.config import Cell, cells_named, data_settings, load_settings, resolve, start_of
from harness.settings.datasets import digest_of_data, with_cell_of_suite
from harness.settings.parts import Evaluation, Training
from harness.settings.schedule import in_phases
from harness.settings.seeds import axes_of, generator_for
from harness.settings.start import START_FROM
from harness.storage.runs import HAVE_MODEL, RunFolder

ORIGINS = ("arrays: ", "user: ")  # of data sets that are not from the catalogue


class LogProb(NamedTuple):
    """Log-likelihoods of rows, nats. value, error: [N]; error is the Monte-Carlo standard error, 0 where exact."""

    value: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Run:
    """The folder of one trained model, and the cell that says how it was trained and measured."""

    folder: Path
    cell: Cell

    @classmethod
    def of_folder(cls, folder: str | Path) -> Run:
        """The run that lies in a folder. Raises DataError where there is none."""
        return cls(Path(folder), RunFolder(Path(folder)).config())

    @property
    def _files(self) -> RunFolder:
        return RunFolder(self.folder)

    @property
    def status(self) -> dict[str, Any]:
        """``status.json``: how training ended, and on what. Raises DataError where it is missing or damaged."""
        return self._files.status()

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per metric: its value on the test set, errors, and where they come from (docs/results.md).

        Raises DataError where the run was not measured.
        """
        return pd.DataFrame(self._files.measurements())

    @property
    def rows(self) -> pd.DataFrame:
        """One row per test row and metric: row, metric, value, mc_error. Raises DataError where there are none."""
        found = per_row.read(self._files)
        if found is None:
            raise DataError(self._files.rows_file, "values per row", "measurements of a version without them")
        return found.to_pandas()

    @property
    def curve(self) -> pd.DataFrame:
        """One row per look at the validation set: update, losses (nats per row), learning rate, seconds."""
        path = self._files.checked(self._files.curve_file, self.status)
        try:
            return pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise DataError(path, "the learning curve of a run", error) from error

    def model(self) -> Method:
        """The trained model on the CPU, in evaluation mode.

        Raises HarnessError where training left none, DataError where its file is damaged.
        """
        status = self._files.status_of(self.cell)
        if status["status"] not in HAVE_MODEL:
            raise HarnessError(f"{self.folder}: expected a trained model, found status {status['status']}")
        n_features = status.get("n_features") or load_dataset(self.cell.dataset).n_features  # of an earlier version
        model = build(self.cell.method, n_features, dict(self.cell.model))
        self._files.load_model(model, status["model_sha256"])
        return model.eval()

    def log_prob(self, rows: Any, n_samples: int | None = None, seed: int = 0) -> LogProb:
        """log p(x) of rows [N, D] of 0/1, by the best that the method offers.

        Exact where it is tractable, else by importance sampling with ``n_samples`` samples per row (default: as the
        cell is measured; equation 3.6), or unnormalised less the measured log Z, whose error all rows share. Raises
        HarnessError for rows of another width and for a method that has no likelihood.
        """
        model = self.model()
        x = torch.as_tensor(np.asarray(rows), dtype=torch.float32)
        if x.ndim != 2 or x.shape[1] != model.n_visible:
            expected = f"rows of {model.n_visible} columns"
            raise HarnessError(f"log_prob: expected {expected}, found an array of shape {tuple(x.shape)}")
        with torch.inference_mode():
            value, error = self._log_prob(model, x, n_samples or self.cell.evaluation.n_samples, seed)
        return LogProb(value.numpy(), np.broadcast_to(error, (len(x),)).copy())

    def _log_prob(self, model: Method, x: torch.Tensor, n_samples: int, seed: int) -> tuple[torch.Tensor, Any]:
        if isinstance(model, Orderings):
            orders = log_prob_orders(model, x, EXACT_CHUNK)
            return torch.logsumexp(orders, dim=1) - math.log(orders.shape[1]), 0.0
        if isinstance(model, Tractable):
            return exact_log_prob(model, x, EXACT_CHUNK), 0.0
        if isinstance(model, ImportanceWeighted):
            generator = generator_for(x.device, *axes_of(self.cell), "log_prob", seed)
            found = importance_estimates(model, x, n_samples, generator, pairs_at_once(x.device))
            return found.log_p, found.log_p_variance.sqrt().numpy()
        if isinstance(model, Unnormalised):
            measured = {row["metric"]: row for row in self._files.measurements()}
            if "log Z" not in measured:
                raise HarnessError(f"{self.folder}: expected a measured log Z, found none")
            return model.log_unnormalised(x).double() - measured["log Z"]["value"], measured["log Z"]["sem"]
        raise HarnessError(f"log_prob: expected a method with a likelihood, found {self.cell.method}")


def load_dataset(name: str, settings: Mapping[str, Any] | None = None) -> Dataset:
    """A data set, from the cache or the best source that has it: rows of 0/1 (grey levels of 0..255), uint8 [N, D].

    settings: your part of the settings, such as ``{"data": {"paths": {...}}}``. Raises DataUnavailableError, which says
    how to get it, where no source has it.
    """
    return fetch(name, data_settings(load_settings(settings)))


def run(
    dataset: str | Dataset,
    method: str | type[Method] | Method,
    *,
    variant: str = "",
    preset: str = "quick",
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    threads: int = 1,
) -> Run:
    """Train one model, unless that was done, and measure it on the test set, unless that was done.

    dataset: the name of a data set, or one that ``harness.dataset`` made of arrays. A cell that the grid does not have
    is what ``suite`` of the settings says of the method. method: the name of a method; or a class of one's own, perhaps
    of a notebook; or an untrained instance. model, training, evaluation: what is laid over the settings of the cell, as
    in a settings file. seed: repetition. folder: where the run lies (default: results/PRESET/runs/..., as on the
    command line, where also the cell lies that it starts from, if it does). device: as in settings. threads: of the
    CPU; another number is another training. Raises ConfigError that names the key, or the folder where that holds the
    training on another number of threads; InterruptedRunError after SIGTERM or Ctrl-C, with a checkpoint written, from
    which the same call goes on; HarnessError where the cell that it starts from is not trained as the settings say.
    """
    user: dict[str, Any] = {**(settings or {}), "preset": preset}
    data = dataset if isinstance(dataset, Dataset) else None
    if isinstance(dataset, Dataset):
        user = _with_data(user, dataset)
        dataset = dataset.name
    merged = load_settings(user)
    parts = {"model": model, "training": training, "evaluation": evaluation}
    given = {part: dict(values) for part, values in parts.items() if values is not None}
    if isinstance(method, str):
        cell = _cell_of_settings(merged, dataset, method, variant, given, user, seed)
    else:
        cell = _cell_of_object(dataset, method, variant, given, user, seed)
    runs = ROOT / "results" / preset / "runs"
    place = RunFolder(Path(folder) if folder is not None else runs / cell.path)
    data = data or fetch(dataset, data_settings(merged))
    slots = merged["gpu"]["slots_per_device"]
    place.check_threads(cell, data.digest, threads)
    with place.alone(), on_device(device or merged["device"], slots, threads) as found:
        changed = not isinstance(method, str) and experiment.is_by_other_code(cell, place)  # a cell run again
        experiment.train_unless_done(cell, data, place, found, again=changed, runs=runs)
        if not experiment.is_measured(cell, place):
            experiment.measure(cell, data, place, found, preset)
    return Run(place.path, cell)


def _with_data(user: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Settings that know a data set in memory; one that was loaded from the catalogue they know already."""
    if not data.origin.startswith(ORIGINS):
        return dict(user)
    seen = {"digest": data.digest, "columns": data.n_features}
    return merged_settings(user, {"data": {"known": {data.name: seen}}})


def _cell_of_settings(
    merged: Mapping[str, Any],
    dataset: str,
    method: str,
    variant: str,
    given: Mapping[str, Any],
    user: Mapping[str, Any],
    seed: int,
) -> Cell:
    """The cell of the grid with what is given laid over it, checked as a file of settings is."""
    if not variant and (dataset, "") not in {(d, v) for m, d, v in cells_named(merged, "grid") if m == method}:
        of_suite = with_cell_of_suite(merged, method, dataset)
        entry = {} if of_suite is None else of_suite["grid"][method][dataset]
        if entry or (given and method in method_names()):
            of_cell = {"grid": {method: {dataset: merged_settings(entry, given)}}}
            return resolve(load_settings(merged_settings(user, of_cell)), dataset, method, seed=seed)
    cell = resolve(merged, dataset, method, variant, seed)
    if not given:
        return cell
    key = f"{dataset}/{cell.variant}" if cell.variant else dataset
    section = "grid" if (method, dataset, cell.variant) in cells_named(merged, "grid") else "ablations"
    over = {section: {method: {key: given}}}
    budgets = {"budgets": {method: {key: {part: given[part] for part in given if part != "model"}}}}
    settings = load_settings(merged_settings(merged_settings(user, over), budgets))
    return resolve(settings, dataset, method, cell.variant, seed)


def _cell_of_object(
    dataset: str,
    method: type[Method] | Method,
    variant: str,
    given: Mapping[str, Any],
    user: Mapping[str, Any],
    seed: int,
) -> Cell:
    """A cell of a method that no settings name: with the default training, and its class's own defaults."""
    name = use_object(method)
    hyperparameters = given.get("model", {})
    if isinstance(method, type):
        check(hyperparameters, hyperparameter_schema(method), f"model of method {name}")
    elif hyperparameters:
        raise ConfigError(f"model: expected none beside an instance of {name}, found {', '.join(hyperparameters)}")
    else:
        hyperparameters = {INSTANCE: digest_of_object(name)}
    training = dict(given.get("training", {}))
    source = training.pop(START_FROM, None)  # as a default it would be that of all cells, the source's too
    over = {"defaults": {**{part: given[part] for part in given if part != "model"}, "training": training}}
    settings = load_settings(merged_settings(user, over))
    defaults = settings["defaults"]
    training = {**in_phases(defaults["training"]), START_FROM: start_of(settings, source, seed)}
    return Cell(
        dataset,
        name,
        variant,
        seed,
        hyperparameters,
        Training.from_dict(training),
        Evaluation(**defaults["evaluation"], metrics=codes(settings["metrics"], name)),
        digest_of_data(settings, dataset),
    )
