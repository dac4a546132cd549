"""The version of a method, which its author counts, read from the text of its class without running it.

Trained models belong to a version, and so do those that start from their weights: what names a training asks here.
"""

from __future__ import annotations

import ast
from pathlib import Path

from harness.errors import ConfigError, HarnessError
from harness.plugins.listing import class_body, class_of
from harness.plugins.registry import object_of
from harness.plugins.signatures import UnreadableError, lineage

FIRST = 1  # version of a method whose class does not say any


def version_of(method: str) -> int:
    """The version of a method; 1 where its source cannot be read.

    Raises ConfigError for a ``version`` that is not a whole number in the text of the class.
    """
    made = object_of(method)
    if made is not None:
        return getattr(made, "version", FIRST)
    found = class_in_text(method)
    return FIRST if found is None else version_in(*found)


def class_in_text(method: str) -> tuple[Path, ast.ClassDef] | None:
    """The file of a method and its class there; None where they cannot be read."""
    try:
        return class_of(method)
    except HarnessError:
        return None


def version_in(path: Path, node: ast.ClassDef) -> int:
    """What the class, or the first of its bases that does, says of its version.

    Raises ConfigError as ``version_of`` does.
    """
    try:
        classes = lineage(path, node)
    except (UnreadableError, HarnessError):  # of a base that only running the file can find
        classes = [(path, node)]
    for place, each in classes:
        value = class_body(each).get("version")
        if value is not None:
            if not isinstance(value, ast.Constant) or type(value.value) is not int:
                found = ast.unparse(value)
                raise ConfigError(f"{place}: class {each.name}: version: expected a whole number, found {found}")
            return value.value
    return FIRST
