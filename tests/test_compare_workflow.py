"""The targets ``overview`` and ``compare``: Snakemake in a subprocess on a small grid of real data."""

import json

import pandas as pd
import pytest
from test_workflow import BUDGET, Workflow, only


@pytest.fixture(name="done", scope="module")
def compared_once(tmp_path_factory):
    flow = Workflow(tmp_path_factory.mktemp("compare"))
    nade = {"connect4": {"model": {"hidden": 4}}}
    flow.settings["grid"] = only(factorised={"connect4": {}}, nade=nade, fvsbn={"connect4": {}})
    flow.settings["budgets"] = {name: {"*": BUDGET} for name in ("nade", "fvsbn")}
    flow("compare")
    return flow


def test_the_overview_has_every_method(done):
    frame = pd.read_csv(done.results / "tables" / "overview.csv")
    assert set(frame["method"]) == {"factorised", "nade", "fvsbn"}
    assert frame["as_good_as_best"].any()
    text = (done.results / "tables" / "overview.md").read_text()
    assert text.startswith("# Overview\n")
    assert "mean rank" not in text  # of one data set


def test_all_pairs_are_compared_on_all_rows(done):
    frame = pd.read_csv(done.results / "compare" / "compare.csv")
    assert len(frame) == 3
    assert set(frame["n_rows"]) == {47_557}
    assert "No two methods have two data sets in common" in (done.results / "compare" / "compare.md").read_text()
    assert json.loads((done.results / "compare" / ".sha256" / "compare.json").read_text())["files"]


def test_nothing_is_done_twice_and_a_damaged_table_is_made_again(done):
    assert "Nothing to be done" in done("compare", "overview")
    path = done.results / "compare" / "compare.csv"
    before = path.read_text()
    path.write_text(before.replace("nade", "nada"))
    assert "made again" in done("compare")
    assert path.read_text() == before
