"""The readable page of a check."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
from tabulate import tabulate

from harness.check.audit import Violation
from harness.check.curves import POWER_RETRAINED, POWER_THIS, SIZE_RUN, SIZE_THESIS
from harness.check.rules import Rules
from harness.check.verdict import REPRODUCED, Verdict
from harness.reporting.report.judging import Claim, markdown_of

MARKS_SHIFTS = (0.1, 0.3, 1.0, 3.0)  # nats, of the power curve that the page reports


def page(
    preset: str,
    comparisons: Mapping[str, Sequence[Verdict]],
    violations: Sequence[Violation],
    measured: pd.DataFrame,
    rules: Rules,
    claims: Sequence[Claim] = (),
) -> str:
    """Markdown: both comparisons, the claims of users, the audit, and size and power of the tests."""
    sizes = "; ".join(
        f"{name}: {size.absolute:g} or {size.relative:.2%} of the value, at most {size.at_most:g}"
        for name, size in rules.sizes.items()
    )
    parts = [
        "# Check\n",
        f"Preset {preset}. A number is called different if its difference is significant at {rules.level:g} for all "
        "numbers of a comparison together (Holm). It is called reproduced if it is not, and the test would have found "
        f"a difference that matters ({sizes}) with {rules.power:.0%} power; otherwise the check cannot tell. "
        "Differences are ours minus theirs, ± their standard errors.\n",
    ]
    for name, verdicts in comparisons.items():
        counts = Counter(each.verdict for each in verdicts)
        could = sum(each.could_differ for each in verdicts)
        parts.append(f"## Against the {name}\n")
        parts.append(
            ", ".join(f"{n} {word}" for word, n in counts.most_common())
            + f". {could} of {len(verdicts)} could have been called different.\n"
        )
        parts.append(_table(verdicts) + "\n")
    if claims:
        parts += ["## Claims\n", markdown_of(claims) + "\n"]
    parts += [
        "## Size and power of the tests\n",
        _worth(measured, rules) + "\n",
        "## Numbers that contradict each other\n",
    ]
    if violations:
        rows = [
            (v.whose, "/".join(part for part in (v.table, v.dataset, v.method, v.variant) if part), v.identity, v.found,
             f"{v.size:.2g}")
            for v in violations
        ]  # fmt: skip
        headers = ("whose", "where", "identity", "found", "missed by")
        parts.append(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True) + "\n")
    else:
        parts.append("None.\n")
    return "\n".join(parts)


def _worth(measured: pd.DataFrame, rules: Rules) -> str:
    """Sentences on size and power, from ``check_power.csv``."""
    said = []
    for curve in (SIZE_RUN, SIZE_THESIS):
        at = measured[(measured["curve"] == curve) & (measured["x"] == rules.level)]
        for line in at.itertuples():
            said.append(
                f"{curve[0].upper()}{curve[1:]}, simulated with measured variances: any false alarm in "
                f"{line.y:.1%} ± {line.error:.1%} of comparisons (stated: {rules.level:.0%})."
            )
    for curve in (POWER_THIS, POWER_RETRAINED):
        of = measured[measured["curve"] == curve]
        if len(of):
            shares = (f"{of.loc[(of['x'] - x).abs().idxmin(), 'y']:.0%} at {x:g} nats" for x in MARKS_SHIFTS)
            said.append(f"{curve[0].upper()}{curve[1:]}: a shift of one cell's -log p is found in {', '.join(shares)}.")
    return "\n".join(f"- {sentence}" for sentence in said) if said else "Nothing to compare with."


def _table(verdicts: Sequence[Verdict]) -> str:
    """All but the reproduced ones first, the largest differences in standard errors on top."""
    order = sorted(verdicts, key=lambda v: (v.verdict == REPRODUCED, v.verdict, -standardised(v)))
    rows = [
        (
            *("/".join(part for part in v.key[:3] if part), f"`{v.key.metric}`", v.verdict),
            *(_number(v.ours), _number(v.theirs)),
            _number(v.difference, "+") + (f" ± {v.error:.2g}" if math.isfinite(v.error) else ""),
            f"{v.p_value:.2g}" if math.isfinite(v.p_value) else "",
            f"{v.smallest:.2g}" if math.isfinite(v.smallest) else "",
            f"{v.retrained:.2g}" if math.isfinite(v.retrained) else "",
            v.reason,
        )
        for v in order
    ]
    headers = ("cell", "metric", "verdict", "ours", "theirs", "difference", "adjusted p", "would find",
               "if retrained", "remark")  # fmt: skip
    align = ("left", "left", "left", *["right"] * 6, "left")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def standardised(verdict: Verdict) -> float:
    """Size of the difference in standard errors; 0 where there is none."""
    return abs(verdict.difference) / verdict.error if verdict.error > 0 else 0.0


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4g}" if math.isfinite(value) else ""
