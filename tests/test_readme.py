"""What the README tells a new user to type is true."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from harness import methods
from harness.cli import main, new_method
from harness.plugins.listing import listed
from harness.plugins.registry import ENTRY_POINT_GROUP
from harness.settings import config
from harness.storage.records import read_json

README = (config.ROOT / "README.md").read_text(encoding="utf-8")
ADD_A_METHOD = README[README.index("## Add a method") : README.index("## Data")]


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(name="built_in")
def _built_in(tmp_path, monkeypatch):
    """A folder for built-in methods beside the real one, which tests leave alone."""
    monkeypatch.setattr(new_method, "METHODS", tmp_path)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    return tmp_path


def test_the_lines_that_add_a_method(built_in, capsys):
    new, verify, snakemake = (line.split() for line in blocks("", ADD_A_METHOD)[0].splitlines())
    assert main(new[1:]) == 0
    said = capsys.readouterr().out.replace(f"{built_in}/", "methods/")
    assert " ".join(snakemake) in said
    assert listed("mine").capabilities == ("loss", "importance weights", "sampling")
    assert main(verify[1:]) == 0
    assert "sum over all x of the mean weight" in capsys.readouterr().out
    assert snakemake[-1] == "methods/mine.yaml"
    found = config.cells(config.load_settings(config.read_yaml(built_in / "mine.yaml")))
    assert len([cell for cell in found if cell.method == "mine"]) == 9


def test_the_settings_that_it_shows_are_settings(built_in):
    main(["new-method", "mine"])
    code = built_in / "mine.py"  # the example is of another method, which has one size to choose
    code.write_text(code.read_text().replace("latent: Size, hidden: Size", "hidden: Size, latent: Size = 2"))
    for text in blocks("yaml"):
        config.cells(config.load_settings(yaml.safe_load(text)))
    (line,) = (text for text in blocks("yaml") if "mine" in text)
    found = config.cells(config.load_settings(yaml.safe_load(line)))
    assert len([cell for cell in found if cell.method == "mine"]) == 8


def test_the_entry_point_group_is_that_of_the_registry():
    (text,) = blocks("toml")
    assert f'[project.entry-points."{ENTRY_POINT_GROUP}"]' in text


def test_every_path_that_it_names_exists():
    written = ("methods/mine.py", "methods/mine.yaml")
    for path in re.findall(r"`((?:workflows|harness|methods|\.ci)/[\w./]*)`", README):
        assert path in written or (config.ROOT / path).exists(), path


FIRST_TABLE = README[README.index("## A first table of your own") : README.index("## Figures, report, check")]
MOST_UPDATES = 20_000  # of all six methods together: on two cores, the commands take less than two minutes


@pytest.mark.slow
def test_the_lines_of_a_first_table_of_ones_own(tmp_path, capsys, record_property):
    """As after an installation: in a folder that has nothing but the workflow, with an empty cache."""
    for name in ("Snakefile", "workflows"):
        (tmp_path / name).symlink_to(config.ROOT / name)
    (commands,) = blocks("", FIRST_TABLE)
    assert len(commands.splitlines()) <= 4
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    begin = time.monotonic()
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - begin
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    record_property("seconds", seconds)
    with capsys.disabled():
        print(f"\nthe first table of a new user took {seconds:.0f} s")

    results = tmp_path / "results" / "quick"
    (settings,) = (results / "settings").iterdir()
    found = config.cells(config.load_settings(read_json(settings)))
    assert len(found) == 6
    assert sum(phase.updates for cell in found for phase in cell.training.phases) <= MOST_UPDATES
    table = pd.read_csv(results / "tables" / "overview.csv")
    assert set(table["method"]) == {cell.method for cell in found}
    assert np.isfinite(table[["value", "sem"]]).all(axis=None)
    shown = table["adjusted_value"].fillna(table["value"])  # over all test rows
    marks = table["as_good_as_best"].map({True: "*", False: ""})
    last_words = [line.split()[-1] for line in done.stdout.splitlines() if line.strip()]
    for mark, value in zip(marks, shown, strict=True):
        assert f"{mark}{value:.2f}" in last_words
