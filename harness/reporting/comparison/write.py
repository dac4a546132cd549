"""The files of a comparison."""

from __future__ import annotations

from pathlib import Path

from harness import atomic
from harness.comparison.compare import Comparison
from harness.reporting.comparison.draw import diagram
from harness.reporting.comparison.page import page

FORMS = ("png", "pdf")


def write_comparison(found: Comparison, place: object, folder: Path) -> list[Path]:
    """Write ``compare.csv`` (a row per pair), ``ranks.csv`` (a row per method and data set), ``compare.md`` and, where
    methods can be ranked, ``critical_difference.png`` and ``.pdf`` to ``folder``; the paths written.

    place: the run, as the page names it.
    """
    written = []
    for name, frame in (("compare.csv", found.frame), ("ranks.csv", found.rank_frame)):
        atomic.write(folder / name, lambda temporary, frame=frame: frame.to_csv(temporary, index=False))
        written.append(folder / name)
    atomic.write_text(folder / "compare.md", page(found, place))
    written.append(folder / "compare.md")
    drawings = [folder / f"critical_difference.{form}" for form in FORMS]
    if found.ranks is None:
        for path in drawings:
            path.unlink(missing_ok=True)
        return written
    from harness.reporting.figures import style

    style.use_theme()
    figure = diagram(found.ranks)
    written += [style.save(figure, path) for path in drawings]
    style.close(figure)
    return written
