"""Checking configuration against JSON schemas, with errors that name the key."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import jsonschema

from harness.errors import ConfigError, HarnessError
from harness.ranges import Range

JSON_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
LONGEST_FOUND = 100  # characters of a wrong value that an error repeats


def check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError naming the first key of ``value`` that is unknown, missing or of the wrong type.

    ``where`` says whose configuration it is.
    """
    found = first_error(value, schema)
    if found:
        path, message = found
        raise ConfigError(f"{where}: {'.'.join(path)}: {message}" if path else f"{where}: {message}")


def first_error(value: Any, schema: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:
    """Path and text of what is most wrong with a value, ``expected ..., found ...``; None where nothing is."""
    errors = sorted(_validator()(schema).iter_errors(value), key=lambda e: [str(part) for part in e.absolute_path])
    if not errors:
        return None
    error = jsonschema.exceptions.best_match(errors)
    return tuple(str(part) for part in error.absolute_path), _message(error)


@cache
def _validator() -> type:
    """JSON schema with the word ``ascending``, for lists."""

    def ascending(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
        if wanted and isinstance(value, list) and any(a >= b for a, b in itertools.pairwise(value)):
            yield jsonschema.ValidationError("ascending")

    return jsonschema.validators.extend(jsonschema.Draft202012Validator, {"ascending": ascending})


def shown(value: Any) -> str:
    """A wrong value as errors repeat it, in one line."""
    text = repr(value)
    return text if len(text) <= LONGEST_FOUND else f"{text[:LONGEST_FOUND]}..."


def _message(error: jsonschema.ValidationError) -> str:
    wanted, found = error.validator_value, error.instance
    if error.validator == "additionalProperties" and isinstance(error.schema.get("properties"), dict):
        unknown = sorted(set(found) - set(error.schema["properties"]))
        known = ", ".join(sorted(error.schema["properties"])) or "none at all"
        return f"unknown key {', '.join(map(shown, unknown))}; expected one of {known}"
    if error.validator == "required":
        missing = [key for key in wanted if key not in found]
        return f"expected key {', '.join(map(repr, missing))}, found none"
    expected = {
        "type": lambda: " or ".join([wanted] if isinstance(wanted, str) else wanted),
        "enum": lambda: f"one of {', '.join(map(str, wanted))}",
        "minimum": lambda: f"at least {wanted}",
        "maximum": lambda: f"at most {wanted}",
        "exclusiveMinimum": lambda: f"a number above {wanted}",
        "exclusiveMaximum": lambda: f"a number below {wanted}",
        "minItems": lambda: f"at least {wanted} of them",
        "minProperties": lambda: f"at least {wanted} key",
        "minLength": lambda: "a word that is not empty",
        "uniqueItems": lambda: "values that differ",
        "ascending": lambda: "ascending numbers",
        "pattern": lambda: error.schema.get("description", f"a word like {wanted}"),
    }.get(error.validator)
    return f"expected {expected()}, found {shown(found)}" if expected else error.message


def with_integers(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """A copy of ``value`` with 100.0 as 100 where the schema wants integers, and all else as it is."""
    root = schema if root is None else root
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        parts = {key: known.get(key, others if isinstance(others, dict) else {}) for key in value}
        return {key: with_integers(item, parts[key], root) for key, item in value.items()}
    if isinstance(value, list):
        return [with_integers(item, schema.get("items", {}), root) for item in value]
    types = schema.get("type", ())
    types = (types,) if isinstance(types, str) else types
    if isinstance(value, float) and value.is_integer() and "integer" in types and "number" not in types:
        return int(value)
    return value


def arguments_schema(function: Callable[..., Any], n_given: int) -> dict[str, Any]:
    """JSON schema of the arguments of a function after its first ``n_given``, from its signature.

    Raises HarnessError for an annotation other than int, float, str, bool, lists of them, None beside one of them,
    Literal, and Annotated with ranges (see ``harness.ranges``).
    """
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())[n_given:]
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {
        "type": "object",
        "additionalProperties": any(p.kind == p.VAR_KEYWORD for p in parameters),
        "required": [p.name for p in named if p.default is p.empty],
        "properties": {p.name: _type_schema(hints.get(p.name)) for p in named},
    }


def _type_schema(hint: Any) -> dict[str, Any]:
    if isinstance(hint, type) and hint.__name__ in JSON_TYPES and hint.__module__ == "builtins":
        return {"type": JSON_TYPES[hint.__name__]}
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        return within(_type_schema(base), extras)
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is list:
        return {"type": "array", "items": _type_schema(get_args(hint)[0])}
    if type(None) in get_args(hint) and len(get_args(hint)) == 2:
        return or_null(_type_schema(next(each for each in get_args(hint) if each is not type(None))))
    raise HarnessError(f"annotation: expected int, float, str, bool, a list of them or Literal, found {hint}")


def within(schema: dict[str, Any], extras: Iterable[Any]) -> dict[str, Any]:
    """The schema of Annotated; of its extras, what is no range is for others."""
    for extra in extras:
        if isinstance(extra, Range):
            schema = {**schema, **extra.schema}
    return schema


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of ``X | None``."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    return {**schema, "type": [schema["type"], "null"]}
