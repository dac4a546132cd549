"""Python source files read as syntax trees, and where the names in them come from, without running anything."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

from harness.errors import HarnessError


def tree(path: Path) -> ast.Module:
    """The syntax tree of a file. Raises HarnessError where there is none."""
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        raise HarnessError(f"{path}: expected Python, found {error}") from error


@cache
def _parsed(path: Path, written_ns: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_file(module: str, beside: Path | None = None) -> Path:
    """The source of a module, found without importing the packages that it is in.

    ``beside``: a file in whose folder to look for what is found nowhere else. Raises HarnessError where there is none.
    """
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None and beside is not None:
        base = beside.parent.joinpath(top, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    elif spec is not None and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            base = Path(folder).joinpath(*rest)
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if path.is_file():
                    return path
    elif spec is not None and not rest and spec.origin:
        return Path(spec.origin)
    raise HarnessError(f"module {module}: expected a Python source file, found none")


def imported_from(path: Path, name: str) -> tuple[str, str] | None:
    """Module and name there of what a file imports as ``name`` by ``from module import``; None for what it does not."""
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module, alias.name
    return None


def imported_module(path: Path, name: str) -> str | None:
    """The module that a file calls ``name`` after an import statement; None for what is none."""
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return alias.name
    found = imported_from(path, name)
    return found and ".".join(found)
