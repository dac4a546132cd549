# Settings, cells and the functions that rules use.
from pathlib import Path

from harness.config import canonical_json, cells, load_settings
from harness.runs import crashes
from harness.workflow import cores_per_job, data_attempt, record_settings, typed, use_this_python

use_this_python()
SETTINGS = load_settings(typed(config))
RESULTS = f"results/{SETTINGS['preset']}"
# What jobs read. It must not be the output of a job: below a job that has to run, even where its output is an
# ancient() input, Snakemake looks for no other reason to run. The digests among params tell which jobs a change concerns.
SETTINGS_FILE = f"{RESULTS}/settings.json"
record_settings(SETTINGS, Path(SETTINGS_FILE))
CELLS = {cell.path: cell for cell in cells(SETTINGS)}


wildcard_constraints:
    dataset="[^/]+",
    method="[^/]+",
    variant="[^/]+",
    seed="[0-9]+",


def cell_of(wildcards):
    """The cell that a run's folder stands for."""
    return CELLS[f"{wildcards.dataset}/{wildcards.method}/{wildcards.variant}/{wildcards.seed}"]


def run_folder(wildcards):
    """Where a cell's run lies."""
    return Path(f"{RESULTS}/runs/{cell_of(wildcards).path}")
