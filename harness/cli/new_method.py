"""``harness new-method NAME``: a working method to start from, and the configuration that puts it in the grid.

Both are made from ``templates/method.py`` and ``templates/method.yaml``, which are themselves a method and settings.
"""

from __future__ import annotations

import json
import keyword
import os
import re
from importlib.resources import files
from pathlib import Path

from harness import atomic
from harness.compute.places import CHECKOUT, METHODS, ROOT
from harness.errors import ConfigError
from harness.plugins.registry import file_of, method_names, origin
from harness.settings.text import parse_settings


def write_new_method(name: str, folder: Path | None = None) -> tuple[Path, Path]:
    """Write ``NAME.py`` and ``NAME.yaml`` to the folder; their paths.

    Without a folder it is that of the built-in methods, or the current one where the harness is installed. In another
    folder than the built-in methods', the settings also say where the method is. Raises ConfigError for a name that is
    no Python identifier of ASCII letters or is taken, and for a file that exists.
    """
    check_name(name)
    if name in method_names():
        owner = file_of(name) or origin(name)
        raise ConfigError(f"new method: expected an unused name, found {name!r}, that of {owner}")
    folder = Path(os.path.abspath(folder or (METHODS if CHECKOUT else ".")))
    code, settings = folder / f"{name}.py", folder / f"{name}.yaml"
    for path in (code, settings):
        if path.exists():
            raise ConfigError(f"{path}: expected no such file, found one, which was not changed")
    where = "" if folder.resolve() == METHODS else f"methods: [{json.dumps(_from_root(code))}]\n"
    atomic.write_text(code, _filled_in("method.py", name))
    atomic.write_text(settings, where + _filled_in("method.yaml", name))
    return code, settings


def check_name(name: str, kind: str = "method") -> None:
    """Raises ConfigError for a name that is none of a module, or that settings would not read as a word."""
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name) or parse_settings(name, name) != name:
        raise ConfigError(f"new {kind}: expected a valid name of a Python module, found {name!r}")


def _from_root(path: Path) -> str:
    """As the configuration names files: from the repository's root where it is below that."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def _filled_in(template: str, name: str) -> str:
    words = name.strip("_").split("_")
    said = {
        "new_method": name,
        "NewMethod": "".join(word[:1].upper() + word[1:] for word in words) or "NewMethod",
        "New method": " ".join(words).capitalize() or name,
    }
    text = files("harness.cli").joinpath("templates", template).read_text(encoding="utf-8")
    return re.sub("|".join(said), lambda found: said[found[0]], text)
