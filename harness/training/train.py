"""The training loop, one for all methods: Adam, an L1 penalty, learning-rate phases, early stopping.

A run is a function of its cell, its data and of how it is computed (see ``harness.compute.computing``; vector
instructions of another kind of processor may round differently as well). The order of rows, the samples and the initial
weights come from seeds that are hashes of the cell; validation draws from generators of its own, seeded alike every
time, so that looks at the validation set are comparable and leave the training samples untouched. A checkpoint holds
the rest, and a killed run continues from it bit for bit. The clock stops while validating.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from harness import atomic
from harness.compute.computing import Computing, on_threads
from harness.compute.provenance import describe_device, git_commit, versions
from harness.data import Dataset
from harness.errors import ConfigError
from harness.method import ClosedForm, Differentiable, Method, OwnGradients
from harness.plugins.registry import build
from harness.settings import seeds
from harness.settings.config import Cell
from harness.settings.seeds import axes_of, generator_for, seed_for
from harness.storage import checkpoint, snapshots
from harness.storage.method_code import MethodCode, code_of_class
from harness.storage.runs import DIVERGED, HAVE_MODEL, OK, TIMEOUT, RunFolder
from harness.training import validation
from harness.training.batches import Rows, TrainingBatches, labels_seed
from harness.training.progress import Progress
from harness.training.step import UpdateStep

log = logging.getLogger(__name__)

INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


class InterruptedRunError(Exception):
    """The process was asked to end; a checkpoint was written."""


@dataclass
class Position:
    """Where a run stands; everything here is in the checkpoint.

    update: the next one. phase: index. phase_end: update at which the phase is over. misses: looks at the validation
    set since the best one. seconds: of training, without validation.
    """

    update: int = 0
    phase: int = 0
    phase_end: int = 0
    best: float = math.inf
    best_update: int = 0
    misses: int = 0
    seconds: float = 0.0
    since_look: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


def new_model(cell: Cell, n_visible: int) -> Method:
    """The untrained model of a cell, its initial weights drawn by the cell's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(*axes_of(cell), "initial weights"))
        return build(cell.method, n_visible, dict(cell.model))


def train(cell: Cell, data: Dataset, run: Path, device: torch.device) -> str:
    """Train the model of ``cell`` in the folder ``run``; returns the status, which ``status.json`` holds as well.

    Continues from a checkpoint of the same configuration by the same code of the method. Raises InterruptedRunError,
    after writing a checkpoint, when the process receives SIGTERM or SIGINT, and HarnessError where files cannot be
    written.
    """
    folder = RunFolder(run)
    with atomic.changing(run):
        run.mkdir(parents=True, exist_ok=True)
        folder.status_file.unlink(missing_ok=True)  # of another training; this one writes its own when it ends
    folder.write_config(cell)
    training = _Run(cell, data, folder, device)
    status, message = training.to_the_end()
    facts = {
        "n_updates": training.position.update,
        "best_update": training.position.best_update,
        "best_validation": training.position.best if math.isfinite(training.position.best) else None,
        "train_seconds": training.position.seconds,
        "n_features": data.n_features,
        "n_parameters": sum(p.numel() for p in training.model.parameters()),
        "device": describe_device(device),
        "threads": training.computing.threads,
        "training_products": training.computing.products,
        "data_digest": data.digest,
        "training_digest": cell.training_digest,
        **training.code.facts(),
        **versions(),
        "git_commit": git_commit(),
    }
    with atomic.changing(run):
        folder.model_file.unlink(missing_ok=True)
    if status in HAVE_MODEL:
        facts["model_sha256"] = folder.save_model(training.model, cell)
    atomic.write_csv(folder.curve_file, training.position.curve)
    facts["files"] = folder.digests_of_files()
    folder.write_status(status, message, **facts)
    with atomic.changing(run):
        folder.checkpoint_file.unlink(missing_ok=True)
    return status


class _Run:
    """State of one training run and its steps."""

    def __init__(self, cell: Cell, data: Dataset, run: RunFolder, device: torch.device):
        self.cell, self.budget, self.folder = cell, cell.training, run
        # a checkpoint of other data, or of another configuration, must not be continued
        self.digest = f"{cell.training_digest} {data.digest} {device.type}"
        self.model = new_model(cell, data.n_features).to(device)
        self.code = code_of_class(cell.method, type(self.model))
        self.rows = Rows.of_split(data, "train", device)
        if not isinstance(self.model, ClosedForm):
            order = seed_for(*axes_of(cell), "order")
            shown = labels_seed(cell.dataset, cell.seed)
            self.batches = TrainingBatches(self.rows, self.budget.batch_size, order, self.budget.labels, shown)
        self.valid = Rows.of_split(data, "valid", device).random_part(
            self.budget.validation_rows, seed_for(cell.dataset, "validation rows")
        )
        self.device = device
        self.generator = generator_for(device, *axes_of(cell), "training")
        # a closed form takes no steps, and may have nothing that a step could change
        self.step = None if isinstance(self.model, ClosedForm) else UpdateStep(self.model, self.budget.precision)
        self.computing = Computing.here(self.step and self.step.product_dtype)
        self.best_state = self._copy_state()
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.position = Position()
        self.kept_updates = set(snapshots.updates(cell.training))
        self._last_checkpoint = time.monotonic()
        self._stop_requested = False

    # -- the loop ------------------------------------------------------------------------------------------------

    def to_the_end(self) -> tuple[str, str]:
        """Train until the budget is spent; (status, message). The model then holds the best weights."""
        with seeds.global_seed(self.device, *axes_of(self.cell), "global"):
            return self._to_the_end()

    def _to_the_end(self) -> tuple[str, str]:
        if isinstance(self.model, ClosedForm):
            started = time.perf_counter()
            self.model.fit(self.rows.batch(slice(None)))
            self.position.seconds = time.perf_counter() - started
            self._look(phase_index=0)
            return OK, ""
        if not isinstance(self.model, OwnGradients | Differentiable):
            raise ConfigError(f"method {self.cell.method}: expected fit, loss or accumulate_gradients, found none")
        if not self.budget.phases:
            raise ConfigError(f"{self.cell.path}: training.phases: expected at least one, found none")
        self._restore_or_start()
        with (
            on_threads(self.computing.threads),
            self._signals(),
            Progress(self.cell.path, self._total_updates()) as progress,
        ):
            return self._phases(progress)

    def _total_updates(self) -> int:
        return sum(phase.updates for phase in self.budget.phases)

    def _phases(self, progress: Progress) -> tuple[str, str]:
        position, budget = self.position, self.budget
        if not position.curve:
            position.phase_end = budget.phases[0].updates
            self._look(phase_index=0)
        while position.phase < len(budget.phases):
            while position.update < position.phase_end and position.misses < budget.patience:
                self._update()
                self._keep_if_due()
                due = position.since_look >= budget.validate_every or position.update == position.phase_end
                if due and not self._look(position.phase):
                    return DIVERGED, f"not finite at update {position.update}"
                if due:
                    progress.show(position.update, position.curve[-1])
                if budget.time_limit_s is not None and position.seconds > budget.time_limit_s:
                    self._load_state(self.best_state)
                    return TIMEOUT, f"time limit of {budget.time_limit_s:g} s reached"
                self._checkpoint_if_due()
            position.phase += 1
            position.misses = 0
            goes_on = position.phase < len(budget.phases)
            self._load_state(self._with_own_counts(self.best_state) if goes_on else self.best_state)
            if goes_on:
                position.phase_end = position.update + budget.phases[position.phase].updates
        return OK, ""

    def _update(self) -> None:
        """One step of Adam on one batch."""
        started = time.perf_counter()
        position = self.position
        phase = self.budget.phases[position.phase]
        batch = self.batches.at(position.update)
        # lambda belongs to gradients summed over the batch; ours are means
        l1 = self.budget.l1 / batch.x.shape[0]
        self.loss_sum += self.step.run(batch, phase.n_samples, self.generator, phase.learning_rate, l1)
        position.update += 1
        position.since_look += 1
        position.seconds += time.perf_counter() - started

    def _keep_if_due(self) -> None:
        if self.position.update in self.kept_updates:
            self.folder.save_snapshot(self.position.update, self.model, self.cell)

    def _look(self, phase_index: int) -> bool:
        """Measure on the validation rows, keep the weights if they are the best; False when something is not finite."""
        position, budget = self.position, self.budget
        losses = validation.losses(self.model, self.step, self.valid, self.cell, self.device)
        if self.step is not None:
            self.step.parameters.reattach()
            self.step.parameters.check()
        value = losses.mean().item()
        train_loss = self.loss_sum.item() / position.since_look if position.since_look else math.nan
        finite = math.isfinite(value) and (math.isfinite(train_loss) or position.since_look == 0)
        is_best = finite and value < position.best
        if is_best:
            position.best, position.best_update, position.misses = value, position.update, 0
            self.best_state = self._copy_state()
        else:
            position.misses += 1
        phase = budget.phases[phase_index] if budget.phases else None
        position.curve.append(
            {
                "update": position.update,
                "seconds": round(position.seconds, 3),
                "phase": phase_index,
                "learning_rate": phase.learning_rate if phase else math.nan,
                "n_samples": phase.n_samples if phase else 0,
                "train_loss": train_loss,
                "valid_loss": value,
                "valid_sem": losses.std().item() / math.sqrt(len(losses)),
                "best": is_best,
            }
        )
        self.loss_sum.zero_()
        position.since_look = 0
        return finite

    # -- state ---------------------------------------------------------------------------------------------------

    def _copy_state(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _load_state(self, state: dict[str, Tensor]) -> None:
        self.model.load_state_dict(state)  # copies into the existing views

    def _with_own_counts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """``state`` with the model's own counts: progress does not go back to the best weights.

        A count is a buffer of one integer, such as the updates of a warm-up or the batches that a layer has seen.
        Everything else, permutations and running means too, belongs to the weights.
        """
        own = self.model.state_dict()
        return {**state, **{name: own[name] for name in own if own[name].dim() == 0 and own[name].dtype in INTEGERS}}

    def _checkpoint_if_due(self) -> None:
        due = time.monotonic() - self._last_checkpoint >= self.budget.checkpoint_every_s
        if due or self._stop_requested:
            self._checkpoint()
        if self._stop_requested:
            raise InterruptedRunError(f"{self.cell.path}: stopped at update {self.position.update}, checkpoint written")

    def _checkpoint(self) -> None:
        state = {**asdict(self.position), "computing": asdict(self.computing), "code": self.code.facts()}
        checkpoint.save(self.folder.checkpoint_file, self._tensors(), state, self.digest)
        self._last_checkpoint = time.monotonic()

    def _tensors(self) -> dict[str, Tensor]:
        """All that changes in the course of training, but for the position."""
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"best.{name}": tensor for name, tensor in self.best_state.items()},
            **{f"adam.{name}": tensor for name, tensor in self.step.state().items()},
            **{f"random.{name}": tensor for name, tensor in seeds.global_state(self.device).items()},
            "generator": self.generator.get_state(),
            "loss_sum": self.loss_sum,
        }

    def _restore_or_start(self) -> None:
        loaded = checkpoint.load(self.folder.checkpoint_file, self.digest, self._tensors(), asdict(self.position))
        if (
            loaded is None
            or self._is_by_other_code(loaded[1])
            or self.folder.missing_snapshots(self.budget, loaded[1]["update"])
        ):
            with atomic.changing(self.folder.path):
                self.folder.remove_snapshots()
            return
        tensors, state = loaded
        self.code = MethodCode.recorded_in(state.pop("code", {}))  # not known where an earlier version began
        self._compute_as(state.pop("computing", None))
        self._load_state(_below("model.", tensors))
        self.best_state = {name: tensor.to(self.device) for name, tensor in _below("best.", tensors).items()}
        self.step.load_state(_below("adam.", tensors))
        seeds.set_global_state(_below("random.", tensors), self.device)
        self.generator.set_state(tensors["generator"])
        self.loss_sum.copy_(tensors["loss_sum"])
        self.position = Position(**state)

    def _is_by_other_code(self, state: dict[str, Any]) -> bool:
        """Whether a checkpoint is of other code of the method, which is told in one line: no model is by two."""
        other = MethodCode.recorded_in(state.get("code", {})).is_other_than(self.code)
        if other:
            log.warning(f"{self.folder.checkpoint_file}: by other code of {self.cell.method}; training starts again")
        return other

    def _compute_as(self, begun: dict[str, Any] | None) -> None:
        """Go on in the way in which the training was begun; None: not recorded, as by earlier versions."""
        here = self.computing
        self.computing = here.kept_from(Computing(**begun), self.cell.path, self.device) if begun else here
        if self.computing.products != here.products:
            self.model = new_model(self.cell, self.rows.values.shape[1]).to(self.device)
            self.step = UpdateStep(self.model, self.computing.products)

    def _signals(self) -> _StopOnSignal:
        return _StopOnSignal(self)

    def request_stop(self) -> None:
        """End after the current update, with a checkpoint."""
        self._stop_requested = True


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class _StopOnSignal:
    """Turns SIGTERM and SIGINT into a request to stop after the current update."""

    def __init__(self, run: _Run):
        self.run = run
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.previous[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.run.request_stop()

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
