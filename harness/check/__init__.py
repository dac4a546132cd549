"""The regression check: which numbers of a run moved, against the thesis and against an earlier run, by a test.

``read`` and ``summary`` make one line per cell and metric of a run, ``rows`` pairs values of the same test rows,
``calibration`` estimates how much numbers vary when a model is trained again, ``difference`` how far two may differ,
``statistics`` holds the tests; ``against_run`` and ``against_thesis`` give each cell its verdict (``verdict``),
``audit`` looks for numbers that contradict each other, ``simulate`` and ``curves`` measure size and power of the tests,
``write`` puts all of it into tables and plots. A verdict is never a matter of looking at two numbers: each one names
the difference, its standard error, the adjusted p-value, and the smallest difference that its test would have found.
"""

from harness.check.write import write_check

__all__ = ["write_check"]
