"""``analyses.json`` in the folder of a run: how every analysis of it ended.

An analysis is ``ok`` (its table is there), ``left out`` (the method lacks a capability), ``no model`` (training left
none; its status says why) or ``failed``. ``failures`` counts the calls in which one failed and is never taken back:
the workflow has it as a parameter, so that the next call tries again (see ``harness.cli.workflow``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError
from harness.storage import runs

if TYPE_CHECKING:  # the workflow reads the manifest without pandas
    import pandas as pd

MANIFEST = "analyses.json"
RECORD = "analyses/analyses.json"  # the same, kept up to date while analyses are under way, and never deleted
OK, LEFT_OUT, NO_MODEL, FAILED = "ok", "left out", "no model", "failed"


def table_of(run: Path, name: str) -> Path:
    """The path of the result of an analysis."""
    return run / "analyses" / f"{name}.csv"


def read_manifest(run: Path, name: str = MANIFEST) -> dict[str, Any]:
    """``analyses`` (name -> how it ended) and ``failures``; raises DataError without a readable ``analyses.json``."""
    path = run / name
    found = runs.read_json(path)
    if not isinstance(found.get("analyses"), dict) or not isinstance(found.get("failures"), int):
        raise DataError(path, "a mapping analyses and a number failures", sorted(found))
    return found


def read_table(run: Path, name: str, how: Mapping[str, Any]) -> pd.DataFrame:
    """The result of an analysis that ended as ``how`` says; raises DataError for a file that it did not write."""
    import pandas as pd

    path = table_of(run, name)
    if "table_sha256" in how:  # not by earlier versions
        runs.check_file(path, how["table_sha256"])
    return pd.read_csv(path)


def failures(run: Path) -> int:
    """In how many calls an analysis of this run failed so far."""
    try:
        return read_manifest(run)["failures"]
    except DataError:
        return 0
