"""The making of a table's numbers, for its caption: budget, seeds, samples, test rows, devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.reporting.tables.build import Grid
from harness.reporting.tables.pooling import Row, is_finite


def caption(grid: Grid, preset: str) -> str:
    """Title of the table, facts about this run, and what the errors are."""
    rows = _used_rows(grid)
    facts = [f"Preset {preset}", *(_facts(grid, rows) if rows else ["no cell could be measured"])]
    return (
        f"{grid.table.title}. {'; '.join(facts)}. Every number of ours was trained and measured in this run; ± is "
        "one standard error (over the test rows, with the estimator's Monte-Carlo noise and, with several seeds, the "
        "spread between them). The thesis prints these numbers without errors."
    )


def _used_rows(grid: Grid) -> list[Row]:
    """All measurements behind the cells."""
    return [
        row
        for entry in grid.entries()
        if entry.measured.value is not None
        for row in grid.rows[entry.key.cell]
        if row["metric"] == entry.key.metric and row["status"] == entry.measured.status
    ]


def _facts(grid: Grid, rows: Sequence[Row]) -> Iterator[str]:
    closed_form = any(row["n_updates"] == 0 for row in rows)
    exact = any(not _positive(row["k"]) for row in rows)
    samples: dict[str, list[float]] = {}
    for row in rows:
        samples.setdefault(f"`{row['metric']}`", []).append(row["k"])
    ranges = {metric: text for metric, ks in samples.items() if (text := _range(ks))}
    test_rows = _test_rows(rows)
    yield (
        f"updates: {_range(row['n_updates'] for row in rows) or '0'}" + " (0 where fitted in closed form)" * closed_form
    )
    yield f"seeds per cell: {_range(entry.measured.n_seeds for entry in grid.entries())}"
    yield f"samples `K`: {_grouped(ranges) if ranges else '0'}" + " (0 where exact)" * exact
    yield f"test rows: {_grouped(test_rows) if test_rows else 'not recorded'}"
    yield f"device: {', '.join(sorted({row['device'] for row in rows if row['device']})) or 'not recorded'}"


def _test_rows(rows: Sequence[Row]) -> dict[str, str]:
    """How many test rows the exact numbers and the estimates used: all of a set, or some drawn at random."""
    texts = {}
    for kind, exact in (("estimates", False), ("exact numbers", True)):
        used = [row for row in rows if _positive(row["n_rows"]) and _positive(row["k"]) != exact]
        unknown = _range(row["n_rows"] for row in used if not _positive(row["n_test"]))
        part = _range(row["n_rows"] for row in used if _positive(row["n_test"]) and row["n_rows"] < row["n_test"])
        whole = any(row["n_rows"] == row["n_test"] for row in used)
        texts[kind] = " or ".join(
            ["all of a set"] * whole
            + [f"{part} drawn at random"] * bool(part)
            + [f"{unknown} (drawn at random where a set has more)"] * bool(unknown)
        )
    return {kind: text for kind, text in texts.items() if text}


def _grouped(texts: dict[str, str]) -> str:
    """{'a': 'x', 'b': 'x', 'c': 'y'} -> 'x for a, b; y for c', and just 'x' where all agree."""
    groups: dict[str, list[str]] = {}
    for name, text in texts.items():
        groups.setdefault(text, []).append(name)
    if len(groups) == 1:
        return next(iter(groups))
    return ", ".join(f"{text} for {' / '.join(names)}" for text, names in groups.items())


def _range(values: Iterable[Any]) -> str:
    """'5' or '5 to 20' of the positive ones, '' of none."""
    known = [value for value in values if _positive(value)]
    ends = dict.fromkeys(f"{end:,.0f}" for end in (min(known), max(known))) if known else ()
    return " to ".join(ends)


def _positive(value: Any) -> bool:
    return is_finite(value) and value > 0
