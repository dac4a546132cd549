"""The learning rate of every update of a phase: a warm-up, then constant, or falling to zero in a line or a cosine.

With a warm-up of W updates the first has 1/W of the phase's rate, the W-th all of it. Of the N updates after that, the
n-th, counted from 0, has the share 1 - n/N (linear) or (1 + cos(pi n/N)) / 2 (cosine, Loshchilov and Hutter, 2017), so
that all rates are above zero. A phase that early stopping ends is left where it was on its way.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.settings.parts import Phase

SHAPES: dict[str, Callable[[float], float]] = {  # part of the phase that is over -> share of its rate
    "constant": lambda over: 1.0,
    "linear": lambda over: 1.0 - over,
    "cosine": lambda over: 0.5 * (1.0 + math.cos(math.pi * over)),
}


def rate_of(phase: Phase, update: int) -> float:
    """The learning rate of an update of the phase, counted from 0 within it."""
    if update < phase.warm_up:
        return phase.learning_rate * ((update + 1) / phase.warm_up)
    over = (update - phase.warm_up) / (phase.updates - phase.warm_up)
    return phase.learning_rate * SHAPES[phase.shape](over)
