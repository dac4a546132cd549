"""Data sets of users from settings to measurements: names, paths, grids of data sets, changed files, arrays."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from test_workflow import Workflow

import harness
from harness.cli import main, workflow
from harness.data import CATALOGUE, DataSettings, fetch, title_of
from harness.data.dataset import content_digest
from harness.errors import ConfigError, DataError, HarnessError
from harness.plugins import datasets as plugins
from harness.settings.check import Source
from harness.settings.config import cells, data_settings, load_settings, read_settings, resolve
from harness.settings.datasets import anchored
from harness.settings.text import read_yaml
from harness.storage.records import read_json

SMALL = {"phases": [{"updates": 6, "learning_rate": 0.01, "n_samples": 2}], "validate_every": 3, "validation_rows": 50}
QUICK = {"n_samples": 5, "rows": 40, "z_outer": 50}
PARTS = ("train", "valid", "test")


@pytest.fixture(scope="module", name="rows")
def _rows(tmp_path_factory):
    """Real rows: some of the letters."""
    letters = fetch("ocr_letters", DataSettings(cache=tmp_path_factory.mktemp("cache"), download=False))
    return {"train": letters.train[:300], "valid": letters.valid[:60], "test": letters.test[:80]}


@pytest.fixture(name="folder")
def _folder(tmp_path, rows):
    for part in PARTS:
        np.savetxt(tmp_path / f"{part}.csv", rows[part], fmt="%d", delimiter=",")
    return tmp_path


ENTRY = {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"}


def settings_in(folder, entry=ENTRY, name="mine", **more):
    """Settings read from a file in the folder, which names the data set by relative paths."""
    data = {"cache": str(folder / "cache"), "mirrors": [], "download": False, "own": {name: entry}}
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump({"preset": "smoke", "data": data, **more}))
    return read_settings([Source(str(path), anchored(read_yaml(path), path.parent))])


def test_paths_count_from_the_file_that_names_them(folder, rows, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    settings = settings_in(folder, grid="mine")
    data = fetch("mine", data_settings(settings))
    np.testing.assert_array_equal(data.valid, rows["valid"])
    assert settings["data"]["known"] == {"mine": {"digest": data.digest, "columns": 128}}
    assert load_settings(settings) == settings  # as jobs read it again


def test_a_grid_of_data_sets_is_the_suite_on_them(folder):
    settings = settings_in(folder, grid="own", suite=["nade", "bihm"])
    found = {(cell.dataset, cell.method) for cell in cells(settings)}
    assert found == {("mine", "nade"), ("mine", "bihm")}
    assert resolve(settings, "mine", "bihm").model == {"layers": [200, 100, 50, 25]}
    default = settings_in(folder, grid=["mine", "dna"])
    assert {cell.dataset for cell in cells(default)} == {"mine", "dna"}
    assert {cell.method for cell in cells(default)} == set(load_settings()["suite"])
    smoke = load_settings({"preset": "smoke"})
    assert resolve(default, "dna", "bihm") == resolve(smoke, "dna", "bihm")  # the grid's own entry
    assert resolve(default, "dna", "nade") == resolve(smoke, "dna", "nade")  # that of its group


@pytest.mark.parametrize("method", sorted(load_settings()["suite"]))
def test_models_of_the_suite_follow_the_columns(method):
    settings = load_settings({"grid": ["nltcs", "plants", "accidents", "bbc"]})
    entries = load_settings()["suite"][method]
    for name in ("nltcs", "plants", "accidents", "bbc"):
        fitting = next(e for e in entries if CATALOGUE[name].columns <= e.get("columns", 10**9))
        assert resolve(settings, name, method).model.items() >= fitting.get("model", {}).items()


def test_the_wider_field_is_a_word_away():
    settings = load_settings({"grid": "debd", "preset": "smoke"})
    found = cells(settings)
    assert {cell.dataset for cell in found} == set(settings["groups"]["debd"])
    assert {cell.method for cell in found} == set(settings["suite"])
    assert load_settings(settings) == settings
    words = load_settings({"grid": "plants,nltcs", "preset": "smoke"})
    assert {cell.dataset for cell in cells(words)} == {"plants", "nltcs"}


def test_entries_of_a_later_source_lie_on_a_grid_of_data_sets(folder):
    more = {"grid": {"nade": {"mine": {"model": {"hidden": 7}}}, "bihm": None}}
    path = folder / "settings.yaml"
    settings_in(folder, grid="mine")
    settings = read_settings([Source("a", anchored(read_yaml(path), folder)), Source("b", more)])
    assert resolve(settings, "mine", "nade").model == {"hidden": 7}
    assert "bihm" not in {cell.method for cell in cells(settings)}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"grid": "mien"}, r"grid: expected cells by method, or data sets and groups \(uci, .*mine, .*found 'mien'"),
        ({"grid": ["mine", 3]}, "grid: expected cells by method, or data sets and groups, found 3"),
        ({"grid": [["mine"]]}, r"grid: expected cells by method, or data sets and groups, found \['mine'\]"),
        ({"suite": {"bihm": 3}, "grid": "mine"}, "suite.bihm: expected array or null, found 3"),
        ({"suite": {"bihm": [3]}, "grid": "mine"}, "suite.bihm.0: expected object, found 3"),
        ({"suite": [3], "grid": "mine"}, "suite: expected methods, found 3"),
        ({"groups": {"own": ["dna"]}}, "groups.own: expected none, as it is made of data.own, found one"),
        ({"entry": {**ENTRY, "labels": 1.5}}, "data.own.mine.labels: expected string or integer or object or null"),
        ({"suite": ["bimh"]}, "suite.bimh: expected one of"),
        ({"suite": {"bihm": [{"model": {"layer": [3]}}]}}, "suite.bihm.0.model: unknown key 'layer'"),
        ({"grid": {"bihm": {"mien": {}}}}, "grid.bihm.mien: expected a data set or group"),
        (
            {"entry": {"train": "train.csv"}},
            "data.own.mine: expected train, valid and test, or one file, found no valid",
        ),
        ({"entry": {**ENTRY, "tset": "x"}}, "data.own.mine: unknown key 'tset'"),
        ({"entry": {**ENTRY, "binarize": True}}, "data.own.mine: expected grey: true beside binarize, found none"),
        ({"entry": {**ENTRY, "valid": -0.1}}, "data.own.mine.valid: expected a number above 0, found -0.1"),
        ({"entry": 3}, "data.own.mine: expected object or null, found 3"),
        ({"name": "uci"}, "data.own.uci: expected a name of its own"),
        ({"name": "a/b"}, "data.own.a/b: expected letters, digits"),
        ({"datasets": ["none.py"]}, "datasets: .*none.py: expected a Python file, found none"),
    ],
)
def test_faults_name_file_and_key(folder, more, message):
    with pytest.raises(ConfigError, match=message) as caught:
        settings_in(folder, **more)
    assert str(folder / "settings.yaml") in str(caught.value)


def test_files_that_are_wrong_make_cells_unavailable(folder, capsys):
    (folder / "valid.csv").write_text("0,1\n")
    settings = settings_in(folder, grid="own", suite=["factorised"])
    assert settings["data"]["known"] == {}
    assert [cell.dataset for cell in cells(settings)] == ["mine"]
    record = folder / "mine.json"
    fetching = ["datasets", "--settings", str(folder / "settings.yaml"), "--fetch", "mine"]
    assert main([*fetching, "--record", str(record)]) == 0
    assert "valid.csv: expected 128 columns, as in" in read_json(record)["message"]
    assert main(fetching) == 1
    assert "found 2 columns" in capsys.readouterr().err


def test_a_changed_file_is_another_data_set(folder):
    before = settings_in(folder, grid="mine")
    lines = (folder / "train.csv").read_text().splitlines(keepends=True)
    (folder / "train.csv").write_text("".join(lines[1:]))
    after = settings_in(folder, grid="mine")
    old, new = (resolve(settings, "mine", "nade") for settings in (before, after))
    assert old.data_digest != new.data_digest
    assert old.training_digest != new.training_digest
    with pytest.raises(DataError, match=r"as when settings were read, found digest .*: it has changed since"):
        fetch("mine", data_settings(before))
    touched = dict(after["data"]["known"])
    os.utime(folder / "train.csv", ns=(1, 1))
    assert settings_in(folder, grid="mine")["data"]["known"] == touched


def test_it_is_read_once_until_a_file_changes(folder, monkeypatch):
    from harness.data import sightings

    seen = []
    monkeypatch.setattr(sightings, "read_own", lambda own, read=sightings.read_own: seen.append(own.name) or read(own))
    for _ in range(3):
        settings_in(folder)
    assert seen == ["mine"]
    os.utime(folder / "test.csv", ns=(1, 1))
    settings_in(folder)
    assert seen == ["mine"] * 2


def test_cells_of_the_catalogue_know_no_digest():
    cell = resolve(load_settings({"grid": "plants"}), "plants", "bihm")
    assert cell.data_digest == ""
    assert "data_digest" not in cell.to_dict()


def test_own_data_may_stand_for_the_catalogues(folder):
    settings = settings_in(folder, name="plants", grid="plants", suite=["nade"])
    data = fetch("plants", data_settings(settings))
    assert not data.status.official
    assert "the user's own data" in data.status.note
    assert resolve(settings, "plants", "nade").data_digest == data.digest


def run(data, folder, method="nade", **more):
    return harness.run(data, method, preset="smoke", folder=folder, training=SMALL, evaluation=QUICK, **more)


def test_arrays_give_the_numbers_of_files(folder, rows):
    settings = settings_in(folder)
    of_files = run("mine", folder / "files", settings=settings)
    forms = {
        "arrays": {part: rows[part].astype(float) for part in PARTS},
        "tensors": {part: torch.from_numpy(rows[part]) for part in PARTS},
        "frames": {part: pd.DataFrame(rows[part].astype(bool)) for part in PARTS},
    }
    for name, given in forms.items():
        ours = run(harness.dataset("mine", **given), folder / name)
        assert ours.cell == of_files.cell
        assert ours.status["model_sha256"] == of_files.status["model_sha256"]
        assert ours.metrics["value"].tolist() == of_files.metrics["value"].tolist()
    assert of_files.cell.data_digest == of_files.status["data_digest"]
    other = run(harness.dataset("mine", rows["train"][::-1], rows["valid"], rows["test"]), folder / "arrays")
    assert other.status["data_digest"] != of_files.status["data_digest"]  # trained again in the same folder


def test_rows_and_shares_of_arrays_are_cut_as_those_of_files(folder, rows):
    together = settings_in(folder, {"file": "train.csv", "split": [0.8, 0.1, 0.1], "seed": 3}, "all")
    files = fetch("all", data_settings(together))
    assert harness.dataset("all", rows=rows["train"], seed=3).digest == files.digest
    shares = settings_in(folder, {**ENTRY, "valid": 0.2})
    found = harness.dataset("mine", rows["train"], 0.2, rows["test"])
    assert found.digest == fetch("mine", data_settings(shares)).digest


def test_a_method_of_ones_own_and_a_model_of_ones_own(folder, rows):
    data = harness.dataset("mine", **rows)
    found = run(data, folder / "made", "made", model={"hidden": [5]})
    assert found.cell.model == {"hidden": [5]}
    assert found.cell.data_digest == data.digest
    from harness.methods.nade import NADE

    found = run(data, folder / "class", NADE, model={"hidden": 3})
    assert found.cell.data_digest == data.digest
    assert found.log_prob(rows["test"][:3]).value.shape == (3,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a/b", "rows": [[0, 1]]}, "dataset: expected letters, digits"),
        ({"name": "a"}, "expected train, valid and test, or rows to split, found neither"),
        ({"name": "a", "train": [[0, 1]], "rows": [[0, 1]]}, "expected rows, or train, valid and test, found both"),
        (
            {"name": "a", "train": [[0, 2]], "valid": [[0, 1]], "test": [[0, 1]]},
            "a, train, row 1: expected values that",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(HarnessError, match=message):
        harness.dataset(**arguments)


def test_titles_and_lists(folder, capsys):
    settings = settings_in(folder, {**ENTRY, "title": "My letters", "licence": "CC0", "source": "a friend"})
    assert title_of("mine", data_settings(settings)) == "My letters"
    assert title_of("adult", data_settings(settings)) == "adult"
    assert main(["datasets", "--settings", str(folder / "settings.yaml")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    assert line.split()[1:6] == ["128", "300", "60", "80", "own"]
    for word in ("CC0", "My letters", "a friend"):
        assert word in line


@pytest.fixture(name="plugin")
def _plugin(folder, monkeypatch):
    (folder / "by_file.py").write_text(
        'TITLE = "By a file"\nDATA = {"train": "train.csv", "valid": 0.1, "test": "test.csv"}\n'
    )
    monkeypatch.setattr(plugins, "_named_files", {})
    return settings_in(folder, datasets=["by_file.py"], grid="by_file", suite=["factorised"])


def test_a_file_of_python_brings_a_data_set(plugin, folder):
    data = fetch("by_file", data_settings(plugin))
    assert (len(data.train), len(data.valid), len(data.test)) == (270, 30, 80)
    (cell,) = cells(plugin)
    assert cell.data_digest == data.digest
    assert title_of("by_file", data_settings(plugin)) == "By a file"
    assert load_settings(plugin) == plugin


def test_a_folder_brings_data_sets(folder, rows, monkeypatch):
    (folder / "datasets").mkdir()
    (folder / "datasets" / "by_folder.py").write_text(
        "import numpy as np\n\n\ndef load():\n    rows = np.eye(20, dtype=int)\n    return rows, rows[:3], rows[3:6]\n"
    )
    (folder / "datasets" / "script.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(plugins, "FOLDER", folder / "datasets")
    assert plugins.plugin_datasets() == ["by_folder"]
    settings = settings_in(folder, grid="by_folder", suite=["factorised"])
    assert fetch("by_folder", data_settings(settings)).n_features == 20
    assert cells(settings)[0].data_digest == settings["data"]["known"]["by_folder"]["digest"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("DATA = 3\n", r"broken.py: expected DATA = \{...\} or a function load\(\), found int"),
        ("DATA = {'train': 'train.csv'}\n", "broken.py: DATA: expected train, valid and test"),
        ("DATA = {'trian': 'train.csv'}\n", "broken.py: DATA: unknown key 'trian'"),
        (
            "def load():\n    return 1 / 0\n",
            r"broken.py: expected a load\(\) that returns the arrays, found ZeroDivision",
        ),
        ("def load():\n    return 3\n", "broken: expected arrays train, valid and test, found int"),
        (
            "import nonesuch\nDATA = {}\n",
            "data set broken: expected a module that can be imported, found ModuleNotFound",
        ),
        (
            "raise SystemExit(3)\nDATA = {}\n",
            r"data set broken: expected a module that can be imported, found sys.exit",
        ),
    ],
)
def test_plugins_that_are_wrong_are_named(folder, monkeypatch, capsys, code, message):
    (folder / "broken.py").write_text(code)
    monkeypatch.setattr(plugins, "_named_files", {})
    plugins.module_in.cache_clear()
    settings = settings_in(folder, datasets=["broken.py"], grid="broken", suite=["factorised"])
    with pytest.raises(HarnessError, match=message):
        fetch("broken", data_settings(settings))
    assert main(["datasets", "--settings", str(folder / "settings.yaml"), "--verify", "broken"]) == 1
    assert "1 failed" in capsys.readouterr().out


def test_draws_from_grey_levels_are_other_data_than_the_levels(folder, monkeypatch, capsys):
    """Part of every cell, from settings, arrays and plugins alike; levels alone are what they were."""
    monkeypatch.setattr(plugins, "_named_files", {})
    parts = {part: np.loadtxt(folder / f"{part}.csv", delimiter=",") * 200 + 25 for part in PARTS}
    for part, levels in parts.items():
        np.savetxt(folder / f"{part}.csv", levels, fmt="%d", delimiter=",")
    found = {}
    for binarize in (False, True):
        settings = settings_in(folder, {**ENTRY, "grey": True, "binarize": binarize}, grid="mine", suite=["nade"])
        (found[binarize],) = cells(settings)
        data = fetch("mine", data_settings(settings))
        assert data.binarize == binarize
        assert data.digest == found[binarize].data_digest
        given = harness.dataset("mine", **parts, grey=True, binarize=binarize)
        assert (given.digest, given.binarize) == (data.digest, binarize)
        code = f"import numpy as np\n\nGREY, BINARIZE = True, {binarize}\n\ndef load():\n"
        code += f"    return {{p: np.loadtxt(f'{folder}/{{p}}.csv', delimiter=',') for p in {PARTS}}}\n"
        (folder / f"levels_{binarize}.py").write_text(code)
        with_plugin = settings_in(folder, datasets=[f"levels_{binarize}.py"])
        assert fetch(f"levels_{binarize}", data_settings(with_plugin)).digest == data.digest
    assert found[True].data_digest != found[False].data_digest
    assert found[True].training_digest != found[False].training_digest
    packed = [parts[part].astype(np.uint8) for part in PARTS]
    assert found[False].data_digest == content_digest(packed, (None, None, None), 128, grey=True)
    asked = ["new-dataset", "drawn", *(str(folder / f"{part}.csv") for part in PARTS), "--folder", str(folder)]
    assert main([*asked, "--binarize"]) == 3
    assert "expected grey: true beside binarize, found none" in capsys.readouterr().err
    assert main([*asked, "--grey", "--binarize"]) == 0
    assert found[True].data_digest in capsys.readouterr().out
    with pytest.raises(ConfigError, match="expected grey=True beside binarize"):
        harness.dataset("mine", **parts, binarize=True)


def test_verification_tells_doubts_from_failures(folder, capsys):
    np.savetxt(folder / "test.csv", np.loadtxt(folder / "train.csv", delimiter=","), fmt="%d", delimiter=",")
    settings_in(folder)
    asked = ["datasets", "--settings", str(folder / "settings.yaml"), "--verify", "mine"]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "test rows that are in train as well: 300 (100.0%)" in printed
    assert "0 failed" in printed
    (folder / "valid.csv").write_text((folder / "valid.csv").read_text().splitlines()[0])
    assert main(asked) == 1


def test_new_dataset_writes_settings_that_work(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    cache = json.dumps({"data": {"cache": str(folder / "cache"), "mirrors": [], "download": False}})
    command = ["new-dataset", "--settings", cache]
    assert main([*command, "letters", "test.csv", "train.csv", "valid.csv", "--title", "Letters: some"]) == 0
    printed = capsys.readouterr().out
    for words in ("columns: 128", "rows: train 300, valid 60, test 80", "share of ones: train 0.2", "digest: "):
        assert words in printed
    settings = read_settings([Source("letters.yaml", anchored(read_yaml(folder / "letters.yaml"), folder))])
    assert settings["data"]["known"]["letters"]["digest"] in printed
    assert {cell.dataset for cell in cells(settings)} == {"letters"}
    assert main([*command, "letters", "train.csv"]) == 3
    assert "letters.yaml: expected no such file, found one" in capsys.readouterr().err
    assert main([*command, "split", "train.csv"]) == 0
    assert read_yaml(folder / "split.yaml")["data"]["own"]["split"] == {"file": "train.csv", "split": [0.8, 0.1, 0.1]}
    assert main([*command, "shared", "train.csv", "test.csv"]) == 0
    assert read_yaml(folder / "shared.yaml")["data"]["own"]["shared"]["valid"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "none.csv"], "none.csv: expected a file, found No such file"),
        (["a", "bad.csv"], "bad.csv, line 2: expected values that are 0 or 1, found '3' in column 1"),
        (["a/b", "train.csv"], "new data set: expected letters, digits"),
        (["uci", "train.csv"], "expected an unused name, found 'uci', that of a group"),
        (["a", "train.csv", "bad.csv"], "expected one file, or files for train, (valid) and test, by names"),
        (
            ["a", "train.csv", "test.csv", "--split", "0.5,0.3,0.2"],
            "--split: expected one file of all rows, found more",
        ),
        (["a", "train.csv", "--split", "0.5,0.5"], "expected a split into three"),
    ],
)
def test_new_dataset_refuses_what_is_wrong_and_writes_nothing(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "bad.csv").write_text("0,1\n3,1\n")
    before = set(folder.iterdir())
    assert main(["new-dataset", *arguments]) in (1, 3)
    assert message in capsys.readouterr().err
    assert set(folder.iterdir()) == before


@pytest.mark.slow
def test_the_workflow_trains_changed_data_again_and_says_so(folder):
    flow = Workflow(folder)
    flow.settings["data"]["own"] = {"mine": {part: f"{part}.csv" for part in PARTS}}
    flow.settings["grid"], flow.settings["suite"] = "own", ["factorised", "nade"]
    flow.settings["ablations"] = {}
    flow("train")
    runs = folder / "results" / "smoke" / "runs" / "mine"
    first = read_json(runs / "nade" / "default" / "0" / "status.json")
    assert flow.jobs("train") == {}
    lines = (folder / "train.csv").read_text().splitlines(keepends=True)
    (folder / "train.csv").write_text("".join(lines[:-1]))
    printed = flow("train")
    assert "mine: the data have changed (digest " in printed
    assert "2 cells trained again" in printed
    again = read_json(runs / "nade" / "default" / "0" / "status.json")
    assert again["data_digest"] != first["data_digest"]
    assert again["model_sha256"] != first["model_sha256"]
    assert flow.jobs("train") == {}
    (folder / "train.csv").write_text("0,1,2\n")
    printed = flow("train")
    assert "2 cells unavailable" in printed
    assert "train.csv" in printed


def test_attempts_follow_the_files(folder):
    settings = settings_in(folder, grid="mine")
    record = folder / "none.json"
    first = workflow.data_attempt(record, "mine", settings, lacking=True)
    assert workflow.data_attempt(record, "mine", settings, lacking=False) == first
    os.utime(folder / "test.csv", ns=(1, 1))
    assert workflow.data_attempt(record, "mine", settings, lacking=True) != first
    (folder / "test.csv").unlink()
    assert workflow.data_attempt(record, "mine", settings, lacking=True) != first


def test_a_record_of_merged_settings_is_read_as_they_were(tmp_path):
    """Records sort their keys, and the group of own data sets is in the order in which they were given."""
    for name in ("zebra", "ant"):
        rows = "\n".join(f"{i % 2},{i // 2 % 2},{i // 4 % 2}" for i in range(40))
        (tmp_path / f"{name}.csv").write_text(rows + "\n")
    own = {name: {"file": str(tmp_path / f"{name}.csv"), "split": [0.6, 0.2, 0.2]} for name in ("zebra", "ant")}
    merged = load_settings({"preset": "smoke", "data": {"own": own}, "grid": "own"})
    again = load_settings(json.loads(json.dumps(merged, sort_keys=True)))
    assert {cell.path for cell in cells(again)} == {cell.path for cell in cells(merged)}
    assert {cell.dataset for cell in cells(again)} == {"zebra", "ant"}
