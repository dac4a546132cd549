"""Metrics: those that the harness measures, and those of users.

A user's metric is one file, found as ``harness.plugins.finding`` says: plain constants that say what its numbers are,
and a function ``measure(subject)``. The setting ``metrics`` asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.plugins.constants import Text
from harness.plugins.finding import BUILT_IN_ORIGIN, Place, Registry, name_of
from harness.plugins.listing import capability_names, listed

MEASURE = "measure"
REGISTRY = Registry("metrics", "metric", MEASURE)
NATS, PERCENT, SHARE = "nats", "percent", "share"  # units for which the check has a size that matters
LOWER, HIGHER, NEITHER = "lower", "higher", "neither"
RESERVED = ("layers", "metrics")  # what tables call the architecture, and the table of all metrics of users


@dataclass(frozen=True)
class Metric:
    """What the numbers of a metric are.

    unit: nats, percent, share, or a word of the author's. better: lower, higher or neither. decimals: at most, in
    tables. needs: capabilities that a method must have. matters: the difference from which on it matters, in its unit;
    None where the settings of the check say it, by unit. origin: ``built in``, its file, or its package.
    """

    name: str
    title: str
    unit: str
    better: str
    decimals: int
    needs: tuple[str, ...]
    matters: float | None = None
    source: str = ""
    origin: str = BUILT_IN_ORIGIN
    file: Path | None = None


def _of_harness(name: str, title: str, needs: str, unit: str = NATS, better: str = LOWER) -> Metric:
    return Metric(name, title, unit, better, 3 if unit == SHARE else 2, (needs,))


_WEIGHTS, _PARTITION, _LABELS = "importance weights", "partition function", "classification"
BUILT_IN = {
    metric.name: metric
    for metric in (
        Metric("-log p", "negative log-likelihood", NATS, LOWER, 2, ()),
        _of_harness("-log p (one ordering)", "negative log-likelihood of one ordering", "orderings"),
        _of_harness("bound -log p", "upper bound, mean log-weight", _WEIGHTS),
        _of_harness("ess p", "effective sample size for p", _WEIGHTS, PERCENT, HIGHER),
        _of_harness("-log p~", "negative log-likelihood, as in Table 3.1", _PARTITION),
        _of_harness("-log p~*", "unnormalised negative log-likelihood of p*", _PARTITION),
        _of_harness("ess p*", "effective sample size for p*", _PARTITION, PERCENT, HIGHER),
        _of_harness("-log p*", "negative log-likelihood of p*", _PARTITION),
        _of_harness("-2 log Z", "log of the normaliser of p*", _PARTITION),
        _of_harness("log Z", "log of the normaliser", "unnormalised log p", better=NEITHER),
        _of_harness("bound -log p*", "upper bound of -log p*", _LABELS),
        _of_harness("-log p~*(y|x)", "estimated negative log-probability of the label", _LABELS),
        _of_harness("-log p(y|x)", "negative log-probability of the label", "label probabilities"),
        Metric("error", "classification error", SHARE, LOWER, 3, ()),
    )
}


def use_metrics(asked: Iterable[str]) -> None:
    """Make known the metrics that settings ask for (see ``harness.plugins.finding``).

    Raises ConfigError for what is no such file or name, and for a file whose text is not that of a metric.
    """
    for name in REGISTRY.use(asked):
        metric(name)


def own_metrics() -> list[str]:
    """Names of all metrics of users that can be asked for, sorted."""
    return REGISTRY.names()


def metric(name: str) -> Metric:
    """What is known of a user's metric by its text.

    Raises ConfigError for a name that is not known, and, naming file and constant, for a text that is not a metric's.
    """
    place = REGISTRY.place(name)
    text = Text.read(place.file, CONSTANTS)
    text.function(MEASURE, "subject")
    return _described(name, place, text)


def _described(name: str, place: Place, text: Text) -> Metric:
    values = text.values
    if values.get("NAME") != name:
        raise text.fail("NAME", f"{name!r}, as the file or the entry point is called")
    if name in BUILT_IN or name in RESERVED:
        raise text.fail("NAME", "a name that the harness has no use for")
    title, unit = text.words("TITLE"), text.words("UNIT")
    if values.get("BETTER") not in (LOWER, HIGHER, NEITHER):
        raise text.fail("BETTER", f"{LOWER!r}, {HIGHER!r} or {NEITHER!r}")
    decimals, matters = text.decimals(), values.get("MATTERS")
    needs = text.names("NEEDS", f"capabilities ({', '.join(capability_names())})", capability_names())
    if matters is not None and not (type(matters) in (int, float) and math.isfinite(matters) and matters > 0):
        raise text.fail("MATTERS", "a number above 0")
    if matters is None and unit not in (NATS, PERCENT, SHARE):
        expected = f"the difference from which on it matters, as the unit is none of {NATS}, {PERCENT} and {SHARE}"
        raise text.fail("MATTERS", expected)
    matters = None if matters is None else float(matters)
    source = text.words("SOURCE", "words", default="")
    return Metric(name, title, unit, values["BETTER"], decimals, needs, matters, source, place.origin, place.file)


CONSTANTS = ("NAME", "TITLE", "UNIT", "BETTER", "DECIMALS", "NEEDS", "MATTERS", "SOURCE")


def function_of(name: str) -> Callable[..., Any]:
    """``measure`` of a user's metric, whose module is run. Raises ConfigError where it does not have one."""
    module = REGISTRY.module(name)
    function = getattr(module, MEASURE, None)
    if not callable(function):
        raise ConfigError(f"{module.__file__}: expected a function {MEASURE}(subject), found {function!r}")
    return function


def codes(asked: Iterable[str], method: str) -> dict[str, str]:
    """Of the metrics that settings ask for, those that a method has the capabilities for, and the sha256 of each code.

    The code is that of one file; of a package, after its name and version.
    """
    has = cache(lambda: _capabilities_of(method))
    return {name: REGISTRY.code(name) for name in map(name_of, asked) if set(metric(name).needs) <= has()}


def _capabilities_of(method: str) -> frozenset[str]:
    """What a method has, by its text; all that there is where only the class itself can tell."""
    try:
        return frozenset(listed(method).capabilities)
    except HarnessError:
        return frozenset(capability_names())
