"""Settings: presets, the order in which entries apply, and errors that name the key."""

import json
from collections import Counter

import pytest
import yaml

from harness.cli import main
from harness.data import CATALOGUE
from harness.errors import ConfigError, HarnessError
from harness.method import ClosedForm
from harness.plugins.registry import build, hyperparameter_schema, method_class, method_names
from harness.schema import check
from harness.settings import config
from harness.settings.config import Cell, cells, is_ablation, load_settings, resolve, variant_folder
from harness.settings.parts import Phase


@pytest.mark.parametrize("preset", config.presets())
def test_every_preset_resolves_every_cell(preset):
    found = cells(load_settings({"preset": preset}))
    assert len({cell.path for cell in found}) == len(found)
    for cell in found:
        assert Cell.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell
        model = build(cell.method, 10, dict(cell.model))
        assert cell.training.phases or isinstance(model, ClosedForm)


def test_presets_are_those_of_the_contract():
    assert {"full", "quick", "smoke"} <= set(config.presets())
    assert load_settings()["preset"] == "quick"


def test_the_grid_holds_the_cells_of_the_tables():
    keys = {(c.dataset, c.method, c.variant) for c in cells(load_settings())}
    uci = ("adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters", "rcv1", "web")
    assert {(d, m, "") for d in uci for m in ("bihm", "rws", "nade", "factorised")} <= keys
    assert ("binarized_mnist", "bihm", "12 layers") in keys
    gammas = ("-0.001", "0", "0.001", "-0.01", "0.1", "0.01")
    assert {("binarized_mnist", "ssl_bihm", f"gamma={gamma}") for gamma in gammas} <= keys


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"presett": "quick"}, "unknown key 'presett'"),
        ({"preset": "fast"}, "preset: expected one of full, long, quick, smoke, found 'fast'"),
        ({"data": {"mirror": []}}, "data: unknown key 'mirror'"),
        ({"strict": "yes"}, "strict: expected boolean, found 'yes'"),
        ({"defaults": {"training": {"batchsize": 3}}}, "defaults.training: unknown key 'batchsize'"),
        ({"budgets": {"bihm": {"adult": {"training": {"l1": "big"}}}}}, "budgets.bihm.adult.training.l1: expected"),
        (
            {
                "budgets": {
                    "bihm": {"*": {"training": {"phases": [{"updates": 0, "learning_rate": 1, "n_samples": 1}]}}}
                }
            },
            "settings: budgets.bihm.*.training.phases.0.updates: expected at least 1, found 0",
        ),
        ({"grid": {"bihm": {"adlut": {}}}}, "grid.bihm.adlut: expected a data set or group"),
    ],
)
def test_a_wrong_key_or_type_is_named(overrides, message):
    with pytest.raises(ConfigError) as error:
        cells(load_settings(overrides))
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["4e-05", "1E3", "-2e+1", "0.5e-3", "7.5", "12"])
def test_numbers_are_numbers_however_json_writes_them(text, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(f'{{"value": {text}, "word": "e5"}}')
    assert config.read_yaml(path) == {"value": float(text), "word": "e5"}


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "mine.yaml"
    for text, message in (("a: [", "expected YAML or JSON, found a fault in line 2"), ("- 1", "found list")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message) as error:
            config.read_yaml(path)
        assert str(path) in str(error.value)
    with pytest.raises(ConfigError, match="No such file"):
        config.read_yaml(tmp_path / "none.yaml")


def test_specific_entries_win_over_general_ones():
    phases = {
        key: {"training": {"phases": [{"updates": n, "learning_rate": 0.1, "n_samples": 1}]}}
        for n, key in enumerate(("*", "uci", "adult", "binarized_mnist", "binarized_mnist/12 layers"), start=1)
    }
    settings = load_settings({"preset": "smoke", "budgets": {"bihm": phases}})
    updates = {
        (cell.dataset, cell.variant): cell.training.phases[0].updates
        for cell in cells(settings)
        if cell.method == "bihm"
    }
    assert updates["adult", ""] == 3
    assert updates["dna", ""] == 2
    assert updates["binarized_mnist", "12 layers"] == 5


def test_a_null_entry_takes_cells_out_of_the_grid():
    settings = load_settings({"grid": {"bihm": None, "nade": {"binarized_mnist": None}}})
    found = {(cell.method, cell.dataset) for cell in cells(settings)}
    assert "bihm" not in {method for method, _ in found}
    assert ("nade", "binarized_mnist") not in found
    assert ("nade", "adult") in found


def test_a_null_entry_takes_a_data_set_out_of_its_group():
    settings = load_settings(
        {"preset": "smoke", "grid": {"fvsbn": {"dna": None}, "darn": {"uci": None, "web": {"model": {"hidden": 3}}}}}
    )
    found = {(cell.method, cell.dataset) for cell in cells(settings)}
    assert {dataset for method, dataset in found if method == "fvsbn"} == {*settings["groups"]["uci"]} - {"dna"}
    assert {dataset for method, dataset in found if method == "darn"} == {"web"}


def test_entries_say_how_often_a_cell_is_trained():
    grid = {"factorised": {"uci": {"repetitions": 2}, "dna": {"repetitions": 4}}}
    settings = load_settings({"preset": "smoke", "grid": grid, "budgets": {"factorised": {"web": {"repetitions": 3}}}})
    found = Counter(cell.dataset for cell in cells(settings) if cell.method == "factorised")
    assert (found["adult"], found["dna"], found["web"], found["binarized_mnist"]) == (2, 4, 3, 1)


ABLATION = {"bihm": {"dna/one layer": {"model": {"layers": [200]}, "repetitions": 2}}}


def test_ablations_are_cells_of_their_own():
    settings = load_settings({"preset": "smoke", "ablations": {**ABLATION, "rws": {"dna": None}}})
    found = [cell for cell in cells(settings) if is_ablation(settings, cell) and cell.dataset == "dna"]
    assert [(cell.path, cell.model) for cell in found] == [
        (f"dna/bihm/one_layer/{seed}", {"layers": [200]}) for seed in range(2)
    ]
    assert found[0].training == resolve(settings, "dna", "bihm").training
    assert resolve(settings, "dna", "bihm", "one layer", seed=1) == found[1]
    assert not is_ablation(settings, resolve(settings, "dna", "bihm"))


def test_ablations_change_no_cell_of_the_grid():
    plain, also = load_settings({"preset": "smoke"}), load_settings({"preset": "smoke", "ablations": ABLATION})
    assert [cell for cell in cells(also) if cell.variant != "one layer"] == cells(plain)


@pytest.mark.parametrize(
    ("ablations", "message"),
    [
        ({"bihm": {"dna": {}}}, "ablations.bihm.dna: expected a variant of its own"),
        ({"bihm": {"dan/x": {}}}, "ablations.bihm.dan/x: expected a data set or group"),
        ({"bimh": {"dna/x": {}}}, "ablations.bimh: expected one of"),
    ],
)
def test_wrong_ablations_are_named(ablations, message):
    with pytest.raises(ConfigError, match=message):
        cells(load_settings({"preset": "smoke", "ablations": ablations}))


def test_one_line_adds_a_method_to_a_group():
    settings = load_settings({"grid": {"factorised": {"uci": {"model": {"smoothing": 0.5}}, "faces48": {}}}})
    assert resolve(settings, "adult", "factorised").model == {"smoothing": 0.5}
    assert resolve(settings, "faces48", "factorised").model == {}


def test_variants_may_be_named_by_their_folder():
    settings = load_settings()
    assert variant_folder("12 layers") == "12_layers"
    by_folder = resolve(settings, "binarized_mnist", "bihm", "12_layers")
    assert by_folder == resolve(settings, "binarized_mnist", "bihm", "12 layers")
    assert resolve(settings, "adult", "bihm", "default") == resolve(settings, "adult", "bihm")
    with pytest.raises(ConfigError, match="cell bihm/adult/13_layers"):
        resolve(settings, "adult", "bihm", "13 layers")


def test_only_what_decides_the_weights_is_in_the_training_digest():
    def digest(part, **values):
        settings = load_settings({"budgets": {"bihm": {"adult": {part: values}}}})
        return resolve(settings, "adult", "bihm").training_digest

    base = digest("training")
    assert digest("evaluation", n_samples=7) == base
    assert digest("training", checkpoint_every_s=7) == base
    assert digest("training", l1=0.5) != base
    assert digest("model", layers=[3]) != base


def test_incomplete_budgets_are_named():
    values = resolve(load_settings(), "adult", "bihm").to_dict()
    values["training"]["patients"] = 3
    with pytest.raises(ConfigError, match="cell: training"):
        Cell.from_dict(values)
    with pytest.raises(ConfigError, match="expected keys"):
        Cell.from_dict({})


def test_phases_are_objects():
    cell = resolve(load_settings(), "adult", "bihm")
    assert all(isinstance(phase, Phase) for phase in cell.training.phases)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("bihm", {"layer": [3]}, "unknown key 'layer'; expected one of layers"),
        ("bihm", {}, "expected key 'layers', found none"),
        ("bihm", {"layers": [3, 2.5]}, "layers.1: expected integer, found 2.5"),
        ("nade", {"hidden": "many"}, "hidden: expected integer, found 'many'"),
        ("vae", {"latent": 3, "hidden": 3}, "hidden: expected array, found 3"),
        ("bimh", {}, "method: expected one of"),
        ("iwae", {"layers": [3, 2], "hidden": [[4]]}, "hidden: expected one list for each of 2 layers, found 1"),
    ],
)
def test_wrong_hyperparameters_are_named(name, hyperparameters, message):
    with pytest.raises(ConfigError) as error:
        build(name, 10, hyperparameters)
    assert message in str(error.value)


@pytest.mark.parametrize("name", method_names())
def test_built_in_methods_describe_themselves(name):
    cls = method_class(name)
    assert cls.name == name
    assert all(isinstance(getattr(cls, field), str) for field in ("title", "kind", "source"))
    assert hyperparameter_schema(cls)["additionalProperties"] is False


def test_values_out_of_a_list_are_named():
    with pytest.raises(ConfigError, match="place: x: expected one of 1, 2, found 3"):
        check({"x": 3}, {"properties": {"x": {"enum": [1, 2]}}}, "place")


def test_command_line_prints_one_line_for_mistakes(capsys, tmp_path):
    assert main(["train", "--preset", "fast", "--dataset", "adult", "--method", "bihm"]) == 3
    assert (
        capsys.readouterr().err == "harness: --preset: preset: expected one of full, long, quick, smoke, found 'fast'\n"
    )
    assert main(["settings", "--settings", "{broken"]) == 3
    assert "--settings: expected YAML or JSON, found" in capsys.readouterr().err
    assert main(["evaluate", "--dataset", "adult", "--method", "bihm", "--run", str(tmp_path)]) == 1
    assert f"{tmp_path}/status.json: expected a readable JSON file" in capsys.readouterr().err


def test_settings_are_printed(capsys, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"preset": "smoke", "strict": True}))
    assert main(["settings", "--settings", str(mine)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["preset"], printed["strict"]) == ("smoke", True)
    # the merged settings are settings themselves: the workflow hands them to every job
    assert load_settings(printed) == printed


def test_a_digest_that_no_longer_fits_stops_training(capsys, tmp_path):
    arguments = ["train", "--dataset", "adult", "--method", "bihm", "--digest", "old", "--run", str(tmp_path)]
    assert main(arguments) == 3
    assert "expected training digest old" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_fetching_by_hand_fails_where_a_record_only_says_so(capsys, tmp_path):
    nowhere = {"data": {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False}}
    arguments = ["datasets", "--settings", json.dumps(nowhere), "--fetch", "adult"]
    assert main(arguments) == 1
    assert "adult is not available" in capsys.readouterr().err
    assert main([*arguments, "--record", str(tmp_path / "adult.json")]) == 0
    assert json.loads((tmp_path / "adult.json").read_text())["available"] is False


def test_lists_print_all_names(capsys):
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in method_names())
    assert main(["datasets"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in CATALOGUE)


def test_harness_errors_are_what_users_see():
    assert issubclass(ConfigError, HarnessError)
