"""Several trainings side by side in one process: small ones, which leave most of a GPU idle when they are alone.

They take turns. In its turn a training does all that is not an update (looks, checkpoints, snapshots) and makes the
next update itself, or makes it ready; those that are ready are then made at once, by one program on the GPU. The
program is captured anew when a training has ended, begins another phase or joins. Parameters, optimiser, generators,
batches, curve, checkpoint and status are each training's own, also PyTorch's own generators, which are put in place for
its turn, so that every file is the one of a lone training, but for the seconds in it: those of a program, and of making
ready for it, are shared out among its trainings, so that all together say how long the process has trained. Whoever
comes first waits for the device to finish the program before. A method that draws from PyTorch's own
generators on the GPU, or cannot be captured, makes its updates in its turn, and so does every one on a CPU.

Each ends by itself: done, diverged, stopped by a signal with a checkpoint, or with an error of its method, of which the
others notice nothing. What may be the fault of all of them together, an error of the program or a lack of memory on the
card, is none of a training: it is trained alone when the others are done, from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from harness.compute.computing import on_threads
from harness.data import Dataset
from harness.errors import ConfigError
from harness.method import ClosedForm
from harness.settings.config import Cell
from harness.settings.seeds import global_state, set_global_state
from harness.training.program import Part, Program
from harness.training.signals import StopOnSignal
from harness.training.train import InterruptedRunError, Stop, Trainer, closed, never, opened, train

log = logging.getLogger(__name__)
Outcome = str | BaseException  # the status of a training that has ended, or what it raised


class Asked(NamedTuple):
    """A training that is asked for: of ``cell``, in the folder ``run``. stop: as ``train`` has it."""

    cell: Cell
    data: Dataset
    run: Path
    stop: Stop = never


def train_together(asked: Sequence[Asked], device: torch.device) -> list[Outcome]:
    """Train all that is asked for, each as ``train`` would; how each one ended, in their order.

    Where ``train`` raises, what it raises is the outcome. Raises ConfigError for two trainings in one folder.
    """
    folders = [each.run.resolve() for each in asked]
    if len(set(folders)) < len(folders):
        raise ConfigError(f"expected a folder for each training, found {', '.join(map(str, folders))}")
    with StopOnSignal() as signals:
        members = [_Member(each, device, signals) for each in asked]
        _take_turns(members)
    return [_alone(member, device, signals) if member.outcome is None else member.outcome for member in members]


class Others(Protocol):
    """Where further trainings come from."""

    def arrivals(self) -> Sequence[Asked]:
        """Those that begin now."""

    def ended(self, asked: Asked, outcome: Outcome | None) -> None:
        """Called when one of them has ended; None where that was the fault of all together."""


def train_beside(own: Asked, device: torch.device, others: Others) -> str:
    """Train as ``train`` does, with others beside it until it has ended: those then stop with a checkpoint."""
    with StopOnSignal() as signals:
        host = _Member(own, device, signals)

        def stopping(asked: Asked) -> Stop:
            return lambda update: not host.is_under_way or asked.stop(update)

        def arrivals() -> list[_Member]:
            found = others.arrivals() if host.is_under_way else ()
            return [_Member(asked._replace(stop=stopping(asked)), device, signals) for asked in found]

        _take_turns([host], arrivals, lambda member: member is not host and others.ended(member.asked, member.outcome))
    outcome = _alone(host, device, signals) if host.outcome is None else host.outcome
    if isinstance(outcome, str):
        return outcome
    raise outcome


def _nobody() -> list[_Member]:
    return []


def _take_turns(
    members: Sequence[_Member],
    arrivals: Callable[[], list[_Member]] = _nobody,
    ended: Callable[[_Member], object] = bool,
) -> None:
    """Until each member, and each that arrives, has an outcome or is set aside."""
    program = Program()
    while members:
        members = [*members, *arrivals()]
        parts = {member: part for member in members if (part := member.turn()) is not None}
        if parts:
            readying, started = sum(member.readying for member in parts), time.perf_counter()
            try:
                losses = program.update(parts)
            except Exception as error:
                program = Program()
                for member in parts:
                    member.set_aside(error)
            else:
                seconds = (readying + time.perf_counter() - started) / len(parts)
                for member, loss in zip(parts, losses, strict=True):
                    member.made = loss, seconds
        for member in members:
            if not member.is_under_way:
                ended(member)
        members = [member for member in members if member.is_under_way]


def _alone(member: _Member, device: torch.device, signals: StopOnSignal) -> Outcome:
    cell, data, run, stop = member.asked
    if signals.requested:
        return InterruptedRunError(f"{cell.path}: stopped, to go on from its last checkpoint")
    try:
        return train(cell, data, run, device, stop)
    except (Exception, SystemExit) as error:
        return error


class _Member:
    """One training among others.

    outcome: None as long as it has none. readying: seconds that it took to make its last part ready. made: loss of an
    update that a program has made in between, and its share of the seconds.
    """

    def __init__(self, asked: Asked, device: torch.device, signals: StopOnSignal):
        self.asked, self._device = asked, device
        self.outcome: Outcome | None = None
        self.is_under_way = True
        self.readying = 0.0
        self.made: tuple[Tensor, float] | None = None
        self._trainer: Trainer | None = None
        self._own: dict[str, Tensor] | None = None  # states of PyTorch's own generators
        self._threads = torch.get_num_threads()
        self._draws_from_them = False
        self._course = self._from_start_to_end(signals)

    def turn(self) -> Part | None:
        """Go on until an update is ready for a program, or made, or until there is an outcome; None for the latter two.

        Captures have to be warmed up for: those updates are made one after the other, so that the program of the others
        goes on with this member rather than without.
        """
        try:
            with self._in_place():
                if self.made is not None:
                    self._trainer.finish_update(*self.made)
                    self.made = None
                for _ in self._course:
                    part = self._update()
                    if part is not None or not self._is_for_programs():
                        return part
        except torch.OutOfMemoryError as error:
            self.set_aside(error)
        except (Exception, SystemExit) as error:
            traceback.clear_frames(error.__traceback__)  # which keep the model in memory
            self.outcome = error
            self._end()
        return None

    def set_aside(self, error: Exception) -> None:
        """Take no further turn, and leave no memory in use."""
        path = self.asked.cell.path
        log.warning(f"{path}: trained alone, when others are done, not beside them: {type(error).__name__}: {error}")
        self._end()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _end(self) -> None:
        self._course.close()
        self.is_under_way, self._trainer, self.made = False, None, None

    def _from_start_to_end(self, signals: StopOnSignal) -> Iterator[None]:
        """All but the updates, as ``Trainer.course``."""
        cell, data, run, stop = self.asked
        self._trainer = trainer = Trainer(cell, data, opened(cell, run), self._device, stop)
        with trainer.as_seeded():
            own = global_state(self._device)
        set_global_state(own, self._device)
        if isinstance(trainer.state.model, ClosedForm):
            ended = trainer.fit()
        else:
            trainer.begin()
            self._threads = trainer.state.computing.threads
            torch.set_num_threads(self._threads)
            ended = yield from trainer.course(signals)
        self.outcome = closed(trainer, *ended)
        self.is_under_way, self._trainer = False, None

    def _is_for_programs(self) -> bool:
        return self._trainer.state.step.is_captured and not self._draws_from_them

    def _update(self) -> Part | None:
        if not self._is_for_programs():
            return self._trainer.update()
        before = global_state(self._device)
        started = time.perf_counter()
        part = self._trainer.update(by_program=True)
        self.readying = time.perf_counter() - started
        if part is None:
            now = global_state(self._device)
            self._draws_from_them = not all(torch.equal(before[name], now[name]) for name in before)
        return part

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """Until the block ends, PyTorch's own generators and number of threads are this training's."""
        others = global_state(self._device)
        if self._own is not None:
            set_global_state(self._own, self._device)
        with on_threads(self._threads):
            try:
                yield
            finally:
                self._own = global_state(self._device)
                set_global_state(others, self._device)
