"""Methods in files that the configuration names: found everywhere by the file's name, refused with a reason."""

import json
import sys

import pytest
from test_workflow import Workflow, only

from harness.cli import main
from harness.errors import ConfigError
from harness.plugins import registry
from harness.plugins.listing import Listed, listed
from harness.plugins.registry import build, method_class, method_names, origin, use_files
from harness.settings import config
from harness.storage.records import read_json

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
        return -self.log_prob(batch.x).mean()
"""


@pytest.fixture(autouse=True)
def _forget_files():
    yield
    use_files([])


@pytest.fixture(name="mine")
def _mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(METHOD)
    return path


def settings_naming(*paths, **others):
    return json.dumps({"methods": [str(path) for path in paths], **others})


def test_a_file_brings_a_method(mine):
    use_files([mine])
    assert "mine" in method_names()
    assert origin("mine") == str(mine)
    assert listed("mine") == Listed("mine", "Mine", "control", ("loss", "exact log p"), "a test")
    assert build("mine", 3, {"start": 2.0}).bias.tolist() == [2.0] * 3
    assert method_class("mine") is method_class("mine")


def test_settings_read_later_replace_the_files(mine, tmp_path):
    use_files([mine])
    use_files([])
    assert "mine" not in method_names()
    with pytest.raises(ConfigError, match="found 'mine'"):
        method_class("mine")


def test_relative_files_count_from_the_root_of_the_repository():
    settings = {"methods": ["plugins/mine.py", "/there/mine.py"]}
    assert [str(path) for path in config.method_files(settings)] == [f"{config.ROOT}/plugins/mine.py", "/there/mine.py"]


def test_the_verbs_know_it(mine, capsys):
    assert main(["methods", "--settings", settings_naming(mine)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    assert line.split() == ["mine", "Mine", "control", "loss,", "exact", "log", "p", "a", "test", str(mine)]
    assert main(["verify", "mine", "--settings", settings_naming(mine)]) == 0
    assert "sum over all x of p(x)" in capsys.readouterr().out


def test_the_digest_of_its_training_does_not_depend_on_where_it_lies(mine, tmp_path):
    grid = {"mine": {"adult": {}}}
    digests = set()
    for path in (mine, tmp_path / "elsewhere" / "mine.py"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(METHOD)
        settings = config.load_settings({"preset": "smoke", "methods": [str(path)], "grid": grid})
        use_files(config.method_files(settings))
        digests |= {cell.training_digest for cell in config.cells(settings) if cell.method == "mine"}
    assert len(digests) == 1


def test_it_is_trained_and_measured(mine, tmp_path):
    data = {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False}
    settings = settings_naming(mine, preset="smoke", data=data, grid={"mine": {"connect4": {}}})
    run = tmp_path / "run"
    assert main(["datasets", "--fetch", "connect4", "--settings", settings]) == 0
    cell = ["--dataset", "connect4", "--method", "mine", "--run", str(run), "--settings", settings]
    assert main(["run", *cell]) == 0
    (row,) = read_json(run / "metrics.json")["rows"]
    assert (row["metric"], row["title"], row["status"]) == ("-log p", "Mine", "ok")


@pytest.mark.parametrize("name", ["none.py", "folder.py", "text.txt"])
def test_what_is_no_python_file_is_refused(name, tmp_path):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "text.txt").touch()
    with pytest.raises(ConfigError, match=rf"methods: .*{name}: expected a Python file, found"):
        use_files([tmp_path / name])


def test_names_that_are_taken_are_refused(mine, tmp_path, monkeypatch):
    built_in, other = tmp_path / "vae.py", tmp_path / "other" / "mine.py"
    other.parent.mkdir()
    for path in (built_in, other):
        path.write_text(METHOD)
    with pytest.raises(ConfigError, match=rf"methods: {built_in}: .*found 'vae', that of .*methods/vae\.py"):
        use_files([built_in])
    with pytest.raises(ConfigError, match=rf"methods: {other}: .*found 'mine', that of {mine}"):
        use_files([mine, other])
    use_files([mine, mine])
    published = registry.EntryPoint("mine", "published_module", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [published])
    with pytest.raises(ConfigError, match=rf"methods: {mine}: .*found 'mine', that of published_module"):
        use_files([mine])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1", r"\[\]"),
        (METHOD.replace('"mine"', '"yours"'), r"\['yours'\]"),
        (METHOD + "\n\nclass Second(Mine):\n    name = 'second'\n", r"\['mine', 'second'\]"),
        ("from harness.method import Method\n\n\nclass Nameless(Method):\n    pass\n", r"\['Nameless'\]"),
    ],
)
def test_a_file_without_exactly_one_method_of_its_name_is_refused(text, found, mine):
    mine.write_text(text)
    use_files([mine])
    with pytest.raises(ConfigError, match=rf"{mine}: expected one Method with name = 'mine', found {found}"):
        method_class("mine")


def test_one_unreadable_method_does_not_hide_the_others(mine, capsys):
    mine.write_text("class (")
    assert main(["methods", "--settings", settings_naming(mine)]) == 1
    printed = capsys.readouterr()
    assert "bihm" in printed.out
    assert f"method mine ({mine}): {mine}: expected Python, found invalid syntax" in printed.err


def test_a_grid_with_a_method_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"grid\.nonesuch: expected one of .*bihm.*, found 'nonesuch'"):
        config.cells(config.load_settings({"grid": {"nonesuch": {"adult": {}}}}))
    with pytest.raises(ConfigError, match=r"grid\.nonesuch: expected one of"):  # what is to be taken out is misspelt
        config.load_settings({"grid": {"nonesuch": None}})


@pytest.mark.parametrize(
    "text", [METHOD.replace("import torch\n", "import torch\nimport no_such_package\n", 1), "class ("]
)
def test_a_method_that_cannot_be_imported_is_a_failed_cell(text, mine, tmp_path):
    mine.write_text(text)
    settings = settings_naming(mine, preset="smoke", grid={"mine": {"connect4": {}}})
    cell = ["--dataset", "connect4", "--method", "mine", "--run", str(tmp_path / "run"), "--settings", settings]
    record = tmp_path / "connect4.json"
    record.write_text('{"available": true, "digest": "0"}')
    assert main(["record-failure", *cell, "--data-record", str(record), "--exit-code", "1"]) == 0
    (row,) = read_json(tmp_path / "run" / "metrics.json")["rows"]
    title = "Mine" if "no_such_package" in text else "mine"
    assert (row["status"], row["title"]) == ("failed", title)


def test_jobs_of_the_workflow_know_it(mine, tmp_path):
    flow = Workflow(tmp_path)
    flow.settings |= {"methods": [str(mine)], "grid": only() | {"mine": {"connect4": {}}}, "budgets": {}}
    flow("tables")
    assert flow.table().loc["connect4", "mine", "", "-log p"].status == "ok"
    assert "Nothing to be done" in flow("tables")
    flow.settings["methods"] = [str(tmp_path / "none.py")]
    assert "none.py: expected a Python file, found none" in flow("tables", code=1)
    flow.settings["methods"] = []
    assert "grid.mine: expected one of" in flow("tables", code=1)


def test_missing_files_are_one_line_of_error(tmp_path, capsys):
    assert main(["methods", "--settings", settings_naming(tmp_path / "none.py")]) == 3
    assert "none.py: expected a Python file, found none" in capsys.readouterr().err


BESIDE = METHOD.replace("import torch\n", "import torch\n\nfrom helpers import START, Base\n", 1).replace(
    "class Mine(Method)", "class Mine(Base)"
)
HELPERS = """
from harness.method import Method

START = {start}


class Base(Method):
    def sample(self, n, generator):
        return START * self.bias.expand(n, -1)
"""


def test_a_file_may_import_a_module_beside_it(tmp_path):
    classes = []
    for number, name in enumerate(("mine", "yours"), start=1):  # two folders, each with a module of the same name
        folder = tmp_path / name
        folder.mkdir()
        (folder / "helpers.py").write_text(HELPERS.format(start=number))
        (folder / f"{name}.py").write_text(BESIDE.replace('"mine"', f'"{name}"'))
        use_files([folder / f"{name}.py"])
        assert listed(name).capabilities == ("loss", "exact log p", "sampling")
        classes.append(method_class(name))
        assert str(folder) not in sys.path
    assert [cls(2, start=1.0).sample(1, None).tolist() for cls in classes] == [[[1.0, 1.0]], [[2.0, 2.0]]]


def test_hyperparameters_of_a_file_are_checked_when_settings_are_read(mine):
    with pytest.raises(
        ConfigError, match=r"settings: grid\.mine\.adult\.model: unknown key 'stat'; expected one of start"
    ):
        config.load_settings({"methods": [str(mine)], "grid": {"mine": {"adult": {"model": {"stat": 1.0}}}}})


@pytest.mark.parametrize("name", ["a b.py", "größe.py", "a;b.py", "-x.py", "x" * 101 + ".py"])
def test_names_of_files_that_no_path_should_have_are_refused(name, tmp_path):
    (tmp_path / name).write_text(METHOD)
    with pytest.raises(ConfigError, match=r"methods: .*expected"):
        use_files([tmp_path / name])


@pytest.mark.parametrize("code", ["0", "3", "'bye'", ""])
@pytest.mark.parametrize("place", ["    def __init__", "class Mine", "        return -self.log_prob"])
def test_a_method_that_ends_the_process_has_failed(place, code, mine, tmp_path, capsys):
    quit_there = {"    def __init__": "        super().__init__", "class Mine": "class Mine"}.get(place, place)
    indent = " " * (len(quit_there) - len(quit_there.lstrip()))
    text = METHOD.replace(quit_there, f"{indent}raise SystemExit({code})\n{quit_there}", 1)
    mine.write_text(text)
    data = {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False}
    settings = settings_naming(mine, preset="smoke", data=data, grid={"mine": {"connect4": {}}})
    assert main(["verify", "mine", "--settings", settings]) == 1
    assert main(["datasets", "--fetch", "connect4", "--settings", settings]) == 0
    run = tmp_path / "run"
    cell = ["--dataset", "connect4", "--method", "mine", "--run", str(run), "--settings", settings]
    assert main(["run", *cell]) == 1
    assert "found sys.exit(" in capsys.readouterr().err
    assert not (run / "metrics.json").exists()
