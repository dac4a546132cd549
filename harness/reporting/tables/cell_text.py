"""The text of a cell: a number to the digits that its error supports, or words in place of one.

Signs after a heading or a number, and the words, are explained in the notes below the table.
"""

from __future__ import annotations

import math

from harness.reporting.tables.build import Entry
from harness.reporting.tables.pooling import OK, TIMEOUT

STAND_IN, NOTED, STOPPED, FEWER, REMARKED, BIASED, WORSE_THAN_CONTROL = "†", "§", "‡", "¶", "‖", "⋄", "▽"
AT_CHANCE = "∘"
NOTHING = "–"
NOT_COMPARABLE = "n/c"
DECIMALS = {"error": 3}  # at most; nats and percent have MOST_DECIMALS
MOST_DECIMALS = 2


def number(value: float, decimals: int, sign: str = "-") -> str:
    """Fixed decimals with a typographic minus, and no sign before a zero."""
    text = f"{value:{sign}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def decimals_for(error: float, most: int) -> int:
    """Decimals that show two digits of the error, between 0 and ``most``; ``most`` where there is no error."""
    if not math.isfinite(error) or error <= 0:
        return most
    return min(max(1 - math.floor(math.log10(error)), 0), most)


def with_error(value: float, error: float, most: int) -> str:
    """'13.67 ± 0.05': value and standard error to the digits that the error supports."""
    decimals = decimals_for(error, most)
    if not math.isfinite(error):
        shown = "n/a"
    elif 0 < error < 0.5 * 10**-most:
        shown = f"<{10**-most:.{most}f}"
    else:
        shown = number(error, decimals)
    return f"{number(value, decimals)} ± {shown}"


def _most_decimals(entry: Entry) -> int:
    return DECIMALS.get(entry.key.metric, MOST_DECIMALS)


def ours_text(entry: Entry) -> str:
    """Our number with its error and marks, or the status in words."""
    m = entry.measured
    if m.value is None:
        return m.status
    text = m.value if isinstance(m.value, str) else with_error(m.value, m.sem, _most_decimals(entry))
    marks = {
        STOPPED: m.status == TIMEOUT,
        FEWER: bool(m.others),
        REMARKED: m.status == OK and bool(m.message),
        BIASED: m.bias_dominates,
        WORSE_THAN_CONTROL: entry.worse_than_control,
        AT_CHANCE: m.at_chance,
    }
    return text + "".join(mark for mark, holds in marks.items() if holds)


def bias_text(entry: Entry) -> str:
    """The estimated bias, signed, to two digits."""
    bias = entry.measured.bias
    return number(bias, max(decimals_for(abs(bias), 4), _most_decimals(entry)), sign="+")


def difference_text(entry: Entry, official: bool) -> str:
    """Ours minus the thesis', to no more decimals than either supports; 'n/c' where the data are not the same."""
    m = entry.measured
    if m.value is None or entry.reported is None:
        return NOTHING
    if isinstance(m.value, str):
        return "same" if m.value == entry.reported else "differs"
    if not official:
        return NOT_COMPARABLE
    printed_decimals = len(entry.reported.partition(".")[2])
    decimals = min(decimals_for(m.sem, _most_decimals(entry)), printed_decimals)
    return number(m.value - float(entry.reported), decimals, sign="+")
