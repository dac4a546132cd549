"""Tables that are not of the settings of a call never pass for it: not after a failure, a stop or a damaged record."""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace

import pandas as pd
import pytest
from cells import cell
from test_workflow import Workflow, only

from harness.cli import terminal
from harness.storage.records import read_json
from harness.storage.runs import RunFolder

pytestmark = pytest.mark.slow

FIGURE = "results/smoke/figures/figure_3_4.png"
FRAGILE = """
from pathlib import Path
import torch
from harness.method import Method

class Fragile(Method):
    name, title, kind, source = "fragile", "Fragile", "control", "a test"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.bias = torch.nn.Parameter(torch.zeros(n_visible))

    def fit(self, train):
        pass

    def log_prob(self, x):
        assert self.training or not Path("{broken}").exists(), "cannot measure"
        return -0.7 * torch.ones_like(x).sum(-1)
"""


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory):
    """Three cells, their tables and one figure; (the workflow, its settings, a copy of its folder)."""
    tmp_path = tmp_path_factory.mktemp("stale") / "work"
    tmp_path.mkdir()
    flow = Workflow(tmp_path)
    (tmp_path / "fragile.py").write_text(FRAGILE.format(broken=tmp_path / "broken"))
    flow.settings["methods"] = [str(tmp_path / "fragile.py")]
    flow.settings["grid"] = only(factorised={"connect4": {}}, bihm={"connect4": {"model": {"layers": [8, 4]}}})
    flow.settings["grid"]["fragile"] = {"connect4": {}}
    flow.settings["analyses"] = {"k_sensitivity": {"connect4": {"rows": 20, "ks": [1, 10]}}}
    flow("tables", FIGURE)
    shutil.copytree(tmp_path, tmp_path.with_name("copy"), symlinks=True)
    return flow, json.dumps(flow.settings), tmp_path.with_name("copy")


@pytest.fixture(name="flow")
def _flow(made):
    """The workflow as it was when it had just been made."""
    flow, settings, copy = made
    shutil.rmtree(flow.folder)
    shutil.copytree(copy, flow.folder, symlinks=True)
    flow.settings = json.loads(settings)
    return flow


def measure_with(flow, k, method="bihm"):
    """Settings that measure the cell of the method with other samples, and train nothing anew."""
    flow.settings["budgets"].setdefault(method, {})["connect4"] = {"evaluation": {"n_samples": k}}


def assert_planned(flow, method="bihm"):
    """The cell is measured again and all that shows it is made again, by whichever target it is asked for."""
    assert not (flow.run(f"connect4/{method}/default/0") / "metrics.json").exists()
    found = flow.jobs("tables")
    # Table 3.1 shows both methods, Table 3.2 one of them
    assert (found["run_model"], found["gather_metrics"], found["render_table"]) == (1, 1, 1 + (method == "bihm"))
    for target in ("report", "check"):
        assert flow.jobs(target)["run_model"] == 1
    if method == "bihm":  # the other one is in no figure
        assert flow.jobs("figures")["run_model"] == 1
        found = flow.jobs(FIGURE)
        assert (found["run_model"], found["analyse_model"], found["draw_figure"]) == (1, 1, 1)


def assert_finishes(flow, k):
    flow("tables", FIGURE)
    assert flow.table().loc["connect4", "bihm", "", "-log p"].k == str(k)
    assert flow.jobs("tables", FIGURE) == {}


def test_a_job_that_fails_leaves_no_stale_tables(flow):
    """Strict: an error in the cell ends the workflow, and Snakemake has deleted what the cell had measured."""
    (flow.folder / "broken").touch()
    measure_with(flow, 7, "fragile")
    flow.settings["strict"] = True
    assert "1 cell not measured yet. Tables and figures wait for the cells that they show" in flow("tables", code=1)
    assert_planned(flow, "fragile")
    flow("tables", code=1)
    assert flow.jobs("tables")["gather_metrics"] == 1
    (flow.folder / "broken").unlink()
    assert_finishes(flow, 20)


def test_a_stop_leaves_no_stale_tables(flow):
    """SIGTERM while the cell is measured with other settings."""
    measure_with(flow, 3_000_000)
    process = subprocess.Popen(
        flow.command("tables"), cwd=flow.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    log = flow.results / "logs/runs/connect4/bihm/default/0.log"
    end = time.monotonic() + 300
    while not (log.exists() and "was trained before" in log.read_text()):  # until the cell is being measured
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(300) != 0
    assert flow.jobs("tables")["gather_metrics"] == 1
    measure_with(flow, 5)
    assert_finishes(flow, 5)


def test_a_record_of_zero_bytes_leaves_no_stale_tables(flow):
    """A full disk or a crash of the machine emptied the record of a data set: it is made again."""
    record = flow.results / "data" / "connect4.json"
    before = read_json(record)
    record.write_bytes(b"")
    measure_with(flow, 9)
    flow("tables")
    assert read_json(record)["digest"] == before["digest"]
    assert_finishes(flow, 9)


def test_a_lost_measurement_is_made_again(flow):
    """Whoever deletes the measurements of a cell gets them back from every target that rests on them."""
    (flow.run() / "metrics.json").unlink()
    for target in ("tables", "figures", "report", "check", "all"):
        assert flow.jobs(target)["run_model"] == 1


def test_a_search_that_failed_leaves_no_stale_findings(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["searches"] = {"nade": {"connect4": {"learning_rate": [0.01, 0.1], "updates": 10}}}
    flow("searches")
    trials = sorted((flow.results / "searches" / "connect4" / "nade" / "default").iterdir())
    (trials[0] / "status.json").unlink()
    due = flow.jobs("searches")
    assert (due["train_trial"], due["gather_searches"]) == (1, 1)
    flow("searches")
    assert flow.jobs("searches") == {}
    assert len(pd.read_csv(flow.results / "searches.csv")) == 2


def test_the_end_of_a_call_tells_what_became_of_the_cells(tmp_path):
    cells = [replace(cell(), seed=seed) for seed in range(10)]
    assert terminal.how_it_ended([], tmp_path, early=True) == []
    for each, status in zip(cells, ["ok", *["failed"] * 6, "unavailable", "timeout"], strict=False):
        run = tmp_path / "runs" / each.path
        RunFolder(run).write_status("ok" if each.seed == 6 else status, "" if status == "ok" else "why")
        (run / "metrics.json").write_text("{}")
    # this one crashed while it was measured
    (tmp_path / "runs" / cells[6].path / "metrics.json").write_text('{"rows": [{"status": "failed", "message": "x"}]}')
    RunFolder(tmp_path / "runs" / cells[1].path).crashes.add("why")
    RunFolder(tmp_path / "runs" / cells[1].path).crashes.add("why")
    told = terminal.how_it_ended(cells, tmp_path, early=True)
    assert told[0] == "6 cells failed, as tables and figures say in their place; the next call tries again:"
    assert told[1] == "  patterns/bihm/default/1: why, tried 2 times"
    assert told[6:8] == ["  and 1 more", "1 cell unavailable, as tables and figures say in their place:"]
    assert told[9].startswith("1 cell not measured yet. Tables and figures wait for the cells that they show")
    assert told[-1] == "  patterns/bihm/default/9"
    assert terminal.how_it_ended(cells, tmp_path, early=False) == told[:9]


@pytest.mark.parametrize("name", ["tables/table_3_1.csv", "figures/figure_3_4.csv", "metrics.parquet"])
def test_what_people_read_is_made_again_when_it_was_damaged(flow, name):
    path = flow.results / name
    sound = path.read_bytes()
    path.write_bytes(sound[:-9] + bytes([sound[-9] ^ 1]) + sound[-8:])
    assert f"{name}: expected sha256 " in flow("tables", FIGURE)
    assert path.read_bytes() == sound
    assert "Nothing to be done" in flow("tables", FIGURE)
