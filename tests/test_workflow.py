"""The workflow as its users meet it: Snakemake in a subprocess on small grids, real data only.

connect4 is rebuilt from the rules of the game, so these tests need neither mirror nor network.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from cells import cell

from harness.cli import workflow
from harness.compute.places import ROOT
from harness.reporting.tables.planned import NAMES, cells_shown
from harness.settings.config import cells, load_settings
from harness.storage.records import read_json
from harness.storage.runs import RunFolder

PRESET = "smoke"
BUDGET = {
    "training": {
        "validate_every": 10,
        "validation_rows": 100,
        "phases": [{"updates": 20, "learning_rate": 0.01, "n_samples": 2}],
    }
}


def only(**grid):
    """A grid with these cells alone: settings merge key by key, so all others are taken out by name."""
    return {
        method: {**dict.fromkeys(entries), **grid[method]} if method in grid else None
        for method, entries in load_settings()["grid"].items()
    }


class Workflow:
    """A folder with the Snakefile where results, cache and Snakemake's own notes are private to the test."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("Snakefile", "workflows"):
            (folder / name).symlink_to(ROOT / name)
        self.settings = {
            "preset": PRESET,
            "data": {"cache": str(folder / "cache"), "mirrors": [], "download": False},
            "grid": only(
                factorised={"connect4": {}, "adult": {}},
                bihm={"connect4": {"model": {"layers": [8, 4]}}},
                nade={"connect4": {"model": {"hidden": 4}}},
            ),
            "ablations": {"bihm": None},
            "budgets": {"bihm": {"*": BUDGET}, "nade": {"*": BUDGET}},
        }

    @property
    def results(self):
        return self.folder / "results" / PRESET

    def command(self, *arguments):
        configuration = self.folder / "mine.yaml"
        configuration.write_text(yaml.safe_dump(self.settings))
        return [sys.executable, "-m", "snakemake", *arguments, "--cores", "8", "--configfile", str(configuration)]

    def __call__(self, *arguments, code=0):
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        return output

    def jobs(self, *arguments):
        """How often each rule would run."""
        output = self("--dry-run", *arguments)
        if "Nothing to be done" in output:
            return {}
        listed = re.search(r"^jobs: (.*\n(?:  .*\n)*)", output, flags=re.MULTILINE).group(1)
        return {name: int(n) for name, n in (each.split() for each in listed.split(","))}

    def table(self, name="table_3_1"):
        frame = pd.read_csv(self.results / "tables" / f"{name}.csv", keep_default_na=False)
        return frame.set_index(["dataset", "method", "variant", "metric"])

    def recorded_settings(self):
        """The file that jobs of a call with the present settings read."""
        mine = load_settings(self.settings)
        (path,) = (path for path in (self.results / "settings").iterdir() if read_json(path) == mine)
        return path

    def run(self, path="connect4/bihm/default/0"):
        return self.results / "runs" / path

    def status(self, path):
        return read_json(self.run(path) / "status.json")

    def killed_once(self, condition):
        """Run to the trained models; SIGKILL Snakemake and its jobs when the condition holds."""
        process = subprocess.Popen(
            self.command("train"),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self("--unlock")


@pytest.fixture(scope="module", name="done")
def finished(tmp_path_factory):
    """A workflow that ran once to its tables."""
    flow = Workflow(tmp_path_factory.mktemp("workflow"))
    flow.first_output = flow("tables")
    return flow


def test_tables_are_made_in_all_forms(done):
    for name in ("table_3_1", "table_3_2", "table_3_3", "table_4_1"):
        for form in ("csv", "md", "tex"):
            assert (done.results / "tables" / f"{name}.{form}").stat().st_size > 0
    table = done.table()
    for method, metric in (("bihm", "-log p"), ("bihm", "-log p*"), ("nade", "-log p"), ("factorised", "-log p")):
        row = table.loc["connect4", method, "", metric]
        assert row.status == "ok"
        assert float(row["value"]) > 0
        assert float(row["sem"]) > 0
    metrics = pd.read_parquet(done.results / "metrics.parquet")
    measured = metrics[metrics.status == "ok"]
    origin = ["config_digest", "data_digest", "seed", "estimator", "n_rows", "seconds", "device", "torch", "git_commit"]
    assert measured[origin].notna().all().all()


def test_unavailable_data_never_block_the_tables(done):
    row = done.table().loc["adult", "factorised", "", "-log p"]
    assert (row.status, row.value) == ("unavailable", "")
    assert "set a mirror folder" in done.status("adult/factorised/default/0")["message"]
    log = (done.results / "logs" / "data" / "adult.log").read_text()
    assert "unavailable" in log
    assert "stand-in" in (done.results / "tables" / "table_3_1.md").read_text()


def test_methods_that_come_later_say_so(done):
    assert done.table().loc["adult", "darn", "", "-log p"].status == "not planned"


def test_a_second_call_does_nothing(done):
    assert "Nothing to be done" in done("tables")


@pytest.mark.parametrize("name", ["metrics.json", "status.json"])
def test_damaged_records_are_told_and_made_again(done, name):
    run = done.run("connect4/nade/default/0")
    weights = (run / "model.safetensors").read_bytes()
    content = bytearray((run / name).read_bytes())
    content[content.index(b"connect4" if name == "metrics.json" else b"best_update") + 1] ^= 1
    (run / name).write_bytes(content)
    output = done("train", "tables")
    assert f"{(run / name).relative_to(done.folder)}: expected the content that was written" in output
    assert "made again" in output
    assert RunFolder(run).status()["status"] == RunFolder(run).measurements()[0]["status"] == "ok"
    assert (run / "model.safetensors").read_bytes() == weights
    assert "Nothing to be done" in done("train", "tables")


def test_changing_one_hyperparameter_reruns_that_cell_alone(done):
    before = done.settings
    changed = json.loads(json.dumps(before))
    changed["budgets"]["bihm"]["connect4"] = {"training": {"l1": 0.5}}
    done.settings = changed
    jobs = done.jobs("tables")
    done.settings = before
    assert jobs["run_model"] == 1


@pytest.mark.slow
def test_changing_the_evaluation_measures_that_cell_alone_and_trains_nothing(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(factorised={"connect4": {}}, bihm={"connect4": {"model": {"layers": [8, 4]}}})
    flow("tables")
    trained = traces_of_training(flow.run())
    assert flow.table().loc["connect4", "bihm", "", "-log p"].k == "20"
    flow.settings["budgets"]["bihm"]["connect4"] = {"evaluation": {"n_samples": 7}}
    assert flow.jobs("tables")["run_model"] == 1
    flow("tables")
    assert flow.table().loc["connect4", "bihm", "", "-log p"].k == "7"
    assert traces_of_training(flow.run()) == trained
    flow.settings["budgets"]["bihm"]["connect4"] = {"training": {"l1": 0.5}}
    flow("tables")
    assert not traces_of_training(flow.run()) & trained


def traces_of_training(run):
    """Name and moment of writing of the files that training alone writes."""
    names = ("status.json", "model.safetensors", "curve.csv")
    return {(name, (run / name).stat().st_mtime_ns) for name in names}


def test_where_data_are_looked_for_reruns_nothing_that_is_fine(done, tmp_path):
    before = done.settings
    done.settings = {**before, "data": {**before["data"], "mirrors": [str(tmp_path)]}}
    jobs = done.jobs("tables")
    done.settings = before
    assert not set(jobs) & {"fetch", "run_model"}


def test_a_dry_run_of_everything_fits_a_screen(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings = {"data": flow.settings["data"]}
    lines = flow("--dry-run").splitlines()  # of the default target
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    settings = load_settings(flow.settings)
    n_cells = len(cells(settings))
    (first,) = (line for line in lines if line.startswith("results/quick: "))
    assert first.startswith(f"results/quick: {n_cells} of {n_cells} cells to train or measure, about ")
    rows = {line.split()[0]: line.split()[1:4] for line in lines if line.startswith(("table_", "overview", "figures"))}
    n_shown = len(cells_shown(cells(settings), settings, ["table_3_1"]))
    assert rows["table_3_1"] == [str(n_shown), "0", str(n_shown)]
    assert set(rows) == {*NAMES, "overview", "figures"}
    assert " write_report 1, all 1, total " in " ".join(map(str.strip, lines))
    assert not (tmp_path / "results" / "quick" / "runs").exists()


def test_a_dry_run_counts_what_is_done(done):
    before = done.settings
    done.settings = json.loads(json.dumps(before))
    done.settings["budgets"]["bihm"]["connect4"] = {"training": {"l1": 0.5}}
    printed = done("tables", "--dry-run")
    every = done("tables", "--dry-run", "--printshellcmds")
    done.settings = before
    assert "results/smoke: 1 of 4 cells to train or measure, less than a minute" in printed
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.startswith(("table", "overv"))}
    assert rows["table_3_1"][:3] == rows["overview"][:3] == ["4", "3", "1"]
    assert "cells to do: bihm 1\n" in printed
    assert re.search(r"^why: .*params have changed since last execution \d", printed, flags=re.MULTILINE)
    assert "Job stats" not in printed
    assert "Job stats" in every


def test_a_dry_run_changes_nothing_for_jobs_under_way(done):
    path = done.recorded_settings()
    written = path.stat().st_mtime_ns
    done("tables", "--dry-run", "--config", "device=cuda")
    assert done.recorded_settings() == path
    assert path.stat().st_mtime_ns == written
    assert "Nothing to be done" in done("tables")


def test_cells_ask_for_gpus_where_the_device_is_one(done):
    everything = ("tables", "--dry-run", "--printshellcmds", "--forceall", "--config")
    assert "gpu_slots" not in done(*everything, "device=cpu")
    output = done(*everything, "device=cuda")
    n_cells = len(list((done.results / "runs").rglob("metrics.json")))
    assert output.count("gpu_slots=1, gres=gpu:1") == n_cells


def test_every_step_can_be_repeated_by_hand(done, tmp_path):
    """The command line with the recorded settings gives the same weights and the same numbers."""
    arguments = ["--settings", str(done.recorded_settings()), "--dataset", "connect4", "--method", "bihm"]
    run = tmp_path / "by_hand"
    for verb in ("train", "evaluate"):
        command = [sys.executable, "-m", "harness", verb, *arguments, "--run", str(run)]
        subprocess.run(command, check=True, capture_output=True)
    original = done.run()
    assert (run / "model.safetensors").read_bytes() == (original / "model.safetensors").read_bytes()
    values = [
        [(row["metric"], row["value"]) for row in read_json(folder / "metrics.json")["rows"]]
        for folder in (run, original)
    ]
    assert values[0] == values[1]


CRASHING = """
from pathlib import Path
import torch
from harness.method import Method

class Crashing(Method):
    name, title, kind, source = "crashing", "Crashing", "control", "a test"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.bias = torch.nn.Parameter(torch.zeros(n_visible))

    def fit(self, train):
        assert Path("{mended}").exists(), "cannot train"

    def log_prob(self, x):
        return -0.7 * torch.ones_like(x).sum(-1)
"""


@pytest.mark.slow
def test_a_crash_becomes_a_status_and_is_tried_again(tmp_path):
    flow = Workflow(tmp_path)
    (tmp_path / "crashing.py").write_text(CRASHING.format(mended=tmp_path / "mended"))
    flow.settings["methods"] = [str(tmp_path / "crashing.py")]
    flow.settings["grid"] = only(factorised={"connect4": {}}) | {"crashing": {"connect4": {}}}
    flow.settings["budgets"] = {}
    path = "connect4/crashing/default/0"
    flow("tables")
    row = flow.table().loc["connect4", "crashing", "", "-log p"]
    assert (row.status, row.value) == ("failed", "")
    assert flow.table().loc["connect4", "factorised", "", "-log p"].status == "ok"
    assert flow.status(path)["status"] == "failed"
    assert "training ended with exit code 1, see " in flow.status(path)["message"]
    assert RunFolder(flow.run(path)).crashes.count() == 1
    assert flow.jobs("tables")["run_model"] == 1
    flow("tables")
    assert RunFolder(flow.run(path)).crashes.count() == 2
    assert flow.jobs("tables")["run_model"] == 1
    (tmp_path / "mended").touch()
    flow("tables")
    assert flow.table().loc["connect4", "crashing", "", "-log p"].status == "ok"
    assert "Nothing to be done" in flow("tables")


def test_a_mistake_that_only_a_cell_can_find_stops_the_run_with_its_line(tmp_path):
    flow = Workflow(tmp_path)
    # how many sizes there are for how many layers is for the method to know
    flow.settings["grid"] = only(iwae={"connect4": {"model": {"layers": [3, 2], "hidden": [[4]]}}})
    flow.settings["budgets"] = {}
    output = flow("tables", code=1)
    expected = "connect4/iwae: harness: hidden: expected one list for each of 2 layers, found 1"
    assert expected in output.splitlines()
    run = flow.run("connect4/iwae/default/0")
    assert not (run / "metrics.json").exists()
    assert RunFolder(run).crashes.count() == 0
    flow.settings["grid"]["iwae"]["connect4"]["model"]["hidden"] = [[4], [4]]
    flow.settings["budgets"] = {"iwae": {"*": BUDGET}}
    flow("tables")
    assert flow.table().loc["connect4", "iwae", "", "-log p"].status == "ok"


@pytest.mark.parametrize(
    ("settings", "arguments", "expected"),
    [
        ("grid: {bimh: null}", (), "{file}: grid.bimh: expected one of "),
        ("strict: true\nstrict: false", (), "{file}: strict: expected a key that is given once, found it twice"),
        ("1: 2", (), "{file}: expected keys that are words, found '1' in line 1"),
        ("{}", ("--config", "defaults={training: {l1: -1e-3}}"), "--config: defaults.training.l1: expected at least 0"),
        ("searches: {vae: {adult: {learning_rate: [0.1]}}}", (), "cell vae/adult/default: expected method/data set"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, settings, arguments, expected):
    flow = Workflow(tmp_path)
    file = tmp_path / "wrong.yaml"
    file.write_text(settings)
    command = [sys.executable, "-m", "snakemake", "tables", "--dry-run", "--configfile", str(file), *arguments]
    done = subprocess.run(command, cwd=flow.folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("harness: ")]
    assert line.startswith("harness: " + expected.format(file=file))
    assert "Traceback" not in done.stderr + done.stdout


def test_numbers_of_a_file_and_of_arguments_are_numbers(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(nade={"connect4": {"model": {"hidden": 4}}})
    file = flow.folder / "numbers.yaml"
    file.write_text("defaults: {training: {l1: 1e-3, batch_size: 5.0e1}}")
    files = ("--configfile", str(flow.folder / "mine.yaml"), str(file))
    arguments = (*files, "--config", "defaults={evaluation: {rows: 1e1}}")
    command = [*flow.command("tables", "--dry-run")[:-2], *arguments]
    done = subprocess.run(command, cwd=flow.folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (recorded,) = (read_json(path) for path in (flow.results / "settings").iterdir())
    training, evaluation = recorded["defaults"]["training"], recorded["defaults"]["evaluation"]
    assert (training["l1"], training["batch_size"], evaluation["rows"]) == (0.001, 50, 10)


@pytest.mark.slow
def test_data_that_turn_up_later_are_used(tmp_path, small_mirror):
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(factorised={"adult": {}, "connect4": {}})
    flow("tables")
    assert flow.table().loc["adult", "factorised", "", "-log p"].status == "unavailable"
    assert read_json(flow.results / "data" / "connect4.json")["official"] is False
    assert "Nothing to be done" in flow("tables")
    flow.settings["data"]["mirrors"] = [str(small_mirror)]
    flow("tables")
    assert flow.table().loc["adult", "factorised", "", "-log p"].status == "ok"
    assert read_json(flow.results / "data" / "connect4.json")["official"] is True
    assert flow.jobs("tables") == {}


@pytest.fixture
def small_mirror(tmp_path):
    """adult, which is nowhere else, and the official connect4, for which there is a stand-in."""
    source = Path(os.environ.get("HARNESS_MIRROR", ROOT / "../shared/data"))
    if not source.exists():
        pytest.skip("no mirror folder")
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name in ("adult.npz", "connect4.npz"):
        shutil.copy(source / name, folder)
    return folder


def test_strict_makes_unavailable_data_an_error(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(factorised={"adult": {}})
    flow("tables", "--config", "strict=true", code=1)
    assert "adult" in (flow.results / "logs" / "data" / "adult.log").read_text()


@pytest.mark.slow
def test_a_killed_workflow_goes_on_from_the_checkpoint(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(bihm={"connect4": {"model": {"layers": [100, 50]}}})
    training = {
        "validate_every": 20,
        "checkpoint_every_s": 0.01,
        "phases": [{"updates": 1500, "learning_rate": 0.01, "n_samples": 5}],
    }
    flow.settings["budgets"] = {"bihm": {"*": {"training": training}}}
    run = flow.run()
    flow.killed_once((run / "checkpoint.safetensors").exists)
    assert (run / "checkpoint.safetensors").exists()
    assert not (run / "status.json").exists()
    flow("train", "--rerun-incomplete")
    killed = (run / "model.safetensors").read_bytes()
    shutil.rmtree(flow.results)
    flow("train")
    assert (run / "model.safetensors").read_bytes() == killed


@pytest.mark.slow
def test_a_kill_while_measuring_costs_no_training(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(bihm={"connect4": {"model": {"layers": [8, 4]}}})
    flow.settings["budgets"]["bihm"]["connect4"] = {"evaluation": {"n_samples": 1_000_000}}
    flow.killed_once((flow.run() / "status.json").exists)
    assert not (flow.run() / "metrics.json").exists()
    trained = traces_of_training(flow.run())
    flow.settings["budgets"]["bihm"]["connect4"] = {"evaluation": {"n_samples": 5}}
    flow("tables", "--rerun-incomplete")
    assert flow.table().loc["connect4", "bihm", "", "-log p"].status == "ok"
    assert traces_of_training(flow.run()) == trained


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
        assert not torch.is_inference_mode_enabled() or Path("{mended}").exists(), "cannot measure"
        return -0.7 * torch.ones_like(x).sum(-1)
"""


@pytest.mark.slow
def test_a_crash_while_measuring_says_so_and_costs_no_training(tmp_path, monkeypatch):
    """A published method that measures only where it finds a file."""
    (tmp_path / "fragile-1.dist-info").mkdir()
    (tmp_path / "fragile-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1\n")
    (tmp_path / "fragile-1.dist-info" / "entry_points.txt").write_text("[bihm_harness.methods]\nfragile = fragile\n")
    (tmp_path / "fragile.py").write_text(FRAGILE.format(mended=tmp_path / "mended"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only() | {"fragile": {"connect4": {}}}
    flow.settings["budgets"] = {}
    flow("tables")
    path = "connect4/fragile/default/0"
    assert flow.table().loc["connect4", "fragile", "", "-log p"].status == "failed"
    metrics = pd.read_parquet(flow.results / "metrics.parquet")
    assert "evaluation ended with exit code 1, see " in metrics.message.item()
    assert "cannot measure" in (flow.results / "logs" / "runs" / f"{path}.log").read_text()
    assert flow.status(path)["status"] == "ok"
    trained = traces_of_training(flow.run(path))
    (tmp_path / "mended").touch()
    assert flow.jobs("tables")["run_model"] == 1
    flow("tables")
    assert flow.table().loc["connect4", "fragile", "", "-log p"].status == "ok"
    assert traces_of_training(flow.run(path)) == trained
    assert flow.jobs("tables") == {}


def test_lint_has_nothing_to_say():
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good condition" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("cores", "processors", "expected"), [(8, 2, 4), (8, 8, 1), (2, 8, 1), (3, 2, 2), (None, 4, 1)]
)
def test_jobs_never_outnumber_processors(cores, processors, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    assert workflow.cores_per_job(cores) == expected


def test_a_search_trains_its_trials_once_and_measures_none(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["searches"] = {"nade": {"connect4": {"learning_rate": [0.01, 0.1], "updates": 10}}}
    flow("searches")
    found = pd.read_csv(flow.results / "searches.csv")
    assert found[["trial", "n_updates", "chosen"]].to_numpy().tolist() == [
        ["learning_rate=0.01", 10, True],
        ["learning_rate=0.1", 10, False],
    ]
    assert sorted(found["rank"]) == [1, 2]
    assert not list(flow.results.rglob("metrics.json"))
    assert flow.jobs("searches") == {}
    flow.settings["searches"]["nade"]["connect4"]["learning_rate"] = [0.01, 0.3]
    assert flow.jobs("searches")["train_trial"] == 1


def test_budgets_are_tried_at_their_lengths_and_the_table_is_printed(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings |= {"only": "nade", "budget_trials": {"lengths": [0.5, 2]}}
    printed = flow("budgets")
    page = (flow.results / "budgets.md").read_text(encoding="utf-8")
    assert page in printed
    assert "1 cells (" in page
    found = pd.read_csv(flow.results / "budgets.csv")
    assert found["n_updates"].tolist() == [20, 10, 40]
    assert not list(flow.results.rglob("metrics.json"))
    assert flow.jobs("budgets") == {}
    flow.settings["budget_trials"]["lengths"] = [0.5, 3]
    assert flow.jobs("budgets")["train_trial"] == 1
    flow.settings["budget_trials"] |= {"lengths": [0.5, 2], "chance": 0.2}
    due = flow.jobs("budgets")
    assert (due.get("train_trial"), due["gather_budgets"]) == (None, 1)
    assert flow.jobs("searches").get("train_trial") is None


def only_ablation(variant):
    """The ablations of bihm with this variant alone, once."""
    others = dict.fromkeys(load_settings({"preset": PRESET})["ablations"]["bihm"])
    return {**others, variant: {"repetitions": 1, "model": {"layers": [8, 4]}}}


def test_every_target_trains_what_it_shows(tmp_path):
    """connect4 in Tables 3.1 and 3.2, an ablation in a figure alone, and a model that only a figure shows."""
    flow = Workflow(tmp_path)
    flow.settings["ablations"] = {"bihm": only_ablation("connect4/all layers")}
    flow.settings["grid"]["bihm"]["faces"] = {"model": {"layers": [8]}}
    trained = {
        target: flow.jobs(target).get("run_model", 0)
        for target in ("table_3_1", "table_3_2", "table_3_3", "table_4_1", "tables", "figures", "train", "all")
    }
    assert trained == {
        "table_3_1": 4,  # factorised twice, bihm, nade
        "table_3_2": 1,  # bihm
        "table_3_3": 0,
        "table_4_1": 0,
        "tables": 4,
        "figures": 4,  # all of bihm, faces being two data sets
        "train": 7,
        "all": 7,
    }


def test_measurements_are_gathered_of_what_was_asked_for_and_is_there(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["ablations"] = {"bihm": only_ablation("connect4/all layers")}

    def variants():
        return set(pd.read_parquet(flow.results / "metrics.parquet")["variant"])

    flow("tables")
    assert variants() == {""}
    assert "Nothing to be done" in flow("tables")
    flow("check")
    assert variants() == {"", "all layers"}
    assert "gather_metrics" not in flow.jobs("tables")  # what was measured stays


def test_rows_left_to_the_overview_are_trained_by_it_and_then_stay(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["left_to_overview"] = ["nade"]

    def methods():
        return set(pd.read_csv(flow.results / "tables" / "table_3_1.csv").query("status == 'ok'")["method"])

    assert flow.jobs("table_3_1")["run_model"] == 3
    output = flow("tables")
    assert "harness: left out: 1 cell beyond the thesis; `snakemake overview` or `all` adds their rows" in output
    assert methods() == {"bihm", "factorised"}
    assert "Nothing to be done" in flow("tables")
    flow("overview")
    assert "nade" in (flow.results / "tables" / "overview.md").read_text().lower()
    assert "render_table" in flow.jobs("tables")
    assert "left out" not in flow("tables")
    assert methods() == {"bihm", "factorised", "nade"}
    assert "Nothing to be done" in flow("tables")


def test_the_table_that_takes_least_comes_first():
    class PerUpdate:
        def seconds(self, cell):
            return len(cell.method)

    def cells(*methods):
        return [replace(cell(), method=method) for method in methods]

    found = workflow.priorities({"long": cells("aaaa", "b", "cc"), "short": cells("b", "dd")}, PerUpdate(), {})
    assert [path.split("/")[1] for path in sorted(found, key=found.get, reverse=True)] == ["dd", "b", "aaaa", "cc"]


def test_without_a_target_everything_is_made(tmp_path):
    flow = Workflow(tmp_path)
    asked = flow.jobs()
    assert asked == flow.jobs("all")
    assert {"all", "run_model", "render_table", "draw_figure", "write_report"} <= set(asked)
