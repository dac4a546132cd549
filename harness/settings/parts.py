"""The parts of a cell: phases and labels of its training, and what is measured of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.plugins.names import variant_folder
from harness.schema import check
from harness.settings.check import cell_schema
from harness.settings.schedule import OPTIONS


@dataclass(frozen=True)
class Phase:
    """``updates`` steps of the optimiser at one learning rate with ``n_samples`` importance samples per row.

    shape: how the rate changes within the phase, constant, linear or cosine; the latter two end at zero. warm_up: the
    first updates, over which it rises (see ``harness.training.rates``).
    """

    updates: int
    learning_rate: float
    n_samples: int
    shape: str = OPTIONS["shape"]
    warm_up: int = OPTIONS["warm_up"]


@dataclass(frozen=True)
class Labels:
    """How many training rows keep their label (equally many a class), and how many of these a batch holds."""

    rows: int
    per_batch: int


@dataclass(frozen=True)
class StartFrom:
    """The cell whose trained weights a training begins with.

    training_digest, version: of that cell and of its method's code, so that a training which begins with other weights
    is another training.
    """

    method: str
    dataset: str
    variant: str
    seed: int
    training_digest: str
    version: int

    @property
    def path(self) -> str:
        """DATASET/METHOD/VARIANT/SEED, the folder of its run below ``runs/``."""
        return f"{self.dataset}/{self.method}/{variant_folder(self.variant)}/{self.seed}"


@dataclass(frozen=True)
class Training:
    """The budget of a training run.

    l1: the thesis' lambda, for gradients *summed* over a batch of ``batch_size``. validate_every: updates between two
    looks at ``validation_rows`` rows with ``validation_samples`` samples. patience: looks without improvement that
    end a phase. precision: auto, float32 or bfloat16, of matrix products in training (see
    ``harness.compute.precision``). snapshots: how many sets of weights to keep on the way (see
    ``harness.storage.snapshots``). optimizer: name and arguments of one of ``torch.optim`` (see
    ``harness.settings.optimizers``); None: the method's own, or Adam. clip_norm: the longest gradient, as its Euclidean
    norm over all parameters. average: decay per update of the mean of the weights that is validated and kept (see
    ``harness.training.averaging``). start_from: the cell whose trained weights it begins with; None: with weights drawn
    at random.
    """

    batch_size: int
    l1: float
    phases: tuple[Phase, ...]
    validate_every: int
    validation_rows: int
    validation_samples: int
    patience: int
    checkpoint_every_s: float
    time_limit_s: float | None
    precision: str
    labels: Labels | None
    snapshots: int = 0
    optimizer: Mapping[str, Any] | None = None
    clip_norm: float | None = None
    average: float | None = None
    start_from: StartFrom | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Training:
        labels, start = values["labels"], values.get("start_from")
        phases = tuple(Phase(**phase) for phase in values["phases"])
        parts = {
            "labels": None if labels is None else Labels(**labels),
            "start_from": None if start is None else StartFrom(**start),
        }
        return cls(**{**values, "phases": phases, **parts})


# settings of training that cells have where they say more
LATER = dict.fromkeys(("optimizer", "clip_norm", "average", "start_from"))


@dataclass(frozen=True)
class Evaluation:
    """What is measured: importance samples per row, test rows (None: all), draws for Z.

    z_outer: independent draws. z_inner: work on each, inner samples or the temperatures of an annealed chain.
    metrics: the metrics of users that are measured as well, and the sha256 of the code of each.
    """

    n_samples: int
    rows: int | None
    z_outer: int
    z_inner: int
    metrics: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """From what ``Cell.to_dict`` gave; raises ConfigError for anything else."""
        values = dict(values)
        metrics = values.pop("metrics", {})
        check(values, cell_schema("evaluation"), "cell: evaluation")
        check(metrics, {"type": "object", "additionalProperties": {"type": "string"}}, "cell: evaluation.metrics")
        return cls(**values, metrics=metrics)
