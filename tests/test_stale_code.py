"""Models that other code of their method has trained: named, never copied, and trained again for a new version."""

import json
import logging
import re
import shutil
from dataclasses import replace
from importlib.metadata import EntryPoint, PathDistribution

import pandas as pd
import pytest
import torch
from cells import NO_CELLS, cell, patterns, train_until
from test_workflow import Workflow, only

from harness.cli import main
from harness.errors import ConfigError, DataError
from harness.evaluation.evaluate import evaluate
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import Planned
from harness.plugins import registry
from harness.plugins.registry import use_files
from harness.plugins.versions import version_of
from harness.settings.config import ROOT
from harness.storage import checkpoint
from harness.storage.method_code import MethodCode, code_of, in_one_line, training_key
from harness.storage.records import file_digest, read_json, write_json
from harness.storage.runs import RunFolder
from harness.storage.search import findings, trials
from harness.training.train import train

CPU = torch.device("cpu")
METHOD = """
import torch

from harness.method import Method


class Mine(Method):
    name, title, kind, source = "mine", "Mine", "control", "a test"

    def __init__(self, n_visible: int, start: float = 0.0):
        super().__init__(n_visible)
        self.bias = torch.nn.Parameter(torch.full((n_visible,), start))

    def log_prob(self, x):
        return (x * self.bias - torch.nn.functional.softplus(self.bias)).sum(-1)

    def loss(self, batch, n_samples, generator):
        return self.log_prob(batch.x).mean()
"""
MENDED = METHOD.replace("return self.log_prob(batch.x)", "return -self.log_prob(batch.x)")
SECOND = MENDED.replace(
    'source = "mine", "Mine", "control", "a test"', 'source, version = "mine", "Mine", "control", "a test", 2'
)
INHERITED = """
from harness.method import Method


class Old(Method):
    version = 6


class Part(Method):
    pass


class Mine(Part, Old):
    name = "mine"
"""
TRAINING = {"phases": [{"updates": 4, "learning_rate": 0.1, "n_samples": 1}], "validation_rows": 20}


@pytest.fixture(autouse=True)
def _forget_files():
    yield
    use_files([])


class Mine:
    """The file of a method, one cell of it and a search with two trials, of which one is that cell."""

    def __init__(self, folder, monkeypatch):
        self.file, self.results = folder / "mine.py", folder / "results"
        for module in ("options", "cells", "about"):
            monkeypatch.setattr(f"harness.cli.{module}.results_of", lambda settings: self.results)
        data = {"cache": str(folder / "cache"), "mirrors": [], "download": False}
        self.settings = {
            **NO_CELLS,
            "preset": "smoke",
            "methods": [str(self.file)],
            "data": data,
            "grid": {"mine": {"connect4": {}}},
            "budgets": {"mine": {"connect4": {"training": TRAINING}}},
            "searches": {"mine": {"connect4": {"learning_rate": [0.1, 0.2]}}},
        }
        self.run = self.results / "runs/connect4/mine/default/0"
        self.trials = self.results / "searches/connect4/mine/default"
        self.write(METHOD)
        assert self("datasets", "--fetch", "connect4") == 0

    def write(self, text):
        """Change the file; the next call sees it as a new process would."""
        self.file.write_text(text)
        registry.module_in.cache_clear()

    def __call__(self, verb, *arguments):
        return main([verb, *arguments, "--settings", json.dumps(self.settings)])

    def train(self, verb="run", *arguments):
        return self(verb, "--dataset", "connect4", "--method", "mine", *arguments)

    def trial(self, rate=0.1):
        return self.train("trial", "--trial", f"learning_rate={rate}")

    def bytes(self):
        return (self.run / "model.safetensors").read_bytes()


@pytest.fixture(name="mine")
def _mine(tmp_path, monkeypatch):
    return Mine(tmp_path, monkeypatch)


def forget_the_code(run):
    """What an earlier version, which did not record the code, would have left."""
    status = read_json(run / "status.json")
    write_json(run / "status.json", {key: status[key] for key in status if not key.startswith("method_")})


def test_a_training_records_version_and_source(mine, capsys):
    assert mine.train() == 0
    status = RunFolder(mine.run).status()
    assert (status["method_version"], status["method_source"]) == (1, file_digest(mine.file))
    assert MethodCode.recorded_in(status) == code_of("mine")
    mine.write(SECOND)
    assert mine.train() == 0
    assert RunFolder(mine.run).status()["method_version"] == 2
    assert code_of("nade") == MethodCode(1, file_digest(ROOT / "methods/nade.py"))
    assert code_of("nonesuch") is None


def test_a_trial_by_other_code_is_not_copied(mine, capsys, caplog):
    assert mine.trial() == 0
    assert mine.train() == 0
    assert f"was trained before, in {mine.trials}/learning_rate=0.1" in capsys.readouterr().err
    wrong = mine.bytes()
    shutil.rmtree(mine.run)
    mine.write(MENDED)
    assert mine.train() == 0
    assert f"{mine.trials}/learning_rate=0.1: was trained by other code of mine; not copied" in caplog.messages
    assert "was trained before" not in capsys.readouterr().err
    assert mine.bytes() != wrong
    assert RunFolder(mine.run).status()["method_source"] == file_digest(mine.file)


def test_a_cell_by_other_code_is_not_copied_as_a_trial(mine, caplog):
    assert mine.train() == 0
    mine.write(MENDED)
    assert mine.trial() == 0
    assert f"{mine.run}: was trained by other code of mine; not copied" in caplog.messages
    trial = mine.trials / "learning_rate=0.1"
    assert RunFolder(trial).status()["method_source"] == file_digest(mine.file)
    assert (trial / "model.safetensors").read_bytes() != mine.bytes()


def test_other_source_is_named_and_another_version_is_trained_again(mine, capsys, caplog):
    assert mine.train() == mine.trial(0.2) == 0
    wrong = mine.bytes()
    mine.write(MENDED)
    capsys.readouterr()
    assert mine.train() == mine.trial(0.2) == 0
    told = capsys.readouterr().err
    assert "connect4/mine/default/0: was trained before" in told
    remedy = "was trained by other code of mine; `harness forget mine` removes it"
    assert told.count(f"harness: connect4/mine/default/0: {remedy}") == 2
    assert mine.bytes() == wrong
    mine.write(SECOND)
    assert mine.train("evaluate") == 1
    expected = "status.json: expected a training by version 2 of mine, found one by version 1"
    assert expected in capsys.readouterr().err
    assert mine.train() == mine.trial(0.2) == 0
    assert caplog.text.count(f"{expected}; training starts again") == 2
    assert mine.bytes() != wrong
    assert mine.train() == 0
    assert "by other code" not in capsys.readouterr().err


def test_a_finished_trial_on_other_threads_is_not_replaced_by_hand(mine, capsys):
    assert mine.trial() == 0
    capsys.readouterr()
    assert mine.train("trial", "--trial", "learning_rate=0.1", "--threads", "2") == 3
    found = capsys.readouterr().err
    assert "learning_rate=0.1: expected a training on 2 threads, found a finished one on 1 (" in found


def test_what_was_trained_before_versions_were_recorded_stays(mine, capsys, caplog):
    assert mine.trial() == 0
    forget_the_code(mine.trials / "learning_rate=0.1")
    mine.write(MENDED)
    assert mine.train() == 0
    assert "was trained before, in" in capsys.readouterr().err
    assert mine.train() == 0
    told = capsys.readouterr().err
    assert "was trained before" in told
    assert "other code" not in told
    mine.write(SECOND)
    assert mine.train() == 0
    assert "found one by version 1; training starts again" in caplog.text


def test_version_1_is_no_part_of_what_identifies_a_training(mine):
    (first, _) = trials(_loaded(mine))
    assert training_key(first.cell) == first.cell.training_digest
    mine.write(SECOND)
    assert training_key(first.cell) == f"{first.cell.training_digest}-v2"
    assert mine.train("run", "--digest", first.cell.training_digest) == 3
    assert mine.train("run", "--digest", f"{first.cell.training_digest}-v2") == 0


def _loaded(mine):
    from harness.settings.config import load_settings

    return load_settings(mine.settings)


def test_findings_are_of_one_version(mine):
    assert mine.trial() == mine.trial(0.2) == 0
    planned = trials(_loaded(mine))
    before = findings(planned, mine.results / "searches")
    assert before["method_version"].tolist() == [1, 1]
    shutil.rmtree(mine.trials)
    assert findings(planned, mine.results / "searches", before)["status"].tolist() == ["ok", "ok"]
    old = before.drop(columns="method_version")  # as earlier versions published it
    assert findings(planned, mine.results / "searches", old)["status"].tolist() == ["ok", "ok"]
    mine.write(SECOND)
    later = trials(_loaded(mine))
    with pytest.raises(DataError, match=r"status\.json"):
        findings(later, mine.results / "searches")
    kept = findings(later, mine.results / "searches", before)  # told of as of the version that found them
    assert kept["method_version"].tolist() == [1, 1]
    assert mine.trial() == 0
    mixed = findings(later, mine.results / "searches", before).set_index("trial")["method_version"]
    assert mixed.to_dict() == {"learning_rate=0.1": 2, "learning_rate=0.2": 1}


def test_publications_say_the_version_and_keep_an_earlier_one_until_there_is_another(mine, tmp_path, caplog):
    mine.settings |= {"grid": {**only(), "mine": {"connect4": {}}}, "repetitions": 1}
    places = ["--results", str(mine.results), "--output", str(tmp_path / "published")]
    assert mine.train() == mine.trial(0.2) == 0
    assert mine("searches", "--trials", str(mine.results / "searches"), "--output", str(tmp_path / "none.csv")) == 1
    assert mine.trial() == 0
    assert mine("publish", *places) == 0
    (line,) = pd.read_csv(tmp_path / "published/runs.csv").to_dict("records")
    assert (line["method_version"], line["method_source"]) == (1, file_digest(mine.file))
    assert "other code" not in caplog.text
    mine.write(MENDED)
    assert mine("publish", *places) == 0
    named = "trained by other code of the method: connect4/mine/default/0"
    assert named in caplog.text
    shutil.rmtree(mine.run)
    caplog.clear()
    assert mine("publish", *places, "--add") == 0
    assert named in caplog.text
    assert pd.read_csv(tmp_path / "published/runs.csv")["method_source"].tolist() == [line["method_source"]]
    mine.write(SECOND)
    caplog.clear()
    assert mine("publish", *places, "--add") == 0
    assert named in caplog.text
    assert pd.read_csv(tmp_path / "published/runs.csv")["method_version"].tolist() == [1]
    assert mine.train() == 0
    assert mine("publish", *places, "--add") == 0
    assert pd.read_csv(tmp_path / "published/runs.csv")["method_version"].tolist() == [2]


def test_forget_removes_what_other_code_made(mine, capsys):
    assert mine.train() == mine.trial(0.2) == 0
    mine.write(MENDED)
    assert mine.trial() == 0
    capsys.readouterr()
    assert mine("forget", "mine") == 0
    assert capsys.readouterr().out == f"removed {mine.run}\nremoved {mine.trials}/learning_rate=0.2\n"
    assert not mine.run.parents[1].exists()
    assert [path.name for path in mine.trials.iterdir()] == ["learning_rate=0.1"]
    assert mine("forget", "mine") == 0
    assert capsys.readouterr().out == f"{mine.results}: nothing of mine by other code\n"
    assert mine.train() == 0
    assert "was trained before, in" in capsys.readouterr().err
    assert mine("forget", "mine", "--all", "--results", str(mine.results)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert not list(mine.results.rglob("status.json"))


def test_forget_leaves_other_methods_and_what_is_unfinished_or_of_unknown_code(mine, capsys):
    assert mine.train() == mine.trial() == mine.trial(0.2) == 0
    other = mine.results / "runs/connect4/yours/default/0"
    shutil.copytree(mine.run, other)
    forget_the_code(mine.run)
    (mine.trials / "learning_rate=0.2/status.json").unlink()
    mine.write(MENDED)
    capsys.readouterr()
    assert mine("forget", "mine") == 0
    assert capsys.readouterr().out == f"removed {mine.trials}/learning_rate=0.1\n"
    assert mine("forget", "yours", "--all") == 0  # its file is gone
    assert capsys.readouterr().out == f"removed {other}\n"
    assert mine.run.is_dir()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("forget", "mien"), "method: expected one of "),
        (("forget", "mien", "--all"), "method: expected one of "),
        (("forget", "*", "--all"), "method: expected letters, digits, _ . -"),
        (("forget", ".."), "method: expected letters, digits, _ . -"),
        (("forget", "mine", "--results", "nowhere"), "--results nowhere: expected a folder with runs or searches"),
    ],
)
def test_what_cannot_be_forgotten_is_one_line_of_error(mine, capsys, arguments, expected):
    assert mine.train() == 0
    capsys.readouterr()
    assert mine(*arguments) == 3
    printed = capsys.readouterr()
    assert printed.err.startswith(f"harness: {expected}")
    assert len(printed.err.splitlines()) == 1
    assert mine.run.is_dir()


def test_a_checkpoint_by_other_code_is_not_continued(mine, tmp_path, caplog):
    use_files([mine.file])
    here, run = replace(cell("factorised"), method="mine"), tmp_path / "run"

    train_until(here, run, 30)
    mine.write(MENDED)
    with caplog.at_level(logging.WARNING):
        train(here, patterns(), run, CPU)
    told = f"{run}/checkpoint.safetensors: by other code of mine; training starts again"
    assert told in caplog.messages
    train(here, patterns(), tmp_path / "whole", CPU)
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    shutil.rmtree(run)
    train_until(here, run, 30)
    _without_code(RunFolder(run).checkpoint_file, f"{here.training_digest} 0 cpu")
    caplog.clear()
    train(here, patterns(), run, CPU)  # as an earlier version had begun it
    assert told not in caplog.messages
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert "method_source" not in RunFolder(run).status()


def _without_code(path, digest):
    tensors, state = checkpoint.load(path, digest)
    del state["code"]
    checkpoint.save(path, tensors, state, digest)


def test_analyses_are_done_again_for_another_version(mine, tmp_path):
    """Though the weights are the same: what changed may be how they are sampled from."""
    weights = "return self.log_prob(x)[:, None] * torch.ones({})"
    sampling = f"\n    def log_weights(self, x, n_samples, generator):\n        {weights}\n"
    here, run = replace(cell("factorised"), method="mine"), tmp_path / "run"
    planned = [Planned("k_sensitivity", {"rows": 20, "ks": [1, 5]}, ())]
    found = []
    for text, scale in ((MENDED, "n_samples"), (SECOND, "n_samples) + torch.ones(n_samples")):
        mine.write(text + sampling.format(scale))
        use_files([mine.file])
        train(here, patterns(), run, CPU)
        evaluate(run, here, patterns(), CPU, "smoke")
        analyse_cell(run, here, planned, patterns, CPU, strict=True)
        found.append((run / "analyses/k_sensitivity.csv").read_text())
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (METHOD, 1),
        (METHOD.replace("    def __init__", "    version: int = 3\n\n    def __init__", 1), 3),
        ("from harness.methods.nade import NADE\n\n\nclass Mine(NADE):\n    name, version = 'mine', 4\n", 4),
        (METHOD.replace("class Mine(Method)", "class Base(Method):\n    version = 5\n\n\nclass Mine(Base)"), 5),
        (INHERITED, 6),
        (METHOD.replace("class Mine(Method)", "class Mine(Method, metaclass=type(Method))"), 1),
    ],
)
def test_the_text_says_the_version_that_the_class_has(mine, text, version):
    mine.write(text)
    use_files([mine.file])
    assert version_of("mine") == version
    if "class Old" not in text and "class Base" not in text:  # a file brings one method
        assert registry.method_class("mine").version == version


@pytest.mark.parametrize("value", ["'2'", "2.0", "True", "1 + 1", "[2]"])
def test_a_version_is_a_whole_number_in_the_text(mine, value):
    mine.write(SECOND.replace('"a test", 2', f'"a test", {value}'))
    with pytest.raises(
        ConfigError, match=rf"mine\.py: class Mine: version: expected a whole number, found {re.escape(value)}"
    ):
        version_of("mine")
    assert mine.train() == 3


def test_a_version_that_the_text_does_not_say_is_refused(mine, capsys):
    mine.write(METHOD + "\n\nMine.version = 2\n")
    assert mine.train() == 3
    assert "method mine: expected version 1, as the text of its class says, found 2" in capsys.readouterr().err


def test_the_code_of_a_package_has_its_version(tmp_path, monkeypatch):
    (tmp_path / "published_mine.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    meta = tmp_path / "published-0.3.dist-info"
    meta.mkdir()
    found = []
    for version in ("0.3", "0.4"):
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: published\nVersion: {version}\n")
        entry = EntryPoint("mine", "published_mine", registry.ENTRY_POINT_GROUP)
        entry = entry._for(PathDistribution(meta))
        monkeypatch.setattr(registry, "entry_points", lambda group, entry=entry: [entry])
        found.append(code_of("mine"))
        assert found[-1] == MethodCode(1, f"published {version} {file_digest(tmp_path / 'published_mine.py')}")
    assert found[0].is_other_than(found[1])


def test_a_process_that_goes_on_records_the_code_that_it_imported(mine, tmp_path):
    use_files([mine.file])
    here = replace(cell("factorised"), method="mine")
    train(here, patterns(), tmp_path / "first", CPU)
    digest = file_digest(mine.file)
    mine.file.write_text(MENDED)  # and the class stays as it was
    train(here, patterns(), tmp_path / "second", CPU)
    assert RunFolder(tmp_path / "second").status()["method_source"] == digest


def test_many_cells_are_one_line():
    assert in_one_line(["a", "b"]) == "a, b"
    assert in_one_line(list("abcdefg")) == "a, b, c, d, e and 2 more"


def assert_planned(flow):
    """Cell and trials of one method are trained again, and what shows them is made again."""
    jobs = flow.jobs("tables", "searches")
    assert (jobs["run_model"], jobs["train_trial"], jobs["gather_metrics"], jobs["gather_searches"]) == (1, 2, 1, 1)


@pytest.mark.slow
def test_the_workflow_names_other_code_and_trains_other_versions_again(tmp_path):
    flow = Workflow(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(METHOD)
    flow.settings["methods"] = [str(file)]
    flow.settings["grid"] = only(factorised={"connect4": {}}) | {"mine": {"connect4": {}}}
    flow.settings["budgets"] = {"mine": {"connect4": {"training": TRAINING}}}
    flow.settings["searches"] = {"mine": {"connect4": {"learning_rate": [0.1, 0.2]}}}
    output = flow("tables", "searches")
    assert "other code" not in output
    run = flow.run("connect4/mine/default/0")
    wrong = (run / "model.safetensors").read_bytes()

    file.write_text(MENDED)
    output = flow("tables", "searches")
    assert "Nothing to be done" in output
    (line,) = (line for line in output.splitlines() if "other code" in line)
    assert line.startswith("harness: 1 cell and 2 trials of mine trained by other code: connect4/mine/default/0, ")
    command = re.search("`harness (.*)` removes them", line)[1].split()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(command) == 0
    assert not run.exists()
    assert_planned(flow)
    assert "other code" not in flow("tables", "searches")
    right = (run / "model.safetensors").read_bytes()
    assert right != wrong

    file.write_text(SECOND)
    assert_planned(flow)
    output = flow("tables", "searches")
    assert "harness: 1 cell and 2 trials of mine trained by version 1, not 2: connect4/mine/default/0, " in output
    assert (run / "model.safetensors").read_bytes() == right
    assert RunFolder(run).status()["method_version"] == 2
    assert pd.read_csv(flow.results / "searches.csv")["method_version"].tolist() == [2, 2]
    output = flow("tables", "searches")
    assert "Nothing to be done" in output
    assert "trained by" not in output

    file.write_text(SECOND.replace('"a test", 2', '"a test", "3"'))
    output = flow("tables", code=1)
    (line,) = (line for line in output.splitlines() if line.startswith("harness: "))
    assert line.endswith("mine.py: class Mine: version: expected a whole number, found '3'")
    assert "Traceback" not in output
