"""What source texts say about methods, without running them: PyTorch alone takes seconds to import.

A method's names are words in its class, and its capabilities follow from the functions that it and its bases define,
so both can be read from syntax trees. ``harness.method`` says which functions make a capability.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import HarnessError
from harness.registry import entry_point_of, file_of
from harness.sources import imported_from, imported_module, module_file, tree

FIELDS = ("title", "kind", "source")
UNREAD = ("torch",)  # packages whose classes bring no capabilities


@dataclass(frozen=True)
class Listed:
    """A method as ``harness methods`` shows it."""

    name: str
    title: str
    kind: str
    capabilities: tuple[str, ...]
    source: str


def listed(name: str) -> Listed:
    """The method of this name. Raises HarnessError where its source cannot be found or does not hold such a class."""
    words, functions = _members(*class_of(name))
    capabilities = tuple(word for word, needed in _capabilities() if needed <= functions)
    return Listed(name, *(words.get(field, "") for field in FIELDS[:2]), capabilities, words.get("source", ""))


def class_of(name: str) -> tuple[Path, ast.ClassDef]:
    """File and syntax tree of the class of a method. Raises HarnessError where its source does not hold just one."""
    path, class_name = _place(name)
    found = [
        node
        for node in tree(path).body
        if isinstance(node, ast.ClassDef) and (node.name == class_name or _words(node).get("name") == name)
    ]
    if len(found) != 1:
        raise HarnessError(f"{path}: expected one class with name = {name!r}, found {len(found)}")
    return path, found[0]


def _place(name: str) -> tuple[Path, str | None]:
    """The file of a method, and its class where the entry point names one."""
    path = file_of(name)
    if path is not None:
        return path, None
    entry = entry_point_of(name)
    return module_file(entry.module), entry.attr or None


def _words(node: ast.ClassDef) -> dict[str, str]:
    """Class attributes that are plain words."""
    return {
        name: value.value
        for name, value in assigned(node)
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


def assigned(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None]]:
    """Names that the body of a class assigns, and their values; None for one that is only annotated."""
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            names, values = [target], [getattr(statement, "value", None)]
            if isinstance(target, ast.Tuple) and isinstance(values[0], ast.Tuple):
                names, values = target.elts, values[0].elts
            for name, value in zip(names, values, strict=False):
                if isinstance(name, ast.Name):
                    yield name.id, value


def _members(path: Path, node: ast.ClassDef) -> tuple[dict[str, str], set[str]]:
    """Words and functions of a class, those of its bases included."""
    words: dict[str, str] = {}
    functions: set[str] = set()
    for base in reversed(node.bases):
        if (found := class_named(path, base)) is not None:
            inherited_words, inherited = _members(*found)
            words |= inherited_words
            functions |= inherited
    functions |= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    return words | _words(node), functions


def class_named(path: Path, base: ast.expr) -> tuple[Path, ast.ClassDef] | None:
    """Where the class that an expression in a file names is defined; None for what is not read."""
    if isinstance(base, ast.Attribute):
        module = imported_module(path, ast.unparse(base.value))
        return None if module is None else _in_module(module, base.attr, path)
    if not isinstance(base, ast.Name):
        return None
    for node in tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == base.id:
            return path, node
    found = imported_from(path, base.id)
    return None if found is None else _in_module(*found, path)


def _in_module(module: str, class_name: str, beside: Path) -> tuple[Path, ast.ClassDef] | None:
    if module.partition(".")[0] in UNREAD:
        return None
    return class_named(module_file(module, beside), ast.Name(class_name))


@cache
def _capabilities() -> list[tuple[str, frozenset[str]]]:
    """Every capability and the functions that make it, as ``harness.method`` has them."""
    body = tree(module_file("harness.method")).body
    functions = {
        node.name: frozenset(f.name for f in node.body if isinstance(f, ast.FunctionDef) and f.name[0] != "_")
        for node in body
        if isinstance(node, ast.ClassDef)
    }
    for node in body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "CAPABILITIES":
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return [(key.value, functions[value.id]) for key, value in pairs]
    raise HarnessError("harness.method: expected CAPABILITIES, found none")
