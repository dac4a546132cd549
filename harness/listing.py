"""What source texts say about methods, without running them: PyTorch alone takes seconds to import.

A method's names are words in its class, and its capabilities follow from the functions that it and its bases define,
so both can be read from syntax trees. ``harness.method`` says which functions make a capability.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import HarnessError
from harness.registry import entry_point_of, file_of

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
    path, class_name = _place(name)
    found = [
        node
        for node in _tree(path).body
        if isinstance(node, ast.ClassDef) and (node.name == class_name or _words(node).get("name") == name)
    ]
    if len(found) != 1:
        raise HarnessError(f"{path}: expected one class with name = {name!r}, found {len(found)}")
    words, functions = _members(path, found[0])
    capabilities = tuple(word for word, needed in _capabilities() if needed <= functions)
    return Listed(name, *(words.get(field, "") for field in FIELDS[:2]), capabilities, words.get("source", ""))


def _place(name: str) -> tuple[Path, str | None]:
    """The file of a method, and its class where the entry point names one."""
    path = file_of(name)
    if path is not None:
        return path, None
    entry = entry_point_of(name)
    return _file(entry.module), entry.attr or None


def _file(module: str) -> Path:
    """The source of a module, found without importing the packages that it is in."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is not None and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            base = Path(folder).joinpath(*rest)
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if path.is_file():
                    return path
    elif spec is not None and not rest and spec.origin:
        return Path(spec.origin)
    raise HarnessError(f"module {module}: expected a Python source file, found none")


@cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise HarnessError(f"{path}: expected Python, found {error}") from error


def _words(node: ast.ClassDef) -> dict[str, str]:
    """Class attributes that are plain words."""
    words = {}
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            names, values = [target], [getattr(statement, "value", None)]
            if isinstance(target, ast.Tuple) and isinstance(values[0], ast.Tuple):
                names, values = target.elts, values[0].elts
            for name, value in zip(names, values, strict=False):
                is_word = isinstance(value, ast.Constant) and isinstance(value.value, str)
                if is_word and isinstance(name, ast.Name):
                    words[name.id] = value.value
    return words


def _members(path: Path, node: ast.ClassDef) -> tuple[dict[str, str], set[str]]:
    """Words and functions of a class, those of its bases included."""
    words: dict[str, str] = {}
    functions: set[str] = set()
    for base in reversed(node.bases):
        if (found := _class(path, base)) is not None:
            inherited_words, inherited = _members(*found)
            words |= inherited_words
            functions |= inherited
    functions |= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    return words | _words(node), functions


def _class(path: Path, base: ast.expr) -> tuple[Path, ast.ClassDef] | None:
    """Where the class that an expression names is defined; None for what is not read."""
    if isinstance(base, ast.Attribute):
        return _imported(path, ast.unparse(base.value), base.attr)
    if not isinstance(base, ast.Name):
        return None
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == base.id:
            return path, node
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == base.id:
                    return _in_module(node.module, alias.name)
    return None


def _imported(path: Path, name: str, class_name: str) -> tuple[Path, ast.ClassDef] | None:
    """The class ``name.class_name`` where ``name`` is what an import statement called a module."""
    for node in _tree(path).body:
        if isinstance(node, ast.Import) and any((alias.asname or alias.name) == name for alias in node.names):
            module = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            return _in_module(module, class_name)
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _in_module(f"{node.module}.{alias.name}", class_name)
    return None


def _in_module(module: str, class_name: str) -> tuple[Path, ast.ClassDef] | None:
    if module.partition(".")[0] in UNREAD:
        return None
    path = _file(module)
    return _class(path, ast.Name(class_name))


@cache
def _capabilities() -> list[tuple[str, frozenset[str]]]:
    """Every capability and the functions that make it, as ``harness.method`` has them."""
    tree = _tree(_file("harness.method"))
    functions = {
        node.name: frozenset(f.name for f in node.body if isinstance(f, ast.FunctionDef) and f.name[0] != "_")
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "CAPABILITIES":
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return [(key.value, functions[value.id]) for key, value in pairs]
    raise HarnessError("harness.method: expected CAPABILITIES, found none")
