"""Methods listed from their source texts: the same as what importing them gives, without importing PyTorch."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from harness import registry, sources
from harness.errors import ConfigError, HarnessError
from harness.listing import Listed, listed
from harness.method import capabilities
from harness.registry import method_class, method_names


@pytest.mark.parametrize("name", method_names())
def test_the_text_says_what_the_class_has(name):
    cls = method_class(name)
    assert listed(name) == Listed(name, cls.title, cls.kind, capabilities(cls), cls.source)


def test_listing_does_not_import_torch():
    program = "import sys; from harness.cli import main; sys.exit(main(['methods']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in method_names())


@pytest.fixture(name="publish")
def _publish(tmp_path, monkeypatch):
    """Make a module of this text a published method ``mine``."""

    def publish(text, target="published_method"):
        (tmp_path / "published_method.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        entry = EntryPoint("mine", target, registry.ENTRY_POINT_GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
        sources._parsed.cache_clear()

    return publish


MINE = """
import harness.methods.nade
from harness.method import Method as Base

class Part(Base):
    def sample(self, n, generator): ...

class Mine(Part, harness.methods.nade.NADE):
    name = "mine"
    title: str = "Mi" "ne"
    def loss(self, batch, n_samples, generator): ...
"""


@pytest.mark.parametrize("target", ["published_method", "published_method:Mine"])
def test_published_methods_are_listed_with_what_they_inherit(publish, target):
    publish(MINE, target)
    assert "mine" in method_names()
    nade = listed("nade")
    words = ("loss", "gradients", "exact log p", "sampling")
    assert listed("mine") == Listed("mine", "Mine", nade.kind, words, nade.source)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("x = 1", "published_method", r"published_method\.py: expected one class with name = 'mine', found 0"),
        ("class (", "published_method", r"published_method\.py: expected Python, found invalid syntax"),
        ("", "nowhere_at_all", r"module nowhere_at_all: expected a Python source file, found none"),
    ],
)
def test_what_cannot_be_listed_is_named(publish, text, target, message):
    publish(text, target)
    with pytest.raises(HarnessError, match=message):
        listed("mine")


def test_unknown_methods_are_named():
    with pytest.raises(ConfigError, match=r"method: expected one of .*bihm.*, found 'nonesuch'"):
        listed("nonesuch")
