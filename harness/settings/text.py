"""Settings as text, YAML or JSON, read in one way wherever they come from: files, ``--config``, ``--settings``.

What is read are words, numbers, true, false and null in lists and mappings whose keys are words. YAML 1.1, which the
parser knows, has surprises, and those that would change what somebody wrote are errors that name key and line: a key
that is no word (``1``, ``on``, ``.nan``), a key that is there twice, a number that is not finite, ``010`` (eight) and
``1:30`` (ninety). ``1e-3``, ``1e3`` and ``1.0e2`` are numbers, as in YAML 1.2 and JSON.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from harness.errors import ConfigError

MOST_VALUES = 1_000_000  # aliases of aliases can stand for more values than fit into any memory
_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML in which 4e-05, as JSON writes it, is a number; YAML 1.1 wants a point as well, and takes it for a word."""


_Loader.add_implicit_resolver(f"{_TAG}float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


def parse_settings(text: str, name: str) -> Any:
    """The value of a YAML or JSON text. Raises ConfigError that says where: ``name``, key and line."""
    if text.lstrip().startswith("{"):
        try:
            return _parse_json(text)
        except (ValueError, RecursionError):
            pass  # no JSON, or one with a fault that the other reader can place
    try:
        node = yaml.compose(text, _Loader)
        return None if node is None else _Reader(name).value(node, ())
    except RecursionError as error:
        raise ConfigError(f"{name}: expected YAML, found lists or mappings nested too deeply") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: expected YAML or JSON, found {_trouble(error)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file. Raises ConfigError that names the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected a readable YAML file, found bytes that are not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable YAML file, found {error.strerror}") from error
    value = parse_settings(text, str(path))
    if not isinstance(value, dict):
        found = "an empty file" if value is None else type(value).__name__
        raise ConfigError(f"{path}: expected a mapping, found {found}")
    return value


def typed(value: Any, name: str, path: Sequence[str] = ()) -> Any:
    """A value of Snakemake's ``--config``, whose words, also those deep inside, are to be read as YAML reads them."""
    if isinstance(value, Mapping):
        return {_word_key(key, name, path): typed(item, name, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [typed(item, name, (*path, str(i))) for i, item in enumerate(value)]
    if isinstance(value, str):
        tag = _Loader("").resolve(yaml.ScalarNode, value, (True, False))
        return _Reader(name).scalar(yaml.ScalarNode(tag, value), path)
    return plain(value, name, path)


def plain(value: Any, name: str, path: Sequence[str] = ()) -> Any:
    """A value of Python as YAML would give it: tuples as lists, paths as words, numbers of numpy as numbers.

    Raises ConfigError for anything else, for keys that are no words, and for numbers that are not finite.
    """
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return {_word_key(key, name, path): plain(item, name, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, name, (*path, str(i))) for i, item in enumerate(value)]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return _finite(float(value), str(value), name, path)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    _refuse(name, path, "a word, a number, true, false, null, a list or a mapping", type(value).__name__)


def _parse_json(text: str) -> Any:
    def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        pairs = list(pairs)
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key that occurs twice")
        return found

    def finite(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError("a number that is not finite")
        return value

    return json.loads(text, object_pairs_hook=unique, parse_constant=finite, parse_float=finite)


def _trouble(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"a fault in line {mark.line + 1}, column {mark.column + 1}: {problem}"


def dotted(path: Sequence[str]) -> str:
    """The path of a key in one line."""
    return ".".join(part if part.isprintable() else repr(part) for part in path)


def _refuse(name: str, path: Sequence[str], expected: str, found: str) -> NoReturn:
    place = f"{name}: {dotted(path)}" if path else name
    raise ConfigError(f"{place}: expected {expected}, found {found}")


def _word_key(key: Any, name: str, path: Sequence[str]) -> str:
    if not isinstance(key, str):
        _refuse(name, path, "keys that are words", repr(key))
    return key


def _finite(value: float, text: str, name: str, path: Sequence[str], where: str = "") -> float:
    if not math.isfinite(value):
        _refuse(name, path, "a finite number", text + where)
    return value


class _Reader:
    """Makes values of a text's syntax tree, and knows where it is for the sake of its errors."""

    def __init__(self, name: str):
        self.name = name
        self.n_values = 0
        self.above: list[yaml.Node] = []

    def value(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        self.n_values += 1
        if self.n_values > MOST_VALUES:
            _refuse(self.name, path, f"at most {MOST_VALUES} values", "more, by aliases")
        if node in self.above:
            _refuse(self.name, path, "a value that does not contain itself", f"such an alias{_line(node)}")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            _refuse(self.name, path, "a list or a mapping", f"the tag {node.tag.removeprefix(_TAG)}{_line(node)}")
        self.above.append(node)
        if isinstance(node, yaml.SequenceNode):
            found: Any = [self.value(item, (*path, str(i))) for i, item in enumerate(node.value)]
        else:
            found = self.mapping(node, path)
        self.above.pop()
        return found

    def mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in reversed(parts):
                    found = self.value(part, (*path, "<<"))
                    if not isinstance(found, dict):
                        _refuse(self.name, (*path, "<<"), "mappings to merge", type(found).__name__ + _line(part))
                    merged |= found
                continue
            key = self.key(key_node, path)
            if key in lines:
                both = f"lines {lines[key].start_mark.line + 1} and {key_node.start_mark.line + 1}"
                _refuse(self.name, (*path, key), "a key that is given once", f"it twice ({both})")
            lines[key] = key_node
            own[key] = self.value(value_node, (*path, key))
        return {**merged, **own}

    def key(self, node: yaml.Node, path: tuple[str, ...]) -> str:
        if not isinstance(node, yaml.ScalarNode):
            _refuse(self.name, path, "keys that are words", f"a list or mapping as key{_line(node)}")
        if node.tag not in (f"{_TAG}str", f"{_TAG}timestamp"):
            kind = node.tag.removeprefix(_TAG)
            found = f"{node.value!r}{_line(node)}, which YAML takes for {kind}: put it in quotes if it is meant"
            _refuse(self.name, path, "keys that are words", found)
        return node.value

    def scalar(self, node: yaml.ScalarNode, path: Sequence[str]) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "value"):
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return yaml.SafeLoader.bool_values[text.lower()]
        if kind == "int" and _DECIMAL.fullmatch(text):
            return int(text)
        if kind == "float" and _FLOAT.fullmatch(text):
            return _finite(float(text), text, self.name, path, _line(node))
        if kind == "float" and text.lower().lstrip("+-") in (".inf", ".nan"):
            _refuse(self.name, path, "a finite number", text + _line(node))
        if kind in ("int", "float"):
            _refuse(self.name, path, "a decimal number, or a word in quotes", f"{text}{_line(node)}")
        _refuse(self.name, path, "a word, a number, true, false or null", f"the tag {kind}{_line(node)}")


def _line(node: yaml.Node) -> str:
    return f" in line {node.start_mark.line + 1}" if node.start_mark else ""
