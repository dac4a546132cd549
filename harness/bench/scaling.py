"""Growth of the cost of a BiHM update with samples, batch, width and depth, ours beside the textbook's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.bench import cases
from harness.bench.cases import Case
from harness.bench.contenders import Workload, job
from harness.bench.timing import Effort, Timing, time_in_turns
from harness.bench.workloads import Workloads

CASE = "bihm12"  # the key of the case that is varied
CONTENDERS = (cases.OURS, cases.TEXTBOOK)
K, BATCH, WIDTH, DEPTH = "K", "batch", "width", "depth"
VALUES: dict[str, tuple[float, ...]] = {
    K: (1, 2, 5, 10, 20, 50, 100),
    BATCH: (25, 50, 100, 200, 400, 800),
    WIDTH: (0.25, 0.5, 1, 2, 4),
    DEPTH: (1, 2, 3, 4, 6, 8, 10, 12),
}
LABELS = {K: "samples K", BATCH: "rows per batch", WIDTH: "width of all layers, times that of BiHM-12", DEPTH: "layers"}


@dataclass(frozen=True)
class Point:
    """The time of an update where one axis has this value and all others are the case's."""

    axis: str
    value: float
    contender: str
    timing: Timing


def varied(case: Case, axis: str, value: float) -> Case:
    """The case with another number of samples, of rows, of units or of layers (the lowest ones)."""
    if axis == K:
        return replace(case, n_samples=int(value))
    if axis == BATCH:
        return replace(case, rows=int(value))
    layers = case.model["layers"]
    layers = [max(1, round(value * n)) for n in layers] if axis == WIDTH else layers[: int(value)]
    return replace(case, model={**case.model, "layers": layers})


def measure(case: Case, workloads: Workloads, effort: Effort) -> Iterator[Point]:
    """The points of all axes, in order."""
    for axis, values in VALUES.items():
        for value in values:
            changed = varied(case, axis, value)
            workload: Workload = workloads.of(changed)
            jobs = {name: job(name, workload) for name in CONTENDERS}
            for name, timing in time_in_turns(jobs, workloads.device, effort).timings.items():
                yield Point(axis, value, name, timing)
