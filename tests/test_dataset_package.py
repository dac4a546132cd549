"""Data sets that somebody else publishes: installed beside the harness, they are one line of configuration away.

The package is built and installed by pip into a fresh virtual environment, which sees the packages of this one. Its
data are real: rows of the letters and of connect4 that come with the harness, one as files, one by a function.
"""

import numpy as np
import pandas as pd
import pytest
from test_plugin_package import installed, run
from test_workflow import Workflow

from harness.data import DataSettings, fetch
from harness.plugins.datasets import plugin_datasets

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "some-letters"
version = "0.4"

[project.entry-points."bihm_harness.datasets"]
some_letters = "some_letters.files"
some_positions = "some_letters.made"

[tool.setuptools.package-data]
some_letters = ["*.csv.gz"]
"""
FILES = '''
"""Letters, as files."""

TITLE = "Some letters"
SOURCE = "Kassel, Taskar"
LICENCE = "none known"
DATA = {"train": "train.csv.gz", "valid": 0.1, "test": "test.csv.gz"}
'''
MADE = '''
"""Positions of connect4 with a man in the first cell, by a function."""

from harness.data.connect4 import positions

TITLE = "Some positions"


def load():
    rows = positions()[positions()[:, 0] == 1]
    return {"train": rows[:600], "valid": rows[600:700], "test": rows[700:900]}
'''


@pytest.fixture(scope="module", name="python")
def _python(tmp_path_factory):
    """The python of a virtual environment with the package in it, and the harness and all else from this one."""
    folder = tmp_path_factory.mktemp("plugin")
    package = folder / "source" / "some_letters"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").touch()
    (package / "files.py").write_text(FILES)
    (package / "made.py").write_text(MADE)
    letters = fetch("ocr_letters", DataSettings(cache=folder / "cache", download=False))
    for part, rows in (("train", letters.train[:500]), ("test", letters.test[:150])):
        np.savetxt(package / f"{part}.csv.gz", rows, fmt="%d", delimiter=",")
    return installed(package.parent, folder / "environment")


def test_they_are_not_known_here():
    assert not {"some_letters", "some_positions"} & set(plugin_datasets())


def test_they_are_listed_with_their_package(python):
    lines = run(python, "-m", "harness", "datasets").splitlines()
    line = next(line for line in lines if line.startswith("some_letters "))
    assert line.split()[1:5] == ["128", "450", "50", "150"]
    assert "none known" in line
    assert "Some letters" in line
    assert any("some-letters 0.4" in line for line in lines)


def test_they_are_verified(python):
    printed = run(python, "-m", "harness", "datasets", "--verify", "some_letters", "some_positions")
    assert "0 failed" in printed
    for name in ("some_letters", "some_positions"):
        for check in ("readable", "same when read again", "enough rows", "columns vary"):
            assert any(line.startswith(f"{name} ") and check in line for line in printed.splitlines())


@pytest.mark.slow
def test_one_line_of_configuration_trains_and_measures_them(python, tmp_path):
    class Beside(Workflow):
        def command(self, *arguments):
            return [str(python), *super().command(*arguments)[1:]]

    flow = Beside(tmp_path)
    flow.settings |= {"grid": ["some_letters", "some_positions"], "suite": ["factorised"], "ablations": {}}
    flow("tables")
    metrics = pd.read_parquet(flow.results / "metrics.parquet")
    found = metrics[metrics["metric"] == "-log p"].set_index("dataset")
    assert set(found.index) == {"some_letters", "some_positions"}
    assert (found["status"] == "ok").all()
    assert (found["value"] > 0).all()
    assert found["data_official"].isna().all()
    overview = pd.read_csv(flow.results / "tables" / "overview.csv")
    assert set(overview["dataset"]) == {"some_letters", "some_positions"}
    assert "stand-in" not in (flow.results / "tables" / "overview.md").read_text()
    assert flow.jobs("tables") == {}
