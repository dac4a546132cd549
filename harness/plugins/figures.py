"""Figures: those of the thesis and those of users, and what each declares, read from their source texts.

A user's figure is one file like a built-in one (see ``harness.reporting.figures``), found as
``harness.plugins.finding`` says. The setting ``figures`` asks for it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.compute.places import PACKAGE
from harness.errors import ConfigError
from harness.plugins.analyses import MEASURED, analysis_names, is_analysis
from harness.plugins.constants import Text
from harness.plugins.finding import BUILT_IN_ORIGIN, Place, Registry, name_of

FOLDER = PACKAGE / "reporting" / "figures"
DATA, DRAW, REMARKS = "data", "draw", "remarks"
CONSTANTS = ("TITLE", "CAPTION", "ANALYSES", "DATASETS")


@dataclass(frozen=True)
class Figure:
    """What a figure is, by its text.

    title: what the report calls it; '' for one that its name says all of. analyses: those whose tables ``data`` takes,
    in this order; ``metrics`` stands for the measured numbers. datasets: the only ones that it shows; None for all.
    origin: ``built in``, its file, or its package. sentence: what it is, in the words of its docstring.
    """

    name: str
    title: str
    caption: str
    analyses: tuple[str, ...]
    datasets: tuple[str, ...] | None
    sentence: str
    origin: str = BUILT_IN_ORIGIN
    file: Path | None = None


@cache
def built_in_figures() -> tuple[str, ...]:
    """``figure_3_3`` and its like, in the order of the thesis, then those that it does not have, by name."""
    names = [m.name for m in pkgutil.iter_modules([str(FOLDER)]) if m.name.startswith("figure_")]
    return tuple(sorted(names, key=lambda name: [(not part.isdigit(), part.zfill(3)) for part in name.split("_")[1:]]))


REGISTRY = Registry("figures", "figure", DRAW, built_in_figures)


def use_figures(asked: Iterable[str]) -> None:
    """Make known the figures of users that settings ask for (see ``harness.plugins.finding``).

    Raises ConfigError for what is no such file or name, and for a file whose text is not that of a figure.
    """
    for name in REGISTRY.use(asked):
        figure(name)


def figure_names(settings: Mapping[str, Any] | None = None) -> list[str]:
    """All built-in figures, then those of users that the settings ask for."""
    own = (settings or {}).get("figures", ())  # none in settings of earlier versions
    return [*built_in_figures(), *map(name_of, own)]


def figure(name: str) -> Figure:
    """What is known of a figure by its text.

    Raises ConfigError for a name that is not known, and, naming file and constant, for a text that is not a figure's.
    """
    if name in built_in_figures():
        return _built_in(FOLDER / f"{name}.py")
    return _own(name, REGISTRY.place(name))


@cache
def _built_in(path: Path) -> Figure:
    text = Text.read(path, ("ANALYSES", "DATASETS"))  # a caption may be made of parts
    return Figure(path.stem, "", "", *_shown(text), text.first_sentence, BUILT_IN_ORIGIN, path)


def _own(name: str, place: Place) -> Figure:
    text = Text.read(place.file, CONSTANTS)
    if not (name.isidentifier() and name.isascii()):
        expected = "a file called as a Python module is, letters, digits and _"
        raise ConfigError(f"{place.file}: expected {expected}, found {name!r}")
    analyses, datasets = _shown(text)
    for analysis in analyses:
        if analysis != MEASURED and not is_analysis(analysis):
            known = ", ".join((MEASURED, *analysis_names()))
            raise ConfigError(f"{place.file}: ANALYSES: expected some of {known}, found {analysis!r}")
    text.function(DATA, *analyses)
    text.function(DRAW, DATA)
    if text.has_function(REMARKS):
        text.function(REMARKS, DATA)
    title = text.words("TITLE", default="")
    caption = text.words("CAPTION", "sentences that say what is shown")
    return Figure(name, title, caption, analyses, datasets, text.first_sentence, place.origin, place.file)


def _shown(text: Text) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The analyses that a figure is drawn from, and the data sets that it is confined to."""
    analyses = text.names("ANALYSES", f"(name, ...) of analyses, or {MEASURED!r}", needed=True)
    datasets = text.names("DATASETS", "(data set, ...)", needed="DATASETS" in text.values)
    return analyses, datasets or None


def origin(name: str) -> str:
    """The origin of a figure: ``built in``, its file, or its package."""
    return figure(name).origin


def code(name: str) -> str:
    """sha256 of the code of a user's figure; '' of a built-in one."""
    return "" if name in built_in_figures() else REGISTRY.code(name)
