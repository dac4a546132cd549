"""Two processes on a machine without compiled kernels: each kernel is compiled by one of them."""

import os
import subprocess
import sys

from harness.compute.places import ROOT

# Prints what this process itself has compiled of the harness.
CODE = """
import sys
import numba.core.event as event

class Compiled(event.Listener):
    def on_start(self, found):
        name = found.data["dispatcher"].py_func
        if name.__module__.startswith("harness.kernels") and name.__name__ in ("normalise", "logits"):
            print(name.__name__, found.data["args"], flush=True)
    def on_end(self, found):
        pass

event.register("numba:compile", Compiled())
import numpy as np
from harness.kernels import bernoulli, order_agnostic
print("ready", flush=True)
sys.stdin.readline()
bernoulli.normalise(np.zeros((2, 3)), np.empty(6, np.float32), np.empty(2))
x = np.zeros((2, 3), np.float32)
order_agnostic.logits(x, x.T.copy(), x.T.copy(), x.T.copy(), np.zeros(2, np.float32), x.copy())
"""


def start(folder):
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    environment.pop("NUMBA_CACHE_DIR", None)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", CODE], env=environment, text=True, **pipes)
    while process.stdout.readline() != "ready\n":  # what importing compiles
        pass
    return process


def test_of_two_processes_at_once_one_compiles(tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], found
    compiled = [line.split()[0] for output, _ in found for line in output.splitlines()]
    assert sorted(compiled) == ["logits", "normalise"]


def test_it_is_said_once_and_not_where_kernels_are_there(tmp_path):
    for n_told in (1, 0):
        output, said = start(tmp_path).communicate("go\n", timeout=120)
        assert said.count("compiling kernels for this processor, once: about 10 s") == n_told
        assert bool(output) == bool(n_told)


def test_a_killed_process_keeps_nobody_waiting(tmp_path):
    from harness.kernels import once

    code = "import sys, time; from pathlib import Path; from harness.kernels import once; "
    code += "held = once._lock(Path(sys.argv[1])); print(held, flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip().isdecimal()
    holder.kill()
    holder.communicate()
    descriptor = once._lock(tmp_path)
    assert descriptor is not None
    os.close(descriptor)


def test_a_stopped_process_is_not_waited_for_without_end(tmp_path, monkeypatch):
    from harness.kernels import once

    descriptor = once._lock(tmp_path)
    monkeypatch.setattr(once, "LONGEST_S", 0.1)
    assert once._lock(tmp_path) is None
    os.close(descriptor)


def test_a_folder_without_locks_is_no_hindrance(tmp_path):
    from harness.kernels import once

    (tmp_path / "file").write_text("")
    assert once._lock(tmp_path / "file") is None


TRAIN_ON_TWO_THREADS = """
import pathlib, sys
import torch
from cells import cell, patterns
from harness.settings.parts import Phase
from harness.training.train import train
torch.set_num_threads(2)
for method in ("bihm", "rws", "vimco", "nade", "vae"):
    layers = {"bihm": {"layers": [150, 40, 20]}, "rws": {"layers": [150, 40]}, "vimco": {"layers": [150]}}
    chosen = cell(method, layers.get(method), batch_size=100, phases=(Phase(2, 1e-2, 10),))
    train(chosen, patterns(400), pathlib.Path(sys.argv[1]) / method, torch.device("cpu"))
"""


def test_what_threads_share_is_compiled_once_too(tmp_path):
    """The next process finds all that the first one compiled; closures over a kernel were new to each."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    environment.pop("NUMBA_CACHE_DIR", None)
    found = []
    for name in ("first", "second"):
        command = [sys.executable, "-c", TRAIN_ON_TWO_THREADS, str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
        found.append((done.stderr + done.stdout).count("compiling kernels"))
    assert found == [1, 0]
