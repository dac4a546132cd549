"""The workflow trains what a cell starts from before it, once, and both again where the former changes."""

import shutil

import pytest
from test_workflow import Workflow, only

from harness.cli import main
from harness.storage.records import read_json

SOURCE, STARTED = "connect4/bihm/default/0", "connect4/bihm/started/0"


def new_flow(folder):
    flow = Workflow(folder)
    model = {"model": {"layers": [8, 4]}}
    started = {**model, "training": {"start_from": "bihm/connect4"}}
    flow.settings["grid"] = only(bihm={"connect4": model, "connect4/started": started})
    flow.settings["only"] = "bihm/connect4/started"
    return flow


def test_what_a_cell_starts_from_is_trained_before_it(tmp_path, capsys):
    flow = new_flow(tmp_path)
    assert flow.jobs("table_3_1")["run_model"] == 2  # what it asks for starts from the other
    flow("table_3_1")
    before = {path: flow.status(path) for path in (SOURCE, STARTED)}
    told = before[STARTED]["started_from"]
    assert (told["cell"], told["n_updates"]) == (SOURCE, 20)
    assert told["model_sha256"] == before[SOURCE]["model_sha256"]
    assert not (flow.run(STARTED) / "start.safetensors").exists()
    log = (flow.results / "logs" / "runs" / f"{STARTED}.log").read_text()
    assert f"{STARTED}: begins with the weights of {SOURCE}, after 20 updates: p_bias.0, " in log
    note = "started from the weights of another trained model, whose updates come on top of its own: BiHM (started) on "
    page = (flow.results / "tables" / "table_3_1.md").read_text()
    assert f"{note}connect4 (from {SOURCE}, after 20 updates)." in page.replace("\\", "")
    assert main(["show", str(flow.run(STARTED))]) == 0
    shown = capsys.readouterr().out
    assert f"started from {SOURCE}, after 20 updates: 40 in all" in shown
    assert "Nothing to be done" in flow("table_3_1")


@pytest.mark.slow
def test_what_changes_the_weights_that_it_starts_from_trains_it_again(tmp_path):
    flow = new_flow(tmp_path)
    flow("table_3_1")
    before = {path: flow.status(path) for path in (SOURCE, STARTED)}
    shutil.rmtree(flow.run(SOURCE))  # the same weights once more are no reason to train what started from them again
    written = (flow.run(STARTED) / "model.safetensors").stat().st_mtime_ns
    flow("table_3_1")
    assert flow.status(SOURCE)["model_sha256"] == before[SOURCE]["model_sha256"]
    assert (flow.run(STARTED) / "model.safetensors").stat().st_mtime_ns == written

    flow.settings["budgets"]["bihm"]["connect4"] = {"training": {"l1": 0.5}}
    assert flow.jobs("table_3_1")["run_model"] == 2
    flow("table_3_1")
    after = {path: flow.status(path) for path in (SOURCE, STARTED)}
    assert after[STARTED]["started_from"]["model_sha256"] == after[SOURCE]["model_sha256"]
    assert after[SOURCE]["model_sha256"] != before[SOURCE]["model_sha256"]
    assert after[STARTED]["training_digest"] != before[STARTED]["training_digest"]
    assert "Nothing to be done" in flow("table_3_1")

    flow.settings["searches"] = {"bihm": {"connect4/started": {"learning_rate": [0.01, 0.02]}}}
    flow("searches")
    trial = flow.results / "searches" / "connect4" / "bihm" / "started" / "learning_rate=0.02" / "status.json"
    assert read_json(trial)["started_from"]["model_sha256"] == after[SOURCE]["model_sha256"]


def test_a_search_of_what_starts_from_a_cell_that_is_left_out_is_refused_in_one_line(tmp_path):
    flow = new_flow(tmp_path)
    flow.settings["searches"] = {"bihm": {"connect4/started": {"learning_rate": [0.01, 0.02]}}}
    flow.settings["grid"] |= only(nade={"connect4": {"model": {"hidden": 4}}}, bihm=flow.settings["grid"]["bihm"])
    flow.settings["only"] = "nade"
    output = flow("--dry-run", "searches", code=1)
    assert f"harness: only: expected {SOURCE} as well, which {STARTED} starts from, found it left out" in output
