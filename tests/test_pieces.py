"""Measuring in pieces: killed, stopped and taken up again, it ends with the numbers of an undisturbed measurement."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from harness.errors import InterruptedMeasuringError
from harness.estimators import Estimates, LogZ2, importance_estimates, log_z2
from harness.plugins.registry import build
from harness.storage import pieces
from harness.storage.runs import RunFolder

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


EAGER = """
import sys
from harness.storage import pieces
from harness.cli import main
pieces.WRITE_EVERY_S, pieces.SHARE_OF_WRITING = 0.0, float("inf")
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A command line but for the verb and the folder of the run, a trained run and its measurements."""
    folder = tmp_path_factory.mktemp("trained")
    phases = [{"updates": 20, "learning_rate": 3.0e-3, "n_samples": 5}]
    budget = {"training": {"phases": phases}, "evaluation": {"n_samples": 500, "rows": 200, "z_outer": 20_000}}
    data = {"cache": str(folder / "cache"), "mirrors": [], "download": False}
    z_convergence = {"n_samples": 20_000, "k_inners": [1, 10], "repeats": 3}
    analyses = {"k_sensitivity": {"connect4": {"rows": 20, "ks": [1, 1000]}}}
    analyses["z_convergence"] = {"connect4": z_convergence}
    settings = {"data": data, "budgets": {"bihm": {"connect4": budget}}, "analyses": analyses}
    (folder / "settings.yaml").write_text(json.dumps(settings))
    common = ["--preset", "smoke", "--settings", str(folder / "settings.yaml")]
    cell = [*common, "--dataset", "connect4", "--method", "bihm"]
    subprocess.run([sys.executable, "-m", "harness", "datasets", "--fetch", "connect4", *common], check=True)
    for verb in ("run", "analyse"):
        subprocess.run([sys.executable, "-m", "harness", verb, *cell, "--run", str(folder / "run")], check=True)
    return cell, folder / "run"


def copy_of(run, folder, *names):
    """A folder with these files of a run."""
    folder.mkdir()
    for name in ("config.json", "status.json", "model.safetensors", "curve.csv", *names):
        (folder / name).write_bytes((run / name).read_bytes())
    return folder


def disturbed(command, file, how, kills):
    """Run a command, with a signal whenever ``file`` has grown, so often; then to its end. Exit codes."""
    codes = []
    for kill in range(kills + 1):
        before = file.stat().st_mtime_ns if file.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", EAGER, *command], stderr=subprocess.DEVNULL)
        while kill < kills and process.poll() is None:
            if file.exists() and file.stat().st_mtime_ns != before:
                process.send_signal(how)
                break
            time.sleep(0.001)
        codes.append(process.wait())
    return codes


def without_times(rows):
    """But for times and the state of the working tree."""
    return [{key: row[key] for key in row if "seconds" not in key and key != "git_commit"} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)])
def test_a_measuring_process_killed_again_and_again(how, code, trained, tmp_path):
    cell, run = trained
    copy = copy_of(run, tmp_path / "run")
    codes = disturbed(["evaluate", *cell, "--run", str(copy)], RunFolder(copy).pieces_file, how, kills=4)
    assert codes == [code] * 4 + [0]
    expected, found = (json.loads((folder / "metrics.json").read_text())["rows"] for folder in (run, copy))
    assert without_times(found) == without_times(expected)


@pytest.mark.slow
def test_an_analysis_killed_again_and_again(trained, tmp_path):
    cell, run = trained
    copy = copy_of(run, tmp_path / "run", "metrics.json")
    file = copy / "analyses" / "k_sensitivity.safetensors"
    codes = disturbed(["analyse", *cell, "--run", str(copy)], file, signal.SIGKILL, kills=2)
    assert codes == [-signal.SIGKILL] * 2 + [0]
    tables = sorted(path.name for path in (run / "analyses").glob("*.csv"))
    assert len(tables) >= 2
    for name in tables:
        assert (copy / "analyses" / name).read_bytes() == (run / "analyses" / name).read_bytes()
    assert not list((copy / "analyses").glob("*.safetensors"))


@pytest.mark.slow
def test_analyses_that_were_done_before_a_kill_are_not_done_again(trained, tmp_path):
    """Snakemake deletes analyses.json, its output, before it runs the job again."""
    cell, run = trained
    copy = copy_of(run, tmp_path / "run", "metrics.json")
    command = ["analyse", *cell, "--run", str(copy)]
    assert disturbed(command, copy / "analyses" / "z_convergence.safetensors", signal.SIGKILL, 1) == [-9, 0]
    first = {path: os.stat(path).st_mtime_ns for path in (copy / "analyses").glob("*.csv")}
    (copy / "analyses.json").unlink()
    assert disturbed(command, copy / "none", signal.SIGKILL, 0) == [0]
    assert {path: os.stat(path).st_mtime_ns for path in (copy / "analyses").glob("*.csv")} == first
