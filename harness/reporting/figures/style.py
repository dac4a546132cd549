"""The look of figures: one theme, and for every method a colour and a mark that are the same in all of them.

Colours are seaborn's for the colour-blind, ten of them, then the same ones darkened; yellow is darker than there, so
that its lines are seen on white. Marks differ besides, so that a figure can be read in grey, and no two of the first
ninety methods share both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import atomic

KNOWN = ("bihm", "rws", "vae", "iwae", "nade", "vimco", "nvil", "wake_sleep")  # those that figures often show together
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")  # nine, for ten colours
DARKENED = 0.55
LIGHTEST = 0.45  # relative luminance, which has a contrast of 2.1 with white paper


def use_theme() -> None:
    """Set up matplotlib for files on light paper, whatever the environment asks for."""
    os.environ["MPLBACKEND"] = "Agg"  # read when matplotlib is imported, which fails for one that is not there
    import matplotlib as mpl

    mpl.use("Agg")
    import seaborn as sns

    sns.set_theme(context="paper", style="whitegrid", palette="colorblind")


def look(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Method -> colour and mark: fixed for known ones, further ones take what those here leave, by name."""
    import seaborn as sns

    palette = [_seen_on_white(color) for color in sns.color_palette("colorblind")]
    others = sorted(set(methods) - set(KNOWN))
    numbers = {**{name: i for i, name in enumerate(KNOWN)}, **{name: i + len(KNOWN) for i, name in enumerate(others)}}
    wanted = dict.fromkeys(methods)

    def color(number: int) -> tuple[float, ...]:
        again, place = divmod(number, len(palette))
        return tuple(part * DARKENED**again for part in palette[place])

    return {name: {"color": color(numbers[name]), "marker": MARKS[numbers[name] % len(MARKS)]} for name in wanted}


def _seen_on_white(color: tuple[float, ...]) -> tuple[float, ...]:
    """``color``, darkened until its luminance is ``LIGHTEST`` if it is lighter."""
    from seaborn.utils import relative_luminance

    while relative_luminance(color) > LIGHTEST:
        color = tuple(part * 0.98 for part in color)
    return color


def save(figure: Any, path: Path) -> Path:
    """Write ``figure`` in the format of the path's suffix; no date in it: the same numbers make the same bytes."""
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
    atomic.write(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:], dpi=160, metadata=metadata))
    return path


def close(figure: Any) -> None:
    """Free what matplotlib keeps of a figure."""
    import matplotlib.pyplot as plt

    plt.close(figure)
