"""Phases in short: ``schedule`` of training settings, of which no cell knows; cells have ``phases``.

``{updates: [4000, 1000], learning_rate: 1.0e-2, n_samples: 5}`` is a phase of 4,000 updates at 0.01, then one of 1,000
at 0.001, both with five samples: one phase for each number of ``updates``, and each with the rate of the one before
times ``decay``, which is 0.1 where nothing is said. A list of learning rates, or of numbers of samples, has one for
each phase, and ``updates: 2000`` is one phase. ``shape: cosine`` (or linear) lets the rate fall to zero within each
phase, ``warm_up: 500`` lets it rise from zero over the first updates of the first phase; a list has one for each phase.

Entries are merged key by key, so that ``{learning_rate: 3.0e-3}`` changes the rates alone of what a more general entry
says. An entry with ``phases`` replaces the schedule of more general ones, and the other way round; from phases a
schedule takes nothing. null is a key that is taken from no other entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

PHASES, SCHEDULE = "phases", "schedule"
AXES = (f"training.{PHASES}", f"training.{SCHEDULE}")  # of searches
RATE, DECAY = "learning_rate", "decay"
NEEDED = ("updates", RATE, "n_samples")
SHAPE, WARM_UP = "shape", "warm_up"
OPTIONS = {SHAPE: "constant", WARM_UP: 0}  # of a phase, and what holds where nothing is said
A_TENTH = 0.1  # the decay where nothing is said


def as_mergeable(base: Mapping[str, Any], over: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training settings as they are merged key by key: ``base`` without what ``over`` has in the other form."""
    base, over = dict(base), dict(over)
    if PHASES in over and SCHEDULE not in over:
        base.pop(SCHEDULE, None)
    schedule = over.get(SCHEDULE)
    if isinstance(schedule, Mapping) and PHASES not in over:
        if PHASES in base:
            del base[PHASES]
            over[SCHEDULE] = {**dict.fromkeys((*NEEDED, DECAY, *OPTIONS)), **schedule}
        elif isinstance(schedule.get(RATE), list) and _has_decay(base.get(SCHEDULE)):
            over[SCHEDULE] = {DECAY: None, **schedule}
    return base, over


def phases_of(schedule: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The phases that a schedule without ``schedule_faults`` stands for."""
    updates, rate, n_samples = (schedule[key] for key in NEEDED)
    updates = _listed(updates, 1)
    if not isinstance(rate, list):
        decay = schedule[DECAY] if _has_decay(schedule) else A_TENTH
        rate = [_decayed(rate, decay, i) for i in range(len(updates))]
    needed = zip(updates, rate, _listed(n_samples, len(updates)), strict=True)
    return [
        {**dict(zip(NEEDED, phase, strict=True)), **options}
        for phase, options in zip(needed, _options(schedule, len(updates)), strict=True)
    ]


def _options(schedule: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """What each of n phases has besides ``NEEDED``: nothing that holds anyway."""
    shapes, warm_ups = schedule.get(SHAPE) or OPTIONS[SHAPE], schedule.get(WARM_UP) or OPTIONS[WARM_UP]
    if not isinstance(warm_ups, list):
        warm_ups = [warm_ups] + [OPTIONS[WARM_UP]] * (n - 1)
    each = zip(_listed(shapes, n), warm_ups, strict=True)
    return [without_defaults({SHAPE: shape, WARM_UP: warm_up}, OPTIONS) for shape, warm_up in each]


def without_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without those of ``defaults``: a key that came later is in no digest until it says something."""
    return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}


def in_phases(training: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings with the phases that their schedule, if they have one, stands for."""
    found = {key: value for key, value in training.items() if key != SCHEDULE}
    return {**found, PHASES: phases_of(training[SCHEDULE])} if SCHEDULE in training else found


def axes_in_phases(axes: Mapping[str, Any]) -> dict[str, Any]:
    """Axes of a search, with ``training.phases`` in the place of ``training.schedule``: trials are named by phases."""
    phases, schedule = AXES
    return {
        phases if axis == schedule else axis: [phases_of(value) for value in values] if axis == schedule else values
        for axis, values in axes.items()
    }


def schedule_faults(schedule: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What keeps a schedule, whose types are right, from being phases: keys, and what was expected and found."""
    missing = [key for key in NEEDED if schedule.get(key) is None]
    if missing:
        why = ", as a schedule takes nothing from phases" if set(missing) & set(schedule) else ""
        yield (), f"expected key {', '.join(map(repr, missing))}{why}, found none"
        return
    yield from decay_faults(schedule)
    n = len(_listed(schedule["updates"], 1))
    for key in (*NEEDED[1:], *OPTIONS):
        if isinstance(schedule.get(key), list) and len(schedule[key]) != n:
            yield (), f"expected one {key} or as many as updates, which are {n}, found {len(schedule[key])}"
            return
    phases = phases_of(schedule)
    if not all(phase[RATE] for phase in phases):
        yield (DECAY,), "expected learning rates above 0, found one that decays to 0"
    yield from (((WARM_UP,), fault) for _, fault in warm_up_faults(phases))


def warm_up_faults(phases: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Warm-ups that leave nothing of their phase."""
    for i, phase in enumerate(phases):
        if phase.get(WARM_UP, 0) >= phase["updates"]:
            yield (str(i), WARM_UP), f"expected fewer than the {phase['updates']} updates, found {phase[WARM_UP]}"


def decay_faults(schedule: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """A decay beside the learning rates that it would make."""
    if isinstance(schedule.get(RATE), list) and _has_decay(schedule):
        yield (DECAY,), f"expected none beside a list of learning rates, found {schedule[DECAY]}"


def _has_decay(schedule: Any) -> bool:
    return isinstance(schedule, Mapping) and schedule.get(DECAY) is not None


def _listed(value: Any, n: int) -> list[Any]:
    return value if isinstance(value, list) else [value] * n


def _decayed(rate: float, decay: float, n: int) -> float:
    """``rate`` times ``decay`` to the power of ``n``, in decimal numbers: a tenth of 0.03 is 0.003."""
    return float(Decimal(str(rate)) * Decimal(str(decay)) ** n) if n else rate
