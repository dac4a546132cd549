"""What source texts say of hyperparameters and settings of analyses: the same as running them gives."""

import importlib

import pytest

from harness.plugins.analyses import analysis_names, settings_schema
from harness.plugins.registry import hyperparameter_schema, method_class, method_names, use_files
from harness.plugins.signatures import hyperparameters
from harness.schema import arguments_schema


@pytest.mark.parametrize("name", method_names())
def test_the_text_of_a_method_says_what_it_takes(name):
    assert hyperparameters(name) == hyperparameter_schema(method_class(name))


@pytest.mark.parametrize("name", analysis_names())
def test_the_text_of_an_analysis_says_what_it_takes(name):
    module = importlib.import_module(f"harness.evaluation.analyses.{name}")
    assert settings_schema(name) == arguments_schema(module.analyse, n_given=1)


METHOD = """
from typing import Annotated, List, Literal, Optional
import harness.ranges as ranges
from harness.method import Method
from harness.ranges import Range, Size

Sizes = List[Size]
Kind = Literal["a", "b"]


class Mine(Method):
    name, title, kind, source = "mine", "Mine", "control", "a test"

    def __init__(self, n_visible: int, {arguments}):
        super().__init__(n_visible)
"""


@pytest.fixture(name="mine")
def _mine(tmp_path):
    yield lambda arguments: _use(tmp_path / "mine.py", arguments)
    use_files([])


def _use(path, arguments):
    path.write_text(METHOD.format(arguments=arguments))
    use_files([path])
    return "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        "a: int",
        "a: Size, b: Sizes = (), c: Kind = 'a'",
        "a: Optional[Size] = None, *, b: 'float | None' = None, c: bool",
        "a: Annotated[float, Range(above=0, at_most=1.5), 'in nats'] = 1.0",
        "a: list[list[int]], /, b: str = ''",
        "a: Kind | None = None",
    ],
)
def test_annotations_of_many_forms(arguments, mine):
    name = mine(arguments)
    assert hyperparameters(name) == hyperparameter_schema(method_class(name))


@pytest.mark.parametrize(
    "arguments", ["a: ranges.Size", "a: dict", "a=3", "**more", "a: list", "a: Annotated[int, Range(b=1)]"]
)
def test_where_the_text_says_too_little_there_is_no_schema(arguments, mine):
    assert hyperparameters(mine(arguments)) is None
