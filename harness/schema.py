"""Checking configuration against JSON schemas, with errors that name the key."""

from __future__ import annotations

from typing import Any

import jsonschema

from harness.errors import ConfigError


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
