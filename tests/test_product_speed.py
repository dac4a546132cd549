"""Whether bfloat16 pays is measured once for each processor, whatever else the machine does; settings come first."""

import json

import pytest
import torch
from cells import cell
from enumerable import STACKS

from harness.compute import precision, product_speed
from harness.plugins.registry import build
from harness.training.state import new_model
from harness.training.step import UpdateStep

CPU = torch.device("cpu")


@pytest.fixture(name="measured", autouse=True)
def _measured(tmp_path, monkeypatch):
    """How often somebody measured, in an empty cache; what is found is that of the turns given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def measure():
        calls.append(torch.get_float32_matmul_precision())
        return calls.seconds

    class Calls(list):
        seconds = ([2.0] * 3, [1.0] * 3)

    calls = Calls()
    monkeypatch.setattr(product_speed, "measure", measure)
    precision._bfloat16_pays_here.cache_clear()
    yield calls
    precision._bfloat16_pays_here.cache_clear()


def kept(tmp_path):
    return list((tmp_path / "bihm-harness" / "processors").iterdir())


@pytest.mark.parametrize(
    ("single", "half", "faster"),
    [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], True),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], False),
        ([1.1, 1.1, 1.1], [1.0, 1.0, 1.0], False),  # not clearly
        ([2.0, 2.0, 9.0], [1.0, 9.0, 1.0], True),  # one turn of each was disturbed
        ([1.0, 1.0, 9.0], [1.0, 1.0, 1.0], False),
        ([9.0, 2.0, 2.0], [5.0, 1.1, 1.1], True),  # a whole turn was slow
    ],
)
def test_only_what_is_clearly_faster_in_most_turns_counts(single, half, faster):
    assert product_speed.is_clearly_faster((single, half)) is faster


@pytest.mark.parametrize("faster", [True, False])
def test_one_process_measures_and_the_next_ones_read(tmp_path, measured, faster):
    measured.seconds = ([2.0], [1.0]) if faster else ([1.0], [1.0])
    for _ in range(3):
        precision._bfloat16_pays_here.cache_clear()  # as in a new process
        assert precision.multiplies_bfloat16(CPU) is faster
        measured.seconds = measured.seconds[::-1]
    assert len(measured) == 1
    (path,) = kept(tmp_path)
    found = json.loads(path.read_text())
    assert found["bfloat16"] is faster
    assert found["torch"] == torch.__version__


def test_another_processor_or_version_is_measured_again(tmp_path, measured, monkeypatch):
    facts = product_speed._facts()
    for change in ({}, {"processor": "another"}, {"torch": "0.1"}, {"float32_products": "none"}):
        monkeypatch.setattr(product_speed, "_facts", lambda change=change: {**facts, **change})
        product_speed.bfloat16_pays()
    assert len(measured) == len(kept(tmp_path)) == 4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bfloat16": true}', "other facts", "no answer", "a word"])
def test_what_cannot_be_read_is_measured_and_written_again(tmp_path, measured, content):
    assert product_speed.bfloat16_pays() is True
    (path,) = kept(tmp_path)
    good = json.loads(path.read_text())
    changed = {"other facts": {"torch": "0.1"}, "no answer": {"bfloat16": None}, "a word": {"bfloat16": "yes"}}
    path.write_text(json.dumps({**good, **changed[content]}) if content in changed else content)
    measured.seconds = ([1.0], [1.0])
    assert product_speed.bfloat16_pays() is False
    assert len(measured) == 2
    assert json.loads(path.read_text())["bfloat16"] is False


def test_processes_that_measure_together_agree(tmp_path, measured, monkeypatch):
    """The answer of the one that was done first is everybody's."""

    def measure_while_another_ends():
        monkeypatch.setattr(product_speed, "measure", lambda: ([2.0], [1.0]))
        assert product_speed.bfloat16_pays() is True
        return [1.0], [1.0]

    monkeypatch.setattr(product_speed, "measure", measure_while_another_ends)
    assert product_speed.bfloat16_pays() is True
    (path,) = kept(tmp_path)
    assert json.loads(path.read_text())["bfloat16"] is True


def test_a_cache_that_cannot_be_written_to_is_done_without(measured, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(product_speed.atomic, "write_json", full)
    assert product_speed.bfloat16_pays() is True


def test_float32_products_are_those_of_training_and_stay_as_they_were(measured):
    expected = precision.choose_float32_products()
    for before in ("highest", "high"):
        torch.set_float32_matmul_precision(before)
        precision._bfloat16_pays_here.cache_clear()
        precision.multiplies_bfloat16(CPU)
        assert torch.get_float32_matmul_precision() == before
    torch.set_float32_matmul_precision(expected)
    assert measured == [expected]


def test_settings_decide_before_any_measurement(measured):
    model = build("bihm", 5, STACKS["bihm"])
    assert precision.product_dtype(model, "float32", CPU) is None
    assert precision.product_dtype(model, "bfloat16", CPU) == torch.bfloat16
    assert measured == []
    assert precision.product_dtype(model, "auto", CPU) == torch.bfloat16
    assert len(measured) == 1
    assert UpdateStep(new_model(cell("nade"), 12), "auto").product_dtype is None


class TestMeasure:
    """The measurement itself, which the fixture above stands in for."""

    @pytest.fixture(name="by_hand", autouse=True)
    def _by_hand(self, monkeypatch):
        """Jobs that take what a test says: seconds of each call, in float32 and in bfloat16."""
        monkeypatch.undo()

        def prepare(single, half):
            seconds = {torch.float32: single, torch.bfloat16: half}
            monkeypatch.setattr(product_speed, "_products", lambda dtype: [seconds[dtype]] * 4)
            monkeypatch.setattr(product_speed, "_seconds", lambda job: job)

        return prepare

    def test_turns_are_whole(self, by_hand):
        by_hand(2.0, 1.0)
        single, half = product_speed.measure()
        assert single == [16.0] * product_speed.TURNS
        assert half == [8.0] * product_speed.TURNS

    def test_a_processor_without_instructions_is_not_kept_busy(self, by_hand):
        by_hand(1.0, 100.0)
        assert product_speed.measure() == ([1.0], [100.0])

    def test_products_are_made_in_their_precision_on_one_thread(self, monkeypatch):
        made = []
        monkeypatch.setattr(product_speed, "TURNS", 1)
        monkeypatch.setattr(product_speed, "HOPELESS", float("inf"))
        original = torch.mm

        def mm(left, right, out):
            made.append((left.dtype, torch.get_num_threads(), tuple(out.shape)))
            return original(left, right, out=out)

        monkeypatch.setattr(torch, "mm", mm)
        torch.set_num_threads(2)
        try:
            seconds = product_speed.measure()
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(1)
        assert all(second > 0 for turns in seconds for second in turns)
        assert {n for _, n, _ in made} == {1}
        shapes = {(1000, 784), (784, 300), (1000, 100), (100, 784)}
        for dtype in product_speed.PRECISIONS:
            assert {shape for kind, _, shape in made if kind == dtype} == shapes
