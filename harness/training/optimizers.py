"""Updates by other optimisers than the Adam of ``harness.training.step``: of ``torch.optim``, or made by the method.

Which one it is, settings say first (``optimizer: {name: adamw, weight_decay: 0.01}``), then the method
(``configure_optimizer``); where neither does, it is that Adam. Gradients, the L1 penalty and the longest gradient are
those of every update. The learning rate is set before each one: groups of parameters keep the ratio that theirs had to
the rate of the first phase when the optimiser was made. A checkpoint holds what ``state_dict`` gives, tensors as
tensors and numbers as JSON. Such updates are not captured as CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import ConfigError, HarnessError
from harness.method import Batch, Method, OwnOptimizer
from harness.settings.optimizers import NAME, class_and_arguments, optimizer_faults
from harness.settings.parts import Training
from harness.settings.text import dotted
from harness.storage.nested import put_together, taken_apart
from harness.training.step import UpdateStep

STATE = "state."  # how the names of their tensors in a checkpoint begin, after the prefix
Optimizers = list[torch.optim.Optimizer]


def step_of(
    model: Method,
    precision: str = "auto",
    optimizer: Mapping[str, Any] | None = None,
    clip_norm: float | None = None,
    learning_rate: float = 1e-3,
) -> UpdateStep:
    """The update step of a model, its parameters views of one buffer from now on.

    optimizer: what the settings say. learning_rate: of the first phase. Raises ConfigError as ``UpdateStep`` does, and
    for an optimiser that cannot be made or does not hold exactly the parameters that learn.
    """
    if optimizer is not None:
        return OptimizerStep(model, precision, clip_norm, learning_rate, lambda rate: _named(model, optimizer, rate))
    if isinstance(model, OwnOptimizer):
        return OptimizerStep(model, precision, clip_norm, learning_rate, model.configure_optimizer)
    return UpdateStep(model, precision, clip_norm)


def step_of_training(model: Method, training: Training, precision: str) -> UpdateStep:
    """``step_of`` with what a cell says of its training."""
    rate = training.phases[0].learning_rate if training.phases else 1.0  # without phases there is no update
    return step_of(model, precision, training.optimizer, training.clip_norm, rate)


class OptimizerStep(UpdateStep):
    """Updates by what ``make``, given the learning rate, returns: an optimiser or several, whose order is kept."""

    prefix = "optimizer."

    def __init__(
        self,
        model: Method,
        precision: str,
        clip_norm: float | None,
        learning_rate: float,
        make: Callable[[float], torch.optim.Optimizer | Optimizers],
    ):
        super().__init__(model, precision, clip_norm)
        self._graphs = None
        self.first = self.second = self.parameters.values[:0]
        self._graphs = None
        made = make(learning_rate)
        self.optimizers: Optimizers = list(made) if isinstance(made, list | tuple) else [made]
        self._check()
        self._shares = [
            [float(group["lr"]) / learning_rate if "lr" in group else None for group in each.param_groups]
            for each in self.optimizers
        ]

    def _check(self) -> None:
        """Raises ConfigError unless every parameter that learns is in exactly one group, and no other one."""
        expected = f"method {self._words()}: configure_optimizer: expected"
        for each in self.optimizers:
            if not isinstance(each, torch.optim.Optimizer):
                raise ConfigError(f"{expected} a torch.optim.Optimizer or a list of them, found {each!r}")
        held = [p for each in self.optimizers for group in each.param_groups for p in group["params"]]
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for parameter, name in names.items():
            found = sum(each is parameter for each in held)
            if parameter.requires_grad and found != 1:
                raise ConfigError(f"{expected} parameter {name} in one group, found it in {found or 'none'}")
            if not parameter.requires_grad and found:
                raise ConfigError(f"{expected} parameters that learn, found {name}, which is frozen")
        if strange := [tuple(each.shape) for each in held if each not in names]:
            raise ConfigError(f"{expected} parameters of the model, found another one of shape {strange[0]}")

    def _words(self) -> str:
        return getattr(self.model, "name", type(self.model).__name__)

    def _step(
        self, batch: Batch, n_samples: int, generator: torch.Generator, learning_rate: float, l1: float
    ) -> Tensor:
        for each, shares in zip(self.optimizers, self._shares, strict=True):
            for group, share in zip(each.param_groups, shares, strict=True):
                if share is not None:
                    group["lr"] = learning_rate * share
        loss = self._gradients(batch, n_samples, generator, self._number())
        self._complete_gradient(l1)
        for parameter in self._waiting:
            parameter.grad = None  # optimisers pass it over, whatever they would do to a gradient of zero
        for each in self.optimizers:
            each.step()
        self.parameters.reattach()
        self.parameters.gradients.zero_()
        return loss

    # -- as a checkpoint holds it --------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Tensors of the optimisers' state; more of them once there was an update."""
        return {"step": torch.tensor(self.n_steps), **self._parts()[1]}

    def numbers(self) -> Any:
        """The rest of the state."""
        return self._parts()[0]

    def _parts(self) -> tuple[Any, dict[str, Tensor]]:
        return taken_apart([each.state_dict() for each in self.optimizers], STATE)

    def load_state(self, state: dict[str, Tensor], numbers: Any = None) -> None:
        """Continue from what ``state`` and ``numbers`` gave.

        Raises HarnessError where an optimiser does not take its state back as it was.
        """
        self.n_steps = int(state["step"])
        for each, saved in zip(self.optimizers, put_together(numbers, state), strict=True):
            each.load_state_dict(saved)
        now, tensors = self._parts()
        if now != numbers or not all(_same(tensor, state[name]) for name, tensor in tensors.items()):
            raise HarnessError(
                f"method {self._words()}: expected optimisers whose load_state_dict brings back what state_dict gave, "
                "found another state; remove the checkpoint to train from the start"
            )


def _same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are the same, NaN included."""
    left = left.cpu()
    return left.dtype == right.dtype and torch.equal(left.nan_to_num(), right.nan_to_num())


def _named(model: nn.Module, optimizer: Mapping[str, Any], learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser that the settings name, for all parameters that learn."""
    for keys, fault in optimizer_faults(optimizer):
        raise ConfigError(f"{dotted(('training', 'optimizer', *keys))}: {fault}")
    cls, _ = class_and_arguments(optimizer[NAME])
    arguments = {key: value for key, value in optimizer.items() if key != NAME}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        return getattr(torch.optim, cls)(learning, lr=learning_rate, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"training.optimizer: expected arguments that torch.optim.{cls} takes: {error}") from error
