"""Trainings side by side: every file is that of a lone training, whatever becomes of the others.

On the CPU each makes its updates in its turn. What a GPU would do runs with stand-ins for graphs: they call again what
was captured, in another order than that of the members, since branches of a graph have none.
"""

import contextlib
import json
import logging
import os
import signal
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from cells import MODELS, WITH_LABELS, cell, patterns
from own_training import own
from torch import nn

from harness.cli import main
from harness.compute import places
from harness.errors import ConfigError, HarnessError
from harness.method import Batch, Method
from harness.plugins import registry
from harness.plugins.registry import build, use_object
from harness.settings.parts import Labels, Phase
from harness.storage.records import write_json
from harness.storage.runs import DIVERGED, OK, TIMEOUT, RunFolder
from harness.training import program
from harness.training.optimizers import step_of
from harness.training.program import ParallelGraph, Part
from harness.training.step import EAGER_UPDATES, UpdateStep
from harness.training.together import Asked, train_together
from harness.training.train import InterruptedRunError, train

CPU = torch.device("cpu")
META = torch.device("meta")
LABELS = Labels(rows=30, per_batch=5)


@pytest.fixture(autouse=True)
def _forget_methods():
    yield
    registry._objects.clear()


def learning(method, seed=0, **training):
    """A cell without checkpoints on the way."""
    labels = {"labels": LABELS} if method in WITH_LABELS else {}
    return replace(cell(method, **{"checkpoint_every_s": 1e9, **labels, **training}), seed=seed)


def files_of(run):
    """Name -> content of all that a training leaves in its folder, but for its times."""
    found = {str(path.relative_to(run)): path.read_bytes() for path in run.glob("**/*.safetensors")}
    found["curve"] = pd.read_csv(run / "curve.csv").drop(columns="seconds").to_csv()
    found["config"] = (run / "config.json").read_text()
    status = RunFolder(run).status()
    status["files"].pop("curve.csv")
    status.pop("train_seconds")
    return {**found, "status": status}


def alone(chosen, run):
    train(chosen, patterns(), run, CPU)
    return files_of(run)


def side_by_side(cells, folder, **stops):
    """Outcomes of cells in the folders 0, 1, ... stops: where one ends, such as _1=33."""
    asked = [Asked(each, patterns(), folder / str(number)) for number, each in enumerate(cells)]
    for name, update in stops.items():
        number = int(name[1:])
        asked[number] = asked[number]._replace(stop=lambda current, update=update: current == update)
    return train_together(asked, CPU)


def a_company():
    """Several methods of several lengths, two repetitions of one of them, one that early stopping ends, a closed form,
    one with an average, snapshots and a clipped gradient, and one with an optimiser and a hook of its own."""
    return [
        learning("bihm"),
        learning("bihm", seed=1),
        learning("nade", phases=(Phase(7, 1e-2, 1),)),
        learning("vae", phases=(Phase(25, 1e-2, 2), Phase(110, 1e-3, 2))),
        learning("iwae", phases=(Phase(500, 0.3, 2),), validate_every=10, patience=1),
        learning("ssl_bihm_low"),
        learning("factorised"),
        replace(learning("bihm"), variant="released", model={**MODELS["bihm"], "release": 0.0, "release_every": 30}),
        learning("rws", average=0.9, clip_norm=1.0, snapshots=5),
        own(checkpoint_every_s=1e9),
    ]


@pytest.fixture(params=["in turn", "by a program"])
def programs(request, monkeypatch):
    """How updates are made: in turn, or as on a GPU; the parts of all programs that were captured."""
    captured = []
    if request.param == "by a program":
        stand_in(monkeypatch, captured)
    return captured


@pytest.fixture
def captured(monkeypatch):
    """As on a GPU; the parts of all programs that were captured."""
    found = []
    stand_in(monkeypatch, found)
    return found


class Lone:
    """Stands in for ``CudaGraph``."""

    def __init__(self, function, generator):
        self.replay = function

    @staticmethod
    def warm_up(function):
        return function()


def stand_in(monkeypatch, captured):
    class Parallel:
        def __init__(self, parts):
            captured.append(parts)
            self.parts = parts

        def replay(self):
            return [part.function() for part in self.parts[::-1]][::-1]

    made = UpdateStep.__init__

    def with_graphs(step, *arguments, **named):
        made(step, *arguments, **named)
        step._graphs = Lone if step.model.capturable and not step._takes_update else None

    monkeypatch.setattr(UpdateStep, "__init__", with_graphs)
    monkeypatch.setattr(program, "ParallelGraph", Parallel)


# -- the same bytes ---------------------------------------------------------------------------------------------------


def test_files_are_those_of_lone_trainings(programs, tmp_path):
    cells = a_company()
    expected = [alone(each, tmp_path / "alone" / str(number)) for number, each in enumerate(cells)]
    assert not programs
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert side_by_side(cells, tmp_path) == [OK] * len(cells)
    assert torch.equal(torch.get_rng_state(), before)
    for number, files in enumerate(expected):
        assert files_of(tmp_path / str(number)) == files, cells[number].path
        assert not RunFolder(tmp_path / str(number)).checkpoint_file.exists()
    curve = pd.read_csv(tmp_path / "4" / "curve.csv")
    assert curve["update"].iloc[-1] < 500


@pytest.mark.parametrize("method", MODELS)
def test_every_method_is_trained_beside_others(method, captured, tmp_path):
    cells = [learning(method), learning("bihm", seed=2), learning(method, seed=1)]
    expected = [alone(each, tmp_path / "alone" / str(number)) for number, each in enumerate(cells)]
    side_by_side(cells, tmp_path)
    assert [files_of(tmp_path / str(number)) for number in range(3)] == expected
    is_captured = method != "factorised" and build(method, 12, MODELS[method]).capturable
    assert max(map(len, captured)) == (3 if is_captured else 1)


def test_members_that_are_ready_share_a_program(captured, tmp_path):
    """It is captured for the three, without the shortest, and for the last; a new phase with other samples, too."""
    lengths = ((Phase(10, 1e-2, 2),), (Phase(20, 1e-2, 2),), (Phase(20, 1e-2, 2), Phase(20, 1e-3, 3)))
    side_by_side([learning("bihm", seed, phases=phases) for seed, phases in enumerate(lengths)], tmp_path)
    assert [[part.key[-1] for part in parts] for parts in captured] == [[2, 2, 2], [2, 2], [3]]


def test_the_time_of_a_program_is_shared_out(captured, tmp_path):
    """Together they have trained no longer than the process."""
    started = time.perf_counter()
    side_by_side([learning("bihm"), learning("bihm", 1), learning("vae")], tmp_path)
    passed = time.perf_counter() - started
    seconds = [RunFolder(tmp_path / str(number)).status()["train_seconds"] for number in range(3)]
    assert min(seconds) > 0
    assert sum(seconds) < passed
    curves = [pd.read_csv(tmp_path / str(number) / "curve.csv").seconds for number in range(3)]
    assert all(curve.is_monotonic_increasing for curve in curves)


def test_waiting_for_the_device_is_shared_out(captured, tmp_path, monkeypatch):
    """Launches return at once: who is first to need the device waits until the program before is done."""
    ready = UpdateStep.part

    def waiting(step, batch, *arguments):
        part = ready(step, batch, *arguments)
        if part is not None and type(step.model).name == "vae":
            time.sleep(0.01)
        return part

    monkeypatch.setattr(UpdateStep, "part", waiting)
    side_by_side([learning(method, phases=(Phase(40, 1e-2, 2),)) for method in ("vae", "bihm")], tmp_path)
    seconds = [RunFolder(tmp_path / str(number)).status()["train_seconds"] for number in range(2)]
    slept = 0.01 * (40 - EAGER_UPDATES)
    assert min(seconds) > slept / 2
    assert sum(seconds) > slept


def test_statuses_are_each_trainings_own(programs, tmp_path):
    cells = [learning("bihm"), learning("bihm", time_limit_s=1e-9), learning("vae", phases=(Phase(50, 1e30, 2),))]
    assert side_by_side(cells, tmp_path) == [OK, TIMEOUT, DIVERGED]
    assert files_of(tmp_path / "0") == alone(cells[0], tmp_path / "alone")
    assert not RunFolder(tmp_path / "2").model_file.exists()


class Dropping(Method):
    """Draws from PyTorch's own generators in every update, or in the hook after every tenth one."""

    name = "dropping"
    title = "Dropping"
    kind = "control"
    source = "nowhere"

    def __init__(self, n_visible: int, hook: bool = False):
        super().__init__(n_visible)
        self.linear = nn.Linear(n_visible, n_visible)
        self.drop = nn.Dropout(0.0 if hook else 0.3)
        self.hook = hook

    def loss(self, batch, n_samples, generator):
        noise = torch.rand(batch.x.shape, generator=generator)
        found = self.drop(self.linear(batch.x)) if not self.hook else self.linear(batch.x)
        return (found - batch.x + 0.1 * noise).pow(2).mean()

    def after_update(self, update):
        if self.hook and update % 10 == 0:
            self.linear.bias += 0.01 * torch.randn(self.n_visible)


@pytest.mark.parametrize("hook", [False, True], ids=["in the update", "in the hook"])
def test_pytorchs_own_generators_are_each_trainings_own(hook, captured, tmp_path):
    """A capture would draw from those of all: such an update is in no program, which a hook does not matter to."""
    use_object(Dropping)
    cells = [replace(cell("dropping", {"hook": hook}, checkpoint_every_s=1e9), seed=seed) for seed in range(2)]
    cells.append(learning("bihm"))
    expected = [alone(each, tmp_path / "alone" / str(number)) for number, each in enumerate(cells)]
    assert side_by_side(cells, tmp_path) == [OK] * 3
    assert [files_of(tmp_path / str(number)) for number in range(3)] == expected
    assert max(map(len, captured)) == (3 if hook else 1)


# -- ends of all kinds ------------------------------------------------------------------------------------------------


def test_those_that_are_stopped_go_on_in_other_company(programs, tmp_path):
    """Each stops somewhere else; the next processes have other members, or one."""
    cells = a_company()
    expected = [alone(each, tmp_path / "alone" / str(number)) for number, each in enumerate(cells)]
    outcomes = side_by_side(cells, tmp_path, _0=1, _1=33, _3=25, _5=61, _7=75, _8=60)
    stopped = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, InterruptedRunError)]
    assert stopped == [0, 1, 3, 5, 7, 8]
    assert all(RunFolder(tmp_path / str(number)).checkpoint_file.exists() for number in stopped)
    assert all(files_of(tmp_path / str(number)) == expected[number] for number in (2, 4, 6))
    train(cells[3], patterns(), tmp_path / "3", CPU)
    rest = [Asked(cells[number], patterns(), tmp_path / str(number)) for number in (8, 7, 5, 1, 0)]
    assert train_together(rest, CPU) == [OK] * 5
    assert [files_of(tmp_path / str(number)) for number in range(len(cells))] == expected


def test_a_signal_leaves_checkpoints_of_all(programs, tmp_path):
    cells = [learning("bihm"), learning("vae"), learning("nade", phases=(Phase(5, 1e-2, 1),)), learning("rws")]
    expected = [alone(each, tmp_path / "alone" / str(number)) for number, each in enumerate(cells)]
    asked = [Asked(each, patterns(), tmp_path / str(number)) for number, each in enumerate(cells)]
    asked[1] = asked[1]._replace(stop=lambda update: update == 33 and os.kill(os.getpid(), signal.SIGTERM))
    handler = signal.getsignal(signal.SIGTERM)
    outcomes = train_together(asked, CPU)
    assert signal.getsignal(signal.SIGTERM) == handler
    assert outcomes[2] == OK
    assert all(isinstance(outcomes[number], InterruptedRunError) for number in (0, 1, 3))
    assert all("checkpoint written" in str(outcomes[number]) for number in (0, 1, 3))
    assert train_together([each._replace(stop=lambda update: False) for each in asked], CPU) == [OK] * 4
    assert [files_of(tmp_path / str(number)) for number in range(4)] == expected


class Failing(Method):
    """Learns well until it fails: in an update, in a hook, or when it is validated."""

    name = "failing"
    title = "Failing"
    kind = "control"
    source = "nowhere"

    def __init__(self, n_visible: int, where: str = "loss", how: str = "error"):
        super().__init__(n_visible)
        self.bias = nn.Parameter(torch.zeros(n_visible))
        self.where, self.how, self.n = where, how, 0

    def _fail(self, where):
        self.n += where == self.where
        if self.n == 17:
            raise {"error": ZeroDivisionError, "exit": SystemExit, "ours": HarnessError}[self.how]("as it does")

    def loss(self, batch, n_samples, generator):
        self._fail("loss")
        return -self.log_prob(batch.x).mean()

    def log_prob(self, x):
        if not torch.is_grad_enabled():
            self._fail("look")
        return -torch.nn.functional.softplus((1 - 2 * x) * self.bias).sum(1)

    def after_update(self, update):
        self._fail("hook")


@pytest.mark.parametrize(("where", "how"), [("loss", "error"), ("look", "ours"), ("hook", "exit")])
def test_the_failure_of_one_costs_the_others_nothing(where, how, tmp_path):
    use_object(Failing)
    failing = cell("failing", {"where": where, "how": how}, phases=(Phase(60, 1e-2, 1),), validate_every=2)
    cells = [learning("bihm"), failing, learning("vae")]
    outcomes = side_by_side(cells, tmp_path)
    assert [outcomes[0], outcomes[2]] == [OK, OK]
    assert type(outcomes[1]) is {"error": ZeroDivisionError, "exit": SystemExit, "ours": HarnessError}[how]
    assert not RunFolder(tmp_path / "1").status_file.exists()
    for number in (0, 2):
        assert files_of(tmp_path / str(number)) == alone(cells[number], tmp_path / "alone" / str(number))


def test_what_cannot_begin_is_an_outcome(tmp_path):
    cells = [learning("bihm", phases=()), learning("bihm")]
    outcomes = side_by_side(cells, tmp_path)
    assert isinstance(outcomes[0], ConfigError)
    assert "training.phases: expected at least one" in str(outcomes[0])
    assert outcomes[1] == OK


@pytest.mark.parametrize("when", ["captured", "replayed"])
def test_a_program_that_fails_is_nobodys_fault(when, captured, tmp_path, monkeypatch, caplog):
    """All its members are trained alone, from their checkpoints, and come out as ever."""
    cells = [learning("bihm"), learning("ssl_bihm"), learning("vae", checkpoint_every_s=0.0)]
    expected = [alone(each, tmp_path / "alone" / str(number)) for number, each in enumerate(cells)]
    sound, n_replays = program.ParallelGraph, 0

    class Broken(sound):
        def __init__(self, parts):
            super().__init__(parts)
            if when == "captured":
                raise RuntimeError("operation not permitted when stream is capturing")

        def replay(self):
            nonlocal n_replays
            n_replays += 1
            if n_replays == 40:
                raise RuntimeError("an illegal memory access")
            return super().replay()

    monkeypatch.setattr(program, "ParallelGraph", Broken)
    with caplog.at_level(logging.WARNING):
        assert side_by_side(cells, tmp_path) == [OK] * 3
    assert [files_of(tmp_path / str(number)) for number in range(3)] == expected
    told = [line for line in caplog.messages if "trained alone, when others are done" in line]
    assert [line.partition("/")[2].partition("/")[0] for line in told] == ["bihm", "vae"]


def test_no_memory_beside_others_is_no_failure(captured, tmp_path, monkeypatch):
    """In the middle of a training: it goes on when the others have left the card."""
    cells = [learning("bihm"), learning("vae", checkpoint_every_s=0.0)]
    expected = [alone(each, tmp_path / "alone" / str(number)) for number, each in enumerate(cells)]
    finish, n_calls = UpdateStep.finish, 0

    def too_large(step):
        nonlocal n_calls
        is_its = step.model.name == "vae"
        n_calls += is_its
        if is_its and n_calls == 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finish(step)

    monkeypatch.setattr(UpdateStep, "finish", too_large)
    assert side_by_side(cells, tmp_path) == [OK, OK]
    assert n_calls == 91  # the 30th is made again, none before it
    assert [files_of(tmp_path / str(number)) for number in range(2)] == expected


def test_a_failure_alone_is_an_outcome(captured, tmp_path, monkeypatch):
    def never_enough(step):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(UpdateStep, "finish", never_enough)
    assert [type(outcome) for outcome in side_by_side([learning("vae")], tmp_path)] == [torch.OutOfMemoryError]


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    asked = [Asked(learning("bihm", seed), patterns(), tmp_path / "same") for seed in range(2)]
    with pytest.raises(ConfigError, match="a folder for each training"):
        train_together(asked, CPU)
    assert train_together([], CPU) == []


# -- what CUDA is told ------------------------------------------------------------------------------------------------


class Cuda:
    """Notes what it is told, in order, and on which stream."""

    def __init__(self, monkeypatch):
        self.told, self.stream = [], "captured"
        cuda = self

        class Stream:
            made = 0

            def __init__(self):
                Stream.made += 1
                self.name = f"stream {Stream.made}"

            def wait_stream(self, other):
                cuda.told.append((self.name, "waits for", other.name))

        class Graph:
            def register_generator_state(self, generator):
                cuda.told.append(("graph", "knows", generator))

            def replay(self):
                cuda.told.append(("graph", "replays", ""))

        main = Stream()
        main.name = "captured"

        @contextlib.contextmanager
        def on(stream):
            before, self.stream = self.stream, stream.name
            yield
            self.stream = before

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", lambda graph: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: main)
        monkeypatch.setattr(torch.cuda, "stream", on)


def test_each_part_is_captured_on_a_stream_of_its_own(monkeypatch):
    """All fork before the first kernel, and all join; on meta, where no number could be asked for."""
    cuda = Cuda(monkeypatch)
    parts, steps, generators = [], [], [torch.Generator().manual_seed(seed) for seed in range(3)]
    for generator, method in zip(generators, ("bihm", "vae", "nade"), strict=True):
        step = UpdateStep(build(method, 12, MODELS[method]).to(META), "float32")
        assert step.part(Batch(torch.empty(20, 12, device=META)), 4, generator, 0.1, 0.0) is None
        step._graphs = Lone
        for _ in range(EAGER_UPDATES):
            batch = Batch(torch.empty(20, 12, device=META))
            assert step.part(batch, 4, generator, 0.1, 0.0) is None
            step.run(batch, 4, generator, 0.1, 0.0)
        part = step.part(Batch(torch.empty(20, 12, device=META)), 4, generator, 0.1, 0.0)
        made = part.function

        def noted(made=made, method=method):
            cuda.told.append((cuda.stream, "makes", method))
            return made()

        parts.append(Part(part.key, noted, part.generator))
        steps.append(step)
    graph = ParallelGraph(parts)
    names = [stream.name for stream in graph._streams]
    assert len(set(names)) == 3
    assert cuda.told == [
        *(("graph", "knows", generator) for generator in generators),
        *((name, "waits for", "captured") for name in names),
        *((name, "makes", method) for name, method in zip(names, ("bihm", "vae", "nade"), strict=True)),
        *(("captured", "waits for", name) for name in names),
    ]
    cuda.told.clear()
    losses = graph.replay()
    assert cuda.told == [("graph", "replays", "")]
    assert all((loss.device, loss.shape) == (META, ()) for loss in losses)
    assert [step.n_steps for step in steps] == [EAGER_UPDATES + 1] * 3


def test_a_part_reads_what_is_filled_for_every_update():
    step = UpdateStep(build("bihm", 12, MODELS["bihm"]), "float32")
    step._graphs = Lone
    draws = torch.Generator().manual_seed(0)
    batches = [Batch((torch.rand(20, 12, generator=draws) < 0.5).float()) for _ in range(EAGER_UPDATES + 2)]
    for batch in batches[:EAGER_UPDATES]:
        step.run(batch, 4, draws, 0.1, 0.0)
    step.part(batches[-2], 4, draws, 0.1, 0.0)
    (memory,) = step._captured.values()
    place = memory.batch.x.data_ptr(), step._scalars.data_ptr()
    scalars = step._scalars.clone()
    step.part(batches[-1], 4, draws, 0.2, 0.5)
    assert (memory.batch.x.data_ptr(), step._scalars.data_ptr()) == place
    assert torch.equal(memory.batch.x, batches[-1].x)
    assert not torch.equal(step._scalars, scalars)
    assert step._scalars[2] == 0.5
    other = step.part(Batch(batches[0].x[:5]), 4, draws, 0.2, 0.5)
    assert other is None  # of another shape, which has to be warmed up for


def test_updates_by_other_optimisers_are_in_no_program(captured):
    step = step_of(build("bihm", 12, MODELS["bihm"]), optimizer={"name": "sgd"})
    assert not step.is_captured


@pytest.mark.skipif(not torch.cuda.is_available(), reason="programs need a CUDA device")
@pytest.mark.parametrize("method", [name for name in MODELS if name != "factorised"])
def test_on_a_gpu_files_are_those_of_lone_trainings(method, tmp_path):
    device = torch.device("cuda")
    cells = [learning(method), learning("bihm", seed=2), learning("vae", phases=(Phase(25, 1e-2, 2),))]
    for number, each in enumerate(cells):
        train(each, patterns(), tmp_path / "alone" / str(number), device)
    asked = [Asked(each, patterns(), tmp_path / str(number)) for number, each in enumerate(cells)]
    assert train_together(asked, device) == [OK] * 3
    for number in range(3):
        assert files_of(tmp_path / str(number)) == files_of(tmp_path / "alone" / str(number))


# -- the command line -------------------------------------------------------------------------------------------------


def words(tmp_path, *more, **grid):
    settings = {
        "data": {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False},
        "device": "cpu",
        "preset": "smoke",
        "updates": 40,
        "grid": {"nade": {"connect4": {"model": {"hidden": 4}}}},
    }
    return ["run", "--dataset", "connect4", "--method", "nade", "--settings", json.dumps(settings), *more]


def test_repetitions_side_by_side_by_hand(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "ROOT", tmp_path)
    assert main(words(tmp_path, "--seed", "1", "--seeds", "2")) == 0
    said = capsys.readouterr()
    assert said.out.count("-log p") >= 2
    for seed in ("1", "2"):
        (run,) = tmp_path.glob(f"results/smoke/runs/connect4/nade/*/{seed}")
        lone = tmp_path / f"lone {seed}"
        assert main(words(tmp_path, "--seed", seed, "--run", str(lone))) == 0
        assert files_of(run) == files_of(lone)
        measured = [RunFolder(folder).measurements() for folder in (run, lone)]
        assert [row["value"] for row in measured[0]] == [row["value"] for row in measured[1]]
    assert main(words(tmp_path, "--seed", "1", "--seeds", "2")) == 0
    assert capsys.readouterr().err.count("was trained before") == 2


def test_a_finished_training_on_other_threads_is_not_replaced_by_hand(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "ROOT", tmp_path)
    assert main(words(tmp_path)) == 0
    (run,) = tmp_path.glob("results/smoke/runs/connect4/nade/*/0")
    trained = files_of(run)
    for more in ((), ("--run", str(run)), ("--seeds", "2")):
        capsys.readouterr()
        assert main(words(tmp_path, "--threads", "2", *more)) == 3
        found = f"{run}: expected a training on 2 threads, found a finished one on 1 (40 updates): ask for as many"
        assert found in capsys.readouterr().err
        assert files_of(run) == trained
    record = tmp_path / "record.json"
    write_json(record, {"available": True})  # from the workflow, whose settings say what lies where
    assert main(words(tmp_path, "--threads", "2", "--run", str(run), "--data-record", str(record))) == 0
    assert RunFolder(run).status()["threads"] == 2


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (("--seeds", "0"), "--seeds: expected at least 1, found 0"),
        (("--seeds", "2", "--run", "here"), "--seeds: expected no --run"),
        (("--seeds", "2", "--digest", "0"), "--seeds: expected no --digest"),
    ],
)
def test_repetitions_that_cannot_be_are_told(more, found, tmp_path, capsys):
    assert main(words(tmp_path, *more)) == 3
    assert found in capsys.readouterr().err


def test_one_of_several_repetitions_that_fails_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "ROOT", tmp_path)

    def outcomes(asked, device):
        found = train_together(asked, device)
        return [HarnessError("as it does"), *found[1:]]

    monkeypatch.setattr("harness.api.experiment.train_together", outcomes)
    assert main(words(tmp_path, "--seeds", "2")) == 1
    said = capsys.readouterr()
    assert "/0: as it does" in said.err
    (measured,) = tmp_path.glob("results/smoke/runs/connect4/nade/*/*/metrics.json")
    assert measured.parent.name == "1"
