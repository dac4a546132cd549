"""The code of a method: the version that its author counts, and the digest of its source, read without running it.

``status.json`` of every training records both. What was made by other code is named and never copied; it is made again
where the ``version`` of the class is another one, since only its author can say whether a change matters to the
numbers. The source is one file: that of the class, and for a method of a package the package's version as well. What
was recorded before there were versions counts as version 1, of a source that is not known.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from harness.errors import ConfigError
from harness.plugins.registry import file_of, object_of, origin
from harness.plugins.versions import FIRST, class_in_text, version_in, version_of
from harness.settings.config import Cell
from harness.storage.records import file_digest

TOLD = 5  # cells that are named in one line
VERSION, SOURCE = "method_version", "method_source"  # keys of status.json
_codes: WeakKeyDictionary[type, MethodCode] = WeakKeyDictionary()  # of classes that were imported


@dataclass(frozen=True)
class MethodCode:
    """version: of the method's class. source: sha256 of its file, after a package's name and version; '' unknown."""

    version: int
    source: str

    @classmethod
    def recorded_in(cls, facts: Mapping[str, Any]) -> MethodCode:
        """The code that a ``status.json`` or a line of a csv file names."""
        known = {key: facts[key] for key in (VERSION, SOURCE) if not _is_missing(facts.get(key))}
        return cls(int(float(known.get(VERSION, FIRST))), known.get(SOURCE, ""))

    def facts(self) -> dict[str, Any]:
        """The facts that ``recorded_in`` reads."""
        return {VERSION: self.version, **({SOURCE: self.source} if self.source else {})}

    def is_other_than(self, code: MethodCode) -> bool:
        """Whether the two are known to differ."""
        return self.version != code.version or bool(self.source and code.source and self.source != code.source)


def code_of(method: str) -> MethodCode | None:
    """The code that a method has now; None where its source cannot be read.

    Raises ConfigError for a ``version`` that is not a whole number in the text of the class.
    """
    made = object_of(method)
    if made is not None:
        return _code_of_object(made if isinstance(made, type) else type(made))
    found = class_in_text(method)
    if found is None:
        return None
    path, node = found
    package = "" if file_of(method) else f"{origin(method)} "
    return MethodCode(version_in(path, node), package + file_digest(path))


def _code_of_object(cls: type) -> MethodCode:
    """The code of a class that is in no file that the harness knows, as one of a notebook: its members, one by one."""
    members = (f"{name} = {_text_of(value)}" for name, value in sorted(vars(cls).items()))
    source = hashlib.sha256("\n".join(members).encode()).hexdigest()
    return MethodCode(getattr(cls, "version", FIRST), source)


def _text_of(value: Any) -> str:
    """The source of a function, else its instructions; a constant as it is written; nothing of other objects."""
    function = getattr(value, "__func__", getattr(value, "fget", value))
    if isinstance(function, FunctionType):
        try:
            return inspect.getsource(function)
        except (OSError, TypeError):
            return f"{function.__code__.co_code.hex()} {function.__code__.co_names}"
    return repr(value) if isinstance(value, str | int | float | tuple | list | dict) else ""


def code_of_class(method: str, cls: type) -> MethodCode:
    """The code of a method whose class was imported; raises ConfigError unless class and text have one version.

    A process keeps a class that it has imported. So that what a changed file says does not pass for what ran, the code
    is that of the first call.
    """
    imported = getattr(cls, "version", FIRST)
    code = code_of(method)
    if code is None:
        return MethodCode(imported, "")
    if imported != code.version:
        raise ConfigError(
            f"method {method}: expected version {code.version}, as the text of its class says, found {imported!r} in "
            "the class as it was imported; set it in the body of the class, and import a changed file again"
        )
    return _codes.setdefault(cls, code)


def is_by_other_code(status: Mapping[str, Any], code: MethodCode | None) -> bool:
    """Whether there was a training, known to be by other code than this; of None, nothing is known."""
    trained = bool(status.get("training_digest"))
    return trained and code is not None and MethodCode.recorded_in(status).is_other_than(code)


def training_key(cell: Cell) -> str:
    """The training digest of a cell, with the version of its method where that is not 1.

    Two cells of one key train the same model. Digests are those from before there were versions.
    """
    return key_of_version(cell.training_digest, version_of(cell.method))


def key_of_version(training_digest: str, version: int) -> str:
    """The ``training_key`` of a training by this version."""
    return training_digest if version == FIRST else f"{training_digest}-v{version}"


def in_one_line(paths: Sequence[str]) -> str:
    """The first few of many cells, and how many more there are."""
    more = len(paths) - TOLD
    return ", ".join(paths[:TOLD]) + (f" and {more} more" if more > 0 else "")


def _is_missing(value: Any) -> bool:
    """Whether a value is none, also in the ways in which csv files have it."""
    return value in (None, "") or (isinstance(value, float) and math.isnan(value))
