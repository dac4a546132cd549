"""The folder of one run: what is in it, and how it is read and written.

``config.json`` (the cell), ``model.safetensors`` (the best weights), ``curve.csv`` (the learning curve),
``status.json`` (how training ended; written last), ``rows.parquet`` and then ``metrics.json`` (what the evaluation
measured, row by row and in all), while training is under way ``checkpoint.safetensors``, after a long evaluation its
pieces in ``measured.safetensors``, ``snapshots/`` where the cell asks for them, after a crash ``crashes.json``, and
``.lock`` while a process works there. Expected ends are statuses, not exceptions: tables render them. Only
``metrics.json`` is an output that Snakemake knows of, since it deletes those before it runs a job again: all else
outlives a change of the evaluation, a kill and a crash.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import atomic
from harness.errors import DataError, HarnessError
from harness.settings.config import Cell, canonical_json
from harness.storage import snapshots
from harness.storage.method_code import MethodCode, code_of
from harness.storage.records import file_digest, read_json, write_json

if TYPE_CHECKING:  # the workflow reads these files without torch, which takes a second to import
    from torch import nn

log = logging.getLogger(__name__)

ROWS_FILE, ROWS_DIGEST = "rows.parquet", "rows_sha256"  # values per row, and the key of metrics.json with their digest
OK, TIMEOUT, UNAVAILABLE, DIVERGED, FAILED = "ok", "timeout", "unavailable", "diverged", "failed"
STATUSES = (OK, TIMEOUT, UNAVAILABLE, DIVERGED, FAILED)
HAVE_MODEL = (OK, TIMEOUT)
NO_LIKELIHOOD = "no likelihood"  # of a model that is fine, in place of its measurements
MEMORY_TRIES = 4  # on a cluster, each try has more memory up to this one (workflows/profiles/slurm/config.yaml)
FINAL = (OK, TIMEOUT, DIVERGED)  # training again would end the same way; without data or after a crash it may not


def read_status(run: Path) -> dict[str, Any]:
    """``status.json``; raises DataError where it is missing, damaged or has no status."""
    path = run / "status.json"
    found = read_json(path)
    if found.get("status") not in STATUSES or not isinstance(found.get("message"), str):
        raise DataError(path, f"a status, one of {', '.join(STATUSES)}, and a message", sorted(found))
    return found


def status_of(run: Path, cell: Cell) -> dict[str, Any]:
    """``read_status`` of the training of ``cell``.

    Raises DataError where the folder holds that of another cell, of other settings, or by another version of the
    method's code.
    """
    status, path = read_status(run), run / "status.json"
    digest = of_training = status.get("training_digest")
    if digest is None and (run / "config.json").exists():  # nothing was trained
        path = run / "config.json"
        digest = read_json(path).get("training_digest")
    if digest not in (None, cell.training_digest):
        expected, found = _differences(run, cell)
        raise DataError(path, f"training digest {cell.training_digest}{expected}", f"{digest}{found}")
    if of_training is not None:
        _check_version(path, status, cell.method)
    return status


def _check_version(path: Path, status: Mapping[str, Any], method: str) -> None:
    """Raises DataError where it is known that another version of the method trained."""
    code, found = code_of(method), MethodCode.recorded_in(status)
    if code is not None and code.version != found.version:
        raise DataError(path, f"a training by version {code.version} of {method}", f"one by version {found.version}")


def _differences(run: Path, cell: Cell) -> tuple[str, str]:
    """What a cell has and what ``config.json`` has where they differ, in words; nothing where that cannot be read."""
    try:
        here, there = (_key_by_key(each) for each in (cell, read_config(run / "config.json")))
    except HarnessError:
        return "", ""
    keys = [key for key in {**here, **there} if here.get(key) != there.get(key)]
    return tuple(f" ({', '.join(f'{key} {each.get(key)}' for key in keys)})" for each in (here, there))


def _key_by_key(cell: Cell) -> dict[str, str]:
    """All that decides a training, as JSON."""
    values = cell.training_values()
    parts = {f"{part}.{key}": value for part in ("model", "training") for key, value in values.pop(part).items()}
    return {key: canonical_json(value) for key, value in {**values, **parts}.items()}


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The measurements in ``metrics.json``, at least one; raises DataError where it is missing or damaged."""
    path = run / "metrics.json"
    rows = read_json(path).get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(path, "rows, a list of at least one measurement", rows)
    return rows


def discard_damaged(run: Path) -> None:
    """Remove damaged records of a run or a trial, so that the workflow makes them again; each is reported in one line.

    Without a readable ``status.json`` the model has to be trained again, and all that was made of it.
    """
    readers = {
        "status.json": lambda: read_status(run),
        "metrics.json": lambda: check_measurements(run),
        "analyses.json": lambda: read_json(run / "analyses.json"),
    }
    for name, read in readers.items():
        if not (run / name).exists():
            continue
        try:
            read()
        except DataError as error:
            log.warning(f"{error}; made again")
            for each in readers if name == "status.json" else [name]:
                (run / each).unlink(missing_ok=True)


def check_measurements(run: Path) -> str | None:
    """sha256 of ``rows.parquet`` as ``metrics.json`` has it; None where an earlier version measured, without rows.

    Raises DataError where either of the two is damaged, or they are not of one evaluation.
    """
    read_rows(run)
    expected = read_json(run / "metrics.json").get(ROWS_DIGEST)
    if expected is None:
        return None
    check_file(run / ROWS_FILE, expected, ", as metrics.json has it (remove that file to measure the model again)")
    return expected


def write_config(run: Path, cell: Cell) -> None:
    """``config.json``: the cell and the digest of its training part."""
    write_json(run / "config.json", {**cell.to_dict(), "training_digest": cell.training_digest})


def read_config(path: Path) -> Cell:
    """The cell of a ``config.json``."""
    values = read_json(path)
    values.pop("training_digest", None)
    return Cell.from_dict(values)


def write_status(run: Path, status: str, message: str = "", **facts: Any) -> None:
    """``status.json``: how training ended, with what is known about it."""
    write_json(run / "status.json", {"status": status, "message": message, **facts})


def is_trained(run: Path, cell: Cell, data_digest: str | None, threads: int | None = None) -> bool:
    """Whether the folder holds the finished training of ``cell`` on the data of this digest, its files unharmed.

    By the version of the method's code that it has now, whatever its source. threads: it must have been on so many,
    where it was on the CPU; None: on any number. No snapshot that the cell asks
    for may be missing. Damaged files are reported in one line.
    """
    if not (run / "status.json").exists():
        return False
    try:
        status = read_status(run)
        expected = {"training_digest": cell.training_digest, "data_digest": data_digest}
        if status["status"] not in FINAL or any(status.get(key) != value for key, value in expected.items()):
            return False
        _check_version(run / "status.json", status, cell.method)
        if threads not in (None, status.get("threads")) and str(status.get("device")).startswith("cpu"):
            return False
        if status["status"] not in HAVE_MODEL:
            return True
        check_file(run / "model.safetensors", status.get("model_sha256"))
        for name in status.get("files", {}):
            checked(run, status, name)
    except DataError as error:
        log.warning(f"{error}; training starts again")
        return False
    return not snapshots.missing(run, cell.training, status.get("n_updates", 0))


def is_by_other_code(status: Mapping[str, Any], code: MethodCode | None) -> bool:
    """Whether there was a training, known to be by other code than this; of None, nothing is known."""
    trained = bool(status.get("training_digest"))
    return trained and code is not None and MethodCode.recorded_in(status).is_other_than(code)


def name_other_code(run: Path, path: str, method: str) -> None:
    """Say that other code of the method made a finished training, where that is so."""
    if is_by_other_code(read_status(run), code_of(method)):
        print(
            f"harness: {path}: was trained by other code of {method}; `harness forget {method}` removes it",
            file=sys.stderr,
        )


def training_to_copy(
    folders: Iterable[Path], cell: Cell, data_digest: str | None, threads: int | None = None
) -> Path | None:
    """The first of the folders that ``is_trained``; one by other code is left where it is, and reported in one line."""
    for folder in folders:
        if is_trained(folder, cell, data_digest, threads):
            if not is_by_other_code(read_status(folder), code_of(cell.method)):
                return folder
            log.warning(f"{folder}: was trained by other code of {cell.method}; not copied")
    return None


def digests_of_files(run: Path) -> dict[str, str]:
    """sha256 of what training leaves beside the model, for ``status.json``: the learning curve and the snapshots."""
    paths = [run / "curve.csv", *sorted((run / snapshots.FOLDER).glob("*.safetensors"))]
    return {path.relative_to(run).as_posix(): file_digest(path) for path in paths}


def checked(run: Path, status: Mapping[str, Any], name: str) -> Path:
    """The path of a file that training left; raises DataError where it is not the one that ``status`` knows."""
    expected = status.get("files", {}).get(name)
    if expected is not None:
        check_file(run / name, expected)
    return run / name


def check_file(path: Path, expected: str | None, remedy: str = "") -> None:
    """Raises DataError, with what to do about it, unless the file has this sha256."""
    try:
        found = file_digest(path)
    except OSError as error:
        raise DataError(path, f"a file of sha256 {expected}{remedy}", error.strerror) from error
    if found != expected:
        raise DataError(path, f"sha256 {expected}{remedy}", found)


def copy_training(source: Path, run: Path, cell: Cell) -> None:
    """Put the finished training of ``cell`` in the folder ``source`` in place of that in ``run``; the status last."""
    with atomic.changing(run):
        for name in ("status.json", "model.safetensors"):
            (run / name).unlink(missing_ok=True)
        snapshots.remove(run)
    write_config(run, cell)
    kept = [source / "curve.csv", source / "model.safetensors", *sorted((source / snapshots.FOLDER).glob("*"))]
    for path in (*kept, source / "status.json"):
        if path.is_file():
            copy = run / path.relative_to(source)
            atomic.write(copy, lambda temporary, path=path: shutil.copyfile(path, temporary))


def crashes(run: Path) -> int:
    """How often this run has crashed so far; a success does not take that back. A damaged count starts again."""
    path = run / "crashes.json"
    if not path.exists():
        return 0
    try:
        count = read_json(path).get("count")
        if not isinstance(count, int) or count < 0:
            raise DataError(path, "a count of crashes", count)
    except DataError as error:
        log.warning(f"{error}; counting starts again")
        return 0
    return count


def count_crash(run: Path, message: str, killed_at: int | None = None) -> None:
    """``crashes.json``: one crash more. killed_at: the try that a SIGKILL ended."""
    here = _crashes_of_this_call(run) + 1
    facts = {"count": crashes(run) + 1, "of_this_call": here, "message": message, "killed_at": killed_at}
    write_json(run / "crashes.json", facts)


def forget_crashes(run: Path, attempt: int, succeeded: bool) -> None:
    """At the first try of a call, earlier crashes are those of other calls; those of a call that ends well never were.

    Snakemake knows the count from before the call, and would run again what has another one after it.
    """
    here = _crashes_of_this_call(run)
    if here and (succeeded or attempt == 1):
        facts = read_json(run / "crashes.json")
        count = facts["count"] - here if succeeded else facts["count"]
        write_json(run / "crashes.json", {**facts, "count": count, "of_this_call": 0})


def _crashes_of_this_call(run: Path) -> int:
    try:
        found = read_json(run / "crashes.json").get("of_this_call", 0)
    except DataError:
        return 0
    return found if isinstance(found, int) else 0


def killed_at_last(run: Path, attempt: int) -> bool:
    """Whether this is one try more after the run was killed in one that had all the memory it can get."""
    try:
        killed_at = read_json(run / "crashes.json").get("killed_at")
    except DataError:
        return False
    return isinstance(killed_at, int) and MEMORY_TRIES <= killed_at < attempt


def save_model(path: Path, model: nn.Module, cell: Cell) -> None:
    """Weights and buffers; the bytes depend on them and on the configuration only.

    Raises HarnessError, naming the file, where it cannot be written.
    """
    from safetensors.torch import save

    # copies, since tied weights are one tensor of two names, which the library refuses
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    # one entry: the library keeps several in no fixed order, and the bytes must not depend on the process
    atomic.write_bytes(path, save(tensors, {"bihm-harness": _origin(cell)}))


def _origin(cell: Cell) -> str:
    return canonical_json({"method": cell.method, "training_digest": cell.training_digest})


def load_model(path: Path, model: nn.Module, expected_digest: str) -> None:
    """Fill ``model``; raises DataError when the file is missing or is not the one that training wrote."""
    from safetensors.torch import load_file

    if not path.exists():
        raise DataError(path, "the weights that training wrote", "no such file")
    check_file(path, expected_digest)
    model.load_state_dict(load_file(path))


def load_snapshot(run: Path, update: int, model: nn.Module, cell: Cell) -> None:
    """Fill ``model`` with the weights after an update of the training of ``cell``; raises DataError where it cannot."""
    from safetensors import SafetensorError, safe_open

    path = snapshots.path_of(run, update)
    if (run / "status.json").exists():  # a training that is under way has none yet
        checked(run, read_status(run), path.relative_to(run).as_posix())
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("bihm-harness")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(path, f"the weights after update {update}", error) from error
    if found != _origin(cell):
        raise DataError(path, f"weights of {_origin(cell)}", found)
    model.load_state_dict(tensors)
