"""Checking configuration against JSON schemas, with errors that name the key."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jsonschema

from harness.errors import ConfigError, HarnessError

_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def check(value: Any, schema: dict[str, Any], where: str) -> None:
    """Raise ConfigError naming the first key of ``value`` that is unknown, missing or of the wrong type.

    ``where`` says whose configuration it is.
    """
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(value), key=lambda e: [str(part) for part in e.absolute_path])
    if not errors:
        return
    error = jsonschema.exceptions.best_match(errors)
    path = ".".join(str(part) for part in error.absolute_path)
    place = f"{where}: {path}" if path else where
    if error.validator == "additionalProperties" and isinstance(error.schema.get("properties"), dict):
        unknown = sorted(set(error.instance) - set(error.schema["properties"]))
        known = ", ".join(sorted(error.schema["properties"]))
        raise ConfigError(f"{place}: unknown key {', '.join(map(repr, unknown))}; expected one of {known}")
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        raise ConfigError(f"{place}: expected key {', '.join(map(repr, missing))}, found none")
    if error.validator == "type":
        raise ConfigError(f"{place}: expected {error.validator_value}, found {error.instance!r}")
    raise ConfigError(f"{place}: {error.message}")


def arguments_schema(function: Callable[..., Any], n_given: int) -> dict[str, Any]:
    """JSON schema of the arguments of a function after its first ``n_given``, from its signature.

    Raises HarnessError for an annotation other than int, float, str, bool, lists of them, None beside one of them, and
    Literal.
    """
    hints = get_type_hints(function)
    parameters = list(inspect.signature(function).parameters.values())[n_given:]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [p.name for p in parameters if p.default is p.empty],
        "properties": {p.name: _type_schema(hints.get(p.name)) for p in parameters},
    }


def _type_schema(hint: Any) -> dict[str, Any]:
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is list:
        return {"type": "array", "items": _type_schema(get_args(hint)[0])}
    if type(None) in get_args(hint) and len(get_args(hint)) == 2:
        one = _type_schema(next(each for each in get_args(hint) if each is not type(None)))
        return {**one, "type": [one["type"], "null"]}
    raise HarnessError(f"annotation: expected int, float, str, bool, a list of them or Literal, found {hint}")
