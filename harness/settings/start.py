"""``training.start_from``: which cells trainings may begin with the weights of, as far as settings show.

It names a cell of the grid or of the ablations, METHOD/DATASET or METHOD/DATASET/VARIANT, as ``only`` does. That cell
is trained first, and may itself start from another, but not in a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.plugins.listing import listed
from harness.plugins.names import variant_folder
from harness.schema import shown
from harness.settings.asked import NamedCell

START_FROM = "start_from"
SEES_LABELS = {"classification", "label probabilities"}


def named_cell(word: str, known: Collection[NamedCell]) -> NamedCell:
    """The cell of the settings that a word names; raises ConfigError, which says how to add it, where there is none."""
    method, _, rest = word.partition("/")
    dataset, _, variant = rest.partition("/")
    if not method or not dataset:
        raise ConfigError(f"expected METHOD/DATASET or METHOD/DATASET/VARIANT, found {shown(word)}")
    for cell in known:
        if cell[:2] == (method, dataset) and variant_folder(cell[2]) == variant_folder(variant):
            return cell
    variants = [in_words(cell) for cell in known if cell[:2] == (method, dataset)]
    if variants:
        raise ConfigError(f"expected one of {', '.join(variants)}, found {shown(word)}")
    added = f"grid: {{{method}: {{{rest}: {{model: ...}}}}}}"
    raise ConfigError(f"expected a cell of the grid or the ablations, found {shown(word)}, which `{added}` adds")


def start_faults(
    cell: NamedCell, known: Collection[NamedCell], entries_of: Callable[[NamedCell], Mapping[str, Any]]
) -> Iterator[str]:
    """What keeps a cell from starting from the one that its entries name.

    entries_of: everything that applies to a cell, ``repetitions`` among it.
    """

    def source_of(each: NamedCell) -> NamedCell | None:
        word = entries_of(each).get("training", {}).get(START_FROM)
        return None if word is None else named_cell(word, known)

    chain = [cell]
    try:
        while (source := source_of(chain[-1])) is not None and source not in chain:
            chain.append(source)
    except ConfigError as error:
        yield str(error)
        return
    if source is not None:
        circle = " from ".join(map(in_words, [*chain, source]))
        yield f"expected a cell that can be trained before, found a circle: {circle}"
        return
    if "closed form" in _capabilities(cell[0]):
        yield f"expected null, as {cell[0]} is fitted anew whatever it begins with, found {in_words(chain[1])}"
    for each in chain[1:]:
        yield from _label_faults(cell, entries_of(cell), each, entries_of(each))


def _label_faults(
    cell: NamedCell, ours: Mapping[str, Any], source: NamedCell, theirs: Mapping[str, Any]
) -> Iterator[str]:
    """A model that may see few labels must not start from one that has seen others."""
    labels, seen = ours["training"].get("labels"), theirs["training"].get("labels")
    if labels is None:
        return
    # which rows have labels depends on data set and repetition
    same = source[1] == cell[1] and ours["repetitions"] <= theirs["repetitions"]
    if seen is not None and not (same and seen["rows"] == labels["rows"]):
        yield f"expected a cell with the same labelled rows, found {in_words(source)}, which has seen other labels"
    elif seen is None and SEES_LABELS & set(_capabilities(source[0])):
        yield f"expected a cell with labels of {labels['rows']} rows or none, found {in_words(source)}, which has all"


def in_words(cell: NamedCell) -> str:
    """METHOD/DATASET/VARIANT, without the latter where the cell has none."""
    return "/".join(part for part in cell if part)


def _capabilities(method: str) -> tuple[str, ...]:
    try:
        return listed(method).capabilities
    except HarnessError:
        return ()  # its source cannot be read, so only training can tell
