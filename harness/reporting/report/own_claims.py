"""Claims of users, judged like those of the thesis.

``judge`` of such a claim takes the rows of the figures and tables that ``FROM`` names, as their csv files have them,
and returns the differences that are claimed to be positive, a ``Number`` or a list of them, and a sentence that says
what was measured; or None where these rows do not have what the claim is about.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.plugins.claims import JUDGE, REGISTRY, OwnClaim, is_figure, own_claim
from harness.reporting.plain_frames import FAILED, WrongReturnError, in_words, remarks_of
from harness.reporting.report.judging import NO_NUMBERS, NOT_MEASURED, Claim, Number, judged
from harness.storage.measurements import read_csv

log = logging.getLogger(__name__)


def judge_own(name: str, folder: Path, strict: bool = False) -> Claim:
    """The claim of this name, judged by the csv files of the figures in ``folder`` and of ``tables`` beside it.

    Where a file is missing or has nothing to show, the claim is not measured, with the reason; so is one whose function
    fails. Raises ConfigError for a name that is not known, DataError for a damaged file, and where ``strict`` asks for
    it HarnessError for a function that fails.
    """
    claim = own_claim(name)
    frames = []
    for each in claim.sources:
        path = (folder if is_figure(each) else folder.parent / "tables") / f"{each}.csv"
        if not path.is_file():
            return _not_measured(claim, f"this run has no {each}")
        frame = read_csv(path)
        if remarks := remarks_of(frame):
            return _not_measured(claim, f"{each} has nothing to show: {'; '.join(remarks)}")
        frames.append(frame)
    try:
        return verdict_of(claim, frames)
    except (Exception, SystemExit) as error:  # of code that is not ours
        if strict:
            raise HarnessError(f"{claim.file}: expected a judgement, found {in_words(error)}") from error
        log.exception("claim %s", name)
        return _not_measured(claim, f"{FAILED}: {in_words(error)}")


def verdict_of(claim: OwnClaim, frames: Sequence[pd.DataFrame]) -> Claim:
    """The claim, judged by these rows. Raises WrongReturnError for what ``judge`` must not return,
    and whatever it does."""
    returned = getattr(REGISTRY.module(claim.name), JUDGE)(*(frame.copy() for frame in frames))
    if returned is None:
        return _not_measured(claim, NO_NUMBERS)
    differences, measured = _read(returned)
    found = judged(claim.text, differences, measured)
    return Claim(found.text, found.verdict, found.measured, said_by(claim))


def _read(returned: Any) -> tuple[list[Number], str]:
    expected = "None, or one or more Numbers and a sentence"
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise WrongReturnError(JUDGE, expected, f"a {type(returned).__name__}")
    differences, measured = returned
    differences = [differences] if isinstance(differences, Number) else differences
    if not isinstance(differences, list | tuple) or not all(isinstance(each, Number) for each in differences):
        raise WrongReturnError(JUDGE, expected, f"{differences!r} before the sentence")
    if not differences or not isinstance(measured, str) or not measured.strip():
        raise WrongReturnError(JUDGE, expected, "no Number" if not differences else f"{measured!r} for a sentence")
    return list(differences), measured


def said_by(claim: OwnClaim) -> str:
    """Who claims it; no path of this machine in what may be published."""
    return claim.source or Path(claim.origin).name


def _not_measured(claim: OwnClaim, why: str) -> Claim:
    return Claim(claim.text, NOT_MEASURED, why, said_by(claim))
