"""What moved between two runs, for the terminal and as a page: the numbers that moved first, the others in a line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from harness import atomic
from harness.check.moved import GONE, IDENTICAL, NEW, ORDER, Moved, folded, frame_of, moved, reason_of
from harness.check.read import metrics_file, read_summary
from harness.check.rules import Rules
from harness.check.verdict import CANNOT_TELL, CHANGED, REPRODUCED
from harness.compute.places import PUBLISHED
from harness.storage.seals import seal

FOLDED = (REPRODUCED, IDENTICAL, NEW, GONE)
MOST_SHOWN = 20  # changed numbers, on the terminal
WEAK = "a difference that matters may go unseen"


def compare_runs(run: Path, earlier: Path, rules: Rules) -> list[Moved]:
    """What moved from the run ``earlier`` to ``run``, folders or ``metrics.parquet`` files.

    All published runs show how much numbers vary from seed to seed. Raises DataError naming the file.
    """
    places = {metrics_file(place).resolve(): place for place in (run, earlier, *sorted(PUBLISHED.glob("*")))}
    read = {path: read_summary(place) for path, place in places.items() if path.is_file() or place in (run, earlier)}
    ours, theirs = (read[metrics_file(place).resolve()] for place in (run, earlier))
    return moved(ours, theirs, rules, list(read.values()))


def write_moved(found: Sequence[Moved], run: Path, earlier: Path, folder: Path, rules: Rules) -> list[Path]:
    """Write ``moved.csv`` (a row per number) and ``moved.md`` to ``folder``; the paths written."""
    paths = [folder / "moved.csv", folder / "moved.md"]
    atomic.write(paths[0], lambda temporary: frame_of(found).to_csv(temporary, index=False))
    atomic.write_text(paths[1], _page(found, run, earlier, rules))
    seal("moved", paths)
    return paths


def lines(found: Sequence[Moved]) -> list[str]:
    """Lines for the terminal."""
    said = [", ".join(f"{n} {word}" for word, n in _counts(found).items()) or "nothing to compare"]
    changed = [each for each in found if each.word == CHANGED]
    said += [f"{CHANGED}: {_line(each)}" for each in changed[:MOST_SHOWN]]
    if len(changed) > MOST_SHOWN:
        said.append(f"{CHANGED}: {len(changed) - MOST_SHOWN} more")
    reasons: dict[str, list[Moved]] = {}
    for each in found:
        if each.word == CANNOT_TELL:
            reasons.setdefault(each.obstacle or WEAK, []).append(each)
    said += [f"{CANNOT_TELL}, {reason}: {folded(several, CANNOT_TELL)}" for reason, several in reasons.items()]
    return said + [f"{word}: {line}" for word in FOLDED if (line := folded(found, word))]


def _counts(found: Sequence[Moved]) -> dict[str, int]:
    counts = Counter(each.word for each in found)
    return {word: counts[word] for word in ORDER if word in counts}


def _line(each: Moved) -> str:
    found, reason = each.found, reason_of(each)
    said = f"{_cell(each)} {each.key.metric}: {found.theirs:.4g} -> {found.ours:.4g}"
    if math.isfinite(found.error):
        said += f" ({found.difference:+.3g} ± {found.error:.2g})"
    return said + (f", {each.direction}" if each.direction else "") + (f"; {reason}" if reason else "")


def _cell(each: Moved) -> str:
    return "/".join(part for part in each.key[:3] if part)


def _page(found: Sequence[Moved], run: Path, earlier: Path, rules: Rules) -> str:
    counts = ", ".join(f"{n} {word}" for word, n in _counts(found).items())
    parts = [
        "# What moved\n",
        f"From {earlier} to {run}: {counts or 'nothing to compare'}. A number is changed if its difference is "
        f"significant at {rules.level:g} for all numbers together (Holm), reproduced if it is not and the test would "
        f"have found one that matters with {rules.power:.0%} power. Differences are {run} minus {earlier}, ± their "
        "standard errors.\n",
    ]
    for word in (CHANGED, CANNOT_TELL):
        chosen = [each for each in found if each.word == word]
        if chosen:
            parts += [f"## {word[0].upper()}{word[1:]}\n", _table(chosen) + "\n"]
    others = [f"- {word}: {line}" for word in FOLDED if (line := folded(found, word))]
    return "\n".join([*parts, *(["## The others\n", *others, ""] if others else [])])


def _table(found: Sequence[Moved]) -> str:
    rows = [
        (
            *(_cell(each), f"`{each.key.metric}`", each.direction),
            *(f"{each.found.theirs:.4g}", f"{each.found.ours:.4g}"),
            f"{each.found.difference:+.4g}" + (f" ± {each.found.error:.2g}" if each.found.error >= 0 else ""),
            *(f"{p:.2g}" if math.isfinite(p) else "" for p in (each.found.p_value, each.found.smallest)),
            reason_of(each),
        )
        for each in found
    ]
    headers = ("cell", "metric", "", "before", "now", "difference", "adjusted p", "would find", "remark")
    align = ("left", "left", "left", *["right"] * 5, "left")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)
