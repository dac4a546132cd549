"""The worker: forked processes do what fresh ones do, and nothing is lost with a client or with the worker."""

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_workflow import BUDGET, Workflow, only

from harness.compute.places import ROOT
from harness.worker.client import ADDRESS, VERBS
from harness.worker.identity import identity
from harness.worker.message import Request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")

# What Snakemake does, as far as a worker is concerned.
OWNER = """
import os, sys
from harness.worker.start import start_worker
start_worker()
print(os.environ["BIHM_WORKER"], flush=True)
sys.stdin.read()
"""
STILL_CLOCK = """
import sys, time
if "harness" in getattr(sys, "orig_argv", ()):
    time.perf_counter = lambda: 0.0
"""
# A method whose fit() is a piece of Python from a file, so that a test sees its process from within.
METHOD = """
from pathlib import Path
import torch
from harness.method import Method

class Probe(Method):
    name, title, kind, source = "probe", "Probe", "control", "a test"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.bias = torch.nn.Parameter(torch.zeros(n_visible))

    def fit(self, train):
        exec(Path(__file__).with_name("todo.py").read_text(), globals())

    def log_prob(self, x):
        return -0.7 * torch.ones_like(x).sum(-1)
"""
LOOKS = """
import json, os, signal, sys, threading, torch
found = {
    "parent": os.getppid(), "threads": threading.active_count(), "tasks": len(os.listdir("/proc/self/task")),
    "cuda": torch.cuda.is_initialized(), "torch threads": torch.get_num_threads(), "folder": os.getcwd(),
    "umask": os.umask(0o22), "mine": os.environ.get("MINE"), "home": os.environ.get("HOME"),
    "interrupt": signal.getsignal(signal.SIGINT) == signal.default_int_handler,
    "terminate": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "name": open("/proc/self/comm").read(),
    "open": sorted(Path(os.readlink(f"/proc/self/fd/{fd}").split(":")[0]).name for fd in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{fd}") and int(fd) > 2),
    "draws": torch.rand(1).item(), "initial seed": torch.initial_seed(),
}
Path(__file__).with_name("found.json").write_text(json.dumps(found))
"""
KILLS = 20


def hear_all_signals():
    """As a shell leaves it for a command in front: one in the background, as these tests may be, ignores some."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class Worker:
    """A process that owns a worker, and jobs for it; ``job`` without one is what a fresh process does."""

    def __init__(self, folder, owned=True):
        self.folder = folder
        (folder / "clock").mkdir(exist_ok=True)
        (folder / "clock" / "sitecustomize.py").write_text(STILL_CLOCK)
        path = os.pathsep.join([str(folder / "clock"), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)}
        self.environment.pop(ADDRESS, None)
        self.settings = {"preset": "smoke", "data": {"cache": str(folder / "cache"), "mirrors": [], "download": False}}
        if owned:
            self.start()

    def start(self):
        self.owner = subprocess.Popen(
            [sys.executable, "-c", OWNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.folder,
            preexec_fn=hear_all_signals,  # noqa: PLW1509 no threads here
        )
        self.address = self.owner.stdout.readline().strip()
        (self.process,) = psutil.Process(self.owner.pid).children()

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.owner.communicate("")

    def begin(self, *arguments, alone=False, **environment):
        """A job under way."""
        address = {} if alone else {ADDRESS: self.address}
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *map(str, arguments)],
            env={**self.environment, **address, **environment},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_all_signals,  # noqa: PLW1509 no threads here
        )

    def job(self, *arguments, alone=False, **environment):
        """(exit code, standard output, standard error)."""
        process = self.begin(*arguments, alone=alone, **environment)
        output = process.communicate(timeout=120)
        return process.returncode, *output

    def run_of(self, method, name, **model):
        """Arguments of a run of a small cell in a folder of this name."""
        phases = [{"updates": 60, "learning_rate": 0.01, "n_samples": 2}]
        training = {"validate_every": 20, "validation_rows": 100, "checkpoint_every_s": 0.0, "phases": phases}
        settings = {**self.settings, "budgets": {}, "grid": {method: {"connect4": {"model": model}}}}
        if method == "probe":
            settings["methods"] = [str(self.folder / "probe.py")]
        elif method != "factorised":
            settings["budgets"] = {method: {"*": {"training": training}}}
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(settings))
        cell = ("--settings", file, "--dataset", "connect4", "--method", method)
        return "run", *cell, "--run", self.folder / name

    def probe(self, todo, name="probed"):
        """Arguments of a run in whose training this piece of Python is executed."""
        (self.folder / "probe.py").write_text(METHOD)
        (self.folder / "todo.py").write_text(todo)
        return self.run_of("probe", name)

    def found(self):
        return json.loads((self.folder / "found.json").read_text())


@pytest.fixture(scope="module", name="worker")
def _worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("worker"))
    assert worker.job(*worker.run_of("factorised", "first"))[0] == 0
    yield worker
    worker.end()


@pytest.fixture(name="own")
def _own(tmp_path, worker):
    """A worker that the test may kill; it has the data that the others have."""
    own = Worker(tmp_path)
    own.settings = worker.settings
    yield own
    own.end()


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def is_gone(process):
    return not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("method", "model"),
    [("bihm", {"layers": [8, 4]}), ("nade", {"hidden": 4}), ("vae", {"latent": 3, "hidden": [6]}), ("factorised", {})],
)
def test_a_forked_process_leaves_the_bytes_of_a_fresh_one(worker, method, model):
    for name, alone in (("forked", False), ("fresh", True)):
        code, _, said = worker.job(*worker.run_of(method, f"{method}/{name}".replace("/", "_"), **model), alone=alone)
        assert code == 0, said
    forked, fresh = (digests(worker.folder / f"{method}_{name}") for name in ("forked", "fresh"))
    assert forked == fresh
    assert "metrics.json" in forked


def test_a_forked_process_is_as_a_fresh_one(worker):
    looks = {}
    for name, alone in (("forked", False), ("fresh", True)):
        arguments = worker.probe(LOOKS, f"looks_{name}")
        code, _, said = worker.job(*arguments, alone=alone, MINE="a b\tc", OPENBLAS_NUM_THREADS="1")
        assert code == 0, said
        looks[name] = worker.found()
    assert looks["forked"].pop("parent") == worker.process.pid
    assert looks["fresh"].pop("parent") != worker.process.pid
    assert looks["forked"].pop("name") == "harness run\n"
    assert looks["fresh"].pop("name").startswith("python")
    # its connection to the client, and what wakes the worker
    forked, fresh = looks["forked"].pop("open"), looks["fresh"].pop("open")
    assert [each for each in forked if each != "socket"] == fresh
    assert forked.count("socket") == 2
    # a fresh process may have a pool of threads that a library began while it was imported; a worker must not
    assert looks["forked"].pop("tasks") == 1
    looks["fresh"].pop("tasks")
    assert looks["forked"] == looks["fresh"]
    assert (looks["fresh"]["mine"], looks["fresh"]["folder"]) == ("a b\tc", str(worker.folder))


def test_the_worker_stays_as_it_was_after_its_imports(worker):
    """One thread, as a process must have that forks."""
    assert worker.job(*worker.run_of("bihm", "one_more", layers=[8, 4]))[0] == 0
    assert worker.process.num_threads() == 1
    assert not worker.process.children()
    assert os.getsid(worker.process.pid) == worker.process.pid


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("todo", "expected", "word"),
    [
        ("raise ValueError('of a method')", 1, "ValueError: of a method"),
        ("import sys; sys.exit(5)", 1, "found sys.exit(5)"),
        ("from harness.errors import ConfigError; raise ConfigError('wrong')", 3, "harness: wrong"),
        ("import os; os._exit(7)", 7, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_an_end_of_any_kind_is_that_of_the_client(worker, todo, expected, word, alone):
    code, _, said = worker.job(*worker.probe(todo, f"ends_{alone}"), alone=alone)
    assert code == expected
    assert word in said


@pytest.mark.parametrize("alone", [False, True])
def test_wrong_arguments_and_help_end_as_they_do(worker, alone):
    assert worker.job("run", alone=alone)[0] == 2
    code, told, _ = worker.job("run", "--help", alone=alone)
    assert code == 0
    assert "--dataset" in told


def test_a_shell_sees_the_code_that_it_would_see(worker):
    arguments = worker.probe("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "shell")
    command = " ".join(f"'{each}'" for each in (sys.executable, "-m", "harness", *arguments))
    environment = {**worker.environment, ADDRESS: worker.address}
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo $?"],
        env=environment,
        cwd=worker.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "137"


WAITS = """
import os, time
Path(__file__).with_name("process").write_text(str(os.getpid()))
time.sleep(600)
"""


def waiting(worker, name):
    """A job that waits, and the process that does it."""
    place = worker.folder / "process"
    place.unlink(missing_ok=True)
    client = worker.begin(*worker.probe(WAITS, name))
    wait_until(lambda: place.exists() and place.read_text())
    process = int(place.read_text())
    assert psutil.Process(process).ppid() == worker.process.pid
    return client, process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_client_is_for_the_job(worker, number):
    client, process = waiting(worker, "signalled")
    client.send_signal(number)
    client.communicate(timeout=60)
    assert client.returncode == -number
    assert is_gone(process)


def test_a_training_that_is_asked_to_end_writes_a_checkpoint(worker):
    arguments = worker.run_of("bihm", "stopped", layers=[8, 4])
    settings = json.loads(Path(arguments[2]).read_text())
    settings["budgets"]["bihm"]["*"]["training"]["phases"][0]["updates"] = 1_000_000
    Path(arguments[2]).write_text(json.dumps(settings))
    client = worker.begin(*arguments)
    wait_until((worker.folder / "stopped" / "checkpoint.safetensors").exists)
    client.terminate()
    _, said = client.communicate(timeout=60)
    assert client.returncode == 143
    assert re.search(r"stopped at update \d+, checkpoint written", said)


def test_a_job_is_paused_with_its_client(worker):
    client, process = waiting(worker, "paused")
    client.send_signal(signal.SIGTSTP)
    wait_until(lambda: psutil.Process(process).status() == psutil.STATUS_STOPPED)
    wait_until(lambda: psutil.Process(client.pid).status() == psutil.STATUS_STOPPED)
    client.send_signal(signal.SIGCONT)
    wait_until(lambda: psutil.Process(process).status() == psutil.STATUS_SLEEPING)
    client.terminate()
    client.communicate(timeout=60)


def test_no_job_goes_on_unseen(worker):
    client, process = waiting(worker, "unseen")
    client.kill()
    client.communicate()
    wait_until(lambda: is_gone(process))
    assert worker.job(*worker.run_of("factorised", "after_unseen"))[0] == 0


def test_a_killed_worker_takes_its_jobs_along_and_clients_do_them(own):
    client, process = waiting(own, "orphan")
    (own.folder / "todo.py").write_text("")
    own.process.kill()
    _, said = client.communicate(timeout=60)
    assert is_gone(process)
    assert client.returncode == 0, said
    assert (own.folder / "orphan" / "metrics.json").exists()
    assert own.job(*own.run_of("factorised", "later"))[0] == 0


def test_a_signal_that_nobody_has_heard_of_is_not_forgotten(own):
    """The worker is stopped, so that the client waits for an answer; then it is gone."""
    own.process.suspend()
    client = own.begin(*own.run_of("factorised", "unheard"))
    wait_until(lambda: psutil.Process(client.pid).status() == psutil.STATUS_SLEEPING)
    time.sleep(0.3)  # it may have slept for another reason; the signal is not lost in any case
    client.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    own.process.kill()
    client.communicate(timeout=60)
    assert client.returncode == -signal.SIGTERM


@pytest.mark.slow
def test_a_worker_killed_at_random_moments_changes_no_byte(tmp_path, worker):
    """Three cells at once, of which none may fail, be lost or come out otherwise."""
    cells = {"bihm": {"layers": [8, 4]}, "nade": {"hidden": 4}, "vae": {"latent": 3, "hidden": [6]}}
    own = Worker(tmp_path, owned=False)
    own.settings = worker.settings
    began = time.monotonic()
    for method, model in cells.items():
        assert own.job(*own.run_of(method, f"{method}_alone", **model), alone=True)[0] == 0
    seconds = time.monotonic() - began
    expected = {method: digests(tmp_path / f"{method}_alone") for method in cells}
    chance = random.Random(0)
    for trial in range(KILLS):
        own.start()
        names = {method: f"{method}_{trial}" for method in cells}
        clients = [own.begin(*own.run_of(method, names[method], **model)) for method, model in cells.items()]
        time.sleep(chance.random() * seconds)
        own.process.kill()
        for client in clients:
            _, said = client.communicate(timeout=120)
            assert client.returncode == 0, said
        assert {method: digests(tmp_path / name) for method, name in names.items()} == expected
        own.end()
        assert not list(tmp_path.glob("bihm-worker-*"))


def test_without_a_worker_the_client_does_it(worker, tmp_path):
    arguments = worker.probe(LOOKS, "without")
    for address in (str(tmp_path / "nothing"), "", "x" * 300):
        assert worker.job(*arguments, BIHM_WORKER=address)[0] == 0
        assert worker.found()["parent"] != worker.process.pid
        (worker.folder / "without" / "status.json").unlink()


@pytest.mark.parametrize(
    "change",
    [
        {"NUMBA_CPU_NAME": "generic"},
        {"XDG_CACHE_HOME": "/nowhere"},
        {"PYTHONPATH": "{path}:/elsewhere"},
        {"PYTHONHASHSEED": "1"},
        {"LD_LIBRARY_PATH": "/elsewhere"},
        {"CUDA_VISIBLE_DEVICES": "7"},
        {"HUGE": "x" * 120_000, "HUGE2": "x" * 120_000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_library_would_have_read_otherwise_is_no_job_for_the_worker(worker, change):
    arguments = worker.probe(LOOKS, "differs")
    values = {name: value.replace("{path}", worker.environment["PYTHONPATH"]) for name, value in change.items()}
    assert worker.job(*arguments, **values)[0] == 0
    assert worker.found()["parent"] != worker.process.pid
    (worker.folder / "differs" / "status.json").unlink()


def test_cores_that_snakemake_reserves_make_no_difference(worker):
    arguments = worker.probe(LOOKS, "reserved")
    assert worker.job(*arguments, OMP_NUM_THREADS="4", OPENBLAS_NUM_THREADS="4", MKL_NUM_THREADS="4")[0] == 0
    found = worker.found()
    assert (found["parent"], found["torch threads"]) == (worker.process.pid, 1)


def test_code_that_has_changed_is_another_identity(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "code.py").write_text("1")
    monkeypatch.setattr("harness.worker.identity._PACKAGE", str(tmp_path))
    before = identity({})
    assert identity({b"OMP_NUM_THREADS": b"3", b"MINE": b"1"}) == before
    assert identity({b"OMP_PROC_BIND": b"1"}) != before
    (tmp_path / "inner" / "code.py").write_text("12")
    assert identity({}) != before


def test_a_request_is_what_was_sent():
    request = Request(b"same", b"/a b", 0o27, (1, 2), [b"-m", b"", b"x=y\n"], {b"A": b"", b"B": b"=c\n\xff"})
    assert Request.from_bytes(request.to_bytes()) == request
    with pytest.raises(ValueError, match="not enough values"):
        Request.from_bytes(b"\0\0")


def test_what_is_no_request_is_refused(worker):
    import socket

    for packet in (b"nonsense", b"\0" * 10, b"\xff" * 1000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(worker.address)
            connection.send(packet)
            assert connection.recv(100) == b"refused"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(worker.address)
    assert worker.job(*worker.run_of("factorised", "after_nonsense"))[0] == 0


def test_nobody_else_reaches_the_socket(worker):
    assert Path(worker.address).parent.stat().st_mode & 0o77 == 0


def test_a_client_imports_next_to_nothing():
    code = "import harness.worker.client, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert not {"json", "pathlib", "argparse", "logging", "numpy", "subprocess", "ctypes", "hashlib"} & {
        *done.stdout.split()
    }


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_the_worker_ends_with_its_owner_and_leaves_nothing(own, how):
    folder = Path(own.address).parent
    assert folder.parent == own.folder
    if how == "ends":
        own.end()
    else:
        own.owner.kill()
        own.owner.communicate()
    wait_until(lambda: is_gone(own.process.pid))
    assert not folder.exists()


def test_a_job_under_way_outlives_the_owner_and_not_longer_the_worker(own):
    client, process = waiting(own, "outlives")
    own.owner.kill()
    own.owner.communicate()
    wait_until(lambda: not Path(own.address).exists())
    assert not is_gone(process)
    client.terminate()
    client.communicate(timeout=60)
    wait_until(lambda: is_gone(own.process.pid))


def test_a_worker_that_is_asked_to_end_finishes_what_it_does(own):
    client, process = waiting(own, "asked")
    own.process.terminate()
    wait_until(lambda: not Path(own.address).exists())
    assert own.job(*own.run_of("factorised", "meanwhile"))[0] == 0
    assert not is_gone(process)
    client.terminate()
    client.communicate(timeout=60)
    assert client.returncode == -signal.SIGTERM


def test_what_killed_workers_have_left_is_swept_away(tmp_path):
    left = Worker(tmp_path)
    left.process.suspend()
    left.owner.kill()
    left.process.kill()
    left.owner.communicate()
    wait_until(lambda: is_gone(left.process.pid))
    assert Path(left.address).exists()
    new = Worker(tmp_path)
    assert not Path(left.address).parent.exists()
    assert Path(new.address).exists()
    new.end()


@pytest.mark.slow
def test_numbers_do_not_depend_on_cores_nor_on_the_worker(tmp_path, monkeypatch):
    """Snakemake with --cores 1, 2 and 8, and with 8 where no worker can be started: the same bytes of all results."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(STILL_CLOCK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "clock"), prepend=os.pathsep)
    (tmp_path / "probe.py").write_text(METHOD)
    who = "import os; Path(__file__).with_name('who').write_bytes(Path(f'/proc/{os.getppid()}/cmdline').read_bytes())"
    (tmp_path / "todo.py").write_text(who)
    found = {}
    for cores, address in (("1", ""), ("2", ""), ("8", ""), ("8", "/nowhere")):
        if address:  # what a job of another Snakemake has
            monkeypatch.setenv(ADDRESS, address)
        folder = tmp_path / f"{cores}{address.replace('/', '_')}"
        folder.mkdir()
        flow = Workflow(folder)
        flow.settings |= {
            "methods": [str(tmp_path / "probe.py")],
            "grid": only(
                bihm={"connect4": {"model": {"layers": [8, 4]}}},
                nade={"connect4": {"model": {"hidden": 4}}},
                vae={"connect4": {"model": {"latent": 3, "hidden": [6]}}},
            )
            | {"probe": {"connect4": {}}},
            "budgets": {name: {"*": BUDGET} for name in ("bihm", "nade", "vae")},
            "data": {**flow.settings["data"], "cache": str(tmp_path / "cache")},
        }
        command = flow.command("tables")
        command[command.index("--cores") + 1] = cores
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        assert (b"\0harness\0worker\0" in (tmp_path / "who").read_bytes()) == (not address)
        found[cores + address] = {
            name: digest
            for name, digest in digests(flow.results).items()
            if not name.startswith(("logs", "settings", "data", ".sha256"))
        }
    assert found["1"] == found["2"] == found["8"] == found["8/nowhere"]
    assert len([name for name in found["1"] if name.endswith("metrics.json")]) == 4


def test_every_verb_of_the_rules_is_one_that_the_worker_does():
    rules = "".join(path.read_text() for path in (ROOT / "workflows" / "rules").glob("*.smk"))
    assert set(re.findall(r"python -m harness ([a-z-]+)", rules)) <= set(VERBS)
