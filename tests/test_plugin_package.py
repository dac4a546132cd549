"""What somebody else publishes, one of each kind: installed beside the harness, each is one line of settings away.

The package is built and installed by pip into a fresh virtual environment, which sees the packages of this one.
"""

import json
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import own_kinds
import pandas as pd
import pytest
from own_kinds import NAMES, asking
from test_workflow import Workflow, only

from harness.cli.kinds import SINGULAR
from harness.errors import ConfigError
from harness.plugins.registry import method_names
from harness.settings.config import load_settings

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "guessing-machines"
version = "0.3"

[project.entry-points."bihm_harness.methods"]
guessing = "guessing_machines.guessing"

[project.entry-points."bihm_harness.metrics"]
column_gap = "guessing_machines.column_gap"
"""
PYPROJECT += "".join(
    f'\n[project.entry-points."bihm_harness.{kind}"]\n{name} = "guessing_machines.{name}"\n'
    for kind, name in NAMES.items()
)
METRIC = '''
"""How far drawn and test rows are apart in the means of their columns."""

import torch

NAME = "column_gap"
TITLE = "gap between the means of columns"
UNIT = "share"
BETTER = "lower"
DECIMALS = 4
NEEDS = ("sampling",)


def measure(subject):
    drawn = subject.model.sample(200, subject.generator()).float()
    return torch.mean((drawn.mean(0) - subject.test.x.float().mean(0)).abs())
'''
METHOD = '''
"""Latent variables that are drawn from the prior: importance sampling without a recognition model."""

import math

import torch
from torch import nn

from harness.blocks.bernoulli import log_bernoulli, sample_bernoulli
from harness.method import Method


class Guessing(Method):
    """h standard normal, p(x | h) Bernoulli with logits W h + b."""

    name = "guessing"
    title = "Guessing machine"
    kind = "latent"
    source = "a package of its own"
    small = {"latent": 2}

    def __init__(self, n_visible: int, latent: int = 2):
        super().__init__(n_visible)
        self.decoder = nn.Linear(latent, n_visible)

    def guess(self, shape, generator):
        weight = self.decoder.weight
        return torch.randn(
            (*shape, self.decoder.in_features), generator=generator, device=weight.device, dtype=weight.dtype
        )

    def log_weights(self, x, n_samples, generator):
        return log_bernoulli(x[:, None], self.decoder(self.guess((len(x), n_samples), generator)))

    def loss(self, batch, n_samples, generator):
        log_weights = self.log_weights(batch.x, n_samples, generator)
        return math.log(n_samples) - torch.logsumexp(log_weights, dim=1).mean()

    @torch.no_grad()
    def sample(self, n, generator):
        return sample_bernoulli(torch.sigmoid(self.decoder(self.guess((n,), generator))), generator)
'''
LINE = {"guessing": {"connect4": {}}}


@pytest.fixture(scope="module", name="python")
def _python(tmp_path_factory):
    """The python of a virtual environment with the package in it, and the harness and all else from this one."""
    folder = tmp_path_factory.mktemp("plugin")
    package = folder / "source" / "guessing_machines"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").touch()
    (package / "guessing.py").write_text(METHOD)
    (package / "column_gap.py").write_text(METRIC)
    own_kinds.write(package)
    return installed(package.parent, folder / "environment")


def installed(source, environment):
    """The Python of a fresh environment in which the package in the folder ``source`` is installed."""
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # lines that run code: the .pth files of an added folder are read as well, and an editable harness is one
    beside = [f"import site; site.addsitedir({path!r})\n" for path in this_environment()]
    Path(own, "beside.pth").write_text("".join(beside))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run(python, "-m", "pip", "install", *options, str(source))
    return python


def this_environment():
    """The folders where packages are found here."""
    return list(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))


def run(python, *arguments):
    """What the command prints; outside the folder of the repository, as a package must not need that."""
    done = subprocess.run(
        [str(python), *arguments], cwd=python.parent, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_with_its_package(python):
    line = next(line for line in run(python, "-m", "harness", "methods").splitlines() if line.startswith("guessing "))
    for text in ("Guessing machine", "latent", "loss, importance weights, sampling", "guessing-machines 0.3"):
        assert text in line


def test_it_is_not_known_here(python):
    assert "guessing" not in method_names()


def test_it_is_verified(python):
    printed = run(python, "-m", "harness", "verify", "guessing")
    assert " 0 failed, 0 not checked" in printed
    assert re.search(r"importance weights +passed", printed)


def test_its_metric_is_listed_with_its_package_and_verified(python):
    listed = run(python, "-m", "harness", "list", "metrics").splitlines()
    line = next(line for line in listed if line.startswith("column_gap "))
    for text in ("gap between the means of columns", "share", "lower", "sampling", "guessing-machines 0.3"):
        assert text in line
    assert line.rstrip().endswith("not asked for")
    printed = run(python, "-m", "harness", "verify", "metrics", "column_gap")
    assert "column_gap: 5 passed, 0 failed, 0 not checked" in printed


@pytest.mark.parametrize("kind", NAMES)
def test_one_of_each_kind_is_listed_with_its_package_and_verified(kind, python):
    name, settings = NAMES[kind], json.dumps({"analyses": {"ones": {"adult": {"rows": 20}}}})
    listed = run(python, "-m", "harness", "list", kind).splitlines()
    (line,) = (line for line in listed if line.startswith(f"{name} "))
    assert "guessing-machines 0.3" in line
    assert line.endswith("not asked for")
    (word,) = (word for word, plural in SINGULAR.items() if plural == kind)
    printed = run(python, "-m", "harness", "verify", word, name, "--settings", settings)
    assert re.search(rf"^{name}: [5-9] passed, 0 failed, 0 not checked, 0 not applicable$", printed, re.MULTILINE)


def test_what_is_of_no_package_is_not_known_here():
    for kind, name in NAMES.items():
        with pytest.raises(ConfigError, match=f"found '{name}'"):
            load_settings({kind: {name: {}} if kind == "analyses" else [name]})


def test_its_metric_is_not_known_here():
    with pytest.raises(ConfigError, match=r"expected a file \(\*\.py\) or the name of a metric"):
        load_settings({"metrics": ["column_gap"]})


@pytest.fixture(scope="module", name="flow")
def _flow(python, tmp_path_factory):
    """The tables and a figure of a run whose settings have one line for each of the two."""

    class Beside(Workflow):
        def command(self, *arguments):
            return [str(python), *super().command(*arguments)[1:]]

    flow = Beside(tmp_path_factory.mktemp("flow"))
    flow.settings["grid"] = only(factorised={"connect4": {}}, bihm={"connect4": {"model": {"layers": [8, 4]}}}) | LINE
    flow.settings |= {"metrics": ["column_gap"], **asking(NAMES)}
    figures = (f"{flow.results}/figures/{name}.csv" for name in ("figure_3_3", NAMES["figures"]))
    flow("tables", "check", *(figure.removeprefix(f"{flow.folder}/") for figure in figures))
    return flow


def test_one_line_of_settings_for_each_kind_shows_what_it_makes(flow):
    table = pd.read_csv(flow.results / "tables" / "behind.csv").set_index("method")
    assert set(table.index) == {"bihm", "factorised", "guessing"}
    assert table["behind"].min() == 0
    assert "From a note of ours." in (flow.results / "tables" / "behind.md").read_text()
    ones = pd.read_csv(flow.run("connect4/guessing/default/0") / "analyses" / "ones.csv").set_index("rows")
    figure = pd.read_csv(flow.results / "figures" / "ones_by_nll.csv").set_index("method")
    assert figure.loc["guessing", "value"] == pytest.approx(ones.loc["drawn", "value"])
    assert "Figure of guessing-machines 0.3." in (flow.results / "figures" / "ones_by_nll.rst").read_text()
    (claim,) = pd.read_csv(flow.results / "check" / "check_claims.csv").to_dict("records")
    assert claim["text"] == "Every model is better than independent columns."
    assert claim["verdict"] in ("holds", "does not hold", "undecided")


def test_one_line_of_settings_puts_its_metric_in_the_tables(flow):
    metrics = pd.read_parquet(flow.results / "metrics.parquet")
    own = metrics[metrics["metric"].eq("column_gap")]
    assert set(own["method"]) == {"bihm", "factorised", "guessing"}
    assert own["value"].between(0.0, 1.0).all()
    assert set(own["better"]) == {"lower"}
    table = pd.read_csv(flow.results / "tables" / "metrics.csv").set_index(["metric", "method"])
    assert len(table) == 3
    for line in own.itertuples():
        assert table.loc[("column_gap", line.method), "value"] == pytest.approx(line.value)
    text = (flow.results / "tables" / "metrics.md").read_text()
    assert "`column_gap`: gap between the means of columns, share; lower is better" in text
    assert "`column_gap` is from guessing-machines 0.3." in text


def test_one_line_of_configuration_gives_it_a_row_and_a_curve(flow):
    row = flow.table().loc["connect4", "guessing", "", "-log p"]
    assert row.status == "ok"
    assert float(row["value"]) > 0
    assert float(row["sem"]) > 0
    assert "Guessing machine" in (flow.results / "tables" / "table_3_1.md").read_text()
    figure = pd.read_csv(flow.results / "figures" / "figure_3_3.csv")
    curve = figure[figure.method == "guessing"]
    assert set(curve.dataset) == {"connect4"}
    assert set(curve.metric) == {"log p"}
    assert curve.k.tolist() == load_settings({"preset": "smoke"})["analyses"]["k_sensitivity"]["uci"]["ks"]
    assert curve.value.notna().all()
