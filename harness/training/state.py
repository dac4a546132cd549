"""What changes in the course of a training: the model, the optimiser, random numbers, and where it stands.

A checkpoint holds all of it, so that a training which is restored goes on bit for bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.compute.computing import Computing
from harness.method import ClosedForm, Method
from harness.plugins.registry import build
from harness.settings import seeds
from harness.settings.config import Cell
from harness.settings.seeds import axes_of, generator_for, seed_for
from harness.storage import starts
from harness.storage.method_code import MethodCode, code_of_class
from harness.training.averaging import WeightAverage
from harness.training.counts import is_count
from harness.training.optimizers import step_of_training


@dataclass
class Position:
    """Where a training stands.

    update: the next one. phase: index. phase_end: update at which the phase is over. misses: looks at the validation
    set since the best one. seconds: of training, without validation. since_look: updates since the last look.
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


class TrainingState:
    """The state of a training of ``cell``, which begins with its initial weights.

    step: None for a closed form, which takes none, and may have nothing that a step could change. best: the weights
    of the best look so far. average: of the weights, where the cell asks for one. loss_sum: of the updates since the
    last look. code: of the method, which trains the model. started: what it began with where that was another model, as
    ``status.json`` has it.
    """

    def __init__(self, cell: Cell, n_visible: int, device: torch.device):
        self.cell, self.n_visible, self.device = cell, n_visible, device
        self.model = new_model(cell, n_visible).to(device)
        self.code = code_of_class(cell.method, type(self.model))
        closed_form = isinstance(self.model, ClosedForm)
        self.step = None if closed_form else step_of_training(self.model, cell.training, cell.training.precision)
        self.average = None if closed_form else self._new_average()
        self.computing = Computing.here(self.step and self.step.product_dtype)
        self.generator = generator_for(device, *axes_of(cell), "training")
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.position = Position()
        self.started: dict[str, Any] | None = None
        self.keep_as_best()

    def _new_average(self) -> WeightAverage | None:
        decay = self.cell.training.average
        return None if decay is None else WeightAverage(self.model, self.step.parameters.values, decay)

    def averaged(self) -> AbstractContextManager[None]:
        """While the block lasts, the model has the weights that count: their average, where the cell asks for one."""
        return contextlib.nullcontext() if self.average is None else self.average.in_place()

    def keep_as_best(self) -> None:
        """The weights as they are now are the best so far."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def load_best(self) -> None:
        """Go back to the best weights, and to all that belongs to them."""
        self._load_weights(self.best)

    def load_best_weights_alone(self) -> None:
        """Go back to the best weights with the model's own counts as they are: progress does not go back.

        Everything else, permutations and running means too, belongs to the weights.
        """
        counts = {name: own for name, own in self.model.state_dict().items() if is_count(own)}
        self._load_weights({**self.best, **counts})
        if self.average is not None:
            self.average.begin_anew()

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Take these parameters and buffers, by their names, in the place of the initial ones."""
        self._load_weights({**self.model.state_dict(), **weights})
        self.keep_as_best()

    def _load_weights(self, weights: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(weights)  # copies into the existing views

    # -- as a checkpoint holds it --------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """All tensors."""
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"best.{name}": tensor for name, tensor in self.best.items()},
            **{f"{self.step.prefix}{name}": tensor for name, tensor in self.step.state().items()},
            **{f"average.{name}": tensor for name, tensor in (self.average.state() if self.average else {}).items()},
            **{f"random.{name}": tensor for name, tensor in seeds.global_state(self.device).items()},
            "generator": self.generator.get_state(),
            "loss_sum": self.loss_sum,
        }

    def facts(self) -> dict[str, Any]:
        """Everything else, as JSON: the position, how it is computed, and by which code."""
        facts = {**asdict(self.position), "computing": asdict(self.computing), "code": self.code.facts()}
        numbers = self.step.numbers()
        facts |= {} if self.started is None else {starts.STARTED: self.started}
        return facts if numbers is None else {**facts, "optimizer": numbers}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from what ``tensors`` and ``facts`` gave, in the way in which the training was begun."""
        others = "code", "computing", "optimizer", starts.STARTED
        position = {key: value for key, value in facts.items() if key not in others}
        self.started = facts.get(starts.STARTED)
        self.code = MethodCode.recorded_in(facts.get("code", {}))  # not known where an earlier version began
        self._compute_as(facts.get("computing"))
        self._load_weights(_below("model.", tensors))
        self.best = {name: tensor.to(self.device) for name, tensor in _below("best.", tensors).items()}
        self.step.load_state(_below(self.step.prefix, tensors), facts.get("optimizer"))
        if self.average is not None:
            self.average.load_state(_below("average.", tensors))
        seeds.set_global_state(_below("random.", tensors), self.device)
        self.generator.set_state(tensors["generator"])
        self.loss_sum.copy_(tensors["loss_sum"])
        self.position = Position(**position)

    def _compute_as(self, begun: Mapping[str, Any] | None) -> None:
        """begun: how the training was begun; None: not recorded, as by earlier versions."""
        here = self.computing
        self.computing = here.kept_from(Computing(**begun), self.cell.path, self.device) if begun else here
        if self.computing.products != here.products:
            self.model = new_model(self.cell, self.n_visible).to(self.device)
            self.step = step_of_training(self.model, self.cell.training, self.computing.products)
            self.average = self._new_average()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
