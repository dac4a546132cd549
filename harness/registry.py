"""Finding methods: built-in ones by file, third-party ones by entry point, all by name.

A built-in method is a module of the ``methods`` package; a published one names its module in the entry-point group
``bihm_harness.methods``. Nothing is imported until a method is asked for by name.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import methods
from harness.errors import ConfigError, HarnessError

ENTRY_POINT_GROUP = "bihm_harness.methods"


def built_in_names() -> set[str]:
    """Names of the methods that come with the harness."""
    return {module.name for module in pkgutil.iter_modules(methods.__path__)}


def method_names() -> list[str]:
    """Names of all methods that can be used, sorted."""
    return sorted(built_in_names() | {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})


def entry_point_of(name: str) -> EntryPoint | None:
    """The entry point that brings a method; None for a built-in one, which it cannot replace.

    Raises ConfigError when there is no method of this name.
    """
    if name in built_in_names():
        return None
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return entry
    raise ConfigError(f"method: expected one of {', '.join(method_names())}, found {name!r}")


def method_class(name: str) -> type:
    """The ``Method`` subclass of this name.

    Raises ConfigError when there is none, HarnessError when the module does not hold exactly one of that name.
    """
    entry = entry_point_of(name)
    if entry is not None:
        loaded = entry.load()
        return _only_method(loaded, name) if isinstance(loaded, ModuleType) else loaded
    return _only_method(importlib.import_module(f"{methods.__name__}.{name}"), name)


def _only_method(module: ModuleType, name: str) -> type:
    from harness.method import Method

    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if [cls.name for cls in found] != [name]:
        names = [getattr(cls, "name", cls.__name__) for cls in found]
        raise HarnessError(f"{module.__file__}: expected one Method with name = {name!r}, found {names}")
    return found[0]


_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def _type_schema(hint: Any) -> dict[str, Any]:
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    if get_origin(hint) is list:
        return {"type": "array", "items": _type_schema(get_args(hint)[0])}
    raise HarnessError(f"hyperparameter annotation: expected int, float, str, bool or a list of them, found {hint}")


def hyperparameter_schema(cls: type) -> dict[str, Any]:
    """JSON schema of the keyword arguments of a method after ``n_visible``, from its signature."""
    hints = get_type_hints(cls.__init__)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[2:]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [p.name for p in parameters if p.default is p.empty],
        "properties": {p.name: _type_schema(hints.get(p.name)) for p in parameters},
    }


def build(name: str, n_visible: int, hyperparameters: dict[str, Any]) -> Any:
    """An untrained method; raises ConfigError that names an unknown, missing or ill-typed hyperparameter."""
    from harness.schema import check  # takes longer to import than all the rest

    cls = method_class(name)
    check(hyperparameters, hyperparameter_schema(cls), f"model of method {name}")
    return cls(n_visible, **hyperparameters)
