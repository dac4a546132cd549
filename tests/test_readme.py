"""What the README tells a new user to type is true."""

import re
from dataclasses import replace

import pytest
import torch
import yaml
from cells import cell, patterns

import methods
from harness import config, runs
from harness.cli import main
from harness.evaluation import evaluate
from harness.listing import listed
from harness.registry import method_class
from harness.training import train

README = (config.ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The example of a method, put where the README says."""
    (code,) = blocks("python")
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    return method_class("mine")


def test_the_example_method_trains_and_is_measured(mine, tmp_path):
    chosen = replace(cell("factorised", batch_size=20), method="mine")
    assert train(chosen, patterns(), tmp_path / "run", torch.device("cpu")) == runs.OK
    (row,) = evaluate(tmp_path / "run", chosen, patterns(), torch.device("cpu"), "smoke")
    assert (row["metric"], row["title"], row["status"]) == ("-log p", "Mine", "ok")
    assert row["value"] > 0


def test_the_example_method_is_listed_and_verified(mine, capsys):
    assert listed("mine").title == "Mine"
    assert main(["verify", "mine"]) == 0
    assert "sum over all x of p(x)" in capsys.readouterr().out


def test_its_line_of_configuration_gives_it_cells(mine):
    for text in blocks("yaml"):
        config.cells(config.load_settings(yaml.safe_load(text)))
    (line,) = (text for text in blocks("yaml") if "mine" in text)
    found = config.cells(config.load_settings(yaml.safe_load(line)))
    assert len([chosen for chosen in found if chosen.method == "mine"]) == 8


def test_every_path_that_it_names_exists():
    for path in re.findall(r"`((?:workflows|harness|methods|\.ci)/[\w./]*)`", README):
        assert path == "methods/mine.py" or (config.ROOT / path).exists(), path
