"""Wrong settings, one after the other: each is refused when settings are read, in one line that names source and key.

In what is expected, ``...`` stands for a list of what is known. FILE is the file of the settings, which for the other
ways in is ``settings`` (Python) or ``--config`` (Snakemake).
"""

import re
from pathlib import Path

import pytest
from snakemake.cli import parse_config

from harness.cli import main
from harness.compute.places import ROOT
from harness.errors import ConfigError
from harness.settings.check import Source
from harness.settings.config import cells, load_settings, read_settings
from harness.settings.text import parse_settings, read_yaml, typed

LONG = "x" * 101

KINDS = Path(__file__).with_name("settings_faults.txt").read_text(encoding="utf-8")


def kinds(*sections):
    """(text, what is said of it) of the sections of KINDS."""
    found, section = [], ""
    lines = iter(KINDS.splitlines()[1:])
    for line in lines:
        if line.startswith("## "):
            section = line[3:]
        elif section in sections:
            found.append((line.replace("\\n", "\n").replace("\\t", "\t"), next(lines)[4:]))
        else:
            next(lines)
    return found


TEXTS = kinds("texts")
VALUES = kinds("top level", "groups", "names", "models", "budgets", "ablations", "searches", "analyses")


def check_error(read, expected, name):
    """Reading raises a ConfigError of one line, which is as expected and names the source."""
    with pytest.raises(ConfigError) as error:
        read()
    pattern = ".*".join(map(re.escape, filled(expected).replace("FILE", name).replace("ROOT", str(ROOT)).split("...")))
    assert re.fullmatch(pattern, str(error.value)), str(error.value)


def filled(text):
    return text.replace("LONG", LONG).replace("SHORT", LONG[:20])


def test_there_are_many_kinds():
    texts = [text for text, _ in [*TEXTS, *VALUES]]
    assert len(set(texts)) == len(texts) >= 126


@pytest.mark.parametrize(("text", "expected"), [*TEXTS, *VALUES])
def test_in_a_file(text, expected, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(filled(text), encoding="utf-8")
    check_error(lambda: read_settings([Source(str(path), read_yaml(path))]), expected, str(path))


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_in_python(text, expected):
    check_error(lambda: load_settings(parse_settings(filled(text), "here")), expected, "settings")


# Snakemake takes the quotes away before anybody else sees the words
@pytest.mark.parametrize(("text", "expected"), [each for each in VALUES if '"' not in each[0]])
def test_in_the_arguments_of_snakemake(text, expected):
    key, _, value = filled(text).partition(": ")
    given = parse_config([f"{key}={value}"])
    check_error(lambda: read_settings([Source("--config", typed(given, "--config"))]), expected, "--config")


@pytest.mark.parametrize("content", [bytes(range(256)), b"\xff\xfe\x00", b"strict: \x00true"])
def test_binary_files(content, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{path}: expected ")) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)


def test_folders_and_missing_files(tmp_path):
    for path, found in ((tmp_path, "Is a directory"), (tmp_path / "none.yaml", "No such file or directory")):
        check_error(lambda path=path: read_yaml(path), f"FILE: expected a readable YAML file, found {found}", str(path))


def test_aliases_of_aliases_do_not_fill_the_memory():
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    with pytest.raises(ConfigError, match="expected at most 1000000 values, found more, by aliases"):
        parse_settings(text, "here")


def test_deep_nesting_is_an_error():
    with pytest.raises(ConfigError, match="here: expected"):
        parse_settings("[" * 100_000, "here")


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "1E-3", "0.001", ".001", "10e-4", "+1e-3"])
def test_numbers_are_numbers_by_all_ways_in(text, tmp_path):
    budget = f"{{bihm: {{adult: {{training: {{l1: {text}}}}}}}}}"
    path = tmp_path / "mine.yaml"
    path.write_text(f"budgets: {budget}")
    for given in (
        Source(str(path), read_yaml(path)),
        Source("--settings", parse_settings(f"{{budgets: {budget}}}", "--settings")),
        Source("--config", typed(parse_config([f"budgets={budget}"]), "--config")),
    ):
        assert read_settings([given])["budgets"]["bihm"]["adult"]["training"]["l1"] == 0.001


def test_integral_floats_are_integers_where_integers_are_meant():
    text = """
    repetitions: 2.0
    grid: {bihm: {adult: {model: {layers: [1.0e2, 2e1]}}}, ssl_bihm: {binarized_mnist/gamma=0: {model: {gamma: 0.0}}}}
    budgets: {bihm: {adult: {training: {batch_size: 1e2, phases: [{updates: 1e1, learning_rate: 1, n_samples: 2.0}]}}}}
    searches: {bihm: {adult: {training.patience: [1e1], model.layers: [[3.0], [2]], training.l1: [0.0]}}}
    analyses: {k_sensitivity: {uci: {ks: [1.0, 1e1]}}}
    """
    settings = load_settings(parse_settings(text, "here"))
    adult = settings["budgets"]["bihm"]["adult"]["training"]
    search = settings["searches"]["bihm"]["adult"]
    numbers = [
        settings["repetitions"],
        *settings["grid"]["bihm"]["adult"]["model"]["layers"],
        adult["batch_size"],
        adult["phases"][0]["updates"],
        adult["phases"][0]["n_samples"],
        *search["training.patience"],
        *search["model.layers"][0],
        *settings["analyses"]["k_sensitivity"]["uci"]["ks"],
    ]
    assert numbers == [2, 100, 20, 100, 10, 2, 10, 3, 1, 10]
    assert {type(number) for number in numbers} == {int}
    # where any number may stand, it stays as it is: it decides the training digest
    gamma = settings["grid"]["ssl_bihm"]["binarized_mnist/gamma=0"]["model"]["gamma"]
    assert [type(number) for number in (gamma, *search["training.l1"], adult["phases"][0]["learning_rate"])] == [
        float,
        float,
        int,
    ]


@pytest.mark.parametrize("section", ["grid", "ablations", "searches", "budgets", "analyses"])
def test_a_section_that_is_null_takes_out_all_of_it(section):
    base = {"searches": {"bihm": {"adult": {"learning_rate": [0.1]}}}}
    settings = read_settings([Source("one", base), Source("two", {section: None})])
    assert all(entries is None for entries in settings[section].values())
    assert load_settings(settings) == settings  # as jobs read it again
    found = {cell.variant for cell in cells(settings)}
    assert bool(found) == (section != "grid")
    assert any(variant.startswith("without") for variant in found) == (section not in ("grid", "ablations"))


def test_lists_that_are_null_are_empty():
    given = {"methods": None, "data": {"mirrors": None, "paths": None}, "groups": {"faces": None}}
    settings = load_settings(given)
    assert (settings["methods"], settings["data"]["mirrors"], settings["data"]["paths"]) == ([], [], {})
    assert not any(cell.dataset == "faces48" for cell in cells(settings))
    assert load_settings(settings) == settings


def test_numbers_and_paths_of_python_are_taken(tmp_path):
    import numpy as np

    given = {"repetitions": np.int64(2), "data": {"mirrors": (tmp_path,), "timeout_s": np.float32(2.5)}}
    settings = load_settings(given)
    assert (settings["repetitions"], settings["data"]["timeout_s"]) == (2, 2.5)
    assert settings["data"]["mirrors"] == [str(tmp_path)]
    assert type(settings["repetitions"]) is int
    with pytest.raises(ConfigError, match=r"settings: data: expected keys that are words, found 3"):
        load_settings({"data": {3: 4}})
    with pytest.raises(ConfigError, match=r"settings: data\.cache: expected a word, .*, found object"):
        load_settings({"data": {"cache": object()}})


def test_the_last_source_that_has_a_key_is_blamed():
    sources = [Source("first", {"budgets": {"bihm": {"adult": {"training": {"l1": -1}}}}})]
    with pytest.raises(ConfigError, match=r"^first: budgets"):
        read_settings([*sources, Source("second", {"budgets": {"bihm": {"adult": {"training": {"patience": 3}}}}})])
    with pytest.raises(ConfigError, match=r"^second: budgets"):
        read_settings([*sources, Source("second", {"budgets": {"bihm": {"adult": {"training": {"l1": -2}}}}})])


@pytest.mark.parametrize("variant", ["12 layers", "gamma=-0.001", "without layer 1", "K=5+5", "v1.2", "_", "x" * 100])
def test_variants_may_have_such_names(variant):
    load_settings({"grid": {"bihm": {f"adult/{variant}": {}}}})


def test_the_command_line_ends_with_its_code_and_one_line(capsys):
    assert main(["settings", "--settings", "{grid: {bimh: null}}"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"harness: --settings: grid\.bimh: expected one of .*, found 'bimh'\n", captured.err)
