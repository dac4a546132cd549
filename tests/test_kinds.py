"""``harness list``, ``new`` and ``verify`` spell every kind alike, and the older spellings stay."""

import json
import re
import shlex

import pytest

from harness.cli import main
from harness.cli.kinds import KINDS, SINGULAR
from harness.data import CATALOGUE
from harness.plugins.analyses import analysis_names
from harness.plugins.metrics import BUILT_IN, metric, use_metrics
from harness.plugins.registry import built_in_names
from harness.reporting.figures.write import figure_names
from harness.reporting.report.claims import CLAIMS
from harness.reporting.tables.planned import NAMES
from harness.settings.config import load_settings
from harness.verify.metrics import verify_metric


@pytest.fixture(autouse=True)
def _forget_files():
    yield
    load_settings()


def printed(capsys, *arguments, code=0):
    assert main(arguments) == code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("methods", built_in_names()),
        ("datasets", CATALOGUE),
        ("metrics", BUILT_IN),
        ("analyses", analysis_names()),
        ("tables", [*NAMES, "overview", "metrics"]),
        ("figures", figure_names()),
        ("claims", {getattr(claim, "func", claim).__name__ for claim in CLAIMS}),
    ],
)
def test_every_kind_is_listed_by_name(kind, names, capsys):
    assert kind in KINDS
    lines = printed(capsys, "list", kind).splitlines()
    for name in names:
        assert any(line.startswith(f"{name} ") for line in lines), name


@pytest.mark.parametrize("kind", ["methods", "datasets"])
def test_older_spellings_print_the_same(kind, capsys):
    assert printed(capsys, kind) == printed(capsys, "list", kind)


def test_a_kind_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["list", "plugins"])
    assert "invalid choice: 'plugins'" in capsys.readouterr().err


def test_a_new_metric_works_as_it_is(tmp_path, capsys):
    said = printed(capsys, "new", "metrics", "my_gap", "--folder", str(tmp_path))
    path = tmp_path / "my_gap.py"
    assert f"metrics: [{path}]" in said
    settings = json.dumps({"metrics": [str(path)]})
    shown = printed(capsys, "verify", "metrics", "my_gap", "--settings", settings)
    assert "my_gap: 5 passed, 0 failed, 0 not checked" in shown
    assert metric("my_gap").title == "My gap"
    line = next(
        line for line in printed(capsys, "list", "metrics", "--settings", settings).splitlines() if "My gap" in line
    )
    assert line.split()[-1] == "yes"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("class", "expected a valid name of a Python module, found 'class'"),
        ("error", "expected a name that the harness has no use for, found 'error'"),
        ("there", "expected no such file, found one, which was not changed"),
    ],
)
def test_new_metrics_never_take_a_name_or_a_file(name, said, tmp_path, capsys):
    (tmp_path / "there.py").write_text("mine")
    assert main(["new", "metrics", name, "--folder", str(tmp_path)]) == 3
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.py"]
    assert (tmp_path / "there.py").read_text() == "mine"


def test_a_new_method_has_two_spellings(tmp_path, capsys):
    for verb in (("new-method",), ("new", "methods")):
        folder = tmp_path / verb[0]
        assert "harness verify deep_thing" in printed(capsys, *verb, "deep_thing", "--folder", str(folder))
    texts = [(tmp_path / verb / "deep_thing.py").read_text() for verb in ("new-method", "new")]
    assert texts[0] == texts[1]


SETTING = {"analyses": "analyses: {{{path}: "}  # others have a list


@pytest.mark.parametrize("word", ["table", "figure", "analysis", "claim"])
def test_a_new_one_of_each_kind_works_as_it_is(word, tmp_path, capsys):
    said = printed(capsys, "new", word, "my_own", "--folder", str(tmp_path))
    path, kind = tmp_path / "my_own.py", SINGULAR[word]
    assert SETTING.get(kind, f"{kind}: [{{path}}]").format(path=path) in said
    (command,) = (line for line in said.splitlines() if line.startswith("  harness verify"))
    shown = printed(capsys, *shlex.split(command)[1:])
    assert re.search(r"^my_own: [5-9] passed, 0 failed, 0 not checked, 0 not applicable$", shown, re.MULTILINE)
    settings = shlex.split(command)[-1]
    lines = printed(capsys, "list", kind, "--settings", settings).splitlines()
    (line,) = (line for line in lines if line.startswith("my_own "))
    assert line.split()[-1] == "yes"


def test_a_file_is_verified_by_its_path(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed(capsys, "new", "table", "my_own")
    assert "my_own: 7 passed, 0 failed" in printed(capsys, "verify", "table", "my_own.py")
    asked = json.dumps({"tables": [str(tmp_path / "my_own.py")]})
    assert "my_own: 7 passed, 0 failed" in printed(capsys, "verify", "table", "my_own.py", "--settings", asked)
    assert main(["verify", "table", "another.py"]) == 3
    assert f"tables: {tmp_path / 'another.py'}: expected a Python file, found none" in capsys.readouterr().err


def test_data_sets_are_verified_by_the_same_verb(capsys, tmp_path):
    settings = json.dumps({"data": {"cache": str(tmp_path), "mirrors": [], "download": False}})
    older = printed(capsys, "datasets", "--verify", "connect4", "--settings", settings)
    assert printed(capsys, "verify", "dataset", "connect4", "--settings", settings) == older
    assert "0 failed" in older


HEAD = 'import random\nimport torch\nNAME = "mine"\nTITLE = "mine"\nUNIT = "nats"\nBETTER = "lower"\nNEEDS = {needs}\n'


@pytest.mark.parametrize(
    ("body", "check", "said"),
    [
        ("return float('nan')", "value", "expected a finite number, found mine came out as nan"),
        ("return subject.nothing", "value", "AttributeError"),
        ("return torch.rand(()).item()", "determinism", "expected the same value at every call"),
        ("return torch.rand(()).item()", "own random numbers", "the generator of the process moved on"),
        (
            "subject.model.train()\n    return 1.0",
            "model untouched",
            "expected the model as it was, in evaluation mode",
        ),
        ("[p.add_(1) for p in subject.model.parameters()]\n    return 1.0", "model untouched", "found a changed one"),
    ],
)
def test_what_a_metric_must_not_do_fails_a_check(body, check, said, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEAD.format(needs=("exact log p",)) + f"def measure(subject):\n    {body}\n")
    use_metrics([str(path)])
    failed = {each.check: each.detail for each in verify_metric("mine") if each.verdict == "failed"}
    assert said in failed[check]


def test_without_a_method_that_has_what_it_needs_nothing_is_said_to_be_checked(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        HEAD.format(needs=("exact log p", "closed form", "inpainting", "classification"))
        + "def measure(s): return 1.0\n"
    )
    use_metrics([str(path)])
    verdicts = {each.check: each.verdict for each in verify_metric("mine")}
    assert set(verdicts.values()) == {"passed", "NOT CHECKED"}
    assert verdicts["value"] == "NOT CHECKED"
