# Settings, cells and the functions that rules use.
from pathlib import Path

from harness.config import canonical_json, cells, load_settings
from harness.workflow import cores_per_job, data_attempt, run_attempt, use_this_python

use_this_python()
SETTINGS = load_settings(config)
RESULTS = f"results/{SETTINGS['preset']}"
CELLS = {cell.path: cell for cell in cells(SETTINGS)}


wildcard_constraints:
    dataset="[^/]+",
    method="[^/]+",
    variant="[^/]+",
    seed="[0-9]+",


def cell_of(wildcards):
    """The cell that a run's folder stands for."""
    return CELLS[f"{wildcards.dataset}/{wildcards.method}/{wildcards.variant}/{wildcards.seed}"]
