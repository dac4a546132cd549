"""Python source files read as syntax trees, and where the names in them come from, without running anything."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

from harness import methods
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
    if module.startswith(f"{methods.__name__}."):  # a package whose folder is elsewhere
        places = [Path(folder, *rest[1:]) for folder in methods.__path__]
    elif spec is None:
        places = [] if beside is None else [beside.parent.joinpath(top, *rest)]
    elif spec.submodule_search_locations:
        places = [Path(folder, *rest) for folder in spec.submodule_search_locations]
    else:
        places = [] if rest or not spec.origin else [Path(spec.origin).with_suffix("")]
    for place in places:
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
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
