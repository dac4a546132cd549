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
from harness.storage.records import check_file, read_json

if TYPE_CHECKING:  # the workflow reads the manifest without pandas
    import pandas as pd

OK, LEFT_OUT, NO_MODEL, FAILED = "ok", "left out", "no model", "failed"


def read_manifest(path: Path) -> dict[str, Any]:
    """``analyses`` (name -> how it ended) and ``failures``; raises DataError for a missing or damaged file."""
    found = read_json(path)
    if not isinstance(found.get("analyses"), dict) or not isinstance(found.get("failures"), int):
        raise DataError(path, "a mapping analyses and a number failures", sorted(found))
    return found


def read_table(path: Path, how: Mapping[str, Any]) -> pd.DataFrame:
    """The table of an analysis that ended as ``how`` says; raises DataError for a file that it did not write."""
    import pandas as pd

    if "table_sha256" in how:  # not by earlier versions
        check_file(path, how["table_sha256"])
    return pd.read_csv(path)


def failures(path: Path) -> int:
    """In how many calls an analysis failed so far, as a manifest knows; 0 where there is none."""
    try:
        return read_manifest(path)["failures"]
    except DataError:
        return 0
