"""The harness as an installed wheel: all that it needs is in it, and it works in an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import setuptools
import yaml
from test_workflow import BUDGET, only

from harness.compute.places import CHECKOUT, ROOT


def files_of_this_checkout(*folders):
    """Those that git does not ignore, as they are now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.splitlines()
    return [path for path in listed if (ROOT / path).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the files of this checkout, as ``pip wheel .`` does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    source = folder / "source"  # a build leaves files in the folder that it is made in
    for path in files_of_this_checkout():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    subprocess.run([*command, "--wheel-dir", str(folder)], cwd=source, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The ``bin`` folder of a fresh environment with the wheel, which sees the packages of this one but no checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "those_of_the_tests.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True)
    return folder / "bin"


def run(installed, folder, *arguments, program="harness"):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PATH"] = f"{installed}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(installed / program), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_holds_every_package_and_no_top_level_name_but_its_own(wheel):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    here = setuptools.find_packages(str(CHECKOUT), include=["harness*"])
    assert sorted(name for name in declared if not name.startswith("harness.shipped.")) == sorted(here)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"harness", "bihm_harness"}
    for path in files_of_this_checkout("workflows", "methods", "harness"):
        place = path if path.startswith("harness/") else f"harness/shipped/{path}"
        assert place in names or place.endswith((".md", ".gitignore")), place


def test_every_verb_works_from_it_in_an_empty_folder(installed, tmp_path):
    preset = "--preset", "smoke"
    assert '"preset": "smoke"' in run(installed, tmp_path, "settings", *preset)
    assert "Bidirectional Helmholtz Machines" in run(installed, tmp_path, "methods")
    assert "--configfile x.yaml" in run(installed, tmp_path, "new-method", "x", "--folder", ".")
    assert " 0 failed, 0 not checked" in run(installed, tmp_path, "verify", "x", "--settings", "x.yaml")
    run(installed, tmp_path, "run", *preset, "--dataset", "connect4", "--method", "factorised")
    assert (tmp_path / "results/smoke/runs/connect4/factorised/default/0/metrics.json").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"results", "x.py", "x.yaml"}


def test_the_workflow_works_from_it_in_an_empty_folder(installed, tmp_path):
    snakefile = Path(run(installed, tmp_path, "snakefile").strip())
    assert snakefile.is_relative_to(installed.parent.resolve())
    assert os.access(snakefile.parent / "profiles" / "slurm" / "bin" / "srun", os.X_OK)
    run(installed, tmp_path, "new-method", "x", "--folder", "plugins")
    settings = yaml.safe_load((tmp_path / "plugins" / "x.yaml").read_text())
    settings["preset"] = "smoke"
    settings["data"] = {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False}
    mine = {"x": {"connect4": {"model": {"latent": 2, "hidden": 4}}}}
    settings["grid"] = only(bihm={"connect4": {"model": {"layers": [8, 4]}}}) | mine
    settings["ablations"], settings["budgets"] = {"bihm": None}, {"bihm": {"*": BUDGET}, "x": {"*": BUDGET}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    call = "-s", str(snakefile), "--cores", "2", "tables", "--configfile", "mine.yaml"
    run(installed, tmp_path, "-m", "snakemake", *call, program="python")
    assert "| X" in (tmp_path / "results/smoke/tables/table_3_1.md").read_text()
