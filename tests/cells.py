"""Small cells for tests of training: real configuration objects with tiny budgets, and a small data set in memory."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from harness.data import Dataset, Status
from harness.settings.config import Cell
from harness.settings.parts import Evaluation, Phase, Training

TRAINING = Training(
    batch_size=20,
    l1=1e-3,
    phases=(Phase(60, 1e-2, 4), Phase(30, 1e-3, 4)),
    validate_every=20,
    validation_rows=50,
    validation_samples=5,
    patience=10,
    checkpoint_every_s=0.0,
    time_limit_s=None,
    precision="auto",
    labels=None,
)
MODELS = {
    "bihm": {"layers": [6, 4]},
    "rws": {"layers": [6, 4]},
    "wake_sleep": {"layers": [6, 4]},
    "nvil": {"layers": [6, 4], "baseline_hidden": 5},
    "vimco": {"layers": [6, 4]},
    "nade": {"hidden": 5},
    "vae": {"latent": 3, "hidden": [6]},
    "iwae": {"layers": [3, 2], "hidden": [[6], [4]]},
    "vae_hmc": {"latent": 3, "hidden": [6], "iterations": 2, "warm_up": 40},
    "ssl_bihm": {"layers": [6, 4], "gamma": 0.1, "n_classes": 3},
    "ssl_bihm_low": {"layers": [6, 4], "gamma": 0.1, "n_classes": 3, "hidden": 5, "dropout": 0.2},
    "label_mlp": {"hidden": 5, "n_classes": 3, "dropout": 0.2},
    "label_logistic": {"n_classes": 3, "weight_decay": 0.01},
    "factorised": {},
}
# of settings that are about analyses
NO_CELLS = {"defaults": {}, "grid": {}, "ablations": {}, "searches": {}, "budgets": {}}
WITH_LABELS = ("ssl_bihm", "ssl_bihm_low", "label_mlp", "label_logistic")


def cell(method="bihm", model=None, **training):
    """A cell of the data set that ``patterns`` makes."""
    return Cell(
        dataset="patterns",
        method=method,
        variant="",
        seed=0,
        model=MODELS[method] if model is None else model,
        training=replace(TRAINING, **training),
        evaluation=Evaluation(n_samples=30, rows=40, z_outer=500, z_inner=1),
    )


def train_until(chosen, run, update, data=None):
    """Train a cell in the folder ``run``, where it stops after so many updates with a checkpoint."""
    import torch

    from harness.training.train import InterruptedRunError, train

    data = patterns() if data is None else data
    with pytest.raises(InterruptedRunError):
        train(chosen, data, run, torch.device("cpu"), stop=lambda current: current == update)


def patterns(n_features=12) -> Dataset:
    """Three noisy prototypes with labels, 200 / 60 / 60 rows."""
    rng = np.random.default_rng(0)
    prototypes = rng.random((3, n_features)) < 0.5
    splits = SimpleNamespace()
    for split, n in (("train", 200), ("valid", 60), ("test", 60)):
        labels = np.arange(n) % 3
        flipped = rng.random((n, n_features)) < 0.1
        setattr(splits, split, (prototypes[labels] ^ flipped).astype(np.uint8))
        setattr(splits, f"{split}_labels", labels.astype(np.uint8))
    return Dataset(
        name="patterns",
        grey=False,
        status=Status(official=False, note="made for tests"),
        origin="test",
        digest="0",
        **vars(splits),
    )


def trial_call(trial, settings, folder):
    """The arguments that train a trial of a search in its place below a folder, by settings as text."""
    named = ("--dataset", trial.cell.dataset, "--method", trial.cell.method, "--trial", trial.name)
    return ["trial", "--settings", settings, *named, "--run", str(folder / trial.path)]
