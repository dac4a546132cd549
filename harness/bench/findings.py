"""The findings of a benchmark, before they become files."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.bench import cases
from harness.bench.agreement import Agreement
from harness.bench.cases import Case
from harness.bench.scaling import Point
from harness.bench.timing import Timing


@dataclass(frozen=True)
class Absence:
    """A contender that a case had to do without, and why."""

    contender: str
    reason: str


@dataclass(frozen=True)
class CaseFindings:
    """One case: timings and peak memory by contender, and the time of our matrix products alone."""

    case: Case
    timings: dict[str, Timing]
    floor: Timing | None
    peaks_mb: dict[str, float]
    absences: tuple[Absence, ...]
    disturbance: float = 0.0  # see ``timing.Turns``

    def faster_by(self, contender: str) -> float:
        """How many times the median of ours a contender's median is."""
        return self.timings[contender].median_ms / self.timings[cases.OURS].median_ms

    @property
    def times_floor(self) -> float | None:
        """How many times its floor our median is."""
        return None if self.floor is None else self.timings[cases.OURS].median_ms / self.floor.median_ms


@dataclass
class Findings:
    """Everything. device: kind and threads. facts: where the numbers came from. notes: reservations."""

    device: str
    facts: tuple[str, ...]
    cases: list[CaseFindings] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
