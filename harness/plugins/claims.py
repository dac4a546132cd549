"""Claims of users: one file each, found as ``harness.plugins.finding`` says, and what it declares, by its text.

The setting ``claims`` asks for it. A claim's function ``judge`` takes the rows of the figures and tables that ``FROM``
names, and says which differences should be positive (see ``harness.reporting.report.judging``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.plugins import figures, tables
from harness.plugins.constants import Text
from harness.plugins.finding import Registry, name_of

JUDGE = "judge"
CONSTANTS = ("TEXT", "FROM", "SOURCE")
REGISTRY = Registry("claims", "claim", JUDGE)


@dataclass(frozen=True)
class OwnClaim:
    """What a user's claim is, by its text.

    text: what is claimed. sources: names of the figures and tables whose rows ``judge`` takes, in this order. source:
    who claims it, or ''. origin: its file, or its package.
    """

    name: str
    text: str
    sources: tuple[str, ...]
    source: str
    origin: str
    file: Path


def use_claims(asked: Iterable[str]) -> None:
    """Make known the claims that settings ask for, once tables and figures are (see ``harness.plugins.finding``).

    Raises ConfigError for what is no such file or name, and for a file whose text is not that of a claim.
    """
    for name in REGISTRY.use(asked):
        own_claim(name)


def own_claims(settings: Mapping[str, Any]) -> list[str]:
    """Names of the claims of users that the settings ask for."""
    return list(map(name_of, settings.get("claims", ())))  # none in settings of earlier versions


def own_claim(name: str) -> OwnClaim:
    """What is known of a user's claim by its text.

    Raises ConfigError for a name that is not known, and, naming file and constant, for a text that is not a claim's.
    """
    place = REGISTRY.place(name)
    text = Text.read(place.file, CONSTANTS)
    sources = text.names("FROM", "(name, ...) of figures and tables", needed=True)
    for each in sources:
        if not (is_figure(each) or each in tables.BUILT_IN or each in tables.REGISTRY):
            known = [*figures.built_in_figures(), *figures.REGISTRY.names(), *tables.BUILT_IN, *tables.REGISTRY.names()]
            raise ConfigError(f"{place.file}: FROM: expected some of {', '.join(known)}, found {each!r}")
    text.function(JUDGE, *sources)
    return OwnClaim(
        name,
        text.words("TEXT", "a sentence that says what is claimed"),
        sources,
        text.words("SOURCE", "words", default=""),
        place.origin,
        place.file,
    )


def is_figure(name: str) -> bool:
    """Whether there is a figure of this name; all else that a claim is judged from is a table."""
    return name in figures.built_in_figures() or name in figures.REGISTRY
