"""``harness forget METHOD``: removes what other code of a method has trained, runs and search trials alike.

Snakemake then finds that their measurements are missing, and makes them again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from harness import atomic
from harness.errors import ConfigError, DataError, HarnessError
from harness.plugins.names import wrong_name
from harness.plugins.registry import origin
from harness.storage.method_code import MethodCode, code_of
from harness.storage.runs import RunFolder

FOLDERS = ("runs", "searches")  # of results; in both lie DATASET/METHOD/VARIANT/SEED or TRIAL


def forget(results: Path, method: str, everything: bool = False) -> list[Path]:
    """Remove the runs and trials of a method that other code has trained; their folders.

    everything: remove all of the method, unfinished ones as well, also where it is known no longer. Waits for processes
    that work in one of them. Raises ConfigError for a method or a folder of results that does not exist, HarnessError
    where the source of the method cannot be read, or a folder cannot be removed.
    """
    if wrong := wrong_name(method):
        raise ConfigError(f"method: {wrong}")
    if not any((results / name).is_dir() for name in FOLDERS):
        raise ConfigError(f"--results {results}: expected a folder with {' or '.join(FOLDERS)}, found none")
    found = sorted(path for name in FOLDERS for path in (results / name).glob(f"*/{method}/*/*") if path.is_dir())
    if everything and not found:
        origin(method)  # misspelt, perhaps
    chosen = found if everything else _by_other_code(found, method)
    for folder in chosen:
        with atomic.changing(folder):
            with RunFolder(folder).alone():
                shutil.rmtree(folder)
            with contextlib.suppress(OSError):  # what is not empty stays
                folder.parent.rmdir()
                folder.parent.parent.rmdir()
    return chosen


def _by_other_code(folders: Iterable[Path], method: str) -> list[Path]:
    origin(method)
    code = code_of(method)
    if code is None:
        raise HarnessError(f"method {method}: expected a source that can be read, found none (--all removes all of it)")
    return [folder for folder in folders if _is_by_other(folder, code)]


def _is_by_other(folder: Path, code: MethodCode) -> bool:
    try:
        return RunFolder(folder).is_by_other_code(code)
    except DataError:  # unfinished, or damaged: trained again in any case
        return False
