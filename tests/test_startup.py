"""What a process of the workflow imports: a grid has dozens of them, and a second in each one is a minute."""

import json
import signal
import subprocess
import sys

import pytest
from cells import MODELS, WITH_LABELS

SETTINGS = {"preset": "smoke", "data": {"mirrors": [], "download": False}}
SMALL = {"updates": 2, "learning_rate": 0.01, "n_samples": 2}


def imported(code, *arguments):
    """Names of all modules loaded once the code has run."""
    code += "\nimport sys; print(chr(10).join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


def test_reading_the_snakefile_needs_no_torch():
    assert not {"torch", "pandas", "scipy"} & imported(
        "import harness.settings.config, harness.storage.runs, harness.cli.workflow"
    )


@pytest.mark.parametrize("method", sorted(set(MODELS) - set(WITH_LABELS)))
def test_a_cell_loads_neither_compilers_nor_tables(method, tmp_path):
    """torch.optim alone would load torch._dynamo, which takes longer than all else together."""
    cell = {"connect4": {"model": MODELS[method], "training": {"phases": [SMALL]}}}
    data = {**SETTINGS["data"], "cache": str(tmp_path / "cache")}
    settings = json.dumps({**SETTINGS, "data": data, "grid": {method: cell}})
    code = (
        "import sys; from harness.cli import main\n"
        f"assert main(['datasets', '--fetch', 'connect4', '--settings', {settings!r}]) == 0\n"
        f"assert main(['run', '--dataset', 'connect4', '--method', {method!r}, '--run', sys.argv[1],"
        f" '--settings', {settings!r}]) == 0\n"
        "import gc; assert gc.isenabled() and gc.get_freeze_count() > 100_000  # torch was loaded before"
    )
    loaded = imported(code, str(tmp_path / "run"))
    assert "harness.evaluation.measure" in loaded
    assert not {"torch._dynamo", "torch._inductor", "sympy", "pandas", "seaborn", "pyarrow.compute"} & loaded


def test_a_reader_that_has_seen_enough_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "settings"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()  # as `| head` does
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE
