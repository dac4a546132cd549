"""Which layers a model uses in the course of training, from its learning curve: nothing is measured here.

Training measured it at looks, on few rows (``harness.training.layers``), so that every model has such a curve, while
the analysis ``layer_use`` has more certain numbers of the weights that are kept.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.evaluation.subject import LeftOutError, Subject
from harness.method import InStages, LayerEncoder
from harness.training.layers import FIELDS, name_of

NEEDS = ("layer features",)


def analyse(subject: Subject) -> pd.DataFrame:
    """Columns update, seconds, layer, n_units, live, reliability, information; layers count from the data upward.

    seconds: of training, without validation. live: number of units. information: nats. At updates at which a layer
    waited for its time it has no row.
    """
    curve = pd.read_csv(subject.run.checked(subject.run.curve_file, subject.run.status()))
    sizes = _sizes(subject)
    if not all(name_of(field, i) in curve for i in range(1, len(sizes) + 1) for field in FIELDS):
        raise LeftOutError("no layers in the learning curve: trained by an earlier version, or not of binary units")
    parts = []
    for layer, n_units in enumerate(sizes, start=1):
        columns = {name_of(field, layer): field for field in FIELDS}
        part = curve[["update", "seconds", *columns]].rename(columns=columns).dropna(subset=[*FIELDS])
        facts: dict[str, Any] = {"layer": layer, "n_units": n_units}
        parts.append(part.assign(**facts)[["update", "seconds", "layer", "n_units", *FIELDS]])
    return pd.concat(parts, ignore_index=True).astype({"live": int})


def _sizes(subject: Subject) -> list[int]:
    """Units of every layer, those that still wait for their time among them."""
    model: LayerEncoder = subject.model
    x = subject.rows("valid", 2).x
    waiting = model.waiting_units() if isinstance(model, InStages) else []
    return [layer.shape[1] for layer in model.encode(x, 1, subject.generator())] + list(waiting)
