"""``harness new-method`` writes a method that works and settings that put it in the grid, and never overwrites."""

import sys

import pytest
import torch
from cells import cell, patterns

from harness.cli import main, new_method
from harness.cli.new_method import write_new_method
from harness.errors import ConfigError
from harness.plugins.listing import listed
from harness.plugins.registry import method_class, use_files
from harness.settings import config
from harness.storage.runs import OK
from harness.training.train import train
from harness.verify import CHECKS, Subject, run_check


@pytest.fixture(autouse=True)
def _forget_files():
    yield
    use_files([])


@pytest.fixture(name="written")
def _written(tmp_path):
    """Code and settings of a method in a folder of its own."""
    code, settings = write_new_method("deep_thing", tmp_path)
    use_files([code])
    return code, settings


@pytest.mark.parametrize("check", CHECKS)
def test_it_passes_every_check(check, written):
    result = run_check(check, Subject(method_class("deep_thing")))
    assert result.verdict != "failed", result.detail
    needed = {"interface", "importance weights", "samples", "determinism", "checkpoint", "learning", "bad input"}
    assert result.verdict == "passed" or check not in needed, result.detail


def test_it_is_named_by_its_name(written):
    found = listed("deep_thing")
    assert (found.title, found.kind) == ("Deep thing", "latent")
    assert method_class("deep_thing").__name__ == "DeepThing"
    assert found.capabilities == ("loss", "importance weights", "sampling")


def test_it_learns(written, tmp_path):
    chosen = cell("deep_thing", {"latent": 3, "hidden": 10})
    assert train(chosen, patterns(), tmp_path / "run", torch.device("cpu")) == OK
    curve = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    losses = [float(line.split(",")[curve[0].split(",").index("valid_loss")]) for line in curve[1:]]
    assert losses[-1] < losses[0] - 1


def test_its_settings_put_it_in_every_preset(written):
    _, path = written
    for preset in config.presets():
        settings = config.load_settings({**config.read_yaml(path), "preset": preset})
        found = [each for each in config.cells(settings) if each.method == "deep_thing"]
        assert len({each.dataset for each in found}) == 9
        assert all(each.training.phases for each in found)


def test_among_the_built_in_methods_nothing_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(new_method, "METHODS", tmp_path)
    _, path = write_new_method("deep_thing", tmp_path)
    assert set(config.read_yaml(path)) == {"grid"}


def test_below_the_root_of_the_repository_its_place_is_relative(tmp_path, monkeypatch):
    monkeypatch.setattr(new_method, "ROOT", tmp_path)
    _, path = write_new_method("deep_thing", tmp_path / "plug, ins")
    assert config.read_yaml(path)["methods"] == ["plug, ins/deep_thing.py"]


def test_the_verb_says_what_comes_next_and_that_works(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new-method", "deep_thing", "--folder", "mine"]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "mine" / "deep_thing.py").is_file()
    command = next(line.split() for line in printed.splitlines() if "harness verify" in line)
    assert main(command[1:]) == 0
    assert f"snakemake --cores 8 tables figures --configfile {command[-1]}" in printed


@pytest.mark.parametrize("suffix", [".py", ".yaml"])
def test_no_file_is_overwritten(suffix, tmp_path):
    there = tmp_path / f"mine{suffix}"
    there.write_text("mine")
    with pytest.raises(ConfigError, match=rf"{there}: expected no such file, found one"):
        write_new_method("mine", tmp_path)
    assert there.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [there]


@pytest.mark.parametrize("name", ["two words", "class", "1st", "a-b", "", "null", "yes", "a/b", "größe"])
def test_what_cannot_name_a_module_or_a_key_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="expected a valid name of a Python module, found"):
        write_new_method(name, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_taken_names_are_refused(written, tmp_path):
    for name, owner in (("vae", "methods/vae.py"), ("deep_thing", str(written[0]))):
        with pytest.raises(ConfigError, match=f"expected an unused name, found '{name}', that of .*{owner}"):
            write_new_method(name, tmp_path / "none")


@pytest.mark.parametrize("name", ["x", "_x", "__"])
def test_odd_names_give_methods_as_well(name, tmp_path):
    code, _ = write_new_method(name, tmp_path)
    use_files([code])
    assert listed(name).name == method_class(name).name == name
    assert listed(name).title
    assert sys.modules[method_class(name).__module__].__file__ == str(code)
