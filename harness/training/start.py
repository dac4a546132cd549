"""Beginning a training with the weights of another model: which of them are taken, and what becomes of the rest.

Parameters and buffers of equal name and shape are taken, whatever the two methods are. Buffers of one integer, which
count progress, are not: the training begins at its first update, with an optimiser that has seen none. A method that
knows better says so (``harness.method.TakesWeights``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.errors import ConfigError
from harness.method import Method, TakesWeights
from harness.settings.start import START_FROM
from harness.storage import starts
from harness.storage.runs import RunFolder
from harness.training.counts import is_count

if TYPE_CHECKING:
    from harness.training.state import TrainingState

TOLD = 8  # names in a line of the log


@dataclass(frozen=True)
class Taken:
    """Names of tensors: taken by the model, its own as they were drawn, and left of the other model."""

    taken: list[str]
    own: list[str]
    left: list[str]


def begin(state: TrainingState, run: RunFolder) -> None:
    """Give the model the weights that its cell starts from, if it does from any; one line says which.

    Raises ConfigError where no tensor fits, or one of equal name has another shape, and DataError where the weights are
    not in the folder ``run``.
    """
    start = state.cell.training.start_from
    if start is None:
        return
    weights, started = starts.read(run, start)
    place = f"{state.cell.path}: training.{START_FROM}"
    found = weights_to_take(state.model, weights, f"{place}: {start.path}")
    state.begin_with(found)
    taken = Taken(
        sorted(found),
        sorted(state.model.state_dict().keys() - found.keys()),
        sorted(weights.keys() - found.keys()),
    )
    state.started = {**asdict(started), **asdict(taken)}
    print(f"{state.cell.path}: {_in_words(started, taken)}", file=sys.stderr, flush=True)


def weights_to_take(model: Method, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """What a model takes of the parameters and buffers of another, by the names that they have here.

    source: what errors call the other one. Raises ConfigError where there is nothing to take, and for a shape that
    differs.
    """
    here = model.state_dict()
    offered: dict[str, Any] = {name: each for name, each in weights.items() if not is_count(each)}
    if isinstance(model, TakesWeights):
        offered |= _own_choice(model, weights, source)
    found = {name: each for name, each in offered.items() if name in here and each is not None}
    for name, each in found.items():
        if each.shape != here[name].shape:
            expected = f"{list(here[name].shape)}, its shape in {type(model).name}"
            raise ConfigError(f"{source}: {name}: expected {expected}, found {list(each.shape)}")
    if not found:
        names = f"{_listed(sorted(here))}; found {_listed(sorted(weights))}"
        raise ConfigError(f"{source}: expected a tensor of the name of one in {type(model).name}, {names}")
    return found


def _own_choice(model: Method, weights: Mapping[str, Tensor], source: str) -> Mapping[str, Any]:
    """What the method says; raises ConfigError where it counts on a tensor that the other model does not have."""
    try:
        return model.take_weights(weights)
    except KeyError as error:
        known = _listed(sorted(weights))
        raise ConfigError(f"{source}: take_weights: expected only names of {known}, found {error}") from error


def _in_words(started: starts.Started, taken: Taken) -> str:
    parts = [f"begins with the weights of {started.cell}, after {started.n_updates:,} updates: {_listed(taken.taken)}"]
    parts += [f"its own: {_listed(taken.own)}"] if taken.own else []
    parts += [f"left: {_listed(taken.left)}"] if taken.left else []
    return "; ".join(parts)


def _listed(names: list[str]) -> str:
    more = len(names) - TOLD
    return ", ".join(names[:TOLD]) + (f" and {more} more" if more > 0 else "")
