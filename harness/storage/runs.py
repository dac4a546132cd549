"""The folder of one run: what is in it, and how it is read and written.

``RunFolder`` names all files. Expected ends of a training are statuses, not exceptions: tables render them. Only
``metrics.json`` is an output that Snakemake knows of, since it deletes those before it runs a job again: all else
outlives a change of the evaluation, a kill and a crash.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import atomic
from harness.errors import ConfigError, DataError, HarnessError
from harness.settings.config import Cell, canonical_json
from harness.settings.parts import Training
from harness.storage import run_lock, snapshots, weights
from harness.storage.crashes import Crashes
from harness.storage.method_code import MethodCode, code_of, is_by_other_code
from harness.storage.records import check_file, file_digest, read_json, write_json

if TYPE_CHECKING:  # the workflow reads these files without torch, which takes a second to import
    from torch import nn

log = logging.getLogger(__name__)

ROWS_DIGEST = "rows_sha256"  # key of metrics.json: sha256 of the values per row
OK, TIMEOUT, UNAVAILABLE, DIVERGED, FAILED = "ok", "timeout", "unavailable", "diverged", "failed"
STATUSES = (OK, TIMEOUT, UNAVAILABLE, DIVERGED, FAILED)
HAVE_MODEL = (OK, TIMEOUT)
NO_LIKELIHOOD = "no likelihood"  # of a model that is fine, in place of its measurements
FINAL = (OK, TIMEOUT, DIVERGED)  # training again would end the same way; without data or after a crash it may not


class RunFolder:
    """The folder of a run or of a trial, there or not, and its files."""

    def __init__(self, path: Path):
        self.path = path
        self.lock_file = path / ".lock"  # while a process works here
        self.config_file = path / "config.json"  # the cell
        # of training; the status is written last
        self.start_file = path / "start.safetensors"  # until it ends, where it begins with another's weights
        self.checkpoint_file = path / "checkpoint.safetensors"  # while it is under way
        self.model_file = path / "model.safetensors"  # the best weights
        self.curve_file = path / "curve.csv"  # the learning curve
        self.snapshots_folder = path / "snapshots"  # where the cell asks for them
        self.status_file = path / "status.json"  # how it ended
        # of the evaluation; the measurements are written last
        self.pieces_file = path / "measured.safetensors"  # after a long one
        self.rows_file = path / "rows.parquet"  # what was measured, row by row
        self.metrics_file = path / "metrics.json"  # and in all
        # of the analyses
        self.analyses_folder = path / "analyses"
        self.manifest_file = path / "analyses.json"  # how they ended
        self.manifest_copy = self.analyses_folder / "analyses.json"  # kept up to date meanwhile, and never deleted
        self.crashes = Crashes(path / "crashes.json")

    def __str__(self) -> str:
        return str(self.path)

    def alone(self) -> AbstractContextManager[None]:
        """Work here while the block lasts; waits for another process that does.

        Raises HarnessError where the folder cannot be written to.
        """
        return run_lock.held(self.lock_file)

    def snapshot_file(self, update: int) -> Path:
        """The path of the weights after an update."""
        return self.snapshots_folder / f"{update}.safetensors"

    def table_file(self, analysis: str) -> Path:
        """The path of the result of an analysis."""
        return self.analyses_folder / f"{analysis}.csv"

    # -- the cell ------------------------------------------------------------------------------------------------

    def write_config(self, cell: Cell) -> None:
        """``config.json``: the cell and the digest of its training part."""
        write_json(self.config_file, {**cell.to_dict(), "training_digest": cell.training_digest})

    def config(self) -> Cell:
        """The cell in ``config.json``; raises DataError where it is missing or damaged."""
        values = read_json(self.config_file)
        values.pop("training_digest", None)
        return Cell.from_dict(values)

    # -- how training ended --------------------------------------------------------------------------------------

    def write_status(self, status: str, message: str = "", **facts: Any) -> None:
        """``status.json``: how training ended, with what is known about it."""
        write_json(self.status_file, {"status": status, "message": message, **facts})

    def status(self) -> dict[str, Any]:
        """``status.json``; raises DataError where it is missing, damaged or has no status."""
        found = read_json(self.status_file)
        if found.get("status") not in STATUSES or not isinstance(found.get("message"), str):
            expected = f"a status, one of {', '.join(STATUSES)}, and a message"
            raise DataError(self.status_file, expected, sorted(found))
        return found

    def status_of(self, cell: Cell) -> dict[str, Any]:
        """The status of the training of ``cell``.

        Raises DataError as ``status`` does, and where the folder holds the training of another cell, of other settings,
        or by another version of the method's code.
        """
        status, path = self.status(), self.status_file
        digest = of_training = status.get("training_digest")
        if digest is None and self.config_file.exists():  # nothing was trained
            path = self.config_file
            digest = read_json(path).get("training_digest")
        if digest not in (None, cell.training_digest):
            expected, found = self._differences(cell)
            raise DataError(path, f"training digest {cell.training_digest}{expected}", f"{digest}{found}")
        if of_training is not None:
            self._check_version(status, cell.method)
        return status

    def _differences(self, cell: Cell) -> tuple[str, str]:
        """What a cell has and what the folder's has where they differ, in words; nothing where that cannot be read."""
        try:
            here, there = (_key_by_key(each) for each in (cell, self.config()))
        except HarnessError:
            return "", ""
        keys = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        return tuple(f" ({', '.join(f'{key} {each.get(key)}' for key in keys)})" for each in (here, there))

    def _check_version(self, status: Mapping[str, Any], method: str) -> None:
        """Raises DataError where it is known that another version of the method trained."""
        code, found = code_of(method), MethodCode.recorded_in(status)
        if code is not None and code.version != found.version:
            expected = f"a training by version {code.version} of {method}"
            raise DataError(self.status_file, expected, f"one by version {found.version}")

    def is_trained(self, cell: Cell, data_digest: str | None, threads: int | None = None) -> bool:
        """Whether the folder holds the finished training of ``cell`` on the data of this digest, its files unharmed.

        By the version of the method's code that it has now, whatever its source. threads: it must have been on so many,
        where it was on the CPU; None: on any number. No snapshot that the cell asks for may be missing. Damaged files
        are reported in one line.
        """
        if not self.status_file.exists():
            return False
        try:
            status = self.status()
            if not self._is_of(status, cell, data_digest):
                return False
            if threads is not None and _on_other_threads(status, threads):
                return False
            if status["status"] not in HAVE_MODEL:
                return True
            check_file(self.model_file, status.get("model_sha256"))
            for name, digest in status.get("files", {}).items():
                check_file(self.path / name, digest)
        except DataError as error:
            log.warning(f"{error}; training starts again")
            return False
        return not self.missing_snapshots(cell.training, status.get("n_updates", 0))

    def check_threads(self, cell: Cell, data_digest: str | None, threads: int) -> None:
        """That the folder does not hold the finished training of ``cell`` on another number of threads.

        Raises ConfigError that names it: who asks for it by hand has hardly meant to replace what may have taken hours.
        """
        if not self.status_file.exists():
            return
        try:
            status = self.status()
            same = self._is_of(status, cell, data_digest)
        except DataError:  # what is damaged or by another version is trained again, whoever asks for it
            return
        if same and status["status"] in HAVE_MODEL and "threads" in status and _on_other_threads(status, threads):
            raise ConfigError(
                f"{self.path}: expected a training on {threads} threads, found a finished one on {status['threads']} "
                f"({status['n_updates']} updates): ask for as many, or remove the folder to train again"
            )

    def _is_of(self, status: Mapping[str, Any], cell: Cell, data_digest: str | None) -> bool:
        """Whether a status is of the finished training of ``cell``; raises DataError where it is by another version."""
        expected = {"training_digest": cell.training_digest, "data_digest": data_digest}
        if status["status"] not in FINAL or any(status.get(key) != value for key, value in expected.items()):
            return False
        self._check_version(status, cell.method)
        return True

    def is_by_other_code(self, code: MethodCode | None) -> bool:
        """Whether a training is here that is known to be by other code than this; of None, nothing is known.

        Raises DataError as ``status`` does.
        """
        return is_by_other_code(self.status(), code)

    def name_other_code(self, cell: Cell) -> None:
        """Say that other code of the method made the finished training of ``cell`` here, where that is so."""
        if self.is_by_other_code(code_of(cell.method)):
            print(
                f"harness: {cell.path}: was trained by other code of {cell.method}; `harness forget {cell.method}`"
                " removes it",
                file=sys.stderr,
            )

    # -- what training leaves ------------------------------------------------------------------------------------

    def save_model(self, model: nn.Module, cell: Cell) -> str:
        """Write the weights that training chose; their sha256. Raises HarnessError where they cannot be written."""
        weights.save(self.model_file, model, cell)
        return file_digest(self.model_file)

    def load_model(self, model: nn.Module, expected_digest: str) -> None:
        """Fill ``model``; raises DataError when the file is missing or is not the one that training wrote."""
        weights.load(self.model_file, model, expected_digest)

    def save_snapshot(self, update: int, model: nn.Module, cell: Cell) -> None:
        """Keep the weights as they are after an update. Raises HarnessError where they cannot be written."""
        weights.save(self.snapshot_file(update), model, cell)

    def load_snapshot(self, update: int, model: nn.Module, cell: Cell) -> None:
        """Fill ``model`` with the weights after an update of the training of ``cell``.

        Raises DataError where they are missing, damaged or of another training.
        """
        path = self.snapshot_file(update)
        if self.status_file.exists():  # a training that is under way has none yet
            self.checked(path, self.status())
        weights.load_of_cell(path, model, cell, f"the weights after update {update}")

    def missing_snapshots(self, training: Training, n_updates: int) -> list[int]:
        """Updates of the first ``n_updates`` whose weights should be here and are not."""
        due = (update for update in snapshots.updates(training) if update <= n_updates)
        return [update for update in due if not self.snapshot_file(update).is_file()]

    def remove_snapshots(self) -> None:
        """Remove all of them."""
        for path in self._snapshot_files():
            path.unlink()

    def _snapshot_files(self) -> list[Path]:
        return sorted(self.snapshots_folder.glob("*.safetensors"))

    def digests_of_files(self) -> dict[str, str]:
        """sha256 of what training leaves beside the model, for the status: the learning curve and the snapshots."""
        paths = [self.curve_file, *self._snapshot_files()]
        return {path.relative_to(self.path).as_posix(): file_digest(path) for path in paths}

    def checked(self, path: Path, status: Mapping[str, Any]) -> Path:
        """``path``, of a file that training left; raises DataError where it is not the one that ``status`` knows."""
        expected = status.get("files", {}).get(path.relative_to(self.path).as_posix())
        if expected is not None:
            check_file(path, expected)
        return path

    def copy_training(self, source: RunFolder, cell: Cell) -> None:
        """Put the finished training of ``cell`` in ``source`` in place of that in this folder; the status last."""
        with atomic.changing(self.path):
            for path in (self.status_file, self.model_file):
                path.unlink(missing_ok=True)
            self.remove_snapshots()
        self.write_config(cell)
        kept = [source.curve_file, source.model_file, *sorted(source.snapshots_folder.glob("*"))]
        for path in (*kept, source.status_file):
            if path.is_file():
                copy = self.path / path.relative_to(source.path)
                atomic.write(copy, lambda temporary, path=path: shutil.copyfile(path, temporary))

    # -- what the evaluation measured ----------------------------------------------------------------------------

    def write_measurements(self, rows: Sequence[Mapping[str, Any]], rows_digest: str) -> None:
        """``metrics.json``: one row per measurement, and the sha256 of ``rows.parquet``, which is there already."""
        write_json(self.metrics_file, {"rows": rows, ROWS_DIGEST: rows_digest})

    def measurements(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.json``, at least one; raises DataError where it is missing or damaged."""
        rows = read_json(self.metrics_file).get("rows")
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise DataError(self.metrics_file, "rows, a list of at least one measurement", rows)
        return rows

    def check_measurements(self) -> str | None:
        """sha256 of ``rows.parquet`` as ``metrics.json`` has it; None where an earlier version measured, without rows.

        Raises DataError where either of the two is damaged, or they are not of one evaluation.
        """
        self.measurements()
        expected = read_json(self.metrics_file).get(ROWS_DIGEST)
        if expected is None:
            return None
        remedy = ", as metrics.json has it (remove that file to measure the model again)"
        check_file(self.rows_file, expected, remedy)
        return expected

    def remove_measurements(self) -> None:
        """The values per row last: where there is a ``metrics.json``, they are beside it."""
        self.metrics_file.unlink(missing_ok=True)
        self.rows_file.unlink(missing_ok=True)

    def discard_damaged(self) -> None:
        """Remove damaged records, so that the workflow makes them again; each is reported in one line.

        Without a readable ``status.json`` the model has to be trained again, and all that was made of it.
        """
        readers = {
            self.status_file: self.status,
            self.metrics_file: self.check_measurements,
            self.manifest_file: lambda: read_json(self.manifest_file),
        }
        for path, read in readers.items():
            if not path.exists():
                continue
            try:
                read()
            except DataError as error:
                log.warning(f"{error}; made again")
                for each in readers if path == self.status_file else [path]:
                    each.unlink(missing_ok=True)


def _on_other_threads(status: Mapping[str, Any], threads: int) -> bool:
    """Whether a training was on another number of threads of a CPU; on a GPU they compute nothing."""
    return status.get("threads") != threads and str(status.get("device")).startswith("cpu")


def _key_by_key(cell: Cell) -> dict[str, str]:
    """All that decides a training, as JSON."""
    values = cell.training_values()
    parts = {f"{part}.{key}": value for part in ("model", "training") for key, value in values.pop(part).items()}
    return {key: canonical_json(value) for key, value in {**values, **parts}.items()}


def training_to_copy(
    folders: Iterable[RunFolder], cell: Cell, data_digest: str | None, threads: int | None = None
) -> RunFolder | None:
    """The first of the folders that ``is_trained``; one by other code is left where it is, and reported in one line."""
    for folder in folders:
        if folder.is_trained(cell, data_digest, threads):
            if not folder.is_by_other_code(code_of(cell.method)):
                return folder
            log.warning(f"{folder}: was trained by other code of {cell.method}; not copied")
    return None
