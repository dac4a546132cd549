"""What ``harness verify`` finds wrong with tables, figures, analyses and claims: one planted fault at a time."""

import re

import pytest

from harness.compute.places import ROOT
from harness.errors import ConfigError
from harness.settings.config import load_settings
from harness.verify.analyses import verify_analysis
from harness.verify.claims import verify_claim
from harness.verify.figures import verify_figure
from harness.verify.tables import verify_table


@pytest.fixture(autouse=True)
def _forget_files():
    yield
    load_settings()


def verdicts(verify, kind, text, tmp_path, **settings):
    """By check, the verdict on a file of a kind, and what was found."""
    path = tmp_path / "mine.py"
    path.write_text(text)
    given = {kind: {str(path): {"*": {}}} if kind == "analyses" else [str(path)], **settings}
    found = {each.check: (each.verdict, each.detail) for each in verify("mine", load_settings(given))}
    return {check: detail for check, (verdict, detail) in found.items() if verdict == "failed"}, found


@pytest.mark.parametrize(
    ("kind", "verify", "title"),
    [
        ("tables", verify_table, "A table of your own"),
        ("claims", verify_claim, "A claim of your own"),
    ],
)
def test_examples_of_the_documentation_pass(kind, verify, title, tmp_path):
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").partition(f"## {title}")[2]
    (example,) = re.findall(r"```python\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    _, found = verdicts(verify, kind, example, tmp_path)
    assert {verdict for verdict, _ in found.values()} == {"passed"}


TABLE = """
import random, os
import pandas as pd
TITLE = "mine"
CALLS = []


def data(measured):
    rows = measured[measured["metric"] == "-log p"]
    {body}
    return rows[["dataset", "method", "value"]]
"""


@pytest.mark.parametrize(
    ("body", "check", "said"),
    [
        ("return 1", "rows", "data(...): expected a DataFrame, found a int"),
        ("rows = rows.assign(value=random.random())", "determinism", "expected the same rows at every call"),
        ("rows = rows.assign(value=random.random())", "process untouched", "random numbers of Python as before"),
        ("os.environ['MINE'] = 'set'", "process untouched", "expected the environment as before"),
        ("measured['value'] = 1.0", "inputs untouched", "expected the measured numbers as they were given"),
        ("rows.set_index('method').loc['nade']", "missing numbers", "but for factorised, found KeyError: 'nade'"),
        ("rows['value'].iloc[0]", "missing numbers", "where no model has a number, found IndexError"),
    ],
)
def test_what_a_table_must_not_do_fails_a_check(body, check, said, tmp_path, monkeypatch):
    monkeypatch.delenv("MINE", raising=False)
    failed, _ = verdicts(verify_table, "tables", TABLE.format(body=body), tmp_path)
    monkeypatch.delenv("MINE", raising=False)
    assert said in failed[check]


def test_a_table_of_numbers_that_nothing_has_is_not_checked(tmp_path):
    text = TABLE.format(body="pass") + 'METRICS = ("nothing",)\n'
    _, found = verdicts(verify_table, "tables", text, tmp_path)
    assert found["rows"][0] == "NOT CHECKED"
    assert "no model here has `nothing`" in found["rows"][1]


FIGURE = """
import random
import matplotlib.pyplot as plt
CAPTION = "mine"
ANALYSES = ("metrics",)


def data(measured):
    rows = measured[measured["metric"] == "-log p"]
    {data}
    return rows[["dataset", "method", "value"]]


def draw(data):
    figure, axes = plt.subplots()
    axes.plot(data["value"])
    {draw}
    return figure
"""


@pytest.mark.parametrize(
    ("data", "draw", "check", "said"),
    [
        ("1 / 0", "", "data", "expected a figure, found ZeroDivisionError"),
        ("", "figure = None", "data", "draw(...): expected a matplotlib figure, found a NoneType"),
        ("", "axes.plot(random.random(), 0, 'o')", "determinism", "expected the same bytes of mine.png at every call"),
        ("", "plt.figure()", "process untouched", "expected open figures as before"),
        ("", "plt.rcParams['lines.linewidth'] = 7", "process untouched", "settings of matplotlib as before"),
        ("rows.set_index('method').loc['nade']", "", "missing numbers", "but for factorised, found KeyError"),
    ],
)
def test_what_a_figure_must_not_do_fails_a_check(data, draw, check, said, tmp_path):
    import matplotlib.pyplot as plt

    failed, _ = verdicts(verify_figure, "figures", FIGURE.format(data=data or "pass", draw=draw or "pass"), tmp_path)
    plt.close("all")
    assert said in failed[check]


ANALYSIS = """
import torch
import pandas as pd
NEEDS = {needs}


def analyse(subject, rows: int = 3):
    value = 1.0
    {body}
    return pd.DataFrame({{"value": [value]}})
"""


@pytest.mark.parametrize(
    ("body", "check", "said"),
    [
        ("return value", "rows", "TypeError: analyse(subject, ...): expected a DataFrame, found a float"),
        ("value = torch.rand(()).item()", "determinism", "expected the same rows at every call"),
        ("value = torch.rand(()).item()", "process untouched", "expected random numbers of PyTorch as before"),
        ("subject.model.train()", "model untouched", "expected the model of"),
        ("[p.add_(1) for p in subject.model.parameters()]", "model untouched", "found a changed one"),
    ],
)
def test_what_an_analysis_must_not_do_fails_a_check(body, check, said, tmp_path):
    needs = ("orderings",)
    failed, _ = verdicts(verify_analysis, "analyses", ANALYSIS.format(needs=needs, body=body), tmp_path)
    assert said in failed[check]


def test_settings_that_an_analysis_does_not_take_are_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(ANALYSIS.format(needs=("orderings",), body="pass").replace("rows: int = 3", "rows: int"))
    with pytest.raises(ConfigError, match=r"expected rows for .*, found none"):
        load_settings({"analyses": {str(path): {"*": {}}}})


CLAIM = """
import random
from harness.reporting.report.judging import Number
TEXT = "mine"
FROM = ("overview",)


def judge(overview):
    if overview.empty:
        return None
    value = 1.0
    {body}
    return Number(value, 0.1), f"{{value}} nats"
"""


@pytest.mark.parametrize(
    ("body", "check", "said"),
    [
        ("return value", "verdict", "judge(...): expected None, or one or more Numbers and a sentence, found a float"),
        ("value = random.random()", "determinism", "expected the same judgement at every call"),
        ("value = random.random()", "process untouched", "random numbers of Python as before"),
        ("overview['value'] = 0.0", "inputs untouched", "expected the rows as they were given"),
        ("overview.set_index('method').loc['nade']", "missing numbers", "without nade, found KeyError: 'nade'"),
    ],
)
def test_what_a_claim_must_not_do_fails_a_check(body, check, said, tmp_path):
    failed, _ = verdicts(verify_claim, "claims", CLAIM.format(body=body), tmp_path)
    assert said in failed[check]


def test_a_claim_that_holds_without_any_rows_fails_a_check(tmp_path):
    text = CLAIM.format(body="pass").replace("overview.empty", "False")
    failed, _ = verdicts(verify_claim, "claims", text, tmp_path)
    assert failed["missing numbers"] == "expected None where there are no rows, found holds"
