"""What the README tells a new user to type is true."""

import re

import pytest
import yaml

from harness import methods
from harness.cli import main, new_method
from harness.plugins.listing import listed
from harness.plugins.registry import ENTRY_POINT_GROUP
from harness.settings import config

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
