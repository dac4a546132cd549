"""``harness new KIND NAME``: a working metric, analysis, table, figure or claim to start from.

Each is made from the file of its kind in ``templates``, which is one that works.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from harness import atomic
from harness.cli.new_method import check_name
from harness.errors import ConfigError
from harness.plugins import analyses, claims, figures, metrics, tables
from harness.plugins.finding import Registry


@dataclass(frozen=True)
class New:
    """A kind of which a file can be written.

    setting: what asks for the file ``PATH``. brings: what that does. reserved: names that the harness has a use for.
    """

    registry: Registry
    setting: Callable[[str], object]
    brings: str
    reserved: Callable[[], tuple[str, ...]]

    @property
    def word(self) -> str:
        """One of the kind."""
        return self.registry.word

    def line(self, path: Path) -> str:
        """The line of settings that asks for a file."""
        value = self.setting(str(path))
        shown = f"[{path}]" if isinstance(value, list) else f'{{{path}: {{"*": {{}}}}}}'
        return f"{self.registry.kind}: {shown}"


KINDS = {
    "metrics": New(
        metrics.REGISTRY,
        lambda path: [path],
        "puts it in metrics.parquet, tables and check",
        lambda: (*metrics.BUILT_IN, *metrics.RESERVED),
    ),
    "analyses": New(
        analyses.REGISTRY,
        lambda path: {path: {"*": {}}},
        "makes it for every model that has what it needs; figures are drawn from it",
        lambda: tuple(analyses.REGISTRY.taken()),
    ),
    "tables": New(
        tables.REGISTRY,
        lambda path: [path],
        "draws it with all tables and puts it in the report",
        lambda: tuple(tables.REGISTRY.taken()),
    ),
    "figures": New(
        figures.REGISTRY,
        lambda path: [path],
        "draws it with all figures and puts it in the report",
        lambda: tuple(figures.REGISTRY.taken()),
    ),
    "claims": New(
        claims.REGISTRY,
        lambda path: [path],
        "has it judged in the report and by harness check",
        tuple,
    ),
}


def write_new_plugin(kind: str, name: str, folder: Path | None = None) -> Path:
    """Write ``NAME.py`` to the folder (default: the current one); its path.

    Raises ConfigError for a name that is no Python identifier of ASCII letters or is taken, and for a file that exists.
    """
    new = KINDS[kind]
    check_name(name, new.word)
    if name in new.reserved():
        raise ConfigError(f"new {new.word}: expected a name that the harness has no use for, found {name!r}")
    if name in new.registry:
        owner = new.registry.place(name).origin
        raise ConfigError(f"new {new.word}: expected an unused name, found {name!r}, that of {owner}")
    path = Path(os.path.abspath(folder or ".")) / f"{name}.py"
    if path.exists():
        raise ConfigError(f"{path}: expected no such file, found one, which was not changed")
    text = files("harness.cli").joinpath("templates", f"{new.word}.py").read_text(encoding="utf-8")
    title = name.strip("_").replace("_", " ").capitalize() or name
    atomic.write_text(path, text.replace(f"new_{new.word}", name).replace(f"New {new.word}", title))
    return path


def new_plugin(kind: str, name: str, folder: Path | None) -> list[str]:
    """Write a file of a kind; what to say of it and to do next."""
    new, path = KINDS[kind], write_new_plugin(kind, name, folder)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    settings = json.dumps({kind: new.setting(str(path))})
    return [
        f"wrote {shown}, a small working {new.word}; next:",
        f"  harness verify {new.word} {name} --settings '{settings}'",
        f"  {new.line(path)}   # this line in your settings {new.brings}",
    ]
