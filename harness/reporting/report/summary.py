"""The head of the report: how the run compares with the thesis, which cells failed, and what the claims came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from harness.reporting.report.judging import FAILS, HOLDS, NOT_MEASURED, UNDECIDED, Claim
from harness.reporting.report.numbers import shown
from harness.reporting.tables.pooling import OK
from harness.reporting.tables.reported import Key, PlannedCell

NOT_RUN = "not run"
ALWAYS = ("reproduced", "better", "worse", NOT_RUN)  # counted in the summary even where there are none
WORDS = {"missing": NOT_RUN}  # verdicts of the check that the report has another word for
HEADER = ("verdict", "data set", "method", "variant", "metric", "ours", "thesis", "difference", "±", "remark")


class Judged(Protocol):
    """The verdict of the check on a printed number, as ``harness.check.verdict`` has it."""

    @property
    def key(self) -> Key: ...
    @property
    def verdict(self) -> str: ...
    @property
    def ours(self) -> float: ...
    @property
    def theirs(self) -> float: ...
    @property
    def difference(self) -> float: ...
    @property
    def error(self) -> float: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class Count:
    """A number of the summary: how many, of what."""

    n: int
    word: str


@dataclass(frozen=True)
class VerdictRow:
    """A verdict as cells of a table, ``HEADER``, and the model that it is on."""

    cells: tuple[str, ...]
    verdict: str
    model: PlannedCell


@dataclass(frozen=True)
class Failure:
    """Seeds of a model that have no numbers for the same reason."""

    model: PlannedCell
    seeds: str
    status: str
    message: str


def verdict_counts(verdicts: Sequence[Judged]) -> list[Count]:
    """How many printed numbers got which verdict; those of ``ALWAYS`` first."""
    found = Counter(_word(each) for each in verdicts)
    return [Count(found[word], word) for word in dict.fromkeys([*ALWAYS, *sorted(found)])] if verdicts else []


def verdict_rows(verdicts: Sequence[Judged]) -> list[VerdictRow]:
    """The verdicts in their order."""
    return [
        VerdictRow(
            (
                _word(each),
                *each.key,
                *map(shown, (each.ours, each.theirs, each.difference, each.error)),
                each.reason,
            ),
            _word(each),
            each.key.cell,
        )
        for each in verdicts
    ]


def _word(each: Judged) -> str:
    return WORDS.get(each.verdict, each.verdict)


def cell_counts(metrics: pd.DataFrame) -> list[Count]:
    """How many trained models, seeds counted apart, ended with which status; those that went well first."""
    statuses = metrics.groupby(["dataset", "method", "variant", "seed"], sort=False, dropna=False)["status"].first()
    found = Counter(statuses)
    return [Count(found[status], status) for status in dict.fromkeys([OK, *sorted(found)])]


def failures(metrics: pd.DataFrame) -> list[Failure]:
    """Models that did not end well, in the order of the measurements: also those that were stopped but measured."""
    rows = metrics[metrics["status"].ne(OK)].fillna({"message": "", "variant": ""})
    groups = rows.groupby(["dataset", "method", "variant", "status", "message"], sort=False)["seed"]
    return [
        Failure(PlannedCell(*key[:3]), ", ".join(map(str, dict.fromkeys(seeds))), key[3], key[4])
        for key, seeds in groups
    ]


def claim_counts(claims: Sequence[Claim]) -> list[Count]:
    """How many claims hold, and so on; none where there are no claims."""
    found: Mapping[str, int] = Counter(claim.verdict for claim in claims)
    return list(_of(found, (HOLDS, FAILS, UNDECIDED, NOT_MEASURED))) if claims else []


def _of(found: Mapping[str, int], words: Sequence[str]) -> Iterator[Count]:
    yield from (Count(found.get(word, 0), word) for word in words)
