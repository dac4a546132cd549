"""``python -m harness`` is the ``harness`` command, and how the workflow calls it."""

import os
import sys

from harness.worker.client import end_as_the_worker_does

# Threads are those of PyTorch (``--threads``). NumPy's own would make its sums depend on how many cores a job is given.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
end_as_the_worker_does()

from harness.cli import main  # noqa: E402 -- takes longer than all that a client does

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Every file is written and synced by now. An orderly exit would take down torch object by object, for half a second.
os._exit(code)
