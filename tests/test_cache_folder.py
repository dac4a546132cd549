"""A home that cannot be written to: kernels, locks and data go elsewhere, and one line says so."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.compute import cache_folder as module
from harness.compute.cache_folder import cache_folder
from harness.settings.config import data_settings, load_settings


@pytest.fixture(name="no_home", autouse=True)
def _no_home(tmp_path, monkeypatch):
    """The cache would lie below a file; temporary folders are in the test's own."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    module._fallback.cache_clear()
    yield
    module._fallback.cache_clear()


def test_what_can_be_written_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert cache_folder("gpu") == tmp_path / "new" / "bihm-harness" / "gpu"
    assert not (tmp_path / "new").exists()


def test_the_fallback_is_told_once_and_is_nobody_elses(tmp_path, caplog):
    folder = cache_folder("kernels")
    assert folder == cache_folder("kernels") == tmp_path / f"bihm-harness-{os.getuid()}" / "kernels"
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/file/cache/bihm-harness: cannot be written to; the cache is in {folder.parent} for now"
    ]
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert data_settings(load_settings({"data": {"cache": None}})).cache == folder.parent


@pytest.mark.parametrize("trap", ["open to all", "a link", "a file"])
def test_a_folder_that_others_may_have_prepared_is_not_used(tmp_path, trap):
    """Compiled kernels are code: whoever can write them can run what they like."""
    foreign = tmp_path / f"bihm-harness-{os.getuid()}"
    if trap == "open to all":
        foreign.mkdir()
        foreign.chmod(0o777)
    elif trap == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        foreign.symlink_to(tmp_path / "elsewhere")
    else:
        foreign.write_text("")
    folder = cache_folder().resolve()
    assert folder.parent == tmp_path
    assert folder not in (foreign, tmp_path / "elsewhere")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_kernels_work_without_a_home(tmp_path):
    code = "import torch; from harness.training.step import UpdateStep; from harness.kernels import adam; import numba;"
    code += "print(numba.config.CACHE_DIR)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == tmp_path / f"bihm-harness-{os.getuid()}" / "kernels"
    assert done.stderr.count("cannot be written to") == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys, monkeypatch):
    def refused(self, *_arguments, **_options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    text = '{"grid": {"bihm": {"connect4": {"model": {"layers": [3]}}}}}'
    cell = ["--settings", text, "--preset", "smoke", "--dataset", "connect4", "--method", "bihm"]
    assert main(["train", *cell, "--run", str(tmp_path / "run")]) == 1
    assert "Permission denied" in capsys.readouterr().err
