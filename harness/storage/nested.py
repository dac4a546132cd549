"""Nested dictionaries and lists with tensors in them, such as the state of an optimiser, as checkpoints can hold them.

A checkpoint is tensors by name and JSON. What JSON cannot tell apart is spelt out, so that everything comes back as it
was: tensors by their names, tuples, and dictionaries, whose keys may be numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from harness.errors import HarnessError

TENSOR, TUPLE, ITEMS = "tensor", "tuple", "items"


def taken_apart(value: Any, name_of_all: str) -> tuple[Any, dict[str, Tensor]]:
    """What JSON can hold, and the tensors, under names that begin with ``name_of_all``.

    Raises HarnessError, naming the place, for anything but tensors, numbers, text, None, lists, tuples, dictionaries.
    """
    tensors: dict[str, Tensor] = {}

    def apart(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            key = f"{name_of_all}{len(tensors)}"
            tensors[key] = value
            return {TENSOR: key}
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) in (list, tuple):
            parts = [apart(each, f"{name}.{i}") for i, each in enumerate(value)]
            return parts if isinstance(value, list) else {TUPLE: parts}
        if isinstance(value, Mapping) and all(type(key) in (int, str) for key in value):
            return {ITEMS: [[key, apart(each, f"{name}.{key}")] for key, each in value.items()]}
        raise HarnessError(
            f"{name}: expected tensors, numbers, text, lists, tuples and dictionaries, which a checkpoint can hold, "
            f"found {type(value).__name__}"
        )

    return apart(value, name_of_all), tensors


def put_together(parts: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What ``taken_apart`` was given."""
    if isinstance(parts, list):
        return [put_together(each, tensors) for each in parts]
    if not isinstance(parts, dict):
        return parts
    if TENSOR in parts:
        return tensors[parts[TENSOR]]
    if TUPLE in parts:
        return tuple(put_together(each, tensors) for each in parts[TUPLE])
    return {key: put_together(each, tensors) for key, each in parts[ITEMS]}
