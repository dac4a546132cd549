"""The regression check: which numbers of a run moved, against the thesis and against an earlier run, by a test.

``summary`` makes one line a cell and metric of a run, ``statistics`` holds the tests, ``against_run`` and
``against_thesis`` give each cell its verdict, ``audit`` looks for numbers that contradict each other, ``write`` puts
all of it into tables and a plot. A verdict is never a matter of looking at two numbers: each one names the difference,
its standard error and the adjusted p-value.
"""

from harness.check.write import write_check

__all__ = ["write_check"]
