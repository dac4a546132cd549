"""The training loop, one for all methods: an optimiser, an L1 penalty, learning-rate phases, early stopping.

A run is a function of its cell, its data and of how it is computed (see ``harness.compute.computing``; vector
instructions of another kind of processor may round differently as well). The order of rows, the samples and the initial
weights come from seeds that are hashes of the cell; validation draws from generators of its own, seeded alike every
time, so that looks at the validation set are comparable and leave the training samples untouched. A checkpoint holds
the rest, and a killed run continues from it bit for bit. The clock stops while validating.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import atomic
from harness.compute.computing import on_threads
from harness.compute.provenance import describe_device, git_commit, versions
from harness.data import Dataset
from harness.errors import ConfigError
from harness.method import ClosedForm, Differentiable, OwnGradients
from harness.settings.config import Cell
from harness.settings.seeds import axes_of, global_seed, seed_for
from harness.settings.start import START_FROM
from harness.storage import snapshots
from harness.storage.runs import DIVERGED, HAVE_MODEL, OK, TIMEOUT, RunFolder
from harness.storage.starts import STARTED
from harness.training import fitting, looks, start
from harness.training.batches import Rows, TrainingBatches, labels_seed
from harness.training.checkpoints import Checkpoints
from harness.training.program import Part
from harness.training.progress import Progress
from harness.training.rates import rate_of
from harness.training.signals import StopOnSignal
from harness.training.state import TrainingState

Stop = Callable[[int], bool]  # whether to end after so many updates


class InterruptedRunError(Exception):
    """Training was asked to end; a checkpoint was written."""


def never(update: int) -> bool:
    """Train to the end."""
    return False


def train(cell: Cell, data: Dataset, run: Path, device: torch.device, stop: Stop = never) -> str:
    """Train the model of ``cell`` in the folder ``run``; returns the status, which ``status.json`` holds as well.

    Continues from a checkpoint of the same configuration by the same code of the method. stop: asked after every
    update. Raises InterruptedRunError, after writing a checkpoint, where it says so or when the process receives
    SIGTERM or SIGINT, and HarnessError where files cannot be written.
    """
    trainer = Trainer(cell, data, opened(cell, run), device, stop)
    return closed(trainer, *trainer.to_the_end())


def opened(cell: Cell, run: Path) -> RunFolder:
    """The folder ``run``, made ready for a training of ``cell``."""
    folder = RunFolder(run)
    with atomic.changing(run):
        run.mkdir(parents=True, exist_ok=True)
        folder.status_file.unlink(missing_ok=True)  # of another training; this one writes its own when it ends
    folder.write_config(cell)
    return folder


def closed(trainer: Trainer, status: str, message: str) -> str:
    """Write all that a training which has ended leaves in its folder; its status."""
    cell, folder = trainer.cell, trainer.run
    facts = _facts(trainer.state, trainer.data)
    with atomic.changing(folder.path):
        folder.model_file.unlink(missing_ok=True)
    if status in HAVE_MODEL:
        facts["model_sha256"] = folder.save_model(trainer.state.model, cell)
    atomic.write_csv(folder.curve_file, trainer.state.position.curve)
    facts["files"] = folder.digests_of_files()
    folder.write_status(status, message, **facts)
    with atomic.changing(folder.path):
        folder.checkpoint_file.unlink(missing_ok=True)
        folder.start_file.unlink(missing_ok=True)
    return status


def _facts(state: TrainingState, data: Dataset) -> dict[str, Any]:
    """What ``status.json`` says of a training that has ended, besides how."""
    position = state.position
    return {
        "n_updates": position.update,
        "best_update": position.best_update,
        "best_validation": position.best if math.isfinite(position.best) else None,
        "train_seconds": position.seconds,
        "n_features": data.n_features,
        "n_parameters": sum(p.numel() for p in state.model.parameters()),
        "device": describe_device(state.device),
        "threads": state.computing.threads,
        "training_products": state.computing.products,
        "data_digest": data.digest,
        "training_digest": state.cell.training_digest,
        **({} if state.started is None else {STARTED: state.started}),
        **state.code.facts(),
        **versions(),
        "git_commit": git_commit(),
    }


class Trainer:
    """Takes the model of a cell through the phases of its budget."""

    def __init__(self, cell: Cell, data: Dataset, run: RunFolder, device: torch.device, stop: Stop = never):
        self.cell, self.budget, self.run, self.stop = cell, cell.training, run, stop
        self.state = TrainingState(cell, data.n_features, device)
        self.rows = Rows.of_split(data, "train", device)
        if not isinstance(self.state.model, ClosedForm) or self.budget.labels is not None:  # which hides the others
            order = seed_for(*axes_of(cell), "order")
            shown = labels_seed(cell.dataset, cell.seed)
            self.batches = TrainingBatches(self.rows, self.budget.batch_size, order, self.budget.labels, shown)
        self.validation_rows = looks.validation_rows(cell, data, device)
        self.data = data
        self.checkpoints = Checkpoints(run, cell, data.digest, device)
        self.kept_updates = set(snapshots.updates(cell.training))
        self._untouched = False  # since the last update nothing has had to do with the model

    def to_the_end(self) -> tuple[str, str]:
        """Train until the budget is spent; (status, message). The model then holds the best weights.

        Raises ConfigError for a method that cannot be trained, and InterruptedRunError.
        """
        with self.as_seeded():
            if isinstance(self.state.model, ClosedForm):
                return self.fit()
            self.begin()
            threads = self.state.computing.threads
            with on_threads(threads), StopOnSignal() as signals, closing(self.course(signals)) as course:
                while True:
                    try:
                        next(course)
                    except StopIteration as end:
                        return end.value
                    self.update()

    def as_seeded(self) -> AbstractContextManager[None]:
        """PyTorch's own generators as they are when a training of the cell begins, until the block ends."""
        return global_seed(self.state.device, *axes_of(self.cell), "global")

    def fit(self) -> tuple[str, str]:
        """Let a closed form fit itself; (status, message). Raises ConfigError where it should start from weights."""
        if self.budget.start_from is not None:
            place, source = f"{self.cell.path}: training.{START_FROM}", self.budget.start_from.path
            why = f"as {self.cell.method} is fitted anew whatever it begins with"
            raise ConfigError(f"{place}: expected null, {why}, found {source}")
        started, state = time.perf_counter(), self.state
        valid = Rows.of_split(self.data, "valid", state.device).batch(slice(None))
        fitting.fit(state.model, self.rows.batch(slice(None)), valid, state.generator)
        state.position.seconds = time.perf_counter() - started
        self._look(phase=0)
        return OK, ""

    def begin(self) -> None:
        """Start, or go on from a checkpoint.

        Raises ConfigError for a method that cannot be trained, or cannot start from the weights that it should.
        """
        if not isinstance(self.state.model, OwnGradients | Differentiable):
            raise ConfigError(f"method {self.cell.method}: expected fit, loss or accumulate_gradients, found none")
        if not self.budget.phases:
            raise ConfigError(f"{self.cell.path}: training.phases: expected at least one, found none")
        self.checkpoints.restore(self.state)
        if not self.state.position.curve:
            start.begin(self.state, self.run)

    def course(self, signals: StopOnSignal) -> Generator[None, None, tuple[str, str]]:
        """All of a training but its updates: it yields where the next one is due; (status, message) at the end.

        Raises InterruptedRunError.
        """
        with Progress(self.cell.path, sum(phase.updates for phase in self.budget.phases)) as progress:
            return (yield from self._phases(signals, progress))

    def _phases(self, signals: StopOnSignal, progress: Progress) -> Generator[None, None, tuple[str, str]]:
        position, budget = self.state.position, self.budget
        if not position.curve:
            position.phase_end = budget.phases[0].updates
            self._look(phase=0)
        while position.phase < len(budget.phases):
            while not looks.ends_phase(position, budget):
                yield
                self._keep_if_due()
                if looks.is_due(position, budget):
                    if not self._look(position.phase):
                        return DIVERGED, f"not finite at update {position.update}"
                    progress.show(position.update, position.curve[-1])
                if budget.time_limit_s is not None and position.seconds > budget.time_limit_s:
                    self.state.load_best()
                    return TIMEOUT, f"time limit of {budget.time_limit_s:g} s reached"
                self._checkpoint_if_due(signals)
            self._end_phase()
        return OK, ""

    def update(self, by_program: bool = False) -> Part | None:
        """One step of the optimiser on one batch.

        by_program: where a program can make it, all is made ready for that, and ``finish_update`` follows, which takes
        its time; then it is what this returns.
        """
        started = time.perf_counter()
        state, position = self.state, self.state.position
        phase = self.budget.phases[position.phase]
        batch = self.batches.at(position.update)
        # lambda belongs to gradients summed over the batch; ours are means
        l1 = self.budget.l1 / batch.x.shape[0]
        rate = rate_of(phase, position.update - (position.phase_end - phase.updates))
        part = state.step.part(batch, phase.n_samples, state.generator, rate, l1) if by_program else None
        if part is not None:
            return part
        self._count(state.step.run(batch, phase.n_samples, state.generator, rate, l1, self._untouched))
        self._untouched = True
        position.seconds += time.perf_counter() - started
        return None

    def finish_update(self, loss: Tensor, seconds: float) -> None:
        """After a program has made an update.

        seconds: the share of this training in what that took all of them, with making ready for it.
        """
        started = time.perf_counter()
        self.state.step.finish()
        self._count(loss)
        self.state.position.seconds += seconds + time.perf_counter() - started

    def _count(self, loss: Tensor) -> None:
        state, position = self.state, self.state.position
        state.loss_sum += loss
        if state.average is not None:
            state.average.update()
        position.update += 1
        position.since_look += 1

    def _keep_if_due(self) -> None:
        if self.state.position.update in self.kept_updates:
            self._untouched = False
            with self.state.averaged():
                self.run.save_snapshot(self.state.position.update, self.state.model, self.cell)

    def _look(self, phase: int) -> bool:
        self._untouched = False
        return looks.look(self.state, self.validation_rows, phase)

    def _checkpoint_if_due(self, signals: StopOnSignal) -> None:
        update = self.state.position.update
        stopped = signals.requested or self.stop(update)
        if stopped or self.checkpoints.is_due():
            self._untouched = False
            self.checkpoints.write(self.state)
        if stopped:
            raise InterruptedRunError(f"{self.cell.path}: stopped at update {update}, checkpoint written")

    def _end_phase(self) -> None:
        """Go on with the next phase from the best weights; after the last one, they are what was trained."""
        self._untouched = False
        position = self.state.position
        position.phase += 1
        position.misses = 0
        if position.phase == len(self.budget.phases):
            self.state.load_best()
        else:
            self.state.load_best_weights_alone()
            position.phase_end = position.update + self.budget.phases[position.phase].updates
