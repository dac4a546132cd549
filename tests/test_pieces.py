"""Measuring in pieces: killed, stopped and taken up again, it ends with the numbers of an undisturbed measurement."""

import math
import signal

import pytest
import torch

from harness import pieces
from harness.errors import InterruptedMeasuringError
from harness.estimators import Estimates, LogZ2, importance_estimates, log_z2
from harness.registry import build

CPU = torch.device("cpu")
FACTS = {"model": "of tests"}


class Killed(BaseException):
    """In place of a SIGKILL: nothing is tidied up."""


def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build("bihm", 12, {"layers": [8, 4]}).eval()


@torch.inference_mode()
def measured(method):
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(30, 12, generator=generator) < 0.4).float()
    estimates = importance_estimates(method, x, 200, generator, 400)
    return estimates, log_z2(method, 3000, 2, generator, 100)


def same(a: tuple[Estimates, LogZ2], b: tuple[Estimates, LogZ2]) -> bool:
    return repr(a[1]) == repr(b[1]) and all(
        torch.equal(getattr(a[0], name), getattr(b[0], name)) for name in ("log_p", "log_p_star", "bound", "ess_p")
    )


@pytest.fixture
def eager(monkeypatch):
    """What is done is written at once."""
    monkeypatch.setattr(pieces, "WRITE_EVERY_S", 0.0)
    monkeypatch.setattr(pieces, "SHARE_OF_WRITING", math.inf)


class Counted:
    """A method whose calls for log-weights and samples of Z^2 are counted, and after so many of them it is killed."""

    def __init__(self, method, calls=math.inf):
        self.method, self.calls, self.left = method, 0, calls

    def _call(self, name, *arguments):
        if self.left <= 0:
            raise Killed
        self.calls, self.left = self.calls + 1, self.left - 1
        return getattr(self.method, name)(*arguments)

    def log_weights(self, *arguments):
        return self._call("log_weights", *arguments)

    def log_z2_weights(self, *arguments):
        return self._call("log_z2_weights", *arguments)


@pytest.mark.parametrize("threads", [1, 2])
def test_killed_again_and_again_it_ends_with_the_same_numbers(threads, tmp_path, eager):
    torch.set_num_threads(threads)
    try:
        undisturbed = Counted(model())
        expected = measured(undisturbed)
        total, kills = 0, 0
        while True:
            method = Counted(model(), calls=7)
            try:
                with pieces.kept(tmp_path / "file", FACTS, CPU):
                    found = measured(method)
                break
            except Killed:
                kills += 1
            finally:
                total += method.calls
    finally:
        torch.set_num_threads(1)
    assert same(found, expected)
    assert kills >= undisturbed.calls // 7 - 1 > 5
    assert total <= undisturbed.calls + kills * threads  # no more than the pieces under way were done twice
    assert not list(tmp_path.glob(".*"))


def test_what_is_measured_is_not_measured_again(tmp_path, eager):
    for expected in (True, False):
        method = Counted(model())
        with pieces.kept(tmp_path / "file", FACTS, CPU):
            found = measured(method)
        assert (method.calls > 0) is expected
    assert same(found, measured(model()))


@pytest.mark.parametrize("what", ["facts", "threads", "code", "damage"])
def test_pieces_of_something_else_are_not_taken(what, tmp_path, eager, monkeypatch):
    file = tmp_path / "file"
    with pieces.kept(file, FACTS, CPU):
        measured(model())
    facts = {"model": "another"} if what == "facts" else FACTS
    if what == "threads":
        torch.set_num_threads(2)
    if what == "code":
        monkeypatch.setattr(pieces, "_digest_of_harness", lambda: "other code")
    if what == "damage":
        file.write_bytes(file.read_bytes()[:1000])
    method = Counted(model())
    try:
        with pieces.kept(file, facts, CPU):
            measured(method)
    finally:
        torch.set_num_threads(1)
    assert method.calls == 15 + 60


def test_a_short_measurement_leaves_no_file(tmp_path):
    with pieces.kept(tmp_path / "file", FACTS, CPU):
        measured(model())
    assert not list(tmp_path.iterdir())


def test_at_sigterm_the_pieces_under_way_are_kept(tmp_path):
    method = Counted(model())

    def stopping(*arguments):
        if method.calls == 9:
            signal.raise_signal(signal.SIGTERM)
        return Counted.log_weights(method, *arguments)

    method.log_weights = stopping
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedMeasuringError), pieces.kept(tmp_path / "file", FACTS, CPU):
        measured(method)
    assert signal.getsignal(signal.SIGTERM) == before
    assert method.calls == 10
    method = Counted(model())
    with pieces.kept(tmp_path / "file", FACTS, CPU):
        found = measured(method)
    assert method.calls == 15 + 60 - 10
    assert same(found, measured(model()))


def test_kinds_of_results(tmp_path, eager):
    results = [
        torch.arange(6.0).view(2, 3)[:, 1],
        [torch.ones(2), (1, None)],
        Estimates(3, *torch.rand(5, 4, dtype=torch.float64)),
        (0.1 + 0.2, True, "text", torch.zeros(0, dtype=torch.int64)),
        math.nan,
    ]
    for _ in range(2):
        with pieces.kept(tmp_path / "file", FACTS, CPU):
            found = pieces.run_all([lambda value=value: value for value in results], (Estimates,))
    assert repr(found) == repr(results)


def test_what_cannot_be_kept_is_done_again(tmp_path, eager):
    done = []
    for _ in range(2):
        with pieces.kept(tmp_path / "file", FACTS, CPU):
            assert pieces.run_one(lambda: done.append(1) or {1, 2}) == {1, 2}
    assert len(done) == 2


def test_a_piece_may_have_pieces(tmp_path, eager):
    def outer(done):
        return torch.stack(pieces.run_all([lambda i=i: done.append(i) or torch.tensor(float(i)) for i in range(3)]))

    for expected in (3, 0):
        done = []
        with pieces.kept(tmp_path / "file", FACTS, CPU):
            assert pieces.run_one(lambda done=done: outer(done)).tolist() == [0.0, 1.0, 2.0]
        assert len(done) == expected


def test_the_clock_counts_earlier_tries(tmp_path, eager):
    with pieces.kept(tmp_path / "file", FACTS, CPU):
        measured(model())
    with pieces.kept(tmp_path / "file", FACTS, CPU):
        started = pieces.clock()
        measured(model())
        entries = pieces._store.get()._entries
        assert pieces.clock() - started >= sum(entry["seconds"] for entry in entries.values()) > 0
