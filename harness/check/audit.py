"""Identities that every table must satisfy whatever was trained, and the numbers that violate them.

An identity compares numbers of one model. Printed numbers may miss it by the rounding of each; measured ones by four
standard errors of sampling and by the bias of the estimate, where that is known: more samples would remove both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.check.against_thesis import rounding
from harness.check.summary import Summary
from harness.reporting.tables.reported import Key, reported


@dataclass(frozen=True)
class Value:
    """A number and by how much it may be off."""

    number: float
    slack: float


@dataclass(frozen=True)
class Violation:
    """whose: ``thesis`` or the run. size: by how much the identity is missed beyond the slack of its numbers."""

    whose: str
    table: str
    dataset: str
    method: str
    variant: str
    identity: str
    found: str
    size: float


@dataclass(frozen=True)
class Identity:
    """excess(numbers) is positive by as much as the identity is violated."""

    text: str
    metrics: tuple[str, ...]
    excess: Callable[..., float]


IDENTITIES = (
    Identity("log p~* <= log p", ("-log p~*", "-log p"), lambda star, p: p - star),
    Identity("log p~* <= log p*", ("-log p~*", "-log p*"), lambda tilde, star: star - tilde),
    Identity(
        "-log p* = -log p~* + 2 log Z",
        ("-log p*", "-log p~*", "-2 log Z"),
        lambda star, tilde, z: abs(star - tilde + z),
    ),
    Identity("bound <= log p", ("bound -log p", "-log p"), lambda bound, p: p - bound),
    Identity("Z <= 1", ("-2 log Z",), lambda z: -z),
    Identity("log p~*(y|x) <= 0", ("-log p~*(y|x)",), lambda label: -label),
    Identity("log p(y|x) <= 0", ("-log p(y|x)",), lambda label: -label),
    Identity("0 <= ess p <= 100", ("ess p",), lambda ess: max(-ess, ess - 100.0)),
    Identity("0 <= ess p* <= 100", ("ess p*",), lambda ess: max(-ess, ess - 100.0)),
    Identity("0 <= error <= 1", ("error",), lambda error: max(-error, error - 1.0)),
)


def audit_thesis() -> list[Violation]:
    """Violations among the printed numbers, table by table."""
    found = []
    for table, numbers in reported().items():
        values = {k: Value(float(text), rounding(text)) for k, text in numbers.items() if k.metric != "layers"}
        found += _violations("thesis", table, values)
    return found


def audit_run(summary: Summary) -> list[Violation]:
    """Violations among a run's numbers."""
    values = {
        key: Value(number.mean, 4.0 * _sampling_error(number.mc_errors) + _bias(number.biases))
        for key, number in summary.numbers.items()
    }
    return list(_violations(summary.preset, "", values))


def _sampling_error(errors: tuple[float, ...]) -> float:
    known = [error**2 for error in errors if math.isfinite(error)]
    return math.sqrt(sum(known)) / len(known) if known else 0.0


def _bias(biases: tuple[float, ...]) -> float:
    """Size of the mean's bias, of the seeds whose bias is known."""
    known = [bias for bias in biases if math.isfinite(bias)]
    return abs(math.fsum(known)) / len(known) if known else 0.0


def _violations(whose: str, table: str, values: Mapping[Key, Value]) -> Iterator[Violation]:
    for cell in dict.fromkeys(key[:3] for key in values):
        for identity in IDENTITIES:
            used = [values.get(Key(*cell, metric)) for metric in identity.metrics]
            if any(value is None for value in used):
                continue
            size = identity.excess(*(value.number for value in used)) - sum(value.slack for value in used)
            if size > 1e-9:
                named = zip(identity.metrics, used, strict=True)
                found = ", ".join(f"{metric} = {value.number:g}" for metric, value in named)
                yield Violation(whose, table, *cell, identity.text, found, size)
