"""Facts about methods from their source texts, without running them: PyTorch alone takes seconds to import.

A method's names are words in its class, and its capabilities follow from the functions that it and its bases have, so
both can be read from syntax trees: a class with the same bases and stand-ins for its members is put together, and the
rule of ``harness.capability`` is asked about that. Where a text does not decide what a class has (a base that is
computed, a decorator, a loop in its body), the method is imported after all.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.capability import has_members
from harness.errors import HarnessError
from harness.plugins.registry import entry_point_of, file_of, method_class
from harness.plugins.sources import imported_from, imported_module, module_file, tree

FIELDS = ("title", "kind", "source")
UNREAD = ("torch",)  # packages whose sources are not looked at
WITHOUT_MEMBERS = ("object", "torch.nn.Module", "abc.ABC", "typing.Generic", "typing.Protocol")  # of any capability
# decorators that leave a function one, and those that make something else of it
FUNCTIONS = ("staticmethod", "classmethod", "abstractmethod", "abc.abstractmethod", "override", "typing.override")
FUNCTIONS += ("torch.no_grad", "torch.enable_grad", "torch.inference_mode")
VALUES = ("property", "cached_property", "functools.cached_property")


class _UndecidedError(Exception):
    """The text does not say what the class has; importing it does."""


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
    place = class_of(name)
    try:
        cls = _mirror(*place, {})
    except _UndecidedError:
        cls = _imported(name)
    words = (value if isinstance(value := getattr(cls, field, ""), str) else "" for field in FIELDS)
    title, kind, source = words
    capabilities = tuple(word for word, needed in _capabilities() if has_members(cls, needed))
    return Listed(name, title, kind, capabilities, source)


def _imported(name: str) -> type:
    try:
        return method_class(name)
    except HarnessError:
        raise
    except Exception as error:  # any that the module may raise
        raise HarnessError(f"method {name}: expected a module that can be imported, found {error!r}") from error


def class_of(name: str) -> tuple[Path, ast.ClassDef]:
    """File and syntax tree of the class of a method. Raises HarnessError where its source does not hold just one."""
    path, class_name = _place(name)
    found = [
        node
        for node in tree(path).body
        if isinstance(node, ast.ClassDef) and (node.name == class_name or _is_called(node, name))
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


def _is_called(node: ast.ClassDef, name: str) -> bool:
    """Whether a class says that ``name`` is its name."""
    value = class_body(node).get("name")
    return isinstance(value, ast.Constant) and value.value == name


def _mirror(path: Path, node: ast.ClassDef, known: dict[tuple[Path, str], type]) -> type:
    """A class that has what the one in the text has, by name, as far as capabilities and ``FIELDS`` are concerned.

    known: mirrors made so far, by file and name. Raises _UndecidedError where the text does not say it.
    """
    if (path, node.name) in known:
        return known[path, node.name]
    bound = class_body(node)
    if node.decorator_list or node.keywords or "__init_subclass__" in bound or node.name in _mentioned(tree(path)):
        raise _UndecidedError
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    mirrors = [_mirror_of(path, base, known) for base in bases if _full_name(path, base) not in WITHOUT_MEMBERS]
    values = {name: _value(path, value) for name, value in bound.items() if name in _wanted()}
    try:
        known[path, node.name] = type(node.name, tuple(mirrors), values)
    except TypeError as error:  # bases that do not go together
        raise _UndecidedError from error
    return known[path, node.name]


@cache
def _wanted() -> frozenset[str]:
    return frozenset(FIELDS).union(*(needed for _, needed in _capabilities()))


def _mirror_of(path: Path, base: ast.expr, known: dict[tuple[Path, str], type]) -> type:
    try:
        found = class_named(path, base)
    except HarnessError as error:  # a module without a source
        raise _UndecidedError from error
    if found is None:
        raise _UndecidedError
    return _mirror(*found, known)


def _full_name(path: Path, expression: ast.expr) -> str:
    """A name of a file with the module that it was imported from, where that is known."""
    module, _, name = ast.unparse(expression).rpartition(".")
    if module:
        return f"{imported_module(path, module) or module}.{name}"
    return ".".join(imported_from(path, name) or (name,))


@cache
def _mentioned(module: ast.Module) -> frozenset[str]:
    """Names that a file does something with once they are defined: classes it assigns to or hands to functions."""
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)
    statements = (statement for statement in module.body if not isinstance(statement, definitions))
    return frozenset(node.id for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Name))


@cache
def class_body(node: ast.ClassDef) -> Mapping[str, ast.AST]:
    """What each name of a class's body stands for at its end: a definition, an expression, or else a statement."""
    bound: dict[str, ast.AST] = {}
    for statement in node.body:
        for name, value in _bindings(statement):
            if value is None:
                bound.pop(name, None)
            else:
                bound[name] = bound.get(value.id, value) if isinstance(value, ast.Name) else value
    return bound


def _bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.AST | None]]:
    """Names that a statement binds and to what, None where it unbinds them, the statement where that is not plain."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name, statement
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            if value is not None:
                yield name, value
        case ast.Assign():
            for target in statement.targets:
                yield from _assigned(target, statement.value, statement)
        case ast.Delete():
            yield from ((target.id, None) for target in statement.targets if isinstance(target, ast.Name))
        case _:
            for inner in ast.walk(statement):
                match inner:
                    case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.alias(name=name):
                        yield getattr(inner, "asname", None) or name, statement


def _assigned(target: ast.expr, value: ast.expr, statement: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    match target, value:
        case ast.Name(id=name), _:
            yield name, value
        case ast.Tuple(elts=names), ast.Tuple(elts=values) if len(names) == len(values):
            for inner_target, inner_value in zip(names, values, strict=True):
                yield from _assigned(inner_target, inner_value, statement)
        case _:
            names = (inner.id for inner in ast.walk(target) if isinstance(inner, ast.Name))
            yield from ((name, statement) for name in names)


def _value(path: Path, node: ast.AST) -> Any:
    """The constant, or what can be called just as the value can. Raises _UndecidedError where that is not said."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Lambda() | ast.ClassDef():
            return _function
        case ast.List() | ast.Tuple() | ast.Dict() | ast.Set():
            return ()
        case ast.FunctionDef(decorator_list=decorators):
            applied = {_full_name(path, each.func if isinstance(each, ast.Call) else each) for each in decorators}
            if applied <= set(FUNCTIONS):
                return _function
            if len(applied) == 1 and applied <= set(VALUES):
                return ()
        case ast.Name():
            body = tree(path).body
            plain = any(isinstance(each, ast.FunctionDef) and each.name == node.id for each in body)
            if plain and node.id not in _mentioned(tree(path)):
                return _function
    raise _UndecidedError


def _function() -> None:
    """Stands for any function."""


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


def capability_names() -> tuple[str, ...]:
    """Names of all capabilities."""
    return tuple(name for name, _ in _capabilities())


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
