"""Names and places with blanks, quotes and all that a shell or Snakemake gives a meaning."""

import ast
import re

import pytest
from test_workflow import Workflow, only

from harness.cli import workflow
from harness.compute.places import ROOT
from harness.errors import ConfigError

RULES = sorted((ROOT / "workflows" / "rules").glob("*.smk"))
PLACEHOLDER = re.compile(r"(?<!\{)\{(?!\{)([^{}]*)\}")
ODD = """a "b" 'c' $HOME $(touch pwned) `touch pwned` [1] (2) & ;#*?"""


def shell_lines(path):
    """The command of every rule of a file."""
    found = re.findall(r"^    shell:\n((?:        .*\n)+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [ast.literal_eval(f"({text})") for text in found]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_every_placeholder_of_a_shell_line_is_quoted(path):
    text = path.read_text(encoding="utf-8")
    commands = shell_lines(path)
    assert len(commands) == text.count("shell:")
    for command in commands:
        assert "{log:q}" in command
        for name in PLACEHOLDER.findall(command):
            assert name.endswith(":q"), f"{path.name}: {{{name}}} is not quoted"


def test_the_test_above_sees_what_is_not_quoted():
    assert PLACEHOLDER.findall("a {input.x} {{no}} {log:q} ${{cell[@]}}") == ["input.x", "log:q"]


def test_a_working_folder_of_any_name(tmp_path):
    """The whole way, in a folder whose name a shell would take apart, with a variant of two words."""
    folder = tmp_path / ODD
    folder.mkdir()
    flow = Workflow(folder)
    flow.settings["grid"] = only(bihm={"connect4/two words": {"model": {"layers": [8, 4]}}})
    flow.settings["grid"]["bihm"]["connect4"] = None
    flow.settings["analyses"] = {"k_sensitivity": {"connect4": {"rows": 20, "ks": [1, 10]}}}
    flow.settings["searches"] = {"bihm": {"connect4/two words": {"learning_rate": [0.01], "updates": 3}}}
    flow("tables", "searches", "check", "results/smoke/figures/figure_3_4.png")
    (measured,) = flow.results.glob("runs/*/*/*/*/metrics.json")
    assert measured.parent.parent.name == "two_words"
    assert flow.jobs("tables", "searches", "results/smoke/figures/figure_3_4.png") == {}
    assert not list(tmp_path.rglob("pwned"))


def test_braces_in_the_path_of_the_checkout_are_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError, match="expected a path without braces"):
        workflow.check_place(tmp_path / "{y}")
    folder = tmp_path / "{y}"
    folder.mkdir()
    assert "expected a path without braces" in Workflow(folder)("tables", code=1)
