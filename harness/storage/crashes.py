"""How often a run has crashed, kept in its folder as ``crashes.json``.

The workflow has the count as a parameter, so that the next call tries again (see ``harness.cli.workflow``).
"""

from __future__ import annotations

import logging
from pathlib import Path

from harness.errors import DataError
from harness.storage.records import read_json, write_json

log = logging.getLogger(__name__)

MEMORY_TRIES = 4  # on a cluster, each try has more memory up to this one (workflows/profiles/slurm/config.yaml)


class Crashes:
    """The crashes of one run; path: of their record, which a run that never crashed lacks."""

    def __init__(self, path: Path):
        self.path = path

    def count(self) -> int:
        """How many there were so far; a success does not take them back. A damaged count starts again."""
        if not self.path.exists():
            return 0
        try:
            count = read_json(self.path).get("count")
            if not isinstance(count, int) or count < 0:
                raise DataError(self.path, "a count of crashes", count)
        except DataError as error:
            log.warning(f"{error}; counting starts again")
            return 0
        return count

    def add(self, message: str, killed_at: int | None = None) -> None:
        """One more. killed_at: the try that a SIGKILL ended."""
        here = self._of_this_call() + 1
        facts = {"count": self.count() + 1, "of_this_call": here, "message": message, "killed_at": killed_at}
        write_json(self.path, facts)

    def forget(self, attempt: int, succeeded: bool) -> None:
        """At the first try of a call, earlier crashes are of other calls; those of a call that ends well never were.

        Snakemake knows the count from before the call, and would run again what has another one after it.
        """
        here = self._of_this_call()
        if here and (succeeded or attempt == 1):
            facts = read_json(self.path)
            count = facts["count"] - here if succeeded else facts["count"]
            write_json(self.path, {**facts, "count": count, "of_this_call": 0})

    def killed_at_last(self, attempt: int) -> bool:
        """Whether this is one try more after the run was killed in one that had all the memory it can get."""
        try:
            killed_at = read_json(self.path).get("killed_at")
        except DataError:
            return False
        return isinstance(killed_at, int) and MEMORY_TRIES <= killed_at < attempt

    def _of_this_call(self) -> int:
        try:
            found = read_json(self.path).get("of_this_call", 0)
        except DataError:
            return 0
        return found if isinstance(found, int) else 0
