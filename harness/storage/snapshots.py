"""Snapshots of the weights: which updates of a training run are kept besides the best one.

``snapshots/<update>.safetensors`` in the folder of a run holds the weights as they were after that update, whatever
the validation set said of them. They are for analyses of the course of training; training itself never reads them, and
they leave the trained weights and the configuration's digest as they are. When training runs again, from its start,
the old ones go; a run that was killed continues from its checkpoint and keeps them.
"""

from __future__ import annotations

from harness.settings.parts import Training

DECADES = 3  # between the first and the last one


def updates(training: Training) -> list[int]:
    """The updates after which weights are kept: evenly spaced logarithms up to the last one, ascending.

    Fewer than ``training.snapshots`` where neighbours would fall on one update.
    """
    n, total = training.snapshots, sum(phase.updates for phase in training.phases)
    if total == 0:
        return []
    share = DECADES / max(1, n - 1)
    return sorted({max(1, round(total * 10.0 ** (-share * i))) for i in range(n)})
