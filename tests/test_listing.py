"""Methods listed from their source texts: the same as what importing them gives, without importing PyTorch."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from harness.errors import ConfigError, HarnessError
from harness.method import CAPABILITIES, capabilities, has
from harness.plugins import registry, sources
from harness.plugins.listing import Listed, listed
from harness.plugins.registry import method_class, method_names


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


UNUSUAL = {
    "another name for a function": (
        """
class Mine(Method):
    def _exact(self, x): ...
    log_prob = _exact
""",
        "exact log p",
    ),
    "another name, annotated": (
        """
class Mine(Method):
    def _exact(self, x): ...
    log_prob: object = _exact
""",
        "exact log p",
    ),
    "two names at once": (
        """
class Mine(Method):
    log_prob, sample = lambda self, x: x.sum(1), lambda self, n, generator: None
""",
        "exact log p, sampling",
    ),
    "a function of the file": (
        """
def exact(self, x): ...

class Mine(Method):
    log_prob = exact
""",
        "exact log p",
    ),
    "a function of another class": (
        """
class Mine(Method):
    log_prob = NADE.log_prob
""",
        "exact log p",
    ),
    "an annotation alone": (
        """
class Mine(Method):
    log_prob: object
""",
        "",
    ),
    "taken away": (
        """
class Mine(NADE):
    log_prob = None
""",
        "gradients, sampling",
    ),
    "taken away by one of two bases": (
        """
class Less(NADE):
    log_prob = None

class Same(NADE):
    pass

class Mine(Same, Less):
    pass
""",
        "gradients, sampling",
    ),
    "deleted": (
        """
class Mine(Method):
    def log_prob(self, x): ...
    del log_prob
""",
        "",
    ),
    "a word": (
        """
class Mine(Method):
    loss = "squared"
""",
        "",
    ),
    "a property": (
        """
class Mine(Method):
    @property
    def loss(self): ...
""",
        "",
    ),
    "decorated": (
        """
class Mine(Method):
    @torch.no_grad()
    def log_prob(self, x): ...
    @functools.lru_cache
    def sample(self, n, generator): ...
""",
        "exact log p, sampling",
    ),
    "on a condition": (
        """
class Mine(Method):
    if len("word") == 4:
        def log_prob(self, x): ...
""",
        "exact log p",
    ),
    "another name for a base": (
        """
Parent = NADE

class Mine(Parent):
    pass
""",
        "gradients, exact log p, sampling",
    ),
    "a computed base": (
        """
def parent():
    return NADE

class Mine(parent()):
    pass
""",
        "gradients, exact log p, sampling",
    ),
    "a generic base": (
        """
class Part(Generic[T]):
    def sample(self, n, generator): ...

class Mine(Method, Part[int]):
    pass
""",
        "sampling",
    ),
    "assigned to the class": (
        """
class Mine(Method):
    pass

Mine.log_prob = lambda self, x: x.sum(1)
""",
        "exact log p",
    ),
    "set by a function": (
        """
class Mine(Method):
    pass

setattr(Mine, "log_prob", NADE.log_prob)
""",
        "exact log p",
    ),
    "a decorated class": (
        """
def likely(cls):
    cls.log_prob = NADE.log_prob
    return cls

@likely
class Mine(Method):
    pass
""",
        "exact log p",
    ),
    "a base that adds to what inherits from it": (
        """
class Likely:
    def __init_subclass__(cls):
        cls.log_prob = NADE.log_prob

class Mine(Method, Likely):
    pass
""",
        "exact log p",
    ),
    "assigned to instances": (
        """
class Mine(Method):
    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.log_prob = lambda x: x.sum(1)
        self.loss = torch.nn.MSELoss()
""",
        "",
    ),
}
BEGINNING = """
import functools
from typing import Generic, TypeVar
import torch
from harness.method import Method
from harness.methods.nade import NADE
T = TypeVar("T")
"""


@pytest.mark.parametrize("what", UNUSUAL)
def test_text_class_and_model_have_the_same_capabilities(what, publish, monkeypatch):
    text, words = UNUSUAL[what]
    publish(BEGINNING + text, "published_method:Mine")
    monkeypatch.delitem(sys.modules, "published_method", raising=False)
    cls = method_class("mine")
    cls.name, cls.title, cls.kind, cls.source = "mine", "Mine", "latent", "a test"
    model = cls(4) if cls.__init__ is not method_class("nade").__init__ else cls(4, hidden=2)
    expected = tuple(word for word in words.split(", ") if word)
    assert listed("mine").capabilities == expected
    assert capabilities(cls) == capabilities(model) == expected
    assert tuple(word for word, protocol in CAPABILITIES.items() if has(cls, protocol)) == expected
    assert tuple(word for word, protocol in CAPABILITIES.items() if isinstance(model, protocol)) == expected
    assert tuple(word for word, protocol in CAPABILITIES.items() if issubclass(cls, protocol)) == expected


def test_a_method_that_only_importing_could_list_and_that_cannot_be_imported_is_named(publish, monkeypatch):
    publish("raise OSError('no licence')\nclass Mine(parent()): ...", "published_method:Mine")
    monkeypatch.delitem(sys.modules, "published_method", raising=False)
    with pytest.raises(HarnessError, match=r"method mine: expected a module that can be imported, found .*no licence"):
        listed("mine")
