"""The text of a plugin: its constants and the arguments of its functions, read without running it.

Every fault is a ConfigError that names the file, the constant or function, what was expected and what was found.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.plugins.sources import tree

MOST_DECIMALS = 10


@dataclass(frozen=True)
class Text:
    """values: the constants of a file out of those that its kind has."""

    path: Path
    body: Sequence[ast.stmt]
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, constants: Collection[str]) -> Text:
        """The text of a file. Raises ConfigError for what is no Python, and for a constant that has to be computed."""
        try:
            body = tree(path).body
        except HarnessError as error:
            raise ConfigError(str(error)) from error
        values = {}
        for node in body:
            for name in (each for each in _targets(node) if each in constants):
                try:
                    values[name] = ast.literal_eval(node.value)
                except (ValueError, TypeError) as error:
                    expected = "a constant, as the text alone is read"
                    raise ConfigError(f"{path}: {name}: expected {expected}, found {ast.unparse(node)}") from error
        return cls(path, body, values)

    def fail(self, constant: str, expected: str) -> ConfigError:
        """The error for a constant that is wrong or missing."""
        found = repr(self.values[constant]) if constant in self.values else "none"
        return ConfigError(f"{self.path}: {constant}: expected {expected}, found {found}")

    def words(self, constant: str, expected: str = "a word or two", default: str | None = None) -> str:
        """A text in one line. Without a default it must be there, and say something."""
        value = self.values.get(constant, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.fail(constant, expected)
        return " ".join(value.split())

    def names(
        self, constant: str, expected: str, known: Collection[str] | None = None, needed: bool = False
    ) -> tuple[str, ...]:
        """A tuple of words, all of them ``known`` where that is given; none of a constant that is not there."""
        value = self.values.get(constant, ())
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
            raise self.fail(constant, expected)
        if (known is not None and not set(value) <= set(known)) or (needed and not value):
            raise self.fail(constant, expected)
        return tuple(value)

    def decimals(self, default: int = 2) -> int:
        """``DECIMALS``: how many a table shows at most."""
        value = self.values.get("DECIMALS", default)
        if type(value) is not int or not 0 <= value <= MOST_DECIMALS:
            raise self.fail("DECIMALS", f"a whole number from 0 to {MOST_DECIMALS}")
        return value

    def function(self, name: str, *arguments: str, further: bool = False) -> None:
        """Raises ConfigError unless there is a function that can be called with so many arguments, by position.

        further: whether it may need more, which settings give by name.
        """
        wanted = ", ".join(arguments)
        found = [node for node in self.body if isinstance(node, ast.FunctionDef) and node.name == name]
        if len(found) != 1:
            raise ConfigError(f"{self.path}: expected one function {name}({wanted}), found {len(found) or 'none'}")
        given = found[0].args
        positional = [*given.posonlyargs, *given.args]
        needed = len(positional) - len(given.defaults)
        named = [each for each, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value is None]
        too_many = not further and (named or needed > len(arguments))
        if too_many or (len(positional) < len(arguments) and not given.vararg):
            raise ConfigError(f"{self.path}: expected {name}({wanted}), found {name}({ast.unparse(given)})")

    def has_function(self, name: str) -> bool:
        """Whether there is a function of this name."""
        return any(isinstance(node, ast.FunctionDef) and node.name == name for node in self.body)

    @property
    def first_sentence(self) -> str:
        """The first paragraph of the docstring, in one line."""
        text = ast.get_docstring(ast.Module(list(self.body), [])) or ""
        return " ".join(text.partition("\n\n")[0].split())


def _targets(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [each.id for each in targets if isinstance(each, ast.Name)]
