"""Data that change under the workflow's feet: a cache emptied or spoilt, a file of one's own, a record gone bad."""

import shutil

import numpy as np
import pytest
from test_workflow import Workflow, only

from harness.cli import workflow
from harness.data import DataSettings, load
from harness.settings.config import load_settings
from harness.storage.records import read_json

pytestmark = pytest.mark.slow


@pytest.fixture(name="flow")
def _flow(tmp_path):
    """One cell of connect4, measured."""
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(factorised={"connect4": {}})
    flow("tables")
    return flow


def record_of(flow):
    return flow.results / "data" / "connect4.json"


def attempt(flow, lacking=True):
    return workflow.data_attempt(record_of(flow), "connect4", load_settings(flow.settings), lacking)


def value(flow):
    return flow.table().loc["connect4", "factorised", "", "-log p"].value


def test_a_cache_that_was_emptied_is_filled_again_where_it_is_needed(flow):
    before = record_of(flow).read_bytes()
    shutil.rmtree(flow.folder / "cache")
    assert flow.jobs("tables") == {}
    (flow.run("connect4/factorised/default/0") / "metrics.json").unlink()
    assert flow.jobs("tables")["fetch"] == 1
    flow("tables")
    assert (flow.folder / "cache" / "connect4.npz").exists()
    assert record_of(flow).read_bytes() == before
    assert flow.table().loc["connect4", "factorised", "", "-log p"].status == "ok"
    assert flow.jobs("tables") == {}


def test_a_cell_that_meets_a_spoilt_cache_fetches_again(flow):
    """Damage that only the reader of all rows can see."""
    cached = flow.folder / "cache" / "connect4.npz"
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 255
    cached.write_bytes(content)
    flow.settings["budgets"] = {"factorised": {"connect4": {"training": {"l1": 0.25}}}}
    flow("tables")
    row = flow.table().loc["connect4", "factorised", "", "-log p"]
    assert row.status == "ok"
    assert "fetched again" in (flow.results / "logs/runs/connect4/factorised/default/0.log").read_text()
    assert flow.jobs("tables") == {}


def test_a_file_of_ones_own_takes_the_place_of_the_official_data(flow):
    ours, official = flow.folder / "mine.npz", value(flow)
    rows = load("connect4", DataSettings(cache=flow.folder / "cache"))
    parts = {part: np.packbits(1 - getattr(rows, part)[:600], axis=1) for part in ("train", "valid", "test")}
    np.savez(ours, n_features=np.int64(rows.n_features), **parts)
    flow.settings["data"]["paths"] = {"connect4": str(ours)}
    flow("tables")
    record = read_json(record_of(flow))
    assert "mine.npz" in record["note"]
    assert flow.status("connect4/factorised/default/0")["data_digest"] == record["digest"]
    assert value(flow) != official
    assert load("connect4", DataSettings(cache=flow.folder / "cache")).digest == rows.digest
    assert flow.jobs("tables") == {}
    parts["train"] = parts["train"][::-1]
    np.savez(ours, n_features=np.int64(rows.n_features), **parts)
    assert flow.jobs("tables")["fetch"] == 1
    flow("tables")
    assert read_json(record_of(flow))["digest"] != record["digest"]
    del flow.settings["data"]["paths"]
    flow("tables")
    assert value(flow) == official
    assert flow.jobs("tables") == {}


def test_attempts_grow_where_there_is_something_to_gain_and_stay_then(flow):
    settings, record = load_settings(flow.settings), record_of(flow)
    assert workflow.data_attempt(flow.folder / "none.json", "connect4", settings, lacking=True) == 0
    assert attempt(flow) == 0
    record.write_bytes(b"")
    assert attempt(flow) == 1
    workflow.attempts_file(record).write_text('{"attempt": 1}')
    assert attempt(flow) == 2
    record.write_text('{"available": true, "official": true, "digest": "another", "attempt": 4}')
    assert (attempt(flow), attempt(flow, lacking=False)) == (2, 1)
    workflow.attempts_file(record).write_text("junk")
    assert attempt(flow) == 5
    record.write_text('{"available": false}')
    assert attempt(flow) == 1
