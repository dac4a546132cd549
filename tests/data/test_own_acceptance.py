"""Three data sets of the literature as a new user's files: measured after eight lines of settings, and as arrays."""

import gzip

import numpy as np
import pandas as pd
import pytest
from test_workflow import Workflow

import harness

NAMES, METHODS, PARTS = ("plants", "nltcs", "jester"), ("bihm", "nade", "rws", "mixture"), ("train", "valid", "test")
SETTINGS = """
data:
  own:
    plants: {train: plants.train.data, valid: plants.valid.data, test: plants.test.data}
    nltcs: {train: nltcs.train.data, valid: nltcs.valid.data, test: nltcs.test.data}
    jester: {train: jester.train.data, valid: jester.valid.data, test: jester.test.data}
grid: own
suite: [bihm, nade, rws, mixture]
""".lstrip()


class Own(Workflow):
    """The workflow with a user's own settings alone, apart from the cheap preset and a cache of its own."""

    def command(self, *arguments):
        words = super().command(*arguments)
        (self.folder / "mine.yaml").write_text(SETTINGS)
        where = f"data={{cache: {self.folder / 'cache'}, mirrors: [], download: false}}"
        return [*words, "--config", "preset=smoke", where]


@pytest.mark.slow
def test_text_files_and_arrays_give_the_same_numbers(tmp_path, mirror):
    assert len(SETTINGS.splitlines()) <= 8
    for name in NAMES:
        for part in PARTS:
            packed = mirror / "upstream" / "arranger1044" / "DEBD" / "datasets" / name / f"{name}.{part}.data.gz"
            (tmp_path / f"{name}.{part}.data").write_bytes(gzip.decompress(packed.read_bytes()))
    flow = Own(tmp_path)
    flow("tables")
    metrics = pd.read_parquet(flow.results / "metrics.parquet")
    assert set(zip(metrics["dataset"], metrics["method"], strict=True)) == {(d, m) for d in NAMES for m in METHODS}
    assert (metrics["status"] == "ok").all()
    overview = pd.read_csv(flow.results / "tables" / "overview.csv")
    assert {*NAMES} == set(overview["dataset"])
    assert {*METHODS} == set(overview["method"])
    assert all(name in (flow.results / "tables" / "overview.md").read_text() for name in NAMES)
    for name in NAMES:
        arrays = (np.loadtxt(tmp_path / f"{name}.{part}.data", delimiter=",") for part in PARTS)
        data = harness.dataset(name, *arrays)
        for method in METHODS:
            ours = harness.run(data, method, preset="smoke", folder=tmp_path / "arrays" / name / method).metrics
            theirs = metrics[(metrics["dataset"] == name) & (metrics["method"] == method)]
            assert dict(zip(ours["metric"], ours["value"], strict=True)) == dict(
                zip(theirs["metric"], theirs["value"], strict=True)
            )
            assert set(ours["config_digest"]) == set(theirs["config_digest"])
