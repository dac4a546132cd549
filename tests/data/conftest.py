"""What the data tests share: the mirror folder, and homes on the loopback interface."""

import os
from pathlib import Path

import pytest
from loopback import Home, Tiny

from harness.data import download

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def mirror() -> Path:
    folder = Path(os.environ.get("HARNESS_MIRROR", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "SOURCES.json").is_file():
        pytest.skip(f"no mirror folder {folder}")
    return folder


@pytest.fixture(autouse=True)
def no_host_known(monkeypatch):
    """Each test finds out anew which hosts answer."""
    monkeypatch.setattr(download, "_reachable", {})


@pytest.fixture
def home():
    home = Home()
    yield home
    home.server.shutdown()
    home.server.server_close()


@pytest.fixture
def tiny(home, tmp_path, monkeypatch) -> Tiny:
    return Tiny(home, tmp_path / "cache", monkeypatch)
