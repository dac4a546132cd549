"""The environment of ``snakemake --sdm conda`` holds what the package says it needs."""

import re
import tomllib

import yaml

from harness.settings.config import ROOT

CONDA_NAMES = {"torch": "pytorch"}  # where conda-forge calls a package otherwise
OUTSIDE = {"snakemake"}  # starts the jobs that run in the environment, and is in none of them


def _requirement(text):
    name, versions = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", text).groups()
    return name, versions


def test_the_conda_environment_has_the_dependencies_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = dict(_requirement(text) for text in project["dependencies"])
    expected = {CONDA_NAMES.get(name, name): needed[name] for name in needed.keys() - OUTSIDE}
    environment = yaml.safe_load((ROOT / "workflows" / "envs" / "harness.yaml").read_text(encoding="utf-8"))
    found = dict(_requirement(text) for text in environment["dependencies"])
    assert found == {**expected, "python": project["requires-python"]}
