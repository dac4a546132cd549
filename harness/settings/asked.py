"""What one call asks for on top of a preset: some cells, budgets of its own for all of them, a folder for its results.

``only``, ``updates``, ``seeds`` and ``name`` of the settings. They have the last word: whatever grid, preset and
budgets say of a cell, it is trained for ``updates`` updates, and ``seeds`` times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from harness.errors import ConfigError
from harness.plugins.names import variant_folder, wrong_name
from harness.settings.schedule import WARM_UP

NamedCell = tuple[str, str, str]  # method, data set, variant


def results_name(settings: Mapping[str, Any]) -> str:
    """The name of the folder below ``results/``: ``name``, else that of the preset."""
    return settings.get("name") or settings["preset"]


def check_name(name: str | None, presets: Collection[str]) -> None:
    """Raises ConfigError for a ``name`` that cannot be a folder's, or that is the folder of a preset or of git."""
    if name is None:
        return
    if wrong := wrong_name(name):
        raise ConfigError(f"name: {wrong}")
    if name.casefold() in (taken := {*presets, "published", "bench"}):
        raise ConfigError(f"name: expected another one than {', '.join(sorted(taken))}, found {name!r}")


def chosen(known: Collection[NamedCell], settings: Mapping[str, Any]) -> Callable[[NamedCell], bool]:
    """Which of the cells that settings have ``only`` asks for, as a test of one; all of them where it is null.

    Its words, in a list or separated by commas, are methods, data sets, groups, METHOD/DATASET and
    METHOD/DATASET/VARIANT. Raises ConfigError for a word that no cell answers to.
    """
    asked = settings.get("only")
    if asked is None:
        return lambda cell: True
    words = [word.strip() for word in (asked.split(",") if isinstance(asked, str) else asked)]
    groups = settings["groups"]
    for word in words:
        if not any(_answers(cell, word, groups) for cell in known):
            methods, datasets = (sorted({cell[place] for cell in known}) for place in (0, 1))
            raise ConfigError(
                f"only: expected methods ({', '.join(methods)}), data sets ({', '.join(datasets)}), groups "
                f"({', '.join(groups)}), METHOD/DATASET or METHOD/DATASET/VARIANT of the grid, found {word!r}"
            )
    return lambda cell: any(_answers(cell, word, groups) for word in words)


def is_left_to_overview(cell: NamedCell, settings: Mapping[str, Any]) -> bool:
    """Whether tables do not wait for a cell, which ``left_to_overview`` names; they have its row once it is measured.

    Whoever asks for cells by ``only`` wants these. A word that no cell answers to is no mistake: a preset's words are
    there before a grid of one's own is.
    """
    if settings.get("only") is not None:
        return False
    return any(_answers(cell, word, settings["groups"]) for word in settings.get("left_to_overview") or [])


def _answers(cell: NamedCell, word: str, groups: Mapping[str, Sequence[str]]) -> bool:
    method, dataset, variant = cell
    of_dataset = {dataset, *(group for group, members in groups.items() if dataset in members)}
    first, _, rest = word.partition("/")
    if not rest:
        return first == method or first in of_dataset
    second, _, third = rest.partition("/")
    return first == method and second in of_dataset and (not third or variant_folder(third) == variant_folder(variant))


def with_updates(training: Mapping[str, Any], updates: int | None) -> dict[str, Any]:
    """Training settings, which have phases, with so many updates in all, spread over the phases as before.

    Looks at the validation set come as often in a shorter training as in the whole one.
    """
    phases = training["phases"]
    total = sum(phase["updates"] for phase in phases)
    if updates is None or not phases or updates == total:
        return dict(training)
    ends = [0]
    for phase in phases:
        ends.append(ends[-1] + phase["updates"])
    scaled = [round(end * updates / total) for end in ends]
    kept = [
        {**phase, "updates": after - before, **_warm_up(phase, after - before)}
        for phase, before, after in zip(phases, scaled[:-1], scaled[1:], strict=True)
        if after > before
    ]
    every = training["validate_every"]
    return {**training, "phases": kept, "validate_every": min(every, max(1, round(every * updates / total)))}


def _warm_up(phase: Mapping[str, Any], updates: int) -> dict[str, int]:
    """The warm-up of a phase that has one, as large a part of other updates."""
    return {WARM_UP: phase[WARM_UP] * updates // phase["updates"]} if WARM_UP in phase else {}
