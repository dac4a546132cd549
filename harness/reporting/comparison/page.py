"""The readable page of a comparison: one line per method, then every pair that cannot be told apart, then the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tabulate import tabulate

from harness.comparison.compare import Comparison
from harness.comparison.pairs import BETTER, CANNOT_TELL, METHODS, WORSE, Pair


def page(found: Comparison, place: object) -> str:
    """Markdown. place: of the run."""
    return "\n".join(
        [
            f"# Methods compared on `{found.metric}`\n",
            f"{place}. Two models are compared on the test rows that both have; a difference is a − b, ± its standard "
            f"error. It is more than chance at a level of {found.level:.0%} for all {len(found.pairs):,} pairs together"
            f" (Holm). `would find` is the difference that the test finds with {found.power:.0%} power, at the "
            "correction's strictest. With several seeds on both sides a difference is one of methods, and the spread "
            "between trainings is in its error; otherwise it is one of these trained models.\n",
            _record_table(found) + "\n",
            "## Ranks over data sets\n",
            _ranks(found) + "\n",
            "## Pairs\n",
            _pair_table(found.pairs) + "\n" if found.pairs else "No data set has two models.\n",
        ]
    )


def summary(found: Comparison) -> list[str]:
    """Lines for the terminal: how many pairs differ, and the methods in the order of their mean ranks."""
    told = sum(pair.verdict != CANNOT_TELL for pair in found.pairs)
    of_methods = sum(pair.found.of == METHODS for pair in found.pairs)
    lines = [
        f"{found.metric}: {told:,} of {len(found.pairs):,} pairs differ at {found.level:.0%} for all together; "
        f"{of_methods:,} are of methods, the others of single trainings"
    ]
    if found.ranks is not None:
        ranks = found.ranks
        lines += [
            f"mean ranks over {len(ranks.datasets)} data sets, {ranks.critical:.2f} apart is more than chance:",
            *(f"  {mean:5.2f}  {name}" for name, mean in zip(ranks.methods, ranks.means, strict=True)),
        ]
    return lines


def _record_table(found: Comparison) -> str:
    rows = []
    for contender in found.contenders:
        record = found.record(contender)
        columns = [column for column in found.columns if contender in column.models and len(column.models) > 1]
        first = sum(found.as_good_as_best(column, contender) for column in columns)
        rows.append(
            (
                contender.name,
                len(columns),
                first,
                record[BETTER],
                record[WORSE],
                record[CANNOT_TELL],
                _mean(found, contender.name),
            )
        )
    headers = ("method", "data sets", "best or as good", "better in", "worse in", "not told apart in", "mean rank")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=("left", *["right"] * 6))


def _mean(found: Comparison, name: str) -> str:
    ranks = found.ranks
    return f"{ranks.means[ranks.methods.index(name)]:.2f}" if ranks is not None and name in ranks.methods else ""


def _ranks(found: Comparison) -> str:
    ranks = found.ranks
    if ranks is None:
        return "No two methods have two data sets in common."
    friedman = f"p = {ranks.p_value:.2g}" if math.isfinite(ranks.p_value) else "all ranks are equal"
    groups = "; ".join(f"{ranks.methods[first]} to {ranks.methods[last]}" for first, last in ranks.groups())
    return (
        f"{len(ranks.methods)} methods on {', '.join(ranks.datasets)}. Friedman's test of no difference at all: "
        f"{friedman}. Mean ranks {ranks.critical:.2f} or more apart differ (Nemenyi, {ranks.level:.0%} for all pairs). "
        f"Not told apart, in the order of mean ranks: {groups or 'none'}.\n\n"
        "![critical differences](critical_difference.png)"
    )


def _pair_table(pairs: Sequence[Pair]) -> str:
    """What cannot be told apart first, then the differences that are closest to it."""
    order = sorted(pairs, key=lambda pair: (pair.verdict != CANNOT_TELL, -pair.adjusted))
    rows = [_row(pair) for pair in order]
    headers = ("data set", "a", "b", "a is", "a − b", "adjusted p", "would find", "rows", "of")
    align = ("left", "left", "left", "left", *["right"] * 4, "left")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def _row(pair: Pair) -> tuple[str, ...]:
    found = pair.found
    return (
        *(found.a.cell.dataset, found.a.name, found.b.name, pair.verdict),
        f"{found.difference:+.3f} ± {found.error:.2g}",
        *(f"{pair.adjusted:.2g}", f"{pair.smallest:.2g}"),
        f"{found.n_rows:,}" if found.n_rows else "unpaired",
        found.of,
    )
