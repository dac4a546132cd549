"""Hyperparameters of methods and settings of analyses, read from source texts, without PyTorch.

The result is what ``harness.schema.arguments_schema`` gives for the function itself, wherever the text says it all.
Where it does not (a base class that is not found, an annotation that is computed), there is no schema, and the
hyperparameters are checked when the model is built.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.plugins.listing import class_named, class_of
from harness.plugins.sources import imported_from, module_file, tree
from harness.ranges import Range
from harness.schema import JSON_TYPES, or_null, within


class UnreadableError(Exception):
    """The text does not say it; running it may."""


def hyperparameters(name: str) -> dict[str, Any] | None:
    """JSON schema of the hyperparameters of a method; None where only running its file can tell."""
    try:
        path, node = class_of(name)
        return _constructor_schema(path, node, path.stat().st_mtime_ns)
    except (HarnessError, UnreadableError, OSError):
        return None


def function_schema(path: Path, name: str, n_given: int) -> dict[str, Any] | None:
    """JSON schema of the arguments of a function of a file after its first ``n_given``; None as above."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            try:
                return _schema(path, node, n_given)
            except (HarnessError, UnreadableError):
                return None
    return None


@cache
def _constructor_schema(path: Path, node: ast.ClassDef, written_ns: int) -> dict[str, Any]:
    for place, each in lineage(path, node):
        if each.decorator_list or each.keywords:
            raise UnreadableError
        for function in each.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                return _schema(place, function, n_given=2)
    raise UnreadableError


def lineage(path: Path, node: ast.ClassDef) -> list[tuple[Path, ast.ClassDef]]:
    """The class and its bases in the order in which Python looks for a member.

    Raises UnreadableError for a base that the text does not lead to.
    """
    found = [(path, node)]
    for base in node.bases:
        place = class_named(path, base)
        if place is not None:
            found += lineage(*place)
        elif not ast.unparse(base).endswith("Module"):  # torch.nn.Module stands above all
            raise UnreadableError
    # of what several bases share, the last one counts: a base comes after all that derive from it
    return [each for i, each in enumerate(found) if each not in found[i + 1 :]]


def _schema(path: Path, function: ast.FunctionDef, n_given: int) -> dict[str, Any]:
    arguments = function.args
    if arguments.vararg or arguments.kwarg or function.decorator_list:
        raise UnreadableError
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = positional[len(positional) - len(arguments.defaults) :]
    with_default += [a for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    named = [*positional[n_given:], *arguments.kwonlyargs]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [a.arg for a in named if a not in with_default],
        "properties": {a.arg: _annotation(path, a.annotation) for a in named},
    }


def _annotation(path: Path, node: ast.expr | None) -> dict[str, Any]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _annotation(path, ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.Name):
        return {"type": JSON_TYPES[node.id]} if node.id in JSON_TYPES else _alias(path, node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [node.left, node.right]
        rest = [side for side in sides if not (isinstance(side, ast.Constant) and side.value is None)]
        if len(rest) != 1:
            raise UnreadableError
        return or_null(_annotation(path, rest[0]))
    if not isinstance(node, ast.Subscript):
        raise UnreadableError
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return _subscript(path, _last_word(node.value), parts)


def _subscript(path: Path, word: str, parts: list[ast.expr]) -> dict[str, Any]:
    match word:
        case "list" | "List":
            return {"type": "array", "items": _annotation(path, parts[0])}
        case "Optional":
            return or_null(_annotation(path, parts[0]))
        case "Literal":
            return {"enum": [_literal(part) for part in parts]}
        case "Annotated":
            return within(_annotation(path, parts[0]), [_range(part) for part in parts[1:]])
    raise UnreadableError


def _last_word(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def _range(node: ast.expr) -> Range | None:
    if not isinstance(node, ast.Call) or _last_word(node.func) != Range.__name__:
        return None
    try:
        return Range(**{str(keyword.arg): _literal(keyword.value) for keyword in node.keywords})
    except TypeError as error:
        raise UnreadableError from error


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UnreadableError from error


def _alias(path: Path, name: str) -> dict[str, Any]:
    """What a name that a file gives to an annotation, or imports, stands for."""
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == [name]:
            return _annotation(path, node.value)
    found = imported_from(path, name)
    if found is None:
        raise UnreadableError
    module, original = found
    return _alias(module_file(module, path), original)
