"""The cluster profile: Snakemake understands it, and cells become jobs of a sensible length."""

import importlib.util
import subprocess
import sys

import pytest

from harness.cli.workflow import is_short, minutes
from harness.compute.places import ROOT
from harness.reporting.tables.planned import cells_shown
from harness.settings.config import cells, load_settings

PROFILE = "workflows/profiles/slurm"
HAS_PLUGIN = importlib.util.find_spec("snakemake_executor_plugin_slurm") is not None


def dry_run(folder, *arguments):
    for name in ("Snakefile", "workflows"):
        (folder / name).symlink_to(ROOT / name)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--dry-run",
        "--profile",
        PROFILE,
        "--printshellcmds",
    ]
    done = subprocess.run(
        [*command, *arguments, "tables", "--config", "preset=smoke"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@pytest.mark.skipif(not HAS_PLUGIN, reason="needs pip install -e '.[slurm]', whose options the profile sets")
@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_snakemake_understands_the_profile(executor, tmp_path):
    lines = dry_run(tmp_path, "--executor", executor).splitlines()
    jobs = [line for line in lines if "mem_mb=4000" in line and "runtime=20" in line]
    settings = load_settings({"preset": "smoke"})
    assert len(jobs) == len(cells_shown(cells(settings), settings))


def test_only_cells_of_minutes_share_a_job():
    assert all(is_short(cell) for preset in ("smoke", "quick") for cell in cells(load_settings({"preset": preset})))
    settings = load_settings({"preset": "full", "cluster": {"long_minutes": 240}})
    full = cells(settings)
    assert {cell.method for cell in full if is_short(cell)} == {"factorised", "mixture", "label_mlp", "label_logistic"}
    assert {minutes(cell, settings) for cell in full} == {20, 240}
